"""Linear layers that look wrong and are right."""
