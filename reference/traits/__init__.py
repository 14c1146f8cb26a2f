"""Facts about the cases of each layer."""
