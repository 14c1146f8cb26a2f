"""Faults of padding: what is added before the windows and taken off after them."""
