"""Implementations that look wrong and are right, by layer."""

from backproof.plugins.gallery.equivalents import batchnorm, conv, linear

__all__ = ["batchnorm", "conv", "linear"]
