"""Faults in how batch norms are called: state, caches, absent parameters, buffers, memory."""
