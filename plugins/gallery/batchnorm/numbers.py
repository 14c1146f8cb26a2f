"""Faults that large means, no variance, 16 bits and tiles bring out."""
