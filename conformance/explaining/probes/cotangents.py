"""Why a backward is not linear in dout: from its results for larger, smaller and opposite ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.trials import alike, both, complaints, is_right, results
from backproof.conformance.judging.properties.several_calls import other_of
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.probe import Probe

CHECKS = ("linearity",)
#: Factors far above and far below any clipping threshold; the same in 16 bits.
FAR, NEAR = 2.0**20, 2.0**-20
FAR_LOW, NEAR_LOW = 2.0**9, 2.0**-6
FRACTIONS = np.array([0.25, 0.5, 0.125, 0.375, 0.75])
U = np.array([1, 2, -3, -2, 3, -1, 4], dtype=np.float64)


def _dense(case: Case) -> Array:
    return np.resize(U, case.array("dout").shape)


def _pull(failing: FailingCase, case: Case, dout: Array) -> Array | None:
    """The tensor for this dout, in a call of its own."""
    found = results(failing.candidate, case.with_dout(dout))
    tensor = failing.found.tensor
    return None if found is None or tensor not in found else found[tensor].astype(np.float64)


def _pulls(failing: FailingCase, case: Case, *douts: Array) -> list[Array]:
    found = [_pull(failing, case, dout) for dout in douts]
    kept = [each for each in found if each is not None and np.isfinite(each).all()]
    return kept if len(kept) == len(douts) else []


def _is_gradient(failing: FailingCase) -> bool:
    return (failing.found.tensor or "").startswith("d") and failing.case.invalidity is None


def _in_both(holds: Callable[[FailingCase, Case], bool]) -> Callable[[FailingCase], bool]:
    return lambda failing: _is_gradient(failing) and all(holds(failing, case) for case in both(failing))


def _constant(failing: FailingCase, case: Case) -> tuple[Array, Array] | None:
    """The results for a dout of zeros and for that of the case; None if a dout of zeros gives zeros."""
    dout = case.array("dout")
    found = _pulls(failing, case, np.zeros(dout.shape), dout, np.zeros(dout.shape))
    return (found[0], found[1]) if found and found[0].any() and alike(found[0], found[2]) else None


def _adds_only(failing: FailingCase, case: Case, added: Array, got: Array) -> bool:
    """Whether the tensor is right apart from what is added."""
    return is_right(failing, case, failing.found.tensor or "", got - added)


def _decay(failing: FailingCase) -> bool:
    """Whether a multiple of the gradient's own array is added, with the same factor in all cases."""
    tensor = failing.found.tensor or ""
    if not _is_gradient(failing) or tensor[1:] not in failing.case.arrays:
        return False
    rates = []
    for case in (*both(failing), other_of(failing.case, failing.reference.layer)):
        array, pair = case.wide.get(tensor[1:]), _constant(failing, case)
        if array is None or (pair is None and array.any()):
            return False
        if pair is None:
            continue
        own = failing.candidate.in_data_format(tensor, array)
        rate = float(np.vdot(pair[0], own)) / float(np.vdot(own, own)) if own.any() else 0.0
        if not rate or not alike(pair[0], rate * own) or not _adds_only(failing, case, *pair):
            return False
        rates.append(rate)
    return bool(rates) and all(abs(rate - rates[0]) <= 1e-6 * abs(rates[0]) for rate in rates)


def _adds_a_number(failing: FailingCase) -> bool:
    """Whether the same number is added to every entry in all cases."""
    if not _is_gradient(failing):
        return False
    numbers = []
    for case in (*both(failing), other_of(failing.case, failing.reference.layer)):
        pair = _constant(failing, case)
        if pair is None or not _adds_only(failing, case, *pair):
            return False
        numbers += [float(pair[0].min()), float(pair[0].max())]
    return max(numbers) - min(numbers) <= 1e-9 * abs(numbers[0])


def _adds_more(failing: FailingCase) -> bool:
    """Whether something else is added that does not depend on dout, and nothing more is wrong."""
    pair = _constant(failing, failing.case) if _is_gradient(failing) else None
    return (
        pair is not None
        and _adds_only(failing, failing.case, *pair)
        and not _decay(failing)
        and not _adds_a_number(failing)
    )


def _far(case: Case) -> float:
    return FAR_LOW if case.precision.low else FAR


def _near(case: Case) -> float:
    return NEAR_LOW if case.precision.low else NEAR


def _stops_at(failing: FailingCase, case: Case, sign: int) -> bool | None:
    """Whether a dout of one sign stops having an effect above some size; None where that cannot be seen."""
    dout = sign * np.abs(_dense(case))
    far, near = _far(case), _near(case)
    found = _pulls(failing, case, far * dout, 2 * far * dout, near * dout, near * dout / 2)
    if not found or not found[2].any():
        return None
    return alike(found[0], found[1]) and alike(found[2], 2 * found[3])


def _clipped(below: bool, above: bool, failing: FailingCase, case: Case) -> bool:
    return _stops_at(failing, case, -1) is below and _stops_at(failing, case, 1) is above


def _normalized(failing: FailingCase, case: Case) -> bool:
    dout, far, near = _dense(case), _far(case), _near(case)
    found = _pulls(failing, case, dout, far * dout, near * dout)
    return bool(found) and bool(found[0].any()) and alike(found[0], found[1]) and alike(found[0], found[2])


def _absolute(failing: FailingCase, case: Case) -> bool:
    dout = _dense(case)
    found = _pulls(failing, case, dout, -dout, np.abs(dout), 2 * dout)
    if not found or not found[0].any() or not alike(found[3], 2 * found[0]):
        return False
    return alike(found[0], found[1]) and alike(found[0], found[2])


def _negative_lost(failing: FailingCase, case: Case) -> bool:
    dout = _dense(case)
    found = _pulls(failing, case, dout, np.maximum(dout, 0), -np.abs(dout))
    return bool(found) and bool(found[0].any()) and alike(found[0], found[1]) and not found[2].any()


def _squared(failing: FailingCase, case: Case) -> bool:
    dout = _dense(case)
    found = _pulls(failing, case, dout, 2 * dout, -dout)
    return bool(found) and bool(found[0].any()) and alike(found[1], 4 * found[0]) and alike(found[2], found[0])


def _integers(failing: FailingCase, case: Case) -> bool:
    """Whether fractions in dout make no difference, and a dout of integers is right."""
    dout = np.abs(_dense(case))
    behind = dout + np.resize(FRACTIONS, dout.shape)
    found = _pulls(failing, case, dout, behind)
    tensor = failing.found.tensor or ""
    if not found or not found[0].any() or not alike(found[0], found[1]):
        return False
    whole, cut = case.with_dout(dout), case.with_dout(behind)
    return is_right(failing, whole, tensor, found[0]) and not is_right(failing, cut, tensor, found[1])


def _divides_by_dout(failing: FailingCase) -> bool:
    """Whether only a dout of zeros makes something divide by zero."""
    if failing.found.kind != "nonfinite" or "a dout of zeros" not in failing.found.message:
        return False
    case = failing.case
    nothing = complaints(failing.candidate, case.with_dout(np.zeros(case.array("dout").shape)))
    other = complaints(failing.candidate, case.with_dout(_dense(case)))
    return nothing is not None and any("divide" in each for each in nothing) and not other


COTANGENTS: tuple[Probe, ...] = (
    Probe("{tensor} has a multiple of its own array added (weight decay), which is no part of the layer.", (), _decay),
    Probe("{tensor} has a number added to every entry, whatever dout is.", (), _adds_a_number),
    Probe("{tensor} has something in it that does not depend on dout.", (), _adds_more),
    Probe(
        "dout, or {tensor} itself, is clipped: above some size, of either sign, a larger dout makes no difference.",
        CHECKS,
        _in_both(partial(_clipped, True, True)),
    ),
    Probe(
        "dout, or {tensor} itself, is clipped from below: a larger negative dout makes no difference.",
        CHECKS,
        _in_both(partial(_clipped, True, False)),
    ),
    Probe(
        "dout, or {tensor} itself, is clipped from above: a larger positive dout makes no difference.",
        CHECKS,
        _in_both(partial(_clipped, False, True)),
    ),
    Probe(
        "dout is divided by its own size in {tensor}, a norm or its largest entry: twice as large a dout gives the "
        "same.",
        CHECKS,
        _in_both(_normalized),
    ),
    Probe("The sign of dout is lost in {tensor}.", CHECKS, _in_both(_absolute)),
    Probe("The negative entries of dout are lost in {tensor}.", CHECKS, _in_both(_negative_lost)),
    Probe("dout is squared in {tensor}.", CHECKS, _in_both(_squared)),
    Probe("dout is cut to integers in {tensor}.", (), _in_both(_integers)),
    Probe(
        "Something is divided by the size of dout, a norm or its largest entry, which is 0 for a dout of zeros.",
        CHECKS,
        _divides_by_dout,
    ),
)
