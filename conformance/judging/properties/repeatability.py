"""The same question gets the same answer, whatever was asked in between."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from backproof.conformance.adapter.candidate import Candidate, Crashed, Forward, Refused
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.properties.property import LeftOut, OneItem
from backproof.conformance.judging.properties.several_calls import complete_forward, other_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.results import Discrepancy, Problem, Status

Results = Mapping[str, "Array | Problem | None"]


class Repeatability(OneItem):
    """A second backward on one cache, and two forwards before their backwards, give what the plain call gives.

    Of the same dout, and of another one.
    """

    name = "repeatability"
    columns = ("plain call", "this call")

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Compares a plain call with calls that come after, or between, others."""
        other = other_of(case, reference.layer)
        plain, plain_other = _plain(case, candidate), _plain(other, candidate)
        return _again(case, other, candidate, reference, plain, plain_other) or Status.RIGHT


def _again(
    case: Case, other: Case, candidate: Candidate, reference: Reference, plain: Results, plain_other: Results
) -> Discrepancy | None:
    found = _twice(case, other, candidate, reference, plain) if candidate.reusable_cache else None
    for first_back in (0, 1):
        found = found or _interleaved((case, other), candidate, reference, (plain, plain_other), first_back)
    return found or _elsewhere(case, candidate, reference, plain)


def _elsewhere(case: Case, candidate: Candidate, reference: Reference, plain: Results) -> Discrepancy | None:
    """A forward of other shapes and options, the plainest there are, between this one's forward and backward."""
    configuration = reference.layer.build(reference.layer.base(reference.space), reference.space)
    if configuration is None:
        return None
    plainest = next(iter(reference.layer.fills(configuration, reference.space)))
    where = "after a forward of other shapes and options"
    try:
        forward = candidate.forward(case)
        with suppress(Crashed, Refused):
            candidate.forward(plainest)
        results = {**forward.results, **_copied(candidate.backward(case, forward))}
    except (Crashed, Refused) as error:
        return _broken(error, where)
    return _differ(case, reference, candidate, results, plain, where)


def _plain(case: Case, candidate: Candidate) -> Results:
    """One forward and one backward."""
    forward = complete_forward(case, candidate)
    results = _copied(forward.results)
    return {**results, **_copied(candidate.backward(case, forward))}


def _twice(case: Case, other: Case, candidate: Candidate, reference: Reference, plain: Results) -> Discrepancy | None:
    """One forward, two backwards of its dout, and one of the other's."""
    where = "in a second plain call"
    try:
        forward = candidate.forward(case)
        first = _copied(candidate.backward(case, forward))
        found = _differ(case, reference, candidate, first, plain, where)
        where = "in the second backward on one cache"
        found = found or _differ(case, reference, candidate, _copied(candidate.backward(case, forward)), plain, where)
        return found or _redirected(case.with_dout(other.array("dout")), candidate, reference, forward)
    except (Crashed, Refused) as error:
        return _broken(error, where)


def _redirected(case: Case, candidate: Candidate, reference: Reference, forward: Forward) -> Discrepancy | None:
    """Another dout on a cache that has served one before."""
    where = "in a later backward on one cache, of another dout"
    try:
        plain = _plain(case, candidate)
    except (Crashed, Refused, LeftOut):
        return None
    try:
        return _differ(case, reference, candidate, _copied(candidate.backward(case, forward)), plain, where)
    except (Crashed, Refused) as error:
        return _broken(error, where)


def _interleaved(
    cases: tuple[Case, Case],
    candidate: Candidate,
    reference: Reference,
    plain: tuple[Results, Results],
    first_back: int,
) -> Discrepancy | None:
    """Two forwards, then the backward of the one, then of the other."""
    where = "in a second forward before the first one's backward"
    try:
        forwards = [candidate.forward(case) for case in cases]
        for k in (first_back, 1 - first_back):
            where = "after another forward" if k == first_back else "after another call's backward"
            results = {**forwards[k].results, **_copied(candidate.backward(cases[k], forwards[k]))}
            # What differs in the other case is told of this one: it alone is reported.
            found = _differ(cases[k], reference, candidate, results, plain[k], where)
            if found is not None:
                return found
    except (Crashed, Refused) as error:
        return _broken(error, where)
    return None


def _copied(results: Results) -> Results:
    return {name: a.copy() if isinstance(a, np.ndarray) else a for name, a in results.items()}


def _broken(error: Crashed | Refused, where: str) -> Discrepancy:
    """What was right in the plain call fails when it is asked once more."""
    if isinstance(error, Crashed):
        sentence = f"The plain call is fine, but {where} {error.problem.message}"
        return Discrepancy("crash", None, sentence, traceback=error.problem.traceback)
    return Discrepancy("state", None, f"The plain call is fine, but {where} NotImplementedError is raised.")


def _differ(
    case: Case, reference: Reference, candidate: Candidate, results: Results, plain: Results, where: str
) -> Discrepancy | None:
    """Whether two results of one question differ by more than both their errors."""
    for tensor, result in results.items():
        before = plain.get(tensor)
        if not isinstance(before, np.ndarray):
            continue
        if not isinstance(result, np.ndarray):
            told = f"{tensor} is None." if result is None else result.message
            return Discrepancy("state", tensor, f"The plain call is fine, but {where} {told}")
        if before.dtype == result.dtype and np.array_equal(before, result):
            continue
        bound = reference.expected(case).bounds.get(tensor)
        if bound is None:
            continue
        allowed = candidate.in_layout(tensor, 2 * np.asarray(bound))
        must = f"{where}, but the plain call gave"
        wide = before.astype(np.float64)
        found = compare(tensor, result, wide, allowed, before.dtype, must=must, kind="state")
        if found is not None:
            return Discrepancy("state", tensor, found.message, found.expected, found.got)
    return None
