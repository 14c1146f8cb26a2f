"""Implementations with one fault each, and some that look wrong and are right. They import NumPy alone.

    pytest --impl=backproof.plugins.gallery:forgets_the_stride_in_dx

Each fault is a class named for what it does wrong, derived from a right implementation of its layer; the docstring is
its cause. FAULTS says of each where it shows and what must find it, EQUIVALENTS of the others why they are right.
"""

from __future__ import annotations

from backproof.plugins.gallery import batchnorm, conv, equivalents, linear, near_misses
from backproof.plugins.gallery.fault import EQUIVALENTS, FAULTS, NEEDS, Equivalent, Fault
from backproof.plugins.gallery.out_of_scope import OUT_OF_SCOPE

__all__ = [
    "EQUIVALENTS",
    "FAULTS",
    "NEEDS",
    "OUT_OF_SCOPE",
    "Equivalent",
    "Fault",
    "batchnorm",
    "conv",
    "equivalents",
    "linear",
    "near_misses",
]

_adapters = [entry.adapter for entry in FAULTS] + [entry.adapter for entry in EQUIVALENTS]
for _adapter in _adapters:
    if globals().setdefault(_adapter.__name__, _adapter) is not _adapter:
        raise ValueError(f"Two implementations of the gallery are called {_adapter.__name__}; rename one of them.")
