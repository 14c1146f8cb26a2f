"""State that one call leaves for another: on the layer, in a cache, or in a buffer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from backproof.conformance.adapter.candidate import Candidate, Crashed, Refused
from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.snapshot import Snapshot
from backproof.conformance.explaining.probes.trials import (
    Results,
    alike,
    arrays_of,
    filled,
    is_right,
    results,
    right_of,
    subsets,
    variants,
    with_array,
)
from backproof.conformance.judging.properties.several_calls import other_of
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.contract import Contract
from backproof.conformance.spec.probe import Probe, of_each

CHECKS = ("repeatability",)
#: The number of shapes to try for one that the candidate has not seen, and of places in which to start.
FRESH, SHAPES = 8, 29


def _again(candidate: Candidate, case: Case, douts: Sequence[Case]) -> list[Results] | None:
    """One forward, and one backward on its cache for the dout of each of these cases."""
    try:
        forward = candidate.forward(case)
        if not forward.complete:
            return None
        return [arrays_of(candidate.backward(each, forward)) for each in douts]
    except (Crashed, Refused):
        return None


def _of_tensor(found: Sequence[Results] | None, tensor: str | None) -> list[Array]:
    """One tensor of each result; empty if one lacks it."""
    if found is None or tensor is None or any(tensor not in each for each in found):
        return []
    return [each[tensor].astype(np.float64) for each in found]


#: Whether something holds in a case; None where it could not show.
Judge = Callable[[FailingCase, Case], bool | None]


def _everywhere(judge: Judge) -> Callable[[FailingCase], bool]:
    """Whether it holds in the case, with other numbers and in a larger case, wherever it could show."""

    def holds(failing: FailingCase) -> bool:
        if failing.case.invalidity is not None or failing.found.tensor is None:
            return False
        answers = [judge(failing, each) for each in variants(failing)]
        return True in answers and False not in answers

    return holds


def _backwards(times: int, holds: Callable[[list[Array]], bool]) -> Callable[[FailingCase], bool]:
    """Whether it holds for the results of so many backwards on one cache."""

    def judge(failing: FailingCase, case: Case) -> bool | None:
        if not failing.candidate.reusable_cache:
            return False
        found = _of_tensor(_again(failing.candidate, case, [case] * times), failing.found.tensor)
        return None if not found or not found[0].any() else holds(found)

    return _everywhere(judge)


def _adds_up(found: list[Array]) -> bool:
    return all(alike(result, k * found[0]) for k, result in enumerate(found, 1))


def _adds_turned(found: list[Array]) -> bool:
    first, second = found
    return any(alike(second, first + np.flip(first, axes)) for axes in subsets(first.ndim))


def _kept(failing: FailingCase, case: Case) -> bool | None:
    """Whether a backward for another dout returns the gradient of the first."""
    if not failing.candidate.reusable_cache:
        return False
    other = case.with_dout(other_of(case, failing.reference.layer).array("dout"))
    found = _of_tensor(_again(failing.candidate, case, [case, other]), failing.found.tensor)
    plain = _of_tensor(_given(results(failing.candidate, other)), failing.found.tensor)
    if not found or not plain or not _is_steady(failing, case):
        return False
    return None if alike(plain[0], found[0]) else alike(*found)


def _given(found: Results | None) -> list[Results] | None:
    return None if found is None else [found]


adds_up = _backwards(3, _adds_up)
adds_turned = _backwards(2, _adds_turned)
gives_zeros = _backwards(2, lambda found: not found[1].any())
gives_the_first = _everywhere(_kept)


def _restored(of_passed: str | None, failing: FailingCase, case: Case) -> bool | None:
    """Whether restoring what the first backward changed makes a second one right.

    `of_passed` is the array passed to the forward that is restored; None: the cache, without any array passed.
    """
    candidate, tensor = failing.candidate, failing.found.tensor
    if not candidate.reusable_cache or candidate.adapter.from_numpy is not None:
        return False
    if _repeats(failing, case):
        return None
    try:
        forward = candidate.forward(case)
        passed = {name: a for name, a in forward.passed.items() if a is not None}
        if of_passed is not None and of_passed not in passed:
            return False
        held = Snapshot(forward.cache if of_passed is None else passed[of_passed])
        first = arrays_of(candidate.backward(case, forward))
        if not held.changed_apart_from(list(passed.values()) if of_passed is None else []):
            return False
        held.restore()
        second = arrays_of(candidate.backward(case, forward))
    except (Crashed, Refused):
        return False
    pair = _of_tensor([first, second], tensor)
    return bool(pair) and alike(*pair)


def _backward_changes(name: str, failing: FailingCase) -> bool:
    return _everywhere(partial(_restored, name))(failing)


def _repeats(failing: FailingCase, case: Case) -> bool:
    """Whether a second backward on one cache returns the same."""
    found = _of_tensor(_again(failing.candidate, case, [case] * 2), failing.found.tensor)
    return not found or alike(*found)


def _changes_cache(failing: FailingCase) -> bool:
    plainer = (adds_up, adds_turned, gives_zeros, gives_the_first)
    return _everywhere(partial(_restored, None))(failing) and not any(holds(failing) for holds in plainer)


def _plainest(failing: FailingCase) -> Case | None:
    reference = failing.reference
    configuration = reference.layer.build(reference.layer.base(reference.space), reference.space)
    return None if configuration is None else filled(reference, configuration)


def _between(failing: FailingCase, case: Case, between: Case | None, *, backward: bool = False) -> list[Array]:
    """The tensor in a plain call, and with another forward (and backward) before its backward."""
    candidate = failing.candidate
    plain = results(candidate, case)
    if between is None or plain is None:
        return []
    try:
        forward = candidate.forward(case)
        with suppress(Crashed, Refused):
            other = candidate.forward(between)
            if backward:
                candidate.backward(between, other)
        found = {**arrays_of(forward.results), **arrays_of(candidate.backward(case, forward))}
    except (Crashed, Refused):
        return []
    return _of_tensor([plain, found], failing.found.tensor)


def _is_steady(failing: FailingCase, case: Case) -> bool:
    """Whether the same call, repeated, returns the same."""
    found = _calls(failing, [other_of(case, failing.reference.layer), case, case])
    return bool(found) and alike(found[1], found[2])


def _replaced_by(failing: FailingCase, case: Case, *, backward: bool) -> bool | None:
    """Whether another call between a forward and its backward changes the result."""
    if not _is_steady(failing, case):
        return False
    for between in (other_of(case, failing.reference.layer), _plainest(failing)):
        pair = _between(failing, case, between, backward=backward)
        if pair and not alike(*pair):
            return True
    return None


def _last(name: str, failing: FailingCase, case: Case) -> bool | None:
    """Whether a forward in between makes the result that of its array of this name."""
    other, array = other_of(case, failing.reference.layer), case.arrays.get(name)
    pair = _between(failing, case, other)
    if array is None or not pair or not _is_steady(failing, case):
        return False
    mixed = _given(results(failing.candidate, with_array(case, name, other.arrays[name])))
    expected = _of_tensor(mixed, failing.found.tensor)
    if not expected:
        return False
    return None if alike(pair[0], expected[0]) else alike(pair[1], expected[0])


def _computed_with_the_last(name: str, failing: FailingCase) -> bool:
    return _everywhere(partial(_last, name))(failing)


replaced_by_a_forward = _everywhere(partial(_replaced_by, backward=False))
replaced_by_a_call = _everywhere(partial(_replaced_by, backward=True))


def _replaced_by_a_backward(failing: FailingCase) -> bool:
    """Whether another call's backward changes the result, and no simpler probe holds."""
    plainer = (adds_up, adds_turned, gives_zeros, gives_the_first, replaced_by_a_forward, *_OF_CALLS)
    return replaced_by_a_call(failing) and not any(holds(failing) for holds in plainer)


def _calls(failing: FailingCase, cases: Sequence[Case]) -> list[Array]:
    """The tensor in each of these calls in turn."""
    found = [each for case in cases if (each := results(failing.candidate, case)) is not None]
    return _of_tensor(found, failing.found.tensor) if len(found) == len(cases) else []


def _never_zeroed(failing: FailingCase, case: Case) -> bool | None:
    """Whether every call adds the right result to that of the call before."""
    found, expected = _calls(failing, [case] * 3), right_of(failing, case, failing.found.tensor or "")
    if not found or expected is None or found[0].shape != expected.shape:
        return False
    rounding = 2.0**-50 * float(max(np.abs(each).max(initial=0.0) for each in found))
    if float(np.abs(expected).max(initial=0.0)) <= 1e3 * rounding:
        return None
    tolerance = rounding + 1e-6 * float(np.abs(expected).max())
    steps = (found[1] - found[0], found[2] - found[1])
    return all(bool((np.abs(step - expected) <= tolerance).all()) for step in steps)


def _by_turns(failing: FailingCase, case: Case) -> bool | None:
    found = _calls(failing, [case] * 4)
    if not found:
        return False
    if all(alike(found[0], each) for each in found):
        return None
    return alike(found[0], found[2]) and alike(found[1], found[3])


def _stale(partly: bool, failing: FailingCase, case: Case) -> bool | None:
    """Whether some entries, or all, are those of the call before, and a second equal call is right."""
    other, tensor = other_of(case, failing.reference.layer), failing.found.tensor or ""
    arrays = _calls(failing, [other, other, case, case])
    if not arrays or not is_right(failing, case, tensor, arrays[3]):
        return False
    before, after, right = arrays[1:]
    wrong, differs = after != right, before != right
    if not differs.any() or (partly and not wrong.any()):
        return None
    return (
        bool(wrong.any()) and bool((differs & ~wrong).any()) == partly and np.array_equal(after[wrong], before[wrong])
    )


def _varies(failing: FailingCase, case: Case) -> bool | None:
    """Whether equal calls differ."""
    found = _calls(failing, [case] * 3)
    return None if not found or (alike(found[0], found[1]) and alike(found[1], found[2])) else True


never_zeroed = _everywhere(_never_zeroed)
by_turns = _everywhere(_by_turns)
partly_stale = _everywhere(partial(_stale, True))
stale = _everywhere(partial(_stale, False))
_OF_CALLS = (never_zeroed, by_turns, partly_stale, stale)


def _unsteady(failing: FailingCase) -> bool:
    """Whether equal calls differ, and no other probe explains how."""
    return _everywhere(_varies)(failing) and not any(holds(failing) for holds in _OF_CALLS)


def _kept_from_the_first(name: str, failing: FailingCase) -> bool:
    """Whether the second call of a shape uses this array of the first call."""
    reference, tensor, case = failing.reference, failing.found.tensor, failing.case
    array = case.arrays.get(name)
    if tensor is None or array is None or case.invalidity is not None:
        return False
    start = 1 + int(1000 * float(np.abs(case.array(reference.layer.contract.arrays[0])).sum())) % SHAPES
    for by in range(start, start + FRESH):
        parameters = case.configuration.parameters
        for parameter, value in parameters.items():
            found = reference.layer.build({**parameters, parameter: value + by}, reference.space)
            if found is None or found.options != case.configuration.options:
                continue
            if found.shapes.get(name) in (None, case.configuration.shapes.get(name)):
                continue
            first = filled(reference, found)
            second = with_array(first, name, other_of(first, failing.reference.layer).arrays[name])
            if not reference.layer.has_meaning(second):
                continue
            pair = [results(failing.candidate, each) for each in (first, second)]
            results_ = _of_tensor([each for each in pair if each is not None], tensor)
            if len(results_) < 2 or not is_right(failing, first, tensor, results_[0]):
                continue
            return alike(*results_) and not is_right(failing, second, tensor, results_[1])
    return False


def _changed_by_backward(failing: FailingCase) -> bool:
    return failing.found.kind == "state" and "_backward returns" in failing.found.message


def calls(contract: Contract) -> tuple[Probe, ...]:
    """What may be left behind by one call and found by another."""
    return (
        Probe(
            "{tensor} is added to what the backward before has left: the second one on a cache gives the sum of both.",
            CHECKS,
            adds_up,
        ),
        Probe(
            "{tensor} is added to what the backward before has left, turned around: the second one on a cache gives "
            "that sum.",
            CHECKS,
            adds_turned,
        ),
        Probe("{tensor} is zero in every second backward on a cache.", CHECKS, gives_zeros),
        Probe(
            "{tensor} is that of an earlier dout: what the first backward made, of dout or of the gradient, is kept "
            "and taken again in a later one.",
            CHECKS,
            gives_the_first,
        ),
        *of_each(
            contract.arrays,
            "The backward changes {name} where it lies, and the cache refers to it: a second backward computes with "
            "other numbers.",
            CHECKS,
            _backward_changes,
        ),
        Probe(
            "The backward changes what its cache holds: a second backward computes with other numbers.",
            CHECKS,
            _changes_cache,
        ),
        *of_each(
            contract.arrays,
            "{tensor} is computed with the {name} of the last forward, whichever forward is pulled back: it is kept "
            "on the layer, or in a buffer that all caches share.",
            CHECKS,
            _computed_with_the_last,
        ),
        Probe(
            "A later forward replaces what this backward needs: it is kept on the layer, or in a buffer that all "
            "caches share, and not in a cache of its own.",
            CHECKS,
            replaced_by_a_forward,
        ),
        Probe(
            "Another call's backward replaces what this backward needs: it is kept on the layer, or in a buffer "
            "that all caches share.",
            CHECKS,
            _replaced_by_a_backward,
        ),
        Probe(
            "{tensor} is added to an array that no call sets back to zero: every call has the sum of all before it.",
            (),
            never_zeroed,
        ),
        Probe(
            "{tensor} is another one in every second of equal calls: one call changes what the next one finds.",
            (),
            by_turns,
        ),
        Probe(
            "Part of {tensor} is that of the call before: it is made in a buffer that is not written to everywhere.",
            (),
            partly_stale,
        ),
        Probe("{tensor} is that of the call before.", (), stale),
        *of_each(
            contract.arrays,
            "{tensor} is computed with the {name} of an earlier call of the same shape: it is kept, and not renewed "
            "when {name} changes.",
            (),
            _kept_from_the_first,
        ),
        Probe("{tensor} is changed by the backward: it is the forward's to update.", (), _changed_by_backward),
        Probe(
            "{tensor} is not the same in equal calls: one call leaves something behind for the next, or memory is "
            "never written.",
            CHECKS,
            _unsteady,
        ),
    )
