"""Convolutions that look wrong and are right."""
