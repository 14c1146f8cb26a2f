"""Writes to memory that is not the candidate's own: arrays passed to it, and gradients that it has returned."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from backproof.conformance.adapter.candidate import Crashed, Refused
from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.trials import Results, alike, arrays_of, subsets, variants
from backproof.conformance.judging.properties.several_calls import other_of
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.contract import Contract
from backproof.conformance.spec.probe import Probe, of_each

PURITY, ALIASING = ("purity",), ("aliasing",)
SHARES = re.compile(r"shares memory with (\w+)")

#: An array before and after a call, and the results of the call.
Changed = tuple[str, Array, Array, Results]


def _change(failing: FailingCase, case: Case, name: str) -> Changed | None:
    kept: dict[str, Array] = {}

    def allocate(other: str, array: Array) -> Array:
        kept[other] = np.array(array, order="C")
        return kept[other]

    try:
        forward = failing.candidate.forward(case, allocate=allocate)
        found = arrays_of(forward.results)
        found |= arrays_of(failing.candidate.backward(case, forward, allocate=allocate))
    except (Crashed, Refused):
        return None
    before = case.arrays.get(name)
    if before is None or name not in kept:
        return None
    held = failing.candidate.in_data_format(name, before).astype(np.float64)
    return name, held, kept[name].astype(np.float64), found


def _always(holds: Callable[[Case, Changed], bool]) -> Callable[[FailingCase], bool]:
    """Whether it holds in at least one of three cases, and in all of them in which the array changes."""

    def judge(failing: FailingCase) -> bool:
        name = failing.found.tensor
        if name is None or failing.found.got is None:
            return False
        asked = [(one, _change(failing, one, name)) for one in variants(failing)]
        made = [(one, change) for one, change in asked if change is not None and not _same(change)]
        return len(made) > 0 and all(holds(one, change) for one, change in made)

    return judge


def _same(change: Changed) -> bool:
    return bool(np.array_equal(change[1], change[2]))


def _is_result(which: Callable[[str], str]) -> Callable[[Case, Changed], bool]:
    def holds(case: Case, change: Changed) -> bool:
        name, _, after, found = change
        result = found.get(which(name))
        return result is not None and alike(after, result.astype(np.float64))

    return holds


def _factor(part: Array, whole: Array) -> float | None:
    """The factor between two arrays; None if there is none."""
    scale = float(np.vdot(whole, whole))
    factor = float(np.vdot(whole, part)) / scale if scale else 0.0
    return factor if factor and alike(part, factor * whole) else None


def _by_one_factor(of: Callable[[Changed], tuple[Array, Array] | None]) -> Callable[[FailingCase], bool]:
    """Whether in all cases one array is the same multiple of another."""

    def judge(failing: FailingCase) -> bool:
        name = failing.found.tensor
        if name is None or failing.found.got is None:
            return False
        factors = []
        for one in variants(failing):
            change = _change(failing, one, name)
            pair = None if change is None else of(change)
            if pair is None:
                return False
            if pair[0].any() or pair[1].any():
                factors.append(_factor(*pair))
        first = factors[0] if factors else None
        return first is not None and all(each is not None and abs(each - first) < 1e-9 * abs(first) for each in factors)

    return judge


def _step(change: Changed) -> tuple[Array, Array] | None:
    name, before, after, found = change
    gradient = found.get(f"d{name}")
    return None if gradient is None or gradient.shape != before.shape else (after - before, gradient.astype(np.float64))


def _centred(case: Case, change: Changed) -> bool:
    _, before, after, _ = change
    means = (before.mean(axis=subset, keepdims=True) for subset in subsets(before.ndim))
    return any(alike(after, before - mean) for mean in means)


def _turned(case: Case, change: Changed) -> bool:
    _, before, after, _ = change
    return any(alike(after, np.flip(before, subset)) for subset in subsets(before.ndim))


def _cleared(case: Case, change: Changed) -> bool:
    _, before, after, _ = change
    differs = before != after
    return not after[differs].any() and not bool(differs.all() and before.size > 1)


def _all_cleared(case: Case, change: Changed) -> bool:
    return not change[2].any()


def _gathered(case: Case, change: Changed) -> bool:
    """Whether the first entries along an axis hold the sums, and the others are unchanged."""
    _, before, after, _ = change
    for axis in range(before.ndim):
        expected = before.copy()
        np.moveaxis(expected, axis, 0)[0] = before.sum(axis=axis)
        if alike(after, expected):
            return True
    return False


def _multiplied_by(name: str, failing: FailingCase) -> bool:
    """Whether the changed array was multiplied by this one along one of its axes."""

    def holds(case: Case, change: Changed) -> bool:
        _, before, after, _ = change
        factor = case.wide.get(name)
        if factor is None or factor.ndim != 1:
            return False
        for axis in range(before.ndim):
            if before.shape[axis] == len(factor):
                along = factor.reshape([-1 if k == axis else 1 for k in range(before.ndim)])
                if alike(after, before * along):
                    return True
        return False

    return _always(holds)(failing)


def _outside(failing: FailingCase) -> bool:
    return "wrote outside" in failing.found.message


def _shares(name: str, failing: FailingCase) -> bool:
    found = SHARES.search(failing.found.message)
    return found is not None and found[1] == name


def _shares_gradient(failing: FailingCase) -> bool:
    found = SHARES.search(failing.found.message)
    return found is not None and found[1].startswith("d") and found[1] != "dout"


def _overwritten(by: str) -> Callable[[FailingCase], bool]:
    """Whether a gradient is overwritten by the next backward on its own cache, or already by one on another cache."""

    def judge(failing: FailingCase) -> bool:
        tensor, candidate = failing.found.tensor, failing.candidate
        if tensor is None or "in a buffer that the next call overwrites" not in failing.found.message:
            return False
        case, other = failing.case, other_of(failing.case, failing.reference.layer)
        try:
            forward = candidate.forward(case)
            held = candidate.backward(case, forward).get(tensor)
            if not isinstance(held, np.ndarray):
                return False
            before = held.copy()
            for _ in range(2):
                candidate.backward(other, candidate.forward(other))
            elsewhere = not np.array_equal(before, held, equal_nan=True)
            if elsewhere or not candidate.reusable_cache:
                return by == "layer"
            candidate.backward(other, forward)
            return by == "cache" and not np.array_equal(before, held, equal_nan=True)
        except (Crashed, Refused):
            return False

    return judge


def ownership(contract: Contract) -> tuple[Probe, ...]:
    """What may be written to, or returned, that is not the implementation's own memory."""
    return (
        Probe("Something is written outside {tensor}, to memory that is not the layer's.", PURITY, _outside),
        Probe("{tensor} is overwritten with its own gradient.", PURITY, _always(_is_result(lambda name: f"d{name}"))),
        Probe("{tensor} is overwritten with out.", PURITY, _always(_is_result(lambda name: "out"))),
        Probe(
            "{tensor} is changed by a multiple of its gradient: an optimizer's step, which is no part of the layer.",
            PURITY,
            _by_one_factor(_step),
        ),
        Probe(
            "{tensor} is multiplied by a number where it lies: copy it first.",
            PURITY,
            _by_one_factor(lambda change: (change[2], change[1])),
        ),
        *of_each(
            contract.arrays,
            "{tensor} is multiplied by {name} where it lies: copy it first.",
            PURITY,
            _multiplied_by,
        ),
        Probe("{tensor} has its mean subtracted where it lies (x -= mean): copy it first.", PURITY, _always(_centred)),
        Probe("{tensor} is turned around where it lies: copy it first.", PURITY, _always(_turned)),
        Probe("{tensor} is set to zero.", PURITY, _always(_all_cleared)),
        Probe(
            "Entries of {tensor} are set to zero where they lie: np.require and np.ascontiguousarray do not always "
            "copy.",
            PURITY,
            _always(_cleared),
        ),
        Probe(
            "{tensor} is added up where it lies, along an axis into the first entries: np.require and "
            "np.ascontiguousarray do not always copy.",
            PURITY,
            _always(_gathered),
        ),
        *of_each(
            ("dout", *contract.arrays, *contract.state),
            "{tensor} lies in the memory of {name}: it is a view of it, or is written over it.",
            ALIASING,
            _shares,
        ),
        Probe("{tensor} lies in the memory of another gradient.", ALIASING, _shares_gradient),
        Probe(
            "{tensor} is returned in a workspace of the layer, which the next call fills again: return a copy.",
            ALIASING,
            _overwritten("layer"),
        ),
        Probe(
            "{tensor} is returned in a buffer of the cache, which the next backward on it fills again: return a copy.",
            ALIASING,
            _overwritten("cache"),
        ),
    )
