"""Right implementations of all three layers, for benchmarks and tests."""
