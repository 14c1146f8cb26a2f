"""What may be said of the cases of each layer."""
