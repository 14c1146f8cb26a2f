"""The same question gets the same answer, whatever was asked in between."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from backproof.conformance.candidate import Candidate, Crashed, Forward, Refused
from backproof.conformance.case import Array, Case
from backproof.conformance.law import Law
from backproof.conformance.verdict import Discrepancy, Judgement, Problem, Status, compare

Results = Mapping[str, "Array | Problem | None"]


def repeatability(case: Case, candidate: Candidate, law: Law) -> Judgement:
    """A second backward on the same cache, and two forwards before their backwards in either order, give what the plain
    call gives.
    """
    other = _other(case)
    try:
        plain = _plain(case, candidate)
        plain_other = _plain(other, candidate)
        if plain is None or plain_other is None:
            return {"repeatability": Status.LEFT_OUT}
        found = _twice(case, candidate, law, plain) if candidate.reusable_cache else None
        for first_back in (0, 1):
            if found is not None:
                break
            found = _interleaved((case, other), candidate, law, (plain, plain_other), first_back)
    except Refused:
        return {"repeatability": Status.UNSUPPORTED}
    except Crashed:
        return {"repeatability": Status.LEFT_OUT}
    return {"repeatability": found or Status.RIGHT}


def _plain(case: Case, candidate: Candidate) -> Results | None:
    """One forward and one backward; None where the forward gave no cache."""
    forward = candidate.forward(case)
    if not forward.complete:
        return None
    results = _copied(forward.results)
    return {**results, **_copied(candidate.backward(case, forward))}


def _twice(case: Case, candidate: Candidate, law: Law, plain: Results) -> Discrepancy | None:
    forward = candidate.forward(case)
    first = _copied(candidate.backward(case, forward))
    try:
        second = _copied(candidate.backward(case, forward))
    except Crashed as crash:
        return _broken(crash, "the second backward on one cache")
    return _differ(case, law, first, plain, "in a plain second call") or _differ(
        case, law, second, plain, "in the second backward on one cache"
    )


def _interleaved(
    cases: tuple[Case, Case], candidate: Candidate, law: Law, plain: tuple[Results, Results], first_back: int
) -> Discrepancy | None:
    """Two forwards, then the backward of the one, then of the other."""
    forwards: list[Forward] = []
    outs: list[Results] = []
    for case in cases:
        forwards.append(candidate.forward(case))
        outs.append(_copied(forwards[-1].results))
    for k in (first_back, 1 - first_back):
        after = "after another forward" if k == first_back else "after another call's backward"
        try:
            results = {**outs[k], **_copied(candidate.backward(cases[k], forwards[k]))}
        except Crashed as crash:
            return _broken(crash, f"a backward {after}")
        # What differs in the other case is told of this one: it alone is reported.
        found = _differ(cases[k], law, results, plain[k], f"{after}")
        if found is not None:
            return found
    return None


def _other(case: Case) -> Case:
    """Another case of the same shapes: the numbers reversed, scaled and shifted, so that no stale cache goes unseen."""
    arrays = {name: None if a is None else _changed(name, a) for name, a in case.arrays.items()}
    return case.with_arrays(arrays, case.origin)


def _changed(name: str, array: Array) -> Array:
    # A variance stays what it is: not negative.
    scale, shift = (2, 0) if name == "running_var" else (3, 1)
    turned = array.ravel()[::-1].reshape(array.shape)
    return np.ascontiguousarray(turned * array.dtype.type(scale) + array.dtype.type(shift))


def _copied(results: Results) -> Results:
    return {name: a.copy() if isinstance(a, np.ndarray) else a for name, a in results.items()}


def _broken(crash: Crashed, where: str) -> Discrepancy:
    problem = crash.problem
    return Discrepancy("crash", None, f"In {where} {problem.message}", traceback=problem.traceback)


def _differ(case: Case, law: Law, results: Results, plain: Results, where: str) -> Discrepancy | None:
    """Whether two results of one question differ by more than both their errors."""
    for tensor, result in results.items():
        before = plain.get(tensor)
        if not isinstance(before, np.ndarray) or not isinstance(result, np.ndarray):
            continue
        if before.dtype == result.dtype and np.array_equal(before, result):
            continue
        bound = law.right(case).bounds.get(tensor)
        if bound is None:
            continue
        must = f"{where}, but the plain call gave"
        found = compare(
            tensor,
            result,
            before.astype(np.float64),
            2 * np.asarray(bound),
            before.dtype,
            must=must,
            kind="state",
        )
        if found is not None:
            return Discrepancy("state", tensor, found.message, found.expected, found.got)
    return None
