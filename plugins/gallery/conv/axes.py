"""Faults of convolutions where the axes differ, or are not two."""
