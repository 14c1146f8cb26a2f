"""What is right, and whether a candidate is: one file a property."""
