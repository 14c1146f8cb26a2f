"""Faults of kernels: turned around, of size 1, even; and of shortcuts for some of them."""
