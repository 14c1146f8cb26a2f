"""Results of the wrong form: of another shape or dtype, missing, or in another's place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, permutations

import numpy as np

from backproof.conformance.case import Array
from backproof.conformance.mistake import Incident, Suspicion
from backproof.conformance.suspicions.trials import absent, alike, results, right_of

RETURNED = re.compile(r"returned (\d+) results, must return (\d+)")
SCALAR = re.compile(r"is the scalar (?:np\.\w+\()?([-+.\deinfa]+)\)?, must be an array")
DTYPES = re.compile(r"has dtype (\w+), must be (\w+)")
#: More axes than this are not gone through.
MOST_AXES = 6


def _of_kind(kind: str, holds: Callable[[Incident], bool]) -> Callable[[Incident], bool]:
    return lambda incident: incident.found.kind == kind and holds(incident)


def _none(incident: Incident) -> bool:
    return incident.found.message.startswith(f"{incident.found.tensor} is None, must be an array")


def _moved_up(incident: Incident) -> bool:
    """Whether no more results are missing than arrays are None."""
    found = RETURNED.search(incident.found.message)
    missing = len([name for name in absent(incident.case) if name in incident.candidate.signature.arrays])
    return found is not None and 0 < int(found[2]) - int(found[1]) <= missing


def _too_few(incident: Incident) -> bool:
    """Whether results are missing though no array is None."""
    found = RETURNED.search(incident.found.message)
    return found is not None and not absent(incident.case) and int(found[1]) < int(found[2])


def _scalar(incident: Incident) -> bool:
    """Whether it is one number, the sum of what should stand there."""
    found, tensor = SCALAR.search(incident.found.message), incident.found.tensor
    right = None if tensor is None else right_of(incident, incident.case, tensor)
    if found is None or right is None:
        return False
    return abs(float(found[1]) - float(right.sum())) <= 1e-6 * max(1.0, float(np.abs(right).sum()))


def _shapes(incident: Incident) -> tuple[Array, Array] | None:
    """What was got and what was expected, where the shapes differ."""
    got, expected = incident.found.got, incident.found.expected
    if incident.found.kind != "shape" or got is None or expected is None or got.ndim > MOST_AXES:
        return None
    return got, expected


def _reshaped(incident: Incident) -> tuple[Array, Array] | None:
    """The same, where the numbers are right, in the same order."""
    found = _shapes(incident)
    if found is None or found[0].size != found[1].size or not alike(found[0].ravel(), found[1].ravel()):
        return None
    return found


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _axis_lost(incident: Incident) -> bool:
    found = _reshaped(incident)
    if found is None or found[0].ndim >= found[1].ndim:
        return False
    return _without_ones(found[0].shape) == _without_ones(found[1].shape)


def _axis_kept(incident: Incident) -> bool:
    found = _reshaped(incident)
    if found is None or found[0].ndim <= found[1].ndim:
        return False
    return _without_ones(found[0].shape) == _without_ones(found[1].shape)


def _flattened(incident: Incident) -> bool:
    found = _reshaped(incident)
    return found is not None and _without_ones(found[0].shape) != _without_ones(found[1].shape)


def _transposed(incident: Incident) -> bool:
    found = _shapes(incident)
    if found is None or found[0].ndim != found[1].ndim:
        return False
    got, expected = found
    return any(alike(got, expected.transpose(axes)) for axes in permutations(range(got.ndim)))


def _subsets(axes: int) -> Iterator[tuple[int, ...]]:
    return (subset for count in range(1, axes + 1) for subset in combinations(range(axes), count))


def _unsummed(incident: Incident) -> bool:
    """Whether a sum over more axes makes it right."""
    found = _shapes(incident)
    if found is None or found[0].ndim <= found[1].ndim or _axis_kept(incident):
        return False
    got, expected = found
    return any(alike(np.asarray(got.sum(axis=subset)), expected) for subset in _subsets(got.ndim))


def _wrong_axes(incident: Incident) -> bool:
    """Whether it is a sum of dout, as it should be, but over other axes."""
    found, dout = _shapes(incident), incident.case.wide.get("dout")
    if found is None or dout is None or dout.ndim > MOST_AXES:
        return False
    dout = incident.candidate.in_layout("dout", dout)
    sums = [np.asarray(dout.sum(axis=subset)) for subset in _subsets(dout.ndim)]
    return any(alike(one, found[1]) for one in sums) and any(alike(one, found[0]) for one in sums)


def _of_shape(name: str, incident: Incident) -> bool:
    """Whether it has an array's shape that is not its own, and nothing else explains it."""
    found, array = _shapes(incident), incident.case.arrays.get(name)
    if found is None or array is None or found[0].shape != incident.candidate.in_layout(name, array).shape:
        return False
    return not _unsummed(incident) and not _exchanged(incident)


def _repeated(incident: Incident) -> bool:
    """Whether it is right but for being broadcast along axes on which it has size 1."""
    found = _shapes(incident)
    if found is None or found[0].ndim != found[1].ndim:
        return False
    got, expected = found
    pairs = list(zip(got.shape, expected.shape, strict=True))
    return all(many == one or one == 1 for many, one in pairs) and alike(got, np.broadcast_to(expected, got.shape))


def _exchanged(incident: Incident) -> bool:
    """Whether the gradients are the right ones, in each other's places."""
    tensor = incident.found.tensor
    found = results(incident.candidate, incident.case)
    if found is None or tensor is None or incident.found.kind not in ("value", "shape"):
        return False
    names = [f"d{name}" for name in incident.candidate.signature.arrays if f"d{name}" in found]
    right = {name: right_of(incident, incident.case, name) for name in names}
    if tensor not in names or any(a is None for a in right.values()):
        return False
    return any(
        order[names.index(tensor)] != tensor
        and all(
            (expected := right[other]) is not None and alike(found[name], expected)
            for name, other in zip(names, order, strict=True)
        )
        for order in permutations(names)
    )


def _dtypes(incident: Incident) -> tuple[str, str] | None:
    found = DTYPES.search(incident.found.message) if incident.found.kind == "dtype" else None
    return None if found is None else (found[1], found[2])


def _float64(incident: Incident) -> bool:
    return (found := _dtypes(incident)) is not None and found[0] == "float64"


def _of_x(incident: Incident) -> bool:
    """Whether it has x's dtype where its own array has another."""
    found = _dtypes(incident)
    return found is not None and found[0] == incident.case.dtype != found[1]


def _in_float32(incident: Incident) -> bool:
    found = _dtypes(incident)
    return (
        found is not None and found[0] == "float32" and incident.case.precision.low and found[1] == incident.case.dtype
    )


def _shortened(incident: Incident) -> bool:
    found = _dtypes(incident)
    return found is not None and found[1] == "float64" and found[0] in ("float32", "float16", "bfloat16")


def _integers(incident: Incident) -> bool:
    found = _dtypes(incident)
    return found is not None and found[0].startswith(("int", "uint", "bool"))


FORMS: tuple[Suspicion, ...] = (
    Suspicion(
        "{tensor} is None, though the array that it is the gradient of was passed.", (), _of_kind("result", _none)
    ),
    Suspicion(
        "Where an array is None its gradient has no place in what is returned: the place must hold None.",
        (),
        _of_kind("result", _moved_up),
    ),
    Suspicion(
        "The backward returns fewer gradients than the forward takes arrays.",
        (),
        _of_kind("result", _too_few),
    ),
    Suspicion(
        "{tensor} is one number, the sum over all axes: the last one must not be summed.",
        (),
        _of_kind("result", _scalar),
    ),
    Suspicion(
        "The gradients are right, but returned in another order than that of the forward's arrays.", (), _exchanged
    ),
    Suspicion(
        "{tensor} has the right numbers, but has lost an axis of size 1: by squeeze(), or by an index for a slice.",
        (),
        _axis_lost,
    ),
    Suspicion(
        "{tensor} has the right numbers and an axis of size 1 too many: what is summed over is kept (keepdims), or an "
        "axis that was put in is not taken out.",
        (),
        _axis_kept,
    ),
    Suspicion("{tensor} is transposed: its axes are in another order.", (), _transposed),
    Suspicion(
        "{tensor} is not summed over all axes that it must be summed over: some are left.",
        (),
        _unsummed,
    ),
    Suspicion("{tensor} sums dout over the wrong axes.", (), _wrong_axes),
    Suspicion(
        "{tensor} is repeated along an axis on which it has size 1: it is broadcast against something larger.",
        (),
        _repeated,
    ),
    Suspicion("{tensor} has the right numbers in the wrong shape: it is not reshaped at the end.", (), _flattened),
    *(
        Suspicion(f"{{tensor}} has the shape of {name}, not its own.", (), partial(_of_shape, name))
        for name in ("x", "w", "dout")
    ),
    Suspicion(
        "{tensor} is float64 whatever x is: an array is made without a dtype (np.zeros, np.empty), or a float64 number "
        "or array takes part in its computation.",
        (),
        _float64,
    ),
    Suspicion("{tensor} has the dtype of x, not that of the parameter that it is the gradient of.", (), _of_x),
    Suspicion(
        "{tensor} is left in float32, in which it is computed: it is not converted back to the dtype of its array.",
        (),
        _in_float32,
    ),
    Suspicion("{tensor} is computed in a shorter format than that of its array.", (), _shortened),
    Suspicion("{tensor} is an array of integers.", (), _integers),
)
