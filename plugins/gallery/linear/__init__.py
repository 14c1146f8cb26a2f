"""Linear layers with one fault each, by what it concerns."""

from backproof.plugins.gallery.linear import calls, memory, sums

__all__ = ["calls", "memory", "sums"]
