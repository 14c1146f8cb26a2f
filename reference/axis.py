"""The geometry of a window that slides along one spatial axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from backproof.conformance.spec.case import Array

#: What np.pad calls the padding modes.
NUMPY_MODES: Mapping[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Axis(NamedTuple):
    """One spatial axis: its size, the kernel's, stride, dilation, and the padding before and after it."""

    size: int
    kernel: int
    stride: int
    dilation: int
    low: int
    high: int

    @property
    def padded(self) -> int:
        """The size with its padding."""
        return self.size + self.low + self.high

    @property
    def reach(self) -> int:
        """The pixels from a window's first tap to its last, D (K - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def room(self) -> int:
        """How far the window can move: negative where it does not fit."""
        return self.padded - self.reach

    @property
    def out(self) -> int:
        """The number of windows."""
        return self.room // self.stride + 1

    @property
    def remainder(self) -> int:
        """The pixels behind the last window, for want of a whole stride."""
        return self.room % self.stride

    @property
    def reads(self) -> Array:
        """The padded pixel that window q reads at tap k, (Q, K)."""
        return np.arange(self.out)[:, None] * self.stride + np.arange(self.kernel) * self.dilation

    @property
    def complexity(self) -> int:
        """How far the options are from stride 1, dilation 1 and no padding."""
        return self.stride + self.dilation - 2 + self.low + self.high

    @property
    def is_asked(self) -> bool:
        """Whether kernel, stride and dilation lie in the ranges that are drawn."""
        return self.kernel <= 5 and max(self.stride, self.dilation) <= 4

    def has_meaning(self, mode: str) -> bool:
        """Whether at least one window fits and the padding mode has something to copy."""
        if min(self.size, self.kernel, self.stride, self.dilation) < 1 or min(self.low, self.high) < 0:
            return False
        return self.room >= 0 and max(self.low, self.high) <= widest_padding(self.size, mode)

    def with_meaning(self, mode: str) -> Axis:
        """This axis, made large enough for one window and for its padding."""
        pad = max(self.low, self.high)
        size = max(self.size, {"reflect": pad + 1, "circular": pad}.get(mode, 1))
        axis = self._replace(size=size)
        return axis if axis.room >= 0 else axis._replace(size=size - axis.room)

    def parameters(self, k: int) -> dict[str, int]:
        """The fields by name, numbered for the k-th axis."""
        return {f"{name}{k}": value for name, value in zip(self._fields, self, strict=True)}


def axes_of(parameters: Mapping[str, int], rank: int) -> list[Axis]:
    """The axes that `Axis.parameters` wrote."""
    return [Axis(*[parameters[f"{name}{k}"] for name in Axis._fields]) for k in range(rank)]


def axes_from(size: Sequence[int], kernel: Sequence[int], options: Mapping[str, Any]) -> list[Axis]:
    """The axes of these sizes, with the numbers that the options have for each."""
    numbers = zip(size, kernel, options["stride"], options["dilation"], options["padding"], strict=True)
    return [Axis(h, k, stride, dilation, low, high) for h, k, stride, dilation, (low, high) in numbers]


def widest_padding(size: int, mode: str) -> int:
    """The largest padding that has meaning: reflect does not repeat the border, circular copies each pixel once."""
    return {"reflect": size - 1, "circular": size}.get(mode, 10**9)


@lru_cache(maxsize=4096)
def positions(size: int, low: int, high: int, mode: str) -> Array:
    """For every pixel of the padded axis the pixel of x that it shows, (size + low + high,); -1 for a zero."""
    at = np.arange(-low, size + high)
    if mode == "zeros":
        at[(at < 0) | (at >= size)] = -1
    elif mode == "replicate":
        at = at.clip(0, size - 1)
    elif mode == "circular":
        at = at % size
    else:
        at = np.abs(at)
        at = np.where(at >= size, 2 * (size - 1) - at, at)
    at.setflags(write=False)
    return at
