"""How an adapter is found, read and called."""
