"""Where an array lies in memory changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backproof.conformance.adapter.candidate import Candidate, Crashed
from backproof.conformance.judging.properties.property import LeftOut, OneItem, ScriptWriter
from backproof.conformance.judging.properties.several_calls import (
    difference,
    results_of,
    tolerance_between,
    tolerances_of,
    write_tolerance_between,
)
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.memory_layouts import LAYOUTS, arranged, choices, laid_out
from backproof.conformance.spec.results import Discrepancy, Status


class MemoryLayout(OneItem):
    """Results are the same however arrays lie in memory: transposed, sliced, backwards, expanded, read-only.

    A case without layouts, as on the way to the smallest, is asked with one array at a time in each of them.
    """

    name = "memory_layout"
    columns = ("plain arrays", "this layout")
    in_memory_layouts = True

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Compares a call on plain arrays with one on the same numbers in other layouts."""
        trials = [case] if case.layouts else arrangements(case, candidate, reference)
        outcome: Discrepancy | Status = Status.LEFT_OUT
        plain: Mapping[str, Array] = {}
        question: Case | None = None
        for trial in trials:
            # Some layouts change the numbers to those that they can hold; the others share one plain call.
            if question is None or trial.arrays is not question.arrays:
                plain, question = results_of(trial, candidate, reference), trial
            outcome = _against(plain, trial, candidate, reference)
            if isinstance(outcome, Discrepancy):
                return outcome
        return outcome

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Asks the same arrays twice, plain and in other layouts; it cannot where the case has none."""
        case, tensor = writer.case, writer.tensor
        if not case.layouts:
            return False
        writer.numbers(case)
        write_tolerance_between(writer)
        writer.calls(case.configuration)
        writer.ask([tensor] if tensor else [])
        functions = {name: writer.function(LAYOUTS[layout]) for name, layout in case.layouts.items()}
        writer.lines += [
            "",
            "",
            "#: How arrays lie in memory; one that is not named here is plain.",
            "layouts = {}",
        ]
        writer.taken()
        writer.copies_by('array = taken(name, layouts[name](array)) if name in layouts else np.array(array, order="C")')
        asked = f"ask({writer.passes()}, dout)"
        where = ", ".join(f"{name} in the layout {layout!r}" for name, layout in case.layouts.items())
        compared = f'compare({f"{tensor} with {where}"!r}, other, plain.astype("float64"), tolerance)'
        writer.judge = [
            f"    {'plain = ' if tensor else ''}{asked}",
            f"    layouts.update({', '.join(f'{name}={function}' for name, function in functions.items())})",
            f"    {'other = ' if tensor else ''}{asked}",
            f"    return {compared if tensor else 0}",
        ]
        return True


def _against(
    plain: Mapping[str, Array], case: Case, candidate: Candidate, reference: Reference
) -> Discrepancy | Status:
    """The results in the case's layouts, against those of plain arrays."""
    named = _named(case.layouts)
    try:
        results = results_of(case, candidate, reference, lambda name, a: laid_out(a, case.layouts.get(name)))
    except Crashed as crash:
        sentence = f"Plain arrays are fine, but {named} {crash.problem.message}"
        return Discrepancy("crash", None, sentence, traceback=crash.problem.traceback)
    tolerances = tolerances_of(plain, case, reference)
    if not tolerances:
        raise LeftOut
    for tensor in tolerances:
        if tensor not in results:
            must = "is no array of finite numbers of the right shape and dtype; on plain arrays it is"
            return Discrepancy("value", tensor, f"{tensor}, {named}, {must}.")
        must = f"{named}, but on plain arrays it is"
        tolerance = tolerance_between(tensor, plain[tensor], results[tensor], case, reference)
        assert tolerance is not None
        found = difference(tensor, results[tensor], plain[tensor], tolerance, candidate, must)
        if found is not None:
            return found
    return Status.RIGHT


def arrangements(case: Case, candidate: Candidate, reference: Reference) -> Iterator[Case]:
    """The case with one array at a time in each layout that it can be asked in."""
    state = candidate.layer.contract.state
    for name, array in case.arrays.items():
        for layout in () if array is None else choices(name, array.ndim, state):
            trial = arranged(case, {name: layout}, reference.layer.has_meaning)
            if trial.layouts and not refused(trial, candidate):
                yield trial


def refused(case: Case, candidate: Candidate) -> dict[str, str]:
    """The arrays whose layout the adapter's from_numpy does not take, with the layout."""
    found: dict[str, str] = {}
    for name, layout in case.layouts.items():
        if not candidate.accepts(_as_passed(case, name, layout, candidate)):
            found[name] = layout
    return found


def _as_passed(case: Case, name: str, layout: str, candidate: Candidate) -> Array:
    array = case.arrays[name]
    assert array is not None
    return laid_out(candidate.in_data_format(name, array), layout)


def _named(layouts: Mapping[str, str]) -> str:
    """Such as "with dout as a step slice and w read-only"."""
    each = [f"{name} in the layout {layout!r}" for name, layout in layouts.items()]
    return "with " + (", ".join(each[:-1]) + " and " if len(each) > 1 else "") + each[-1]
