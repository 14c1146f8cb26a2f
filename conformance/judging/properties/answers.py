"""What a candidate answers, for the items that hold its results against each other and not against a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps

import numpy as np

from backproof.conformance.adapter.candidate import Allocate, Candidate, Crashed, Forward, Refused
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.results import Discrepancy, Judgement, Problem, Status

#: A wrong result may be summed in another way than a right one: so many roundings of it are no difference.
WRONG_ROUNDINGS = 256


class LeftOut(Exception):
    """A call gave nothing that could be held against another: that is another item's failure."""


def item(
    find: Callable[[Case, Candidate, Reference], Discrepancy | Status],
) -> Callable[[Case, Candidate, Reference], Judgement]:
    """A property that decides the one item of its name and leaves out a case in which a call fails."""

    @wraps(find)
    def judge(case: Case, candidate: Candidate, reference: Reference) -> Judgement:
        found: Discrepancy | Status
        try:
            found = find(case, candidate, reference)
        except Refused:
            found = Status.UNSUPPORTED
        except (Crashed, LeftOut):
            found = Status.LEFT_OUT
        return {find.__name__: found}

    return judge


def opened(case: Case, candidate: Candidate, allocate: Allocate | None = None) -> Forward:
    """A forward that can be pulled back. Raises Refused, Crashed and LeftOut."""
    forward = candidate.forward(case, allocate=allocate)
    if not forward.complete:
        raise LeftOut
    return forward


def asked(case: Case, candidate: Candidate, reference: Reference, allocate: Allocate | None = None) -> dict[str, Array]:
    """All results of one forward and its backward that are arrays of finite numbers of the right shape and dtype.

    In float64, and in the references' layout. Raises Refused, Crashed and LeftOut.
    """
    forward = opened(case, candidate, allocate)
    results = dict(forward.results)
    gradients = candidate.backward(case, forward, allocate=allocate)
    return readable({**results, **gradients}, case, candidate, reference)


def readable(
    results: Mapping[str, Array | Problem | None], case: Case, candidate: Candidate, reference: Reference
) -> dict[str, Array]:
    """Those of the results that can be held against others, in float64 and in the references' layout."""
    found: dict[str, Array] = {}
    right = reference.expected(case).tensors
    for tensor, result in results.items():
        if not isinstance(result, np.ndarray) or result.dtype != reference.dtype(tensor) or tensor not in right:
            continue
        if result.shape != candidate.in_layout(tensor, right[tensor]).shape:
            continue
        wide = candidate.in_reference(tensor, result).astype(np.float64)
        if np.isfinite(wide).all():
            found[tensor] = wide
    return found


def slack(tensor: str, result: Array, case: Case, reference: Reference) -> Array | float | None:
    """How far apart this result and another way to the same one may be, for rounding alone; None: no telling.

    The bound of right code for a right result: 0.0 in an exact case. A wrong one is no sum of integers any more, may
    be of any size, and may leave out a factor of 0 or mix up entries: its own rounding counts, and the largest bound
    of any entry.
    """
    right = reference.expected(case)
    bound, expected = right.bounds[tensor], right.tensors[tensor]
    if bound is None:
        return None
    if bool((np.abs(result - expected) <= bound).all()):
        return bound
    rounding = reference.rounding(_of_some_size(case, reference))[tensor]
    return None if rounding is None else np.full(result.shape, room_of_wrong(tensor, result, case, reference))


def room_of_wrong(tensor: str, result: Array, case: Case, reference: Reference) -> float:
    """How far off rounding alone may have an entry of a wrong result."""
    rounding = reference.rounding(_of_some_size(case, reference))[tensor]
    bounds = float(np.max(rounding, initial=0.0)) if rounding is not None else 0.0
    # What was summed up may be far larger than a result in which it cancels: at least the bound over the roundings.
    expected = reference.expected(case).tensors[tensor]
    usual = max(float(np.abs(expected).max(initial=0.0)), bounds / (WRONG_ROUNDINGS * case.precision.accumulator))
    largest = float(np.abs(result).max(initial=0.0))
    # Where all that is right is zero, so is its bound, and says nothing of a result that is wrong.
    larger = max(1.0, largest / usual) if usual > largest * case.precision.accumulator else 1.0
    return bounds * larger + own_rounding(result, case)


def own_rounding(result: Array, case: Case) -> float:
    """How much of a wrong result may be rounding."""
    precision = case.precision
    each = WRONG_ROUNDINGS * precision.accumulator + (4 * precision.roundoff if precision.low else 0.0)
    return float(each * np.abs(result).max(initial=0.0))


def _of_some_size(case: Case, reference: Reference) -> Case:
    """The case with parameters of 1 instead of smaller ones: a wrong result may leave them out."""
    kept = ("x", "dout", *reference.layer.contract.state)
    changed = {
        name: a if a is None or name in kept else np.where(np.abs(a) < 1, a.dtype.type(1), a)
        for name, a in case.arrays.items()
    }
    return case.with_arrays(changed, case.origin)


def slacks(results: Mapping[str, Array], case: Case, reference: Reference) -> dict[str, Array | float]:
    """The slack of every result that has one."""
    found = {tensor: slack(tensor, result, case, reference) for tensor, result in results.items()}
    return {tensor: room for tensor, room in found.items() if room is not None}


def differ(
    tensor: str, got: Array, expected: Array, allowed: Array | float, candidate: Candidate, must: str
) -> Discrepancy | None:
    """Whether two results in the references' layout are further apart than allowed, told in the candidate's layout."""
    room = candidate.in_layout(tensor, np.broadcast_to(np.asarray(allowed), expected.shape))
    seen, other = candidate.in_layout(tensor, got), candidate.in_layout(tensor, expected)
    return compare(tensor, seen, other, room, np.dtype(np.float64), must=must)
