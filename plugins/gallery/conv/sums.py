"""Faults of the sums of dw and db, over samples and windows, and of what they return."""
