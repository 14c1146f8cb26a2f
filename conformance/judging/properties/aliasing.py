"""A gradient's memory is its own."""

from __future__ import annotations

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.properties.property import LeftOut, OneItem, ScriptWriter
from backproof.conformance.judging.properties.several_calls import complete_forward, other_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.results import Discrepancy, Status

#: How much work may go into an exact answer whether two strided arrays share an entry.
MOST_WORK = 10_000
#: Calls after which a gradient must still hold what it held.
FURTHER_CALLS = 2


class Aliasing(OneItem):
    """No gradient shares memory with an input, another gradient, or a buffer that the next call overwrites."""

    name = "aliasing"
    columns = ("returned", "later")

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Looks for shared memory after one backward, then for changes after further calls."""
        inputs: dict[str, Array] = {}

        def allocate(name: str, array: Array) -> Array:
            inputs[name] = np.array(array, order="C")
            return inputs[name]

        forward = complete_forward(case, candidate, allocate)
        returned = candidate.backward(case, forward, allocate=allocate)
        gradients = {name: a for name, a in returned.items() if isinstance(a, np.ndarray) and a.size}
        if not gradients:
            raise LeftOut
        seen: list[tuple[str, Array]] = list(inputs.items())
        for name, gradient in gradients.items():
            for other, array in seen:
                if shares(gradient, array):
                    sentence = (
                        f"{name} shares memory with {other}: whoever changes the one changes the other. Return a copy."
                    )
                    return Discrepancy("alias", name, sentence, way="shared")
            seen.append((name, gradient))
        before = {name: gradient.copy() for name, gradient in gradients.items()}
        question = other_of(case, reference.layer)
        if candidate.reusable_cache:
            candidate.backward(question, forward)
        # More than one: buffers may be used by turns.
        for _ in range(FURTHER_CALLS):
            candidate.backward(question, complete_forward(question, candidate))
        for name, gradient in gradients.items():
            if before[name].tobytes() != np.ascontiguousarray(gradient).tobytes():
                sentence = (
                    f"{name} lies in a buffer that the next call overwrites: its numbers changed after it was returned."
                )
                held, now = before[name].astype(np.float64), gradient.astype(np.float64)
                return Discrepancy("alias", name, sentence, held, now, way="overwritten")
        return Status.RIGHT

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Looks for memory that the gradient shares, or at the gradient again after further calls."""
        tensor, overwritten = writer.tensor, writer.discrepancy.way == "overwritten"
        writer.numbers(writer.case)
        if overwritten:
            writer.others()
        writer.calls(writer.case.configuration)
        writer.judge = [
            f"    results, cache = forward({writer.passes()})",
            "    gradients = backward(dout, cache)",
            f'    {tensor} = read("{tensor}", gradients["{tensor}"])',
        ]
        if overwritten:
            further = [f"    backward(dout_other, forward({writer.passes('_other')})[1])"] * FURTHER_CALLS
            if writer.candidate.reusable_cache:
                further = ["    backward(dout_other, cache)", *further]
            writer.judge += [
                f"    before = {tensor}.copy()",
                *further,
                f'    return compare("{tensor}, after further calls", {tensor}, before, 0)',
            ]
            return True
        writer.copies_by('array = passed[name] = np.array(array, order="C")')
        writer.lines += ["", "", "#: The arrays that were passed, by name.", "passed = {}"]
        writer.function(shares)
        writer.judge += [
            "    others = dict(passed)",
            "    for name, gradient in gradients.items():",
            f'        if name != "{tensor}" and gradient is not None:',
            "            others[name] = read(name, gradient)",
            "    found = 0",
            "    for name, other in others.items():",
            f"        if shares({tensor}, other):",
            f'            print(f"{tensor} shares memory with {{name}}: whoever changes the one changes the other.")',
            "            found = 1",
            "    return found",
        ]
        return True


def shares(one: Array, other: Array) -> bool:
    """Whether two arrays have a byte in common."""
    try:
        return np.shares_memory(one, other, max_work=MOST_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return np.may_share_memory(one, other)
