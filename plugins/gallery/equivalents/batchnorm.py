"""Batch norms that look wrong and are right."""
