"""Implementations that look wrong and are right, by layer."""

from backproof.plugins.gallery.equivalents import (
    batchnorm,
    batchnorm_statistics,
    conv,
    conv_detours,
    conv_results,
    conv_transforms,
    linear,
    sums,
)

__all__ = [
    "batchnorm",
    "batchnorm_statistics",
    "conv",
    "conv_detours",
    "conv_results",
    "conv_transforms",
    "linear",
    "sums",
]
