"""Faults of the gradients of batch norm in training: paths, factors, gamma and eps."""
