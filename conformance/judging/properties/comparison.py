"""Properties that ask one question in several ways, written down as one function that needs NumPy alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from backproof.conformance.adapter.candidate import Candidate, Crashed, Refused
from backproof.conformance.judging.properties.property import LeftOut, OneItem, ScriptWriter
from backproof.conformance.judging.properties.several_calls import (
    comparable,
    complete_forward,
    difference,
    tolerance_between,
    tolerances_of,
    write_tolerance_between,
)
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.results import Discrepancy, Status

#: Makes a forward and its backward, and gives their results by name.
Ask = Callable[..., dict[str, Array]]


class Comparison(OneItem):
    """A question that is asked in another way gets the answer of the plain call.

    A subclass has a docstring that says so, a name, and `otherwise`. How it is judged, reported and reproduced follows.
    """

    columns = ("plain call", "this call")

    @staticmethod
    @abstractmethod
    def otherwise(ask: Ask, arrays: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
        """Every other way in words, such as "with x at an odd address", and the results of asking so.

        `arrays` are what the plain call passes, dout included, in the candidate's data format; None is left out.
        `ask(**arrays)` passes copies of these arrays, and any other array as it is. The source of this function, and
        of what it calls in its module, stands in the scripts.
        """

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Compares the results of every way with those of the plain call."""
        arrays = {
            name: np.array(candidate.in_data_format(name, array), order="C")
            for name, array in case.arrays.items()
            if array is not None
        }

        def ask(**passed: Array) -> dict[str, Array]:
            def as_it_is(name: str, _: Array) -> Array:
                array = passed[name]
                if array is arrays[name]:
                    return np.array(array, order="C")
                if not candidate.accepts(array):
                    raise Refused(f"from_numpy does not take this {name}.")
                return array

            forward = complete_forward(case, candidate, as_it_is)
            gradients = candidate.backward(case, forward, allocate=as_it_is)
            results = {**forward.results, **gradients}
            return {tensor: result.copy() for tensor, result in results.items() if isinstance(result, np.ndarray)}

        plain = comparable(ask(**arrays), case, candidate, reference)
        tolerances = tolerances_of(plain, case, reference)
        if not tolerances:
            raise LeftOut
        outcome = Status.LEFT_OUT
        try:
            for words, results in self.otherwise(ask, arrays):
                outcome, others = Status.RIGHT, comparable(results, case, candidate, reference)
                for tensor in tolerances:
                    if tensor not in others:
                        must = "is no array of finite numbers of the right shape and dtype; in the plain call it is"
                        return Discrepancy("value", tensor, f"{tensor}, {words}, {must}.")
                    tolerance = tolerance_between(tensor, plain[tensor], others[tensor], case, reference)
                    assert tolerance is not None
                    must = f"{words}, but in the plain call it is"
                    found = difference(tensor, others[tensor], plain[tensor], tolerance, candidate, must)
                    if found is not None:
                        return found
        except Crashed as crash:
            sentence = f"The plain call is fine, but asked in another way {crash.problem.message}"
            return Discrepancy("crash", None, sentence, traceback=crash.problem.traceback)
        return outcome

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Makes the plain call and the others, and compares the result that is wrong."""
        case, tensor = writer.case, writer.tensor
        names = [*writer.names(), "dout"]
        there = [name for name in names if case.arrays[name] is not None]
        writer.numbers(case)
        write_tolerance_between(writer)
        writer.calls(case.configuration)
        writer.ask([tensor] if tensor else [])
        passed = ", ".join(f'passed["{name}"]' if name in there else "None" for name in names)
        by_name = ", ".join(f'"{name}": {name}' for name in there)
        writer.lines += [
            "",
            "",
            "#: What the plain call passes, by name.",
            f"arrays = {{{by_name}}}",
            "",
            "",
            "def results_of(**passed):",
            f'    """{tensor or "Nothing"} of one forward and its backward, by name."""',
            f'    return {{"{tensor}": ask({passed})}}' if tensor else f"    return ask({passed}) or {{}}",
        ]
        function = writer.function(self.otherwise)
        writer.taken()
        writer.copies_by('array = np.array(array, order="C") if array is arrays[name] else taken(name, array)')
        compared = (
            f'compare(f"{tensor} {{words}}", results["{tensor}"], plain["{tensor}"].astype("float64"), tolerance)'
        )
        writer.judge = [
            "    plain = results_of(**arrays)",
            f"    for words, results in {function}(results_of, arrays):",
            *([f"        if {compared}:", "            return 1"] if tensor else ["        print(words)"]),
            "    return 0",
        ]
        return True
