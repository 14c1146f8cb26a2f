"""Results of the wrong shape or dtype, missing results, and results in the wrong order."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import permutations

import numpy as np

from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.trials import absent, alike, results, right_of, subsets
from backproof.conformance.spec.case import Array
from backproof.conformance.spec.contract import Contract
from backproof.conformance.spec.probe import Probe, of_each

RETURNED = re.compile(r"returned (\d+) results, must return (\d+)")
SCALAR = re.compile(r"is the scalar (?:np\.\w+\()?([-+.\deinfa]+)\)?, must be an array")
DTYPES = re.compile(r"has dtype (\w+), must be (\w+)")
#: Arrays with more axes are skipped: all orders and subsets of axes are tried.
MOST_AXES = 6


def _of_kind(kind: str, holds: Callable[[FailingCase], bool]) -> Callable[[FailingCase], bool]:
    return lambda failing: failing.found.kind == kind and holds(failing)


def _none(failing: FailingCase) -> bool:
    return failing.found.message.startswith(f"{failing.found.tensor} is None, must be an array")


def _moved_up(failing: FailingCase) -> bool:
    """Whether at most as many results are missing as arrays are None."""
    found = RETURNED.search(failing.found.message)
    missing = len([name for name in absent(failing.case) if name in failing.candidate.signature.arrays])
    return found is not None and 0 < int(found[2]) - int(found[1]) <= missing


def _too_few(failing: FailingCase) -> bool:
    """Whether results are missing though no array is None."""
    found = RETURNED.search(failing.found.message)
    return found is not None and not absent(failing.case) and int(found[1]) < int(found[2])


def _scalar(failing: FailingCase) -> bool:
    """Whether it is one number, the sum of the right gradient."""
    found, tensor = SCALAR.search(failing.found.message), failing.found.tensor
    right = None if tensor is None else right_of(failing, failing.case, tensor)
    if found is None or right is None:
        return False
    return abs(float(found[1]) - float(right.sum())) <= 1e-6 * max(1.0, float(np.abs(right).sum()))


def _shapes(failing: FailingCase) -> tuple[Array, Array] | None:
    """The actual and the expected array, if their shapes differ."""
    got, expected = failing.found.got, failing.found.expected
    if failing.found.kind != "shape" or got is None or expected is None or got.ndim > MOST_AXES:
        return None
    return got, expected


def _reshaped(failing: FailingCase) -> tuple[Array, Array] | None:
    """The same, if the numbers are right and in the same order."""
    found = _shapes(failing)
    if found is None or found[0].size != found[1].size or not alike(found[0].ravel(), found[1].ravel()):
        return None
    return found


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _axis_lost(failing: FailingCase) -> bool:
    found = _reshaped(failing)
    if found is None or found[0].ndim >= found[1].ndim:
        return False
    return _without_ones(found[0].shape) == _without_ones(found[1].shape)


def _axis_kept(failing: FailingCase) -> bool:
    found = _reshaped(failing)
    if found is None or found[0].ndim <= found[1].ndim:
        return False
    return _without_ones(found[0].shape) == _without_ones(found[1].shape)


def _flattened(failing: FailingCase) -> bool:
    found = _reshaped(failing)
    return found is not None and _without_ones(found[0].shape) != _without_ones(found[1].shape)


def _transposed(failing: FailingCase) -> bool:
    found = _shapes(failing)
    if found is None or found[0].ndim != found[1].ndim:
        return False
    got, expected = found
    return any(alike(got, expected.transpose(axes)) for axes in permutations(range(got.ndim)))


def _unsummed(failing: FailingCase) -> bool:
    """Whether summing it over further axes makes it right."""
    found = _shapes(failing)
    if found is None or found[0].ndim <= found[1].ndim or _axis_kept(failing):
        return False
    got, expected = found
    return any(alike(np.asarray(got.sum(axis=subset)), expected) for subset in subsets(got.ndim))


def _wrong_axes(failing: FailingCase) -> bool:
    """Whether it is a sum of dout, as is right, but over the wrong axes."""
    found, dout = _shapes(failing), failing.case.wide.get("dout")
    if found is None or dout is None or dout.ndim > MOST_AXES:
        return False
    dout = failing.candidate.in_data_format("dout", dout)
    sums = [np.asarray(dout.sum(axis=subset)) for subset in subsets(dout.ndim)]
    return any(alike(one, found[1]) for one in sums) and any(alike(one, found[0]) for one in sums)


def _of_shape(name: str, failing: FailingCase) -> bool:
    """Whether it has the shape of this other array, and nothing else explains it."""
    found, array = _shapes(failing), failing.case.arrays.get(name)
    # Many arrays have the shape of a vector, so that would explain nothing.
    if (
        found is None
        or array is None
        or array.ndim < 2
        or found[0].shape != failing.candidate.in_data_format(name, array).shape
    ):
        return False
    return not _unsummed(failing) and not _exchanged(failing)


def _repeated(failing: FailingCase) -> bool:
    """Whether it is right, but broadcast along axes on which it should have size 1."""
    found = _shapes(failing)
    if found is None or found[0].ndim != found[1].ndim:
        return False
    got, expected = found
    pairs = list(zip(got.shape, expected.shape, strict=True))
    return all(many == one or one == 1 for many, one in pairs) and alike(got, np.broadcast_to(expected, got.shape))


def _exchanged(failing: FailingCase) -> bool:
    """Whether the gradients are right, but returned in another order."""
    tensor = failing.found.tensor
    found = results(failing.candidate, failing.case)
    if found is None or tensor is None or failing.found.kind not in ("value", "shape"):
        return False
    names = [f"d{name}" for name in failing.candidate.signature.arrays if f"d{name}" in found]
    right = {name: right_of(failing, failing.case, name) for name in names}
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


def _dtypes(failing: FailingCase) -> tuple[str, str] | None:
    found = DTYPES.search(failing.found.message) if failing.found.kind == "dtype" else None
    return None if found is None else (found[1], found[2])


def _float64(failing: FailingCase) -> bool:
    return (found := _dtypes(failing)) is not None and found[0] == "float64"


def _of_the_first(failing: FailingCase) -> bool:
    """Whether it has the first array's dtype where its own array has another."""
    found = _dtypes(failing)
    return found is not None and found[0] == failing.case.dtype != found[1]


def _in_float32(failing: FailingCase) -> bool:
    found = _dtypes(failing)
    return found is not None and found[0] == "float32" and failing.case.precision.low and found[1] == failing.case.dtype


def _shortened(failing: FailingCase) -> bool:
    found = _dtypes(failing)
    return found is not None and found[1] == "float64" and found[0] in ("float32", "float16", "bfloat16")


def _integers(failing: FailingCase) -> bool:
    found = _dtypes(failing)
    return found is not None and found[0].startswith(("int", "uint", "bool"))


def shapes(contract: Contract) -> tuple[Probe, ...]:
    """How a result of this contract may have the wrong form."""
    return (
        Probe(
            "{tensor} is None, though the array that it is the gradient of was passed.", (), _of_kind("result", _none)
        ),
        Probe(
            "Where an array is None its gradient has no place in what is returned: the place must hold None.",
            (),
            _of_kind("result", _moved_up),
        ),
        Probe(
            "The backward returns fewer gradients than the forward takes arrays.",
            (),
            _of_kind("result", _too_few),
        ),
        Probe(
            "{tensor} is one number, the sum over all axes: the last one must not be summed.",
            (),
            _of_kind("result", _scalar),
        ),
        Probe(
            "The gradients are right, but returned in another order than that of the forward's arrays.", (), _exchanged
        ),
        Probe(
            "{tensor} has the right numbers, but has lost an axis of size 1: by squeeze(), or by an index for a slice.",
            (),
            _axis_lost,
        ),
        Probe(
            "{tensor} has the right numbers and an axis of size 1 too many: what is summed over is kept (keepdims), "
            "or an axis that was put in is not taken out.",
            (),
            _axis_kept,
        ),
        Probe("{tensor} is transposed: its axes are in another order.", (), _transposed),
        Probe(
            "{tensor} is not summed over all axes that it must be summed over: some are left.",
            (),
            _unsummed,
        ),
        Probe("{tensor} sums dout over the wrong axes.", (), _wrong_axes),
        Probe(
            "{tensor} is repeated along an axis on which it has size 1: it is broadcast against something larger.",
            (),
            _repeated,
        ),
        Probe("{tensor} has the right numbers in the wrong shape: it is not reshaped at the end.", (), _flattened),
        *of_each(
            (*contract.arrays, "dout"),
            "{tensor} has the shape of {name}, not its own.",
            (),
            _of_shape,
        ),
        Probe(
            f"{{tensor}} is float64 whatever {contract.arrays[0]} is: an array is made without a dtype (np.zeros, "
            "np.empty), or a float64 number or array takes part in its computation.",
            (),
            _float64,
        ),
        Probe(
            f"{{tensor}} has the dtype of {contract.arrays[0]}, not that of the parameter that it is the gradient of.",
            (),
            _of_the_first,
        ),
        Probe(
            "{tensor} is left in float32, in which it is computed: it is not converted back to the dtype of its array.",
            (),
            _in_float32,
        ),
        Probe("{tensor} is computed in a shorter format than that of its array.", (), _shortened),
        Probe("{tensor} is an array of integers.", (), _integers),
    )
