"""Faults of convolutions that read an array's memory as it does not lie."""
