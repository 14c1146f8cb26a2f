"""Calling the candidate again for a probe, and the cases to call it with."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from backproof.conformance.adapter.candidate import Allocate, Candidate, Crashed, Refused
from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.judging.properties.several_calls import other_of, tolerance_of_wrong
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case, Configuration
from backproof.conformance.spec.precision import PRECISIONS

#: The tolerance between two computations of one number, relative to the largest.
CLOSE = 1e-9

Results = dict[str, Array]


def results(candidate: Candidate, case: Case, *, allocate: Allocate | None = None) -> Results | None:
    """Copies of all results of a forward and its backward that are arrays, in the candidate's layout.

    None where a call fails.
    """
    try:
        forward = candidate.forward(case, allocate=allocate)
        found = arrays_of(forward.results)
        if forward.complete:
            found |= arrays_of(candidate.backward(case, forward, allocate=allocate))
    except (Crashed, Refused):
        return None
    return found


def arrays_of(found: Mapping[str, object]) -> Results:
    """Copies of the results that are arrays."""
    return {name: a.copy() for name, a in found.items() if isinstance(a, np.ndarray)}


def crash_of(candidate: Candidate, case: Case, *, allocate: Allocate | None = None) -> str | None:
    """The message of what a forward or its backward raises; None where they raise nothing."""
    try:
        forward = candidate.forward(case, allocate=allocate)
        if forward.complete:
            candidate.backward(case, forward, allocate=allocate)
    except Crashed as crash:
        return crash.problem.message
    except Refused:
        return "NotImplementedError"
    return None


def alike(one: Array, other: Array) -> bool:
    """Whether two results have the same shape and, up to rounding, the same numbers."""
    if one.shape != other.shape:
        return False
    a, b = one.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not ((np.isfinite(a) == np.isfinite(b)).all()):
        return False
    largest = max(float(np.abs(a[finite]).max(initial=0.0)), float(np.abs(b[finite]).max(initial=0.0)))
    tolerance = max(CLOSE, 8 * _epsilon(one)) * largest
    return bool((np.abs(a - b)[finite] <= tolerance).all())


def _epsilon(array: Array) -> float:
    if array.dtype.kind == "f":
        return float(np.finfo(array.dtype).eps)
    return float(PRECISIONS["bfloat16"].roundoff * 2) if array.dtype.kind == "V" else 0.0


def right_of(failing: FailingCase, case: Case, tensor: str) -> Array | None:
    """The right result, in the candidate's layout; None where the case has no such tensor."""
    found = failing.reference.expected(case).tensors.get(tensor)
    return None if found is None else failing.candidate.in_data_format(tensor, found)


def is_right(failing: FailingCase, case: Case, tensor: str, result: Array) -> bool:
    """Whether a result is right up to rounding."""
    expected = right_of(failing, case, tensor)
    if expected is None or expected.shape != result.shape:
        return False
    right_tolerance = failing.reference.expected(case).tolerances.get(tensor)
    if right_tolerance is None:
        return False
    tolerance = float(np.max(right_tolerance, initial=0.0)) + tolerance_of_wrong(
        tensor, np.zeros(()), case, failing.reference
    )
    return bool((np.abs(result.astype(np.float64) - expected) <= tolerance).all())


def with_array(case: Case, name: str, array: Array | None) -> Case:
    """The case with another array in this place, plain in memory."""
    return replace(case.with_arrays({**case.arrays, name: array}, case.origin), layouts={})


def with_options(case: Case, **options: object) -> Case:
    """The case with other values of these options."""
    return replace(case, configuration=replace(case.configuration, options={**case.options, **options}))


def larger(reference: Reference, configuration: Configuration, by: int = 1) -> Iterator[tuple[str, Configuration]]:
    """The configurations in which one size is larger by so much, each with the name of that size."""
    for name, value in configuration.parameters.items():
        found = reference.layer.build({**configuration.parameters, name: value + by}, reference.space)
        if found is not None and found.options == configuration.options and _has_grown(configuration, found):
            yield name, found


def grown(reference: Reference, configuration: Configuration) -> Configuration:
    """The configuration with every size larger by one or more, as far as possible not all by the same."""
    for step, name in enumerate(configuration.parameters):
        for by in (1 + step % 3, 1, 2):
            value = configuration.parameters[name] + by
            found = reference.layer.build({**configuration.parameters, name: value}, reference.space)
            if found is not None and found.options == configuration.options and _has_grown(configuration, found):
                configuration = found
                break
    return configuration


def _has_grown(before: Configuration, after: Configuration) -> bool:
    """Whether the same arrays are None, and some shape differs."""
    pairs = [(shape, after.shapes.get(name)) for name, shape in before.shapes.items()]
    if any((one is None) != (other is None) for one, other in pairs):
        return False
    return any(one != other for one, other in pairs)


def filled(reference: Reference, configuration: Configuration) -> Case:
    """The configuration with the first of the fixed fills."""
    return next(iter(reference.layer.fills(configuration, reference.space)))


def equal(reference: Reference, configuration: Configuration, size: int) -> Configuration | None:
    """The configuration with the same value for every size; None where that has no meaning."""
    names = {name for by in (1, -1) for name, _ in larger(reference, configuration, by)}
    found = reference.layer.build({**configuration.parameters, **dict.fromkeys(names, size)}, reference.space)
    return found if found is not None and found.options == configuration.options else None


def given(reference: Reference, configuration: Configuration, names: Iterable[str]) -> Configuration:
    """The configuration with arrays where these were None."""
    for name in names:
        for parameter, value in configuration.parameters.items():
            if value == 0 and configuration.shapes.get(name) is None:
                found = reference.layer.build({**configuration.parameters, parameter: 1}, reference.space)
                if found is not None and found.shapes.get(name) is not None:
                    configuration = found
                    break
    return configuration


def absent(case: Case) -> list[str]:
    """The arrays for which None is passed."""
    return [name for name, array in case.arrays.items() if array is None]


def both(failing: FailingCase) -> tuple[Case, Case]:
    """The case itself, plain in memory, and a larger one with the same options."""
    case = replace(failing.case, layouts={})
    return case, filled(failing.reference, grown(failing.reference, case.configuration))


def variants(failing: FailingCase) -> tuple[Case, Case, Case]:
    """The case itself, plain in memory, one with other numbers, and a larger one."""
    case, large = both(failing)
    return case, other_of(case, failing.reference.layer), large


def subsets(axes: int) -> Iterator[tuple[int, ...]]:
    """All combinations of one or more of so many axes, the smallest first."""
    return (subset for count in range(1, axes + 1) for subset in combinations(range(axes), count))


def complaints(candidate: Candidate, case: Case) -> frozenset[str] | None:
    """NumPy's warnings in a forward and its backward, such as "divide by zero encountered in divide"."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="warn"):
        warnings.simplefilter("always")
        if results(candidate, case) is None:
            return None
    return frozenset(str(each.message) for each in caught if issubclass(each.category, RuntimeWarning))
