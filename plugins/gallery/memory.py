"""What careless code does with the memory of an array. None of it reads out of bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def is_expanded(a: Array) -> bool:
    """Whether several entries lie in one place."""
    return any(size > 1 and stride == 0 for size, stride in zip(a.shape, a.strides, strict=True))


def is_scattered(a: Array) -> bool:
    """Whether the entries do not lie one behind the other."""
    return not a.flags.c_contiguous and not is_expanded(a)


def buffer_of(a: Array) -> Array:
    """As many numbers as a has, from the start of the buffer that it lies in."""
    base = a
    while isinstance(base.base, np.ndarray):
        base = base.base
    return np.resize(base.ravel(order="K"), a.shape)


def as_it_lies(a: Array) -> Array:
    """The numbers in the order of their memory, where that is not the order of the axes."""
    return buffer_of(a) if is_scattered(a) else a
