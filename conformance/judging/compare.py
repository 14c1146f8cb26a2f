"""How a result is found to be off."""

from __future__ import annotations

from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array, first_where
from backproof.conformance.spec.results import Discrepancy, Kind, Problem


def compare(
    tensor: str,
    got: Array | Problem,
    expected: Array,
    tolerance: Array | float,
    dtype: Any,
    *,
    must: str = "must be",
    kind: Kind = "value",
) -> Discrepancy | None:
    """None if the result has the expected shape and dtype and each element is within the tolerance of the expected one.

    `tolerance` is absolute, an array of the expected shape or one number. NaN and infinity are `nonfinite` where the
    expected number is finite.
    """
    if isinstance(got, Problem):
        return got.of(tensor)
    if got.shape != expected.shape:
        sentence = f"{tensor} has shape {_shape(got)}, {must} {_shape(expected)}."
        return Discrepancy("shape", tensor, sentence, expected, _plain(got))
    if got.dtype != dtype:
        sentence = f"{tensor} has dtype {got.dtype}, {must} {dtype}."
        return Discrepancy("dtype", tensor, sentence, expected, _plain(got))
    wide = got if got.dtype == np.float64 else got.astype(np.float64)
    difference = np.abs(wide - expected)
    if bool((difference <= tolerance).all()):
        return None
    wrong = ~(difference <= tolerance) & ~(np.isnan(wide) & np.isnan(expected)) & (wide != expected)
    if not wrong.any():
        return None
    broken = wrong & ~np.isfinite(wide) & np.isfinite(expected)
    index = first_where(broken if broken.any() else wrong)
    entries = int(wrong.sum())
    share = f" {entries} of {wrong.size} entries are wrong." if wrong.size > 1 else ""
    if broken.any():
        sentence = f"{_entry(tensor, index)} is {number(wide[index])}, {must} {number(expected[index])}.{share}"
        return Discrepancy("nonfinite", tensor, sentence, expected, wide)
    off, right = difference[index], number(expected[index])
    close = number(wide[index]) == right
    value = f"{wide[index]:.17g}" if close else number(wide[index])
    right = f"{expected[index]:.17g}" if close else right
    sentence = f"{_entry(tensor, index)} is {value}, {must} {right} (off by {off:.3g}).{share}"
    return Discrepancy(kind, tensor, sentence, expected, wide)


def number(value: Any) -> str:
    """A number as a reader writes it: 2 rather than 2.0, six digits where it has more."""
    return f"{float(value):.6g}"


def _entry(tensor: str, index: tuple[int, ...] | Any) -> str:
    return f"{tensor}[{', '.join(map(str, index))}]" if len(index) else tensor


def _shape(a: Array) -> str:
    return str(tuple(int(n) for n in a.shape))


def _plain(a: Array) -> Array | None:
    try:
        return a.astype(np.float64)
    except (TypeError, ValueError):
        return None
