"""Every result has the right values, shape and dtype."""

from __future__ import annotations

import numpy as np

from backproof.conformance.candidate import Candidate, Crashed, Forward, Refused
from backproof.conformance.case import Array, Case
from backproof.conformance.law import Law, Right
from backproof.conformance.verdict import Discrepancy, Judgement, Problem, Status, compare


def tensors(case: Case, candidate: Candidate, law: Law) -> dict[str, Status | Discrepancy]:
    """Every result has the right values, shape and dtype: out, each gradient, the running statistics."""
    names = candidate.layer.tensors(candidate.signature)
    gradients = [name for name in names if name != "out" and name not in candidate.layer.contract.state]
    try:
        forward = candidate.forward(case)
    except Refused:
        return dict.fromkeys(names, Status.UNSUPPORTED)
    except Crashed as crash:
        return {**dict.fromkeys(names, Status.LEFT_OUT), "out": crash.problem.of("out")}
    returned: dict[str, Array | Problem | None]
    judged: dict[str, Status | Discrepancy] = dict.fromkeys(names, Status.LEFT_OUT)
    if forward.complete:
        try:
            returned = candidate.backward(case, forward)
        except Refused:
            judged |= dict.fromkeys(gradients, Status.UNSUPPORTED)
        except Crashed as crash:
            judged |= {name: crash.problem.of(name) for name in gradients if _expected(name, case)}
        else:
            right = law.right(case)
            judged |= {
                name: _judged(name, result, right, law) for name, result in returned.items() if result is not None
            }
    judged["out"] = _judged("out", forward.results["out"], law.right(case), law)
    for name in candidate.layer.contract.state:
        if name in forward.results:
            judged[name] = _state(name, case, forward, law)
    return judged


def edges(case: Case, candidate: Candidate, law: Law) -> Judgement:
    """At the edges too: sums over nothing are zero, and one element a channel normalizes to beta."""
    found = tensors(case, candidate, law)
    wrong = {name: judged for name, judged in found.items() if isinstance(judged, Discrepancy)}
    if wrong:
        # What is just as wrong away from the edge is another item's failure.
        inner = _inner(case, law)
        away = tensors(inner, candidate, law) if inner is not None else {}
        for name, judged in wrong.items():
            other = away.get(name)
            if not isinstance(other, Discrepancy) or other.kind != judged.kind:
                return {"edges": judged}
        return {"edges": Status.LEFT_OUT}
    for status in (Status.UNSUPPORTED, Status.RIGHT, Status.UNJUDGED):
        if status in found.values():
            return {"edges": status}
    return {"edges": Status.LEFT_OUT}


def _inner(case: Case, law: Law) -> Case | None:
    """The case with two samples wherever it has none or one."""
    parameters = {
        name: 2 if name.startswith("batch") else value for name, value in case.configuration.parameters.items()
    }
    configuration = law.layer.build(parameters, law.space)
    return None if configuration is None else next(iter(law.layer.fills(configuration, law.space)))


def _expected(gradient: str, case: Case) -> bool:
    return case.arrays[gradient[1:]] is not None


def _judged(tensor: str, result: Array | Problem, right: Right, law: Law) -> Status | Discrepancy:
    bound = right.bounds[tensor]
    if bound is None:
        return Status.UNJUDGED
    return compare(tensor, result, right.tensors[tensor], bound, law.dtype(tensor)) or Status.RIGHT


def _state(name: str, case: Case, forward: Forward, law: Law) -> Status | Discrepancy:
    """Running statistics: in training the updated ones, in eval the very values that were passed."""
    if case.options["training"]:
        return _judged(name, forward.results[name], law.right(case), law)
    before = case.arrays[name]
    assert before is not None
    result = forward.results[name]
    found = compare(
        name, result, before.astype(np.float64), 0.0, law.dtype(name), must="in eval must stay", kind="state"
    )
    return found or Status.RIGHT
