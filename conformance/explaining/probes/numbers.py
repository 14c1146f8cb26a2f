"""Results that are not finite or not exact enough: from NumPy's warnings, and from what memory held before."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from backproof.conformance.explaining.accuracy import in_words
from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.trials import both, complaints, filled, grown, is_right, results, right_of
from backproof.conformance.spec.case import Array
from backproof.conformance.spec.contract import Contract
from backproof.conformance.spec.precision import PRECISIONS
from backproof.conformance.spec.probe import Probe

EMPTY = re.compile(r"Mean of empty slice|Degrees of freedom")
DIVISION = re.compile(r"divide by zero encountered in|invalid value encountered in (scalar )?(divide|reciprocal)")
ROOT = re.compile(r"invalid value encountered in (scalar )?(sqrt|power)")
OVERFLOW = re.compile(r"overflow encountered in")
#: Values that freed memory is filled with: they show in results that are never written.
MARKS = (12345.0625, -54321.125)
#: The number of blocks to fill: NumPy keeps a few freed ones of each size.
BLOCKS = 8


def _complains(pattern: re.Pattern[str]) -> Callable[[FailingCase], bool]:
    """Whether NumPy warns of this where a result is not finite, and not in a larger case."""

    def holds(failing: FailingCase) -> bool:
        if failing.found.kind != "nonfinite" or failing.case.invalidity is not None:
            return False
        here = complaints(failing.candidate, failing.case)
        configuration = grown(failing.reference, failing.case.configuration)
        elsewhere = complaints(failing.candidate, filled(failing.reference, configuration))
        if here is None or elsewhere is None or any(pattern.search(each) for each in elsewhere):
            return False
        return any(pattern.search(each) for each in here)

    return holds


def _marked(failing: FailingCase) -> bool:
    """Whether values that were left in freed memory come back in the result."""
    tensor, seen = failing.found.tensor, []
    if failing.found.kind not in ("value", "nonfinite") or tensor is None:
        return False
    shape = None if failing.found.got is None else failing.found.got.shape
    if shape is None or not np.prod(shape):
        return False
    for mark in MARKS:
        blocks = [np.full(shape, mark, failing.case.precision.dtype) for _ in range(BLOCKS)]
        rounded = float(blocks[0].ravel()[0])
        del blocks
        found = results(failing.candidate, failing.case)
        if found is None or tensor not in found:
            return False
        seen.append(found[tensor].astype(np.float64) == rounded)
    return bool(seen[0].any()) and np.array_equal(seen[0], seen[1])


def _got(failing: FailingCase) -> tuple[Array, Array] | None:
    """The actual and the expected array, if the item is a tensor's own and a value is wrong."""
    found = failing.found
    right = failing.reference.expected(failing.case).tensors if failing.case.invalidity is None else {}
    if found.kind != "value" or found.got is None or found.expected is None or failing.check not in right:
        return None
    return found.got, found.expected


def _held_by(format_: str, array: Array) -> bool:
    return bool((array.astype(PRECISIONS[format_].dtype).astype(np.float64) == array).all())


def _rounded_to(format_: str) -> Callable[[FailingCase], bool]:
    """Whether the result is the right one, rounded to a shorter format at the end."""

    def holds(failing: FailingCase) -> bool:
        pair = _got(failing)
        if pair is None or PRECISIONS[format_].digits >= failing.case.precision.digits:
            return False
        got, expected = pair
        near = np.abs(got - expected) <= 1.001 * PRECISIONS[format_].roundoff * np.abs(expected)
        return _held_by(format_, got) and bool(near.all())

    return holds


def _in_float32(failing: FailingCase) -> bool:
    """Whether the error is at most that of float32, and the result is float32 or right where nothing rounds."""
    pair = _got(failing)
    entry = (failing.case, failing.reference, failing.found)
    if pair is None or not in_words(failing.check, "", [entry], failing.candidate):
        return False
    return _held_by("float32", pair[0]) or _right_without_rounding(failing)


def _right_without_rounding(failing: FailingCase) -> bool:
    """Whether it is right in cases of the same shapes in which float32 does not round either."""
    reference, check, asked = failing.reference, failing.check, 0
    for case in reference.layer.fills(failing.case.configuration, reference.space):
        if reference.expected(case).tolerances.get(check) != 0.0 or not case.integral:
            continue
        found = results(failing.candidate, case)
        if found is None or check not in found or not is_right(failing, case, check, found[check]):
            return False
        asked += 1
    return asked > 0


def _sticks(failing: FailingCase) -> bool:
    """Whether the sum of many ones stops at a power of two, as sums in 16 bits do."""
    reference, check = failing.reference, failing.check
    if _got(failing) is None or not failing.case.precision.low:
        return False
    for case in reference.layer.long_sums(reference.space):
        found, right = results(failing.candidate, case), right_of(failing, case, check)
        if found is None or check not in found or right is None or found[check].shape != right.shape:
            continue
        got = np.abs(found[check].astype(np.float64))
        mantissa, _ = np.frexp(got)
        stuck = (mantissa == 0.5) & (got < 0.98 * np.abs(right))
        if stuck.any() and bool((stuck | (got == np.abs(right))).all()):
            return True
    return False


def _right_where_small(failing: FailingCase) -> bool:
    """Whether long sums stop growing and short ones are right."""
    if not _sticks(failing):
        return False
    case = both(failing)[1]
    found = results(failing.candidate, case)
    return found is not None and failing.check in found and is_right(failing, case, failing.check, found[failing.check])


def numbers(contract: Contract) -> tuple[Probe, ...]:
    """Why a result may not be finite, or not exact enough."""
    return (
        Probe("{tensor} has a mean over nothing: 0 is divided by 0.", (), _complains(EMPTY)),
        Probe("Something on the way to {tensor} is divided by 0 in these cases.", (), _complains(DIVISION)),
        Probe("The root of a negative number is taken on the way to {tensor}.", (), _complains(ROOT)),
        Probe("A number on the way to {tensor} is too large for its format.", (), _complains(OVERFLOW)),
        Probe(
            "{tensor} has memory in it that was never written: it is made with np.empty, where np.zeros is needed.",
            (),
            _marked,
        ),
        *(
            Probe(f"{{tensor}} is right, but rounded to {format_}.", (), _rounded_to(format_), of_accuracy=True)
            for format_ in ("float32", "float16", "bfloat16")
        ),
        Probe(
            "{tensor} has float32's accuracy: something on the way to it is float32, or a sum is kept in it.",
            (),
            _in_float32,
            of_accuracy=True,
        ),
        Probe(
            f"A sum behind {{tensor}} is kept in the 16 bits of {contract.arrays[0]}, in whole or from block to block: "
            "a long one sticks.",
            (),
            _right_where_small,
        ),
    )
