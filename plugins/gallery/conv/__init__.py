"""Convolutions with one fault each, by what it concerns."""

from backproof.plugins.gallery.conv import (
    axes,
    calls,
    groups,
    kernels,
    memory,
    modes,
    padding,
    rejection,
    sums,
    tiles,
    windows,
)

__all__ = ["axes", "calls", "groups", "kernels", "memory", "modes", "padding", "rejection", "sums", "tiles", "windows"]
