"""Numbers as reports write them, and which of a result are wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backproof.conformance.spec.case import Array

MINUS = "\N{MINUS SIGN}"
#: Digits that are tried, one after the other, until two numbers that differ look different.
DIGITS = (6, 9, 12, 17)
#: Integers up to this one are written out.
LARGEST = 10**9
#: Without a tolerance, so many roundings of the largest entry are no error.
ROUNDINGS = 16


def number(value: float, digits: int = DIGITS[0]) -> str:
    """A number as code has it: integers without decimals."""
    value = float(value)
    return f"{int(value)}" if value.is_integer() and abs(value) < LARGEST else f"{value:.{digits}g}"


def typeset(value: float, digits: int = DIGITS[0]) -> str:
    """A number as a page has it."""
    text = f"{float(value):.{digits}g}"
    return {"inf": "∞", "-inf": f"{MINUS}∞", "nan": "NaN"}.get(text, text.replace("-", MINUS))


def telling_digits(expected: Sequence[float], got: Sequence[float]) -> int:
    """As few digits as show every number of the one to be another than that of the other."""
    pairs = list(zip(expected, got, strict=True))
    return next((d for d in DIGITS if all(number(e, d) != number(g, d) for e, g in pairs)), DIGITS[-1])


def wrong_entries(expected: Array, got: Array, tolerance: Array | float | None, roundoff: float) -> Array | None:
    """Which entries are wrong: further off than the tolerance or, without one, than rounding. None: shapes differ."""
    if expected.shape != got.shape:
        return None
    if tolerance is None:
        tolerance = ROUNDINGS * roundoff * float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    with np.errstate(all="ignore"):
        differ: Array = np.asarray((got != expected) & ~(np.isnan(got) & np.isnan(expected)))
        far: Array = np.asarray(differ & ~(np.abs(got - expected) <= tolerance))
    return far if far.any() else differ
