"""Every result has the right values, shape and dtype."""

from __future__ import annotations

import numpy as np

from backproof.conformance.adapter.candidate import Candidate, Crashed, Forward, Refused
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.properties.property import Property
from backproof.conformance.judging.reference import Expected, Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.contract import Signature
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.results import Discrepancy, Problem, Status


class Tensors(Property):
    """Every result has the right values, shape and dtype: out, each gradient, the running statistics."""

    name = "tensors"
    judges_results = True

    def items(self, layer: Layer, signature: Signature) -> tuple[str, ...]:
        """One item a result."""
        return layer.tensors(signature)

    def asks_backward(self, item: str, tensor: str | None, layer: Layer) -> bool:
        """Only for the gradients."""
        return item != "out" and item not in layer.contract.state

    def judge(self, case: Case, candidate: Candidate, reference: Reference) -> dict[str, Status | Discrepancy]:
        """Compares every result with the reference's."""
        names = candidate.layer.tensors(candidate.signature)
        gradients = [name for name in names if name != "out" and name not in candidate.layer.contract.state]
        try:
            forward = candidate.forward(case)
        except Refused:
            return dict.fromkeys(names, Status.UNSUPPORTED)
        except Crashed as crash:
            return {**dict.fromkeys(names, Status.LEFT_OUT), "out": crash.problem.of("out")}
        held = {
            name: array.copy()
            for name in candidate.layer.contract.state
            if (array := forward.passed.get(name)) is not None
        }
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
                right = reference.expected(case)
                judged |= {
                    name: _judged(name, result, right, reference, candidate)
                    for name, result in returned.items()
                    if result is not None
                }
        judged["out"] = _judged("out", forward.results["out"], reference.expected(case), reference, candidate)
        for name in candidate.layer.contract.state:
            if name in forward.results:
                judged[name] = _state(name, case, forward, reference, candidate)
                if judged[name] is Status.RIGHT:
                    judged[name] = _kept(name, forward.passed[name], held[name], candidate) or Status.RIGHT
        return judged


def _expected(gradient: str, case: Case) -> bool:
    return case.arrays[gradient[1:]] is not None


def _judged(
    tensor: str, result: Array | Problem, right: Expected, reference: Reference, candidate: Candidate
) -> Status | Discrepancy:
    bound = right.bounds[tensor]
    if bound is None:
        return Status.UNJUDGED
    if not isinstance(bound, float):
        bound = candidate.in_layout(tensor, bound)
    expected = candidate.in_layout(tensor, right.tensors[tensor])
    found = compare(tensor, result, expected, bound, reference.dtype(tensor))
    if found is None and not isinstance(bound, float) and expected.any() and bool((np.abs(expected) <= bound).all()):
        # Nothing but zeros would be as right here: the case says nothing of the tensor.
        return Status.UNJUDGED
    return found or Status.RIGHT


def _kept(name: str, now: Array | None, held: Array, candidate: Candidate) -> Discrepancy | None:
    """The running statistics are the forward's business: the backward leaves the arrays that were passed alone."""
    assert now is not None
    must = f"must stay as it was when {candidate.layer.name}_backward returns:"
    return compare(name, now, held.astype(np.float64), 0.0, held.dtype, must=must, kind="state")


def _state(name: str, case: Case, forward: Forward, reference: Reference, candidate: Candidate) -> Status | Discrepancy:
    """Running statistics: in training the updated ones, in eval the very values that were passed."""
    if reference.layer.updates_state(case):
        return _judged(name, forward.results[name], reference.expected(case), reference, candidate)
    before = case.arrays[name]
    assert before is not None
    result = forward.results[name]
    found = compare(
        name, result, before.astype(np.float64), 0.0, reference.dtype(name), must="in eval must stay", kind="state"
    )
    return found or Status.RIGHT


#: The property of every item that is a result's.
TENSORS = Tensors()
