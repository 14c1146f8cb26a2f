"""The arrays of a failure: numbers, names of the axes, and slices that fit on a page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.precision import PRECISIONS

MINUS = "\N{MINUS SIGN}"
#: Spatial axes, by how many there are.
SPATIAL = {1: ("w",), 2: ("h", "w"), 3: ("d", "h", "w")}
#: How far right code may round, in units of the roundoff, where the report does not say which entries are wrong.
ROUNDINGS = 8


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


def numeric(nested: Any) -> Array | None:
    """An array of the report as numbers; None for null."""
    return None if nested is None else np.array(nested, dtype=np.float64)


def shown(value: float, digits: int = 6) -> str:
    """A number as a reader writes it."""
    text = f"{float(value):.{digits}g}"
    return {"inf": "∞", "-inf": f"{MINUS}∞", "nan": "NaN"}.get(text, text.replace("-", MINUS))


def channels_last(failure: Mapping[str, Any]) -> bool:
    """Whether images have their channels last, as the report says or the shapes show."""
    if failure.get("layout"):
        return bool(failure["layout"] == "channels_last")
    shapes = failure["shapes"]
    x, w = shapes.get("x"), shapes.get("w")
    if not x or len(x) < 3:
        return False
    if "stride" in failure["options"]:
        if not w or len(w) != len(x):
            return False
        channels = w[1] * failure["options"].get("groups", 1)
        dout = shapes.get("dout") or x
        return bool((x[1] != channels or dout[1] != w[0]) and x[-1] == channels and dout[-1] == w[0])
    known = shapes.get("gamma") or shapes.get("beta") or shapes.get("running_mean")
    return bool(known and x[1] != known[0] and x[-1] == known[0])


def axes(name: str, ndim: int, failure: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of an array's axes: n, c, h and w of images, o and c of filters, else numbers."""
    stem = name.removeprefix("d") if name not in ("dout",) else name
    images = "stride" in failure["options"] or "eps" in failure["options"]
    if images and ndim == 1:
        return ("c",)
    if images and 2 <= ndim <= 5:
        spatial = SPATIAL.get(ndim - 2, ())
        if stem == "w":
            return ("o", "c", *spatial)
        if stem in ("x", "out", "dout"):
            return ("n", *spatial, "c") if channels_last(failure) else ("n", "c", *spatial)
    return tuple(f"axis {k}" for k in range(ndim))


def planes(array: Array, names: Sequence[str]) -> list[Plane]:
    """The array's slices along its last two axes, channels before the pixels."""
    order = list(range(array.ndim))
    if array.ndim > 2 and names[-1] == "c" and names[0] == "n":
        order = [0, array.ndim - 1, *range(1, array.ndim - 1)]
    turned = array.transpose(order)
    named = [names[k] for k in order]
    turned = turned.reshape((1,) * max(0, 2 - turned.ndim) + turned.shape)
    hidden = max(0, 2 - array.ndim)
    named = [""] * hidden + named
    outer = turned.shape[:-2]
    found = []
    for prefix in itertools.product(*map(range, outer)):
        label = ", ".join(f"{name} = {k}" for name, k in zip(named, prefix, strict=False))
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


def compare(failure: Mapping[str, Any], tensor: str, dtype: str) -> Comparison | None:
    """Expected against got, entry by entry; None where there are not both, or their shapes differ."""
    expected, got = numeric(failure["expected"]), numeric(failure["got"])
    if expected is None or got is None or expected.shape != got.shape or not expected.size:
        return None
    with np.errstate(invalid="ignore"):
        difference = got - expected
    wrong = _wrong(failure, expected, got, difference, dtype)
    finite = np.abs(difference[wrong & np.isfinite(difference)])
    largest = float(finite.max()) if finite.size else 0.0
    digits = _digits(expected[wrong], got[wrong])
    names = axes(tensor, expected.ndim, failure)
    compared = []
    for plane in planes(expected, names):
        rows = tuple(
            tuple(_entry(at, expected, got, difference, bool(wrong[at]), largest, digits) for at in row)
            for row in plane.indices
        )
        compared.append(ComparedPlane(plane.label, plane.rows, plane.columns, rows))
    first = np.argwhere(wrong)
    at = tuple(int(k) for k in first[0]) if len(first) and expected.ndim else None
    return Comparison(tuple(compared), largest, int(wrong.sum()), expected.size, at)


def _wrong(failure: Mapping[str, Any], expected: Array, got: Array, difference: Array, dtype: str) -> Array:
    """Which entries are wrong: as the report has it, else those that are off by more than rounding."""
    if failure.get("wrong") is not None:
        return np.asarray(failure["wrong"], dtype=bool).reshape(expected.shape)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    rounding = ROUNDINGS * PRECISIONS[dtype].roundoff * scale
    clear = ~same & ~(np.abs(difference) <= rounding)
    return np.asarray(clear if clear.any() else ~same)


def _digits(expected: Array, got: Array) -> int:
    """As few digits, six or more, as tell every wrong number from the right one."""
    for digits in (6, 9, 12):
        if all(shown(a, digits) != shown(b, digits) for a, b in zip(expected, got, strict=True)):
            return digits
    return 17


def _entry(
    at: tuple[int, ...],
    expected: Array,
    got: Array,
    difference: Array,
    wrong: bool,
    largest: float,
    digits: int,
) -> Entry:
    off = float(difference[at])
    level: int | None = 0
    if wrong:
        level = None if not math.isfinite(off) else _level(off, largest)
    text = shown(off, 3) if wrong else "0"
    plus = "+" if wrong and off > 0 else ""
    return Entry(at, shown(expected[at], digits), shown(got[at], digits), plus + text, wrong, level)


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
