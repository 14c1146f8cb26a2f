"""The door: pytest, and ready-made adapters for frameworks."""
