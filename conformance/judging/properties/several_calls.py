"""Results of several calls, and how far apart rounding alone may have them: for properties that compare calls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from backproof.conformance.adapter.candidate import Allocate, Candidate, Forward
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.properties.property import LeftOut, ScriptWriter
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.results import Discrepancy, Problem

#: A wrong result may be summed in another way than a right one: so many roundings of it are no difference.
WRONG_ROUNDINGS = 256


def complete_forward(case: Case, candidate: Candidate, allocate: Allocate | None = None) -> Forward:
    """A forward that can be pulled back. Raises Refused, Crashed and LeftOut."""
    forward = candidate.forward(case, allocate=allocate)
    if not forward.complete:
        raise LeftOut
    return forward


def results_of(
    case: Case, candidate: Candidate, reference: Reference, allocate: Allocate | None = None
) -> dict[str, Array]:
    """All results of one forward and its backward that are arrays of finite numbers of the right shape and dtype.

    In float64, and in the references' layout. Raises Refused, Crashed and LeftOut.
    """
    forward = complete_forward(case, candidate, allocate)
    results = dict(forward.results)
    gradients = candidate.backward(case, forward, allocate=allocate)
    return comparable({**results, **gradients}, case, candidate, reference)


def comparable(
    results: Mapping[str, Array | Problem | None], case: Case, candidate: Candidate, reference: Reference
) -> dict[str, Array]:
    """Those of the results that can be held against others, in float64 and in the references' layout."""
    found: dict[str, Array] = {}
    right = reference.expected(case).tensors
    for tensor, result in results.items():
        if not isinstance(result, np.ndarray) or result.dtype != reference.dtype(tensor) or tensor not in right:
            continue
        if result.shape != candidate.in_data_format(tensor, right[tensor]).shape:
            continue
        wide = candidate.in_reference(tensor, result).astype(np.float64)
        if np.isfinite(wide).all():
            found[tensor] = wide
    return found


def tolerance_of(tensor: str, result: Array, case: Case, reference: Reference) -> Array | float | None:
    """How far rounding alone may have this result from the same one found in another way; None: it cannot be said.

    The tolerance of right code for a right result: 0.0 in an exact case. A wrong one is no sum of integers any more,
    may be of any size, and may leave out a factor of 0 or mix up entries: its own rounding counts, and the largest
    tolerance of any entry.
    """
    right = reference.expected(case)
    tolerance, expected = right.tolerances[tensor], right.tensors[tensor]
    if tolerance is None:
        return None
    if bool((np.abs(result - expected) <= tolerance).all()):
        return tolerance
    rounding = reference.rounding(_of_some_size(case, reference))[tensor]
    return None if rounding is None else np.full(result.shape, tolerance_of_wrong(tensor, result, case, reference))


def tolerances_of(results: Mapping[str, Array], case: Case, reference: Reference) -> dict[str, Array | float]:
    """The tolerance of every result that has one."""
    found = {tensor: tolerance_of(tensor, result, case, reference) for tensor, result in results.items()}
    return {tensor: tolerance for tensor, tolerance in found.items() if tolerance is not None}


def tolerance_of_wrong(tensor: str, result: Array, case: Case, reference: Reference) -> float:
    """How far off rounding alone may have an entry of a wrong result."""
    rounding = reference.rounding(_of_some_size(case, reference))[tensor]
    tolerance = float(np.max(rounding, initial=0.0)) if rounding is not None else 0.0
    # Terms may be far larger than a sum in which they cancel: at least the tolerance over the roundings.
    expected = reference.expected(case).tensors[tensor]
    usual = max(float(np.abs(expected).max(initial=0.0)), tolerance / (WRONG_ROUNDINGS * case.precision.accumulator))
    largest = float(np.abs(result).max(initial=0.0))
    # Where all that is right is zero, so is its tolerance, and says nothing of a result that is wrong.
    larger = max(1.0, largest / usual) if usual > largest * case.precision.accumulator else 1.0
    return tolerance * larger + own_rounding(result, case)


def own_rounding(result: Array, case: Case) -> float:
    """How much of a wrong result may be rounding."""
    precision = case.precision
    each = WRONG_ROUNDINGS * precision.accumulator + (4 * precision.roundoff if precision.low else 0.0)
    return float(each * np.abs(result).max(initial=0.0))


def _of_some_size(case: Case, reference: Reference) -> Case:
    """The case with parameters of 1 instead of smaller ones: a wrong result may leave them out."""
    contract = reference.layer.contract
    kept = (contract.arrays[0], "dout", *contract.state)
    changed = {
        name: a if a is None or name in kept else np.where(np.abs(a) < 1, a.dtype.type(1), a)
        for name, a in case.arrays.items()
    }
    return case.with_arrays(changed, case.origin)


def tolerance_between(tensor: str, one: Array, other: Array, case: Case, reference: Reference) -> Array | float | None:
    """How far apart rounding alone may have two answers to one question."""
    tolerance = tolerance_of(tensor, one, case, reference)
    if tolerance is None:
        return None
    # A wrong number may happen to be right in one order of summation, and not in the other.
    of_other = tolerance_of(tensor, other, case, reference)
    return tolerance + np.maximum(tolerance if of_other is None else of_other, own_rounding(one, case))


def write_tolerance_between(writer: ScriptWriter) -> None:
    """Writes how far apart rounding alone may have two right answers, where some result differs."""
    tensor, case, reference = writer.tensor, writer.case, writer.reference
    if tensor:
        right = reference.expected(case).tensors[tensor]
        between = tolerance_between(tensor, right, right, case, reference)
        tolerance = np.asarray(0.0 if between is None else between)
        writer.comment("How far apart rounding alone may have two answers.")
        writer.tolerance(
            "tolerance", writer.candidate.in_data_format(tensor, tolerance) if tolerance.ndim else tolerance
        )


def difference(
    tensor: str, got: Array, expected: Array, tolerance: Array | float, candidate: Candidate, must: str
) -> Discrepancy | None:
    """Whether two results in the references' layout are further apart than the tolerance, in the candidate's layout."""
    allowed = candidate.in_data_format(tensor, np.broadcast_to(np.asarray(tolerance), expected.shape))
    seen, other = candidate.in_data_format(tensor, got), candidate.in_data_format(tensor, expected)
    return compare(tensor, seen, other, allowed, np.dtype(np.float64), must=must)


def other_of(case: Case, layer: Layer) -> Case:
    """Another case of the same shapes: the numbers reversed, scaled and shifted, so that no stale cache goes unseen."""
    nonnegative = layer.contract.nonnegative
    arrays = {name: None if a is None else other_numbers(a, name in nonnegative) for name, a in case.arrays.items()}
    return case.with_arrays(arrays, case.origin)


def other_numbers(array: Array, nonnegative: bool = False) -> Array:
    """The array reversed, scaled and shifted; one that must not be negative scaled alone."""
    scale, shift = (2, 0) if nonnegative else (3, 1)
    turned = array.ravel()[::-1].reshape(array.shape)
    return np.ascontiguousarray(turned * array.dtype.type(scale) + array.dtype.type(shift))
