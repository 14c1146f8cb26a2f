"""Batch norms with one fault each, by what it concerns."""

from backproof.plugins.gallery.batchnorm import calls, gradients, numbers, statistics

__all__ = ["calls", "gradients", "numbers", "statistics"]
