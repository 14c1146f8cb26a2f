"""How a case without meaning comes to be accepted: what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from backproof.conformance.adapter.candidate import Crashed, Refused
from backproof.conformance.explaining.probes.probe import FailingCase, Probe
from backproof.conformance.explaining.probes.trials import alike, arrays_of
from backproof.conformance.spec.case import Array, Case

CHECKS = ("rejection",)


def _out(failing: FailingCase, case: Case) -> Array | None:
    """What the forward gives; None where it raises."""
    try:
        result = failing.candidate.forward(case).results["out"]
    except (Crashed, Refused):
        return None
    return result if isinstance(result, np.ndarray) else None


def _in_forward(holds: Callable[[FailingCase], bool]) -> Callable[[FailingCase], bool]:
    return lambda failing: failing.case.flaw is not None and not failing.case.flaw.in_backward and holds(failing)


def _in_backward(holds: Callable[[FailingCase], bool]) -> Callable[[FailingCase], bool]:
    return lambda failing: failing.case.flaw is not None and failing.case.flaw.in_backward and holds(failing)


def _broadcast(failing: FailingCase) -> bool:
    """Whether dout gives what it gives when it is broadcast to the shape of out."""
    case, candidate = failing.case, failing.candidate
    try:
        forward = candidate.forward(case)
        out, dout = forward.results["out"], candidate.in_layout("dout", case.array("dout"))
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
    """Whether an array with one entry along an axis gives what it gives when that is repeated."""
    case, out = failing.case, _out(failing, failing.case)
    sizes = sorted({n for shape in case.configuration.shapes.values() if shape is not None for n in shape if n > 1})
    if out is None:
        return False
    for name in ("x", "w"):
        array = case.arrays.get(name)
        for axis in range(0 if array is None else array.ndim):
            for size in sizes if array is not None and array.shape[axis] == 1 else ():
                assert array is not None
                wider = replace(case, arrays={**case.arrays, name: np.repeat(array, size, axis)})
                other = _out(failing, wider)
                if other is not None and alike(out, other) and _fits(failing, wider):
                    return True
    return False


def _fits(failing: FailingCase, case: Case) -> bool:
    """Whether the references have an answer to it."""
    shapes = {name: None if a is None else a.shape for name, a in case.arrays.items()}
    try:
        failing.reference.layer.evaluate(replace(case, configuration=replace(case.configuration, shapes=shapes)))
    except (ValueError, IndexError):
        return False
    return True


def _words(failing: FailingCase) -> str:
    return failing.case.flaw.words if failing.case.flaw is not None else ""


def _with_options(case: Case, **options: object) -> Case:
    return replace(case, configuration=replace(case.configuration, options={**case.options, **options}))


def _eps(failing: FailingCase) -> bool:
    return _words(failing).startswith("eps=")


def _eps_of_zero(failing: FailingCase) -> bool:
    """Whether an eps of 0 is taken, and one below it is not."""
    if not _eps(failing) or failing.case.options.get("eps") != 0:
        return False
    return _out(failing, _with_options(failing.case, eps=-1e-5)) is None


def _any_eps(failing: FailingCase) -> bool:
    """Whether an eps below 0 is taken."""
    return _eps(failing) and _out(failing, _with_options(failing.case, eps=-1e-5)) is not None


def _left_over(failing: FailingCase) -> bool:
    """Whether filters that the groups do not divide are left out: out is that of the others."""
    case, groups = failing.case, failing.case.options.get("groups", 1)
    w, b, out = case.arrays.get("w"), case.arrays.get("b"), _out(failing, failing.case)
    if w is None or out is None or groups < 2 or len(w) % groups == 0:
        return False
    whole = len(w) // groups * groups
    fewer = {**case.arrays, "w": w[:whole], "b": None if b is None else b[:whole]}
    other = _out(failing, replace(case, arrays=fewer)) if whole else None
    return other is not None and alike(out, other)


def _rounded_to_zero(failing: FailingCase) -> bool:
    """Whether a kernel that does not fit is taken with a stride, and is not with a stride of 1."""
    stride = failing.case.options.get("stride")
    if "kernel" not in _words(failing) or stride is None or max(stride) == 1:
        return False
    out = _out(failing, failing.case)
    plain = _with_options(failing.case, stride=(1,) * len(stride))
    return out is not None and prod(out.shape) > 0 and _out(failing, plain) is None


def _crops(failing: FailingCase) -> bool:
    """Whether a padding below 0 takes entries away."""
    case, padding = failing.case, failing.case.options.get("padding")
    x, out = case.arrays.get("x"), _out(failing, failing.case)
    if x is None or out is None or padding is None or min(min(sides) for sides in padding) >= 0:
        return False
    cut = [slice(max(0, -low), n - max(0, -high)) for n, (low, high) in zip(x.shape[2:], padding, strict=True)]
    inner = (slice(None), slice(None), *cut)
    clipped = tuple([(max(0, low), max(0, high)) for low, high in padding])
    cropped = _with_options(replace(case, arrays={**case.arrays, "x": np.array(x[inner])}), padding=clipped)
    other = _out(failing, cropped)
    return other is not None and alike(out, other)


def _unchecked_dout(failing: FailingCase) -> bool:
    return not _broadcast(failing)


MEANING: tuple[Probe, ...] = (
    Probe(
        "A dout with a single entry along an axis is broadcast to the shape of out, where it has to be refused.",
        CHECKS,
        _in_backward(_broadcast),
    ),
    Probe("The shape of dout is not compared with that of out.", CHECKS, _in_backward(_unchecked_dout)),
    Probe(
        "An axis of size 0 is let through: a sum over nothing is 0, and no operation complains of it.",
        CHECKS,
        _in_forward(_nothing),
    ),
    Probe(
        "An array with a single entry along an axis is broadcast: it is taken for as many as the other array has.",
        CHECKS,
        _in_forward(_repeated),
    ),
    Probe("eps is not checked: it must be above 0.", CHECKS, _in_forward(_any_eps)),
    Probe(
        "An eps below 0 is rejected, and one of 0 is not: the check has < where <= is needed.",
        CHECKS,
        _in_forward(_eps_of_zero),
    ),
    Probe(
        "Each group gets O // groups filters, and those that are left over are in none: nothing checks that the groups "
        "divide them.",
        CHECKS,
        _in_forward(_left_over),
    ),
    Probe(
        "The size of out is rounded towards 0, as int(a / S) + 1 has it, and not down: a kernel that does not fit gets "
        "a window.",
        CHECKS,
        _in_forward(_rounded_to_zero),
    ),
    Probe("A padding below 0 is not rejected: it crops x.", CHECKS, _in_forward(_crops)),
)
