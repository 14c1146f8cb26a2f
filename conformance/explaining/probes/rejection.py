"""Why a case without meaning is accepted: what the implementation makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from backproof.conformance.adapter.candidate import Crashed, Refused
from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.trials import alike, arrays_of
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.probe import Probe

CHECKS = ("rejection",)


def out_of(failing: FailingCase, case: Case) -> Array | None:
    """What the forward returns; None where it raises."""
    try:
        result = failing.candidate.forward(case).results["out"]
    except (Crashed, Refused):
        return None
    return result if isinstance(result, np.ndarray) else None


def in_forward(holds: Callable[[FailingCase], bool]) -> Callable[[FailingCase], bool]:
    """Asked of cases that the forward should reject."""
    return lambda failing: (
        failing.case.invalidity is not None and not failing.case.invalidity.in_backward and holds(failing)
    )


def _in_backward(holds: Callable[[FailingCase], bool]) -> Callable[[FailingCase], bool]:
    return lambda failing: (
        failing.case.invalidity is not None and failing.case.invalidity.in_backward and holds(failing)
    )


def _broadcast(failing: FailingCase) -> bool:
    """Whether the gradients are those of dout broadcast to the shape of out."""
    case, candidate = failing.case, failing.candidate
    try:
        forward = candidate.forward(case)
        out, dout = forward.results["out"], candidate.in_data_format("dout", case.array("dout"))
        if not isinstance(out, np.ndarray) or out.shape == dout.shape:
            return False
        wide = np.broadcast_to(dout, out.shape).astype(case.precision.dtype)
        given = arrays_of(candidate.backward(case, forward))
        whole = candidate.in_reference("dout", wide)
        expected = arrays_of(candidate.backward(case, candidate.forward(case), dout=whole))
    except (Crashed, Refused, ValueError):
        return False
    return bool(given) and given.keys() == expected.keys() and all(alike(a, expected[t]) for t, a in given.items())


def _nothing(failing: FailingCase) -> bool:
    arrays = [array for name, array in failing.case.arrays.items() if array is not None and name != "dout"]
    return any(array.size == 0 for array in arrays)


def _repeated(failing: FailingCase) -> bool:
    """Whether out is that of an array of size 1 along an axis repeated along it."""
    case, out = failing.case, out_of(failing, failing.case)
    sizes = sorted({n for shape in case.configuration.shapes.values() if shape is not None for n in shape if n > 1})
    if out is None:
        return False
    for name in failing.reference.layer.contract.arrays:
        array = case.arrays.get(name)
        for axis in range(0 if array is None else array.ndim):
            for size in sizes if array is not None and array.shape[axis] == 1 else ():
                assert array is not None
                wider = replace(case, arrays={**case.arrays, name: np.repeat(array, size, axis)})
                other = out_of(failing, wider)
                if other is not None and alike(out, other) and _fits(failing, wider):
                    return True
    return False


def _fits(failing: FailingCase, case: Case) -> bool:
    """Whether the reference accepts its shapes."""
    shapes = {name: None if a is None else a.shape for name, a in case.arrays.items()}
    try:
        failing.reference.layer.evaluate(replace(case, configuration=replace(case.configuration, shapes=shapes)))
    except (ValueError, IndexError):
        return False
    return True


REJECTION: tuple[Probe, ...] = (
    Probe(
        "A dout with a single entry along an axis is broadcast to the shape of out, where it has to be refused.",
        CHECKS,
        _in_backward(_broadcast),
    ),
    Probe(
        "The shape of dout is not compared with that of out.",
        CHECKS,
        _in_backward(lambda failing: not _broadcast(failing)),
    ),
    Probe(
        "An axis of size 0 is let through: a sum over nothing is 0, and no operation complains of it.",
        CHECKS,
        in_forward(_nothing),
    ),
    Probe(
        "An array with a single entry along an axis is broadcast: it is taken for as many as the other array has.",
        CHECKS,
        in_forward(_repeated),
    ),
)
