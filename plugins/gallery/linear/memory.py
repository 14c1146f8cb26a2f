"""Faults of linear layers that read an array's memory as it does not lie, or work in tiles of it."""
