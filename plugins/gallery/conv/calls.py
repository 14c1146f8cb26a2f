"""Faults in how convolutions are called: state, caches, buffers, what is rejected."""
