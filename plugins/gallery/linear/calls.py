"""Faults in how linear layers are called: state, caches, buffers, what is rejected."""
