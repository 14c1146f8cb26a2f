"""Faults of kernels that work in tiles, and of the numbers that they are summed in."""
