"""Ways to misread an array's memory, each compared with the candidate's result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backproof.conformance.adapter.candidate import Allocate, Crashed, Refused
from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.trials import alike, crash_of, results, with_array
from backproof.conformance.judging.properties.several_calls import other_of
from backproof.conformance.spec.case import Array
from backproof.conformance.spec.contract import Contract
from backproof.conformance.spec.memory_layouts import laid_out
from backproof.conformance.spec.probe import Probe, of_each

CHECKS = ("memory_layout",)

Misread = Callable[[Array], Iterator[Array]]


def _laid_out(failing: FailingCase) -> Allocate:
    """The arrays in the case's layouts."""
    layouts = failing.case.layouts
    return lambda name, array: laid_out(array, layouts.get(name))


def _view(failing: FailingCase, name: str) -> Array | None:
    """An array as it was passed, if not plain in memory."""
    array = failing.case.arrays.get(name)
    if array is None or name not in failing.case.layouts or not array.size:
        return None
    return laid_out(failing.candidate.in_data_format(name, array), failing.case.layouts[name])


def _base(view: Array) -> Array:
    while isinstance(view.base, np.ndarray):
        view = view.base
    return view


def _as_it_lies(view: Array) -> Iterator[Array]:
    """The numbers in memory order: from the buffer's start, from the array's first entry, or only its own."""
    base = _base(view)
    flat = base.ravel(order="K")
    yield np.resize(flat, view.shape)
    begin = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // view.itemsize
    yield flat[(begin + np.arange(view.size)) % flat.size].reshape(view.shape)
    yield view.ravel(order="K").reshape(view.shape)


def _forwards(view: Array) -> Iterator[Array]:
    """Axes with negative strides, read forwards."""
    axes = tuple([axis for axis, stride in enumerate(view.strides) if stride < 0])
    if axes:
        yield np.flip(view, axes)


def _from_the_start(view: Array) -> Iterator[Array]:
    """With its strides, but from the start of the buffer."""
    base = _base(view)
    reach = sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    if base is not view and min(view.strides, default=0) > 0 and reach < base.nbytes and base.flags.c_contiguous:
        yield as_strided(base, view.shape, view.strides, writeable=False)


def _expanded(view: Array) -> list[int]:
    return [axis for axis, size in enumerate(view.shape) if size > 1 and view.strides[axis] == 0]


def _once(view: Array) -> Iterator[Array]:
    """Entries that share one place counted once: as if the others were zero."""
    axes = _expanded(view)
    for chosen in product((True, False), repeat=len(axes)):
        kept = [axis for axis, taken in zip(axes, chosen, strict=True) if taken]
        if kept:
            read = np.zeros(view.shape, view.dtype)
            first = tuple([slice(0, 1) if axis in kept else slice(None) for axis in range(view.ndim)])
            read[first] = view[first]
            yield read


def _constant(view: Array) -> Iterator[Array]:
    """The first entry everywhere."""
    if _expanded(view):
        yield np.full(view.shape, view.ravel()[0])


def _misread(misread: Misread, name: str, failing: FailingCase) -> bool:
    """Whether the result is that of a plain array with the misread numbers."""
    found, view = failing.found, _view(failing, name)
    if view is None or found.tensor is None or found.got is None or found.kind != "value":
        return False
    for numbers in misread(view):
        values = failing.candidate.in_reference(name, numbers)
        if np.array_equal(values, np.asarray(failing.case.arrays[name])):
            continue
        given = results(failing.candidate, with_array(failing.case, name, np.array(values, order="C")))
        if given is not None and found.tensor in given and alike(given[found.tensor], found.got):
            return True
    return False


def _left_alone(failing: FailingCase) -> bool:
    """Whether the result does not depend on the numbers if an array has a stride of 0."""
    found, case = failing.found, failing.case
    views = [_view(failing, name) for name in case.layouts]
    if found.tensor is None or found.got is None or not any(view is not None and _expanded(view) for view in views):
        return False
    other = replace(other_of(case, failing.reference.layer), layouts=case.layouts)
    given = results(failing.candidate, other, allocate=_laid_out(failing))
    plain = results(failing.candidate, replace(other, layouts={}))
    if given is None or plain is None or found.tensor not in given or found.tensor not in plain:
        return False
    same = alike(given[found.tensor], found.got)
    return same and not alike(plain[found.tensor], found.got) and not _same_everywhere(failing)


def _same_everywhere(failing: FailingCase) -> bool:
    """Whether the right result does not depend on the numbers either."""
    found, other = failing.found, replace(other_of(failing.case, failing.reference.layer), layouts={})
    given = results(failing.candidate, other)
    assert found.tensor is not None
    assert found.expected is not None
    return given is None or alike(given[found.tensor], found.expected)


def _restrided(array: Array, strides: tuple[int, ...]) -> Array:
    """The same memory, with other strides on the axes of size 1."""
    chosen = [new if size == 1 else old for size, old, new in zip(array.shape, array.strides, strides, strict=True)]
    return as_strided(array, array.shape, chosen, writeable=array.flags.writeable)


def _trusts_ones(failing: FailingCase) -> bool:
    """Whether other strides on axes of size 1, of the same memory, make it pass."""
    found, layouts = failing.found, failing.case.layouts

    def passes(strides: Callable[[Array], tuple[int, ...]]) -> bool:
        def allocate(name: str, array: Array) -> Array:
            view = laid_out(array, layouts.get(name))
            return _restrided(view, strides(view))

        if found.kind == "crash":
            return crash_of(failing.candidate, failing.case, allocate=allocate) is None
        given = results(failing.candidate, failing.case, allocate=allocate)
        if given is None or found.tensor not in given or found.expected is None:
            return False
        return alike(given[found.tensor], found.expected)

    # Tried twice: a failure in every second call would pass in the next one.
    if not layouts or any(passes(lambda view: view.strides) for _ in range(2)):
        return False
    fresh = passes(lambda view: np.empty(view.shape, view.dtype).strides)
    return fresh or passes(lambda view: (view.itemsize,) * view.ndim)


def _written(name: str, failing: FailingCase) -> bool:
    """Whether an array is written to in which several entries share one place."""
    case, kept = failing.case, {}
    view = _view(failing, name)
    if view is None or not _expanded(view) or not view.flags.writeable or failing.found.kind == "crash":
        return False

    def allocate(other: str, array: Array) -> Array:
        kept[other] = laid_out(array, case.layouts.get(other))
        return kept[other]

    try:
        forward = failing.candidate.forward(case, allocate=allocate)
        failing.candidate.backward(case, forward, allocate=allocate)
    except (Crashed, Refused):
        return False
    return name in kept and not np.array_equal(kept[name], view)


def strides(contract: Contract) -> tuple[Probe, ...]:
    """How the memory of this contract's arrays may be misread."""
    return (
        *of_each(
            ("dout", *contract.arrays),
            "In these layouts the numbers of {name} are taken as they lie in memory, one behind the other: its "
            "strides are ignored.",
            CHECKS,
            partial(_misread, _as_it_lies),
        ),
        *of_each(
            ("dout", *contract.arrays),
            "{name} has negative strides, and is read forwards.",
            CHECKS,
            partial(_misread, _forwards),
        ),
        *of_each(
            ("dout", *contract.arrays),
            "Where {name} begins in its memory is ignored: it is read from the start of the buffer that it is a "
            "view of.",
            CHECKS,
            partial(_misread, _from_the_start),
        ),
        *of_each(
            ("dout", *contract.arrays),
            "Of an expanded {name}, with a stride of 0, the entries that lie in one place are counted once.",
            CHECKS,
            partial(_misread, _once),
        ),
        *of_each(
            ("dout", *contract.arrays),
            "An expanded {name}, with a stride of 0, is taken for one number that stands everywhere.",
            CHECKS,
            partial(_misread, _constant),
        ),
        *of_each(
            ("dout", *contract.arrays),
            "{name} is written to where it lies, and with a stride of 0 several of its entries lie in one place.",
            CHECKS,
            _written,
        ),
        Probe(
            "A stride of 0 is taken for a sign that there is nothing to do: {tensor} does not depend on any number, "
            "and is left as it was allocated.",
            CHECKS,
            _left_alone,
        ),
        Probe(
            "It depends on the strides of axes of size 1, which mean nothing and may be anything.",
            CHECKS,
            _trusts_ones,
        ),
    )
