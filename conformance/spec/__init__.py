"""What is spoken of: layers, contracts, cases, precisions, memory layouts and results."""
