"""The arrays of a failure: numbers, names of the axes, and slices that fit on a page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backproof.conformance.reporting.numbers import telling_digits, typeset
from backproof.conformance.reporting.record import Failure
from backproof.conformance.spec.case import Array, first_where


@dataclass(frozen=True)
class Plane:
    """A two-dimensional slice: which one it is, the names of its two axes, and each entry's index in the array."""

    label: str
    rows: str
    columns: str
    values: Array
    indices: tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class Entry:
    """One number of a result. `level` is how far it is off, from -4 to 4, and None where it is no finite number."""

    index: tuple[int, ...]
    expected: str
    got: str
    difference: str
    wrong: bool
    level: int | None


@dataclass(frozen=True)
class ComparedPlane:
    """A slice of the results."""

    label: str
    rows: str
    columns: str
    entries: tuple[tuple[Entry, ...], ...]

    @property
    def wrong(self) -> bool:
        """Whether any of its entries is."""
        return any(entry.wrong for row in self.entries for entry in row)


@dataclass(frozen=True)
class Comparison:
    """Expected against got. `first` is the index of the first wrong entry."""

    planes: tuple[ComparedPlane, ...]
    largest: float
    wrong: int
    of: int
    first: tuple[int, ...] | None


def planes(array: Array, name: str, failure: Failure) -> list[Plane]:
    """The array's slices along its last two axes as the references have them, so channels before the pixels."""
    order = np.argsort(failure.orders.get(name, range(array.ndim))).tolist()
    if len(order) != array.ndim:
        order = list(range(array.ndim))
    names = failure.axes.get(name, ())
    if len(names) != array.ndim:
        names = tuple(f"axis {k}" for k in range(array.ndim))
    turned = array.transpose(order)
    turned = turned.reshape((1,) * max(0, 2 - turned.ndim) + turned.shape)
    hidden = max(0, 2 - array.ndim)
    named = [""] * hidden + [names[k] for k in order]
    outer = turned.shape[:-2]
    found = []
    for prefix in itertools.product(*map(range, outer)):
        label = ", ".join(f"{axis} = {k}" for axis, k in zip(named, prefix, strict=False))
        values = turned[prefix]
        indices = tuple(
            tuple(_original((*prefix, i, j)[hidden:], order) for j in range(values.shape[1]))
            for i in range(values.shape[0])
        )
        found.append(Plane(label, named[-2], named[-1], values, indices))
    return found


def _original(index: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    back = [0] * len(order)
    for position, axis in enumerate(order):
        back[axis] = index[position]
    return tuple(back)


def compare(failure: Failure, tensor: str) -> Comparison | None:
    """Expected against got, entry by entry; None where there are not both, or their shapes differ."""
    expected, got, wrong = failure.expected, failure.got, failure.wrong
    if not failure.compares or expected is None or got is None or wrong is None or not expected.size:
        return None
    with np.errstate(invalid="ignore"):
        difference = got - expected
    finite = np.abs(difference[wrong & np.isfinite(difference)])
    largest = float(finite.max()) if finite.size else 0.0
    digits = telling_digits(expected[wrong].tolist(), got[wrong].tolist())

    def entry(at: tuple[int, ...]) -> Entry:
        right, came, off = typeset(expected[at], digits), typeset(got[at], digits), float(difference[at])
        if not wrong[at]:
            return Entry(at, right, came, "0", False, 0)
        level = _level(off, largest) if math.isfinite(off) else None
        return Entry(at, right, came, ("+" if off > 0 else "") + typeset(off, 3), True, level)

    compared = tuple(
        ComparedPlane(
            plane.label, plane.rows, plane.columns, tuple(tuple(entry(at) for at in row) for row in plane.indices)
        )
        for plane in planes(expected, tensor, failure)
    )
    first = tuple(first_where(wrong)) if wrong.any() and expected.ndim else None
    return Comparison(compared, largest, int(wrong.sum()), expected.size, first)


def _level(off: float, largest: float) -> int:
    steps = max(1, math.ceil(4 * (abs(off) / largest))) if largest else 1
    return int(math.copysign(min(4, steps), off))


def aligned(array: Array) -> list[str]:
    """The array as lines of text whose columns are aligned."""
    if not array.size:
        return [f"empty, shape {tuple(array.shape)}"]
    return np.array2string(
        array, separator=", ", max_line_width=100, threshold=2000, formatter={"float_kind": lambda v: f"{v:.6g}"}
    ).splitlines()
