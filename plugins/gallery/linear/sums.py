"""Faults of the formulas of a linear layer: factors, sums, shapes and dtypes."""
