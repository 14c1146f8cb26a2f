"""Every result has the right values, shape and dtype."""

from __future__ import annotations

import numpy as np

from backproof.conformance.adapter.candidate import Candidate, Crashed, Forward, Refused
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.properties.property import Property, ScriptWriter
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

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Compares one result with what it must be, in value, shape and dtype."""
        case, reference, candidate, tensor = writer.case, writer.reference, writer.candidate, writer.tensor or item
        state = candidate.layer.contract.state
        right = reference.expected(case)
        tolerance: Array | float | None
        if tensor in state and not reference.layer.updates_state(case):
            tolerance, expected = 0.0, case.array(tensor)
        else:
            tolerance, expected = right.tolerances[tensor], candidate.in_data_format(tensor, right.tensors[tensor])
        writer.numbers(case)
        writer.comment(f"What {tensor} must be, and how far off rounding alone may have it.")
        writer.array("expected", expected)
        if tolerance is not None:
            tolerance = tolerance if isinstance(tolerance, float) else candidate.in_data_format(tensor, tolerance)
            writer.tolerance("tolerance", tolerance, writer.discrepancy.got, writer.discrepancy.expected)
        writer.calls(case.configuration)
        dtype = writer.dtype(np.empty(0, reference.dtype(tensor)))  # type: ignore[call-overload]
        compared = f'compare("{tensor}", got, expected, tolerance, {dtype})'
        if tolerance is None:
            compared = "0  # in this case rounding could hide anything but an error"
        of_forward = tensor == "out" or tensor in state
        result = f'results["{tensor}"]' if of_forward else f'backward(dout, cache)["{tensor}"]'
        writer.judge = [
            f"    results, cache = forward({writer.passes()})",
            f'    got = read("{tensor}", {result})',
            f"    return {compared}",
        ]
        if writer.discrepancy.kind == "state" and tensor in state:
            # Something changes it that must not: any call where it is read, the backward where it is updated.
            writer.judge[-1:] = [
                f"    if {compared}:",
                "        return 1",
                f'    passed = [array for name, array, _ in kept if name == "{tensor}"][-1]',
                "    before = passed.copy()",
                "    backward(dout, cache)",
                f'    return compare("the {tensor} that was passed, when the backward returns", passed, before, 0)',
            ]
        return True


def _expected(gradient: str, case: Case) -> bool:
    return case.arrays[gradient[1:]] is not None


def _judged(
    tensor: str, result: Array | Problem, right: Expected, reference: Reference, candidate: Candidate
) -> Status | Discrepancy:
    tolerance = right.tolerances[tensor]
    if tolerance is None:
        return Status.UNJUDGED
    if not isinstance(tolerance, float):
        tolerance = candidate.in_data_format(tensor, tolerance)
    expected = candidate.in_data_format(tensor, right.tensors[tensor])
    found = compare(tensor, result, expected, tolerance, reference.dtype(tensor))
    if found is not None:
        return found
    if not isinstance(tolerance, float) and expected.any() and bool((np.abs(expected) <= tolerance).all()):
        # Nothing but zeros would be as right here: the case says nothing of the tensor.
        return Status.UNJUDGED
    return Status.RIGHT


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
