"""Faults of groups and of the axes of channels and filters."""
