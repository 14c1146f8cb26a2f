"""Numbers that are none or not exact enough: what NumPy complains of, and what memory held before."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from backproof.conformance.accuracy import in_words
from backproof.conformance.case import Array
from backproof.conformance.mistake import Incident, Suspicion
from backproof.conformance.precision import PRECISIONS
from backproof.conformance.suspicions.trials import both, complaints, filled, grown, is_right, results, right_of

EMPTY = re.compile(r"Mean of empty slice|Degrees of freedom")
DIVISION = re.compile(r"divide by zero encountered in|invalid value encountered in (scalar )?(divide|reciprocal)")
ROOT = re.compile(r"invalid value encountered in (scalar )?(sqrt|power)")
OVERFLOW = re.compile(r"overflow encountered in")
#: What memory is filled with before it is handed back, to be seen again where it is never written.
MARKS = (12345.0625, -54321.125)
#: So many blocks of it: NumPy keeps a few of each size.
BLOCKS = 8


def _complains(pattern: re.Pattern[str]) -> Callable[[Incident], bool]:
    """Whether NumPy complains of this where a number is none, and not in a plain case."""

    def holds(incident: Incident) -> bool:
        if incident.found.kind != "nonfinite" or incident.case.flaw is not None:
            return False
        here = complaints(incident.candidate, incident.case)
        configuration = grown(incident.law, incident.case.configuration)
        elsewhere = complaints(incident.candidate, filled(incident.law, configuration))
        if here is None or elsewhere is None or any(pattern.search(each) for each in elsewhere):
            return False
        return any(pattern.search(each) for each in here)

    return holds


def _marked(incident: Incident) -> bool:
    """Whether numbers that were left in freed memory come back as results."""
    tensor, seen = incident.found.tensor, []
    if incident.found.kind not in ("value", "nonfinite") or tensor is None:
        return False
    shape = None if incident.found.got is None else incident.found.got.shape
    if shape is None or not np.prod(shape):
        return False
    for mark in MARKS:
        blocks = [np.full(shape, mark, incident.case.precision.dtype) for _ in range(BLOCKS)]
        rounded = float(blocks[0].ravel()[0])
        del blocks
        found = results(incident.candidate, incident.case)
        if found is None or tensor not in found:
            return False
        seen.append(found[tensor].astype(np.float64) == rounded)
    return bool(seen[0].any()) and np.array_equal(seen[0], seen[1])


def _got(incident: Incident) -> tuple[Array, Array] | None:
    """A wrong value and the right one, of a tensor's own item."""
    found = incident.found
    right = incident.law.right(incident.case).tensors if incident.case.flaw is None else {}
    if found.kind != "value" or found.got is None or found.expected is None or incident.check not in right:
        return None
    return found.got, found.expected


def _held_by(format_: str, array: Array) -> bool:
    return bool((array.astype(PRECISIONS[format_].dtype).astype(np.float64) == array).all())


def _rounded_to(format_: str) -> Callable[[Incident], bool]:
    """Whether the result is the right one, rounded to a shorter format at the end."""

    def holds(incident: Incident) -> bool:
        pair = _got(incident)
        if pair is None or PRECISIONS[format_].digits >= incident.case.precision.digits:
            return False
        got, expected = pair
        near = np.abs(got - expected) <= 1.001 * PRECISIONS[format_].roundoff * np.abs(expected)
        return _held_by(format_, got) and bool(near.all())

    return holds


def _in_float32(incident: Incident) -> bool:
    """Whether it is no further off than float32 has it, and either held by it or right where nothing rounds."""
    pair = _got(incident)
    entry = (incident.case, incident.law, incident.found)
    if pair is None or not in_words(incident.check, "", [entry], incident.candidate):
        return False
    return _held_by("float32", pair[0]) or _right_without_rounding(incident)


def _right_without_rounding(incident: Incident) -> bool:
    """Whether it is right in cases of the same shapes in which nothing rounds in float32 either."""
    law, check, asked = incident.law, incident.check, 0
    for case in law.layer.fills(incident.case.configuration, law.space):
        if law.right(case).bounds.get(check) != 0.0 or not case.integral:
            continue
        found = results(incident.candidate, case)
        if found is None or check not in found or not is_right(incident, case, check, found[check]):
            return False
        asked += 1
    return asked > 0


def _sticks(incident: Incident) -> bool:
    """Whether the sum of many ones stops at a power of two, as it does where it is kept in 16 bits."""
    law, check = incident.law, incident.check
    if _got(incident) is None or not incident.case.precision.low:
        return False
    for case in law.layer.long_sums(law.space):
        found, right = results(incident.candidate, case), right_of(incident, case, check)
        if found is None or check not in found or right is None or found[check].shape != right.shape:
            continue
        got = np.abs(found[check].astype(np.float64))
        mantissa, _ = np.frexp(got)
        stuck = (mantissa == 0.5) & (got < 0.98 * np.abs(right))
        if stuck.any() and bool((stuck | (got == np.abs(right))).all()):
            return True
    return False


def _right_where_small(incident: Incident) -> bool:
    """Whether it sticks in long sums and is right in short ones."""
    if not _sticks(incident):
        return False
    case = both(incident)[1]
    found = results(incident.candidate, case)
    return (
        found is not None
        and incident.check in found
        and is_right(incident, case, incident.check, found[incident.check])
    )


NUMBERS: tuple[Suspicion, ...] = (
    Suspicion("{tensor} has a mean over nothing: 0 is divided by 0.", (), _complains(EMPTY)),
    Suspicion("Something on the way to {tensor} is divided by 0 in these cases.", (), _complains(DIVISION)),
    Suspicion("The root of a negative number is taken on the way to {tensor}.", (), _complains(ROOT)),
    Suspicion("A number on the way to {tensor} is too large for its format.", (), _complains(OVERFLOW)),
    Suspicion(
        "{tensor} has memory in it that was never written: it is made with np.empty, where np.zeros is needed.",
        (),
        _marked,
    ),
    *(
        Suspicion(f"{{tensor}} is right, but rounded to {format_}.", (), _rounded_to(format_), of_accuracy=True)
        for format_ in ("float32", "float16", "bfloat16")
    ),
    Suspicion(
        "{tensor} has float32's accuracy: something on the way to it is float32, or a sum is kept in it.",
        (),
        _in_float32,
        of_accuracy=True,
    ),
    Suspicion(
        "A sum behind {tensor} is kept in the 16 bits of x, in whole or from block to block: a long one sticks.",
        (),
        _right_where_small,
    ),
)
