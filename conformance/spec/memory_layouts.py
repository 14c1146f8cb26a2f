"""How an array may lie in memory: views with the same values as a plain array, and other strides.

A plain array is C-contiguous and writable, with nothing around it. Each layout here is named in `Case.layouts`; around
and between the entries of a view lie numbers that are nobody's, so that code which ignores strides shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backproof.conformance.spec.case import Array, Case

#: What lies between the entries of a view.
FOREIGN = 77


def _fortran(a: Array) -> Array:
    return np.array(a, order="F")


def _channels_last(a: Array) -> Array:
    return np.moveaxis(np.array(np.moveaxis(a, 1, -1), order="C"), -1, 1) if a.ndim > 2 else np.array(a)


def _transposed(a: Array) -> Array:
    return np.array(a.swapaxes(-1, -2), order="C").swapaxes(-1, -2) if a.ndim > 1 else np.array(a)


def _batch_transposed(a: Array) -> Array:
    return np.array(a.swapaxes(0, 1), order="C").swapaxes(0, 1) if a.ndim > 1 else np.array(a)


def _step_slice(a: Array) -> Array:
    buffer = np.full((*a.shape[:-1], 2 * a.shape[-1]), FOREIGN, a.dtype)
    view = buffer[..., ::2]
    view[...] = a
    return view


def _offset_slice(a: Array) -> Array:
    buffer = np.full([size + 2 for size in a.shape], FOREIGN, a.dtype)
    view = buffer[tuple([slice(1, -1)] * a.ndim)]
    view[...] = a
    return view


def _negative_stride(a: Array) -> Array:
    backwards = tuple([slice(None, None, -1)] * a.ndim)
    return np.array(a[backwards], order="C")[backwards]


def _last_backwards(a: Array) -> Array:
    return np.array(a[..., ::-1], order="C")[..., ::-1]


def _constant_axes(a: Array) -> list[int]:
    return [k for k, size in enumerate(a.shape) if size > 1 and bool((a == a.take([0], k)).all())]


def _zero_stride(a: Array, *, every: bool = False, writable: bool = False) -> Array:
    """A view of one entry along the first constant axis, or along each of them."""
    axes = _constant_axes(a)
    axes = axes if every else axes[:1]
    core = np.array(a[tuple([slice(0, 1) if k in axes else slice(None) for k in range(a.ndim)])], order="C")
    strides = [0 if k in axes else core.strides[k] for k in range(a.ndim)]
    return as_strided(core, a.shape, strides, writeable=writable)


def _zero_stride_writable(a: Array) -> Array:
    return _zero_stride(a, writable=True)


def _expanded(a: Array) -> Array:
    return _zero_stride(a, every=True)


def _expanded_writable(a: Array) -> Array:
    return _zero_stride(a, every=True, writable=True)


def _read_only(a: Array) -> Array:
    view = np.array(a, order="C")
    view.setflags(write=False)
    return view


def _odd_strides(a: Array) -> Array:
    core = np.array(a, order="C")
    strides = [4 * a.itemsize if size == 1 else stride for size, stride in zip(a.shape, core.strides, strict=True)]
    return as_strided(core, a.shape, strides)


#: Every layout but the plain one. A script has the functions' own source: they need NumPy alone.
LAYOUTS: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {
        "Fortran": _fortran,
        "channels last": _channels_last,
        "transposed": _transposed,
        "batch transposed": _batch_transposed,
        "step slice": _step_slice,
        "offset slice": _offset_slice,
        "negative stride": _negative_stride,
        "negative stride, last axis": _last_backwards,
        "zero stride": _zero_stride,
        "zero stride, writable": _zero_stride_writable,
        "zero stride, last axis": _zero_stride,
        "expanded over pixels": _expanded,
        "expanded": _expanded,
        "expanded, writable": _expanded_writable,
        "read-only": _read_only,
        "odd strides of size 1": _odd_strides,
    }
)
#: Those in which every entry has a place of its own that may be written: what is updated in place needs it.
WRITABLE = ("step slice", "offset slice", "negative stride")


def laid_out(a: Array, layout: str | None) -> Array:
    """A new array of the same values in this layout; None: the plain one."""
    return np.array(a, order="C") if layout is None else LAYOUTS[layout](a)


def is_effective(a: Array, layout: str) -> bool:
    """Whether the layout of an array of this shape differs from the plain one."""
    if a.size == 0:
        return False
    view = LAYOUTS[layout](a)
    if layout == "odd strides of size 1":
        return view.strides != np.empty(a.shape, a.dtype).strides
    return layout == "offset slice" or not (view.flags.c_contiguous and view.flags.writeable)


def _constant(a: Array, axes: Sequence[int]) -> Array:
    """The array with the values of its first entries repeated along these axes."""
    first = a[tuple([slice(0, 1) if k in axes else slice(None) for k in range(a.ndim)])]
    return np.array(np.broadcast_to(first, a.shape), order="C")


def _holdable(a: Array, layout: str) -> Iterator[Array]:
    """The values that the layout can hold, in the order in which they are tried: zero strides repeat one entry."""
    if layout == "expanded over pixels":
        yield _constant(a, range(2, a.ndim))
    elif layout == "zero stride, last axis":
        yield _constant(a, [a.ndim - 1])
    elif layout.startswith("expanded"):
        yield _constant(a, range(a.ndim))
    elif layout.startswith("zero stride"):
        for axis in range(a.ndim):
            if a.shape[axis] > 1:
                yield _constant(a, [axis])
    else:
        yield a


def arranged(case: Case, layouts: Mapping[str, str], asked: Callable[[Case], bool]) -> Case:
    """The case with its arrays in these layouts, as far as they differ from the plain one.

    A layout with zero strides changes the numbers to those that it can hold. One that leaves no case that may be
    `asked` is left out.
    """
    kept: dict[str, str] = {}
    for name, layout in layouts.items():
        array = case.arrays.get(name)
        if array is None or array.size == 0:
            continue
        for values in _holdable(array, layout):
            trial = case if values is array else case.with_arrays({**case.arrays, name: values}, case.origin)
            if is_effective(values, layout) and asked(trial):
                case, kept[name] = trial, layout
                break
    return Case(case.configuration, case.dtype, case.arrays, case.origin, case.integers, kept)


def choices(name: str, axes: int, state: Sequence[str]) -> tuple[str, ...]:
    """The layouts that an array of so many axes may be asked in; those in `state` may be updated in place."""
    if name in state:
        return WRITABLE
    fewest = {
        "Fortran": 2,
        "transposed": 3,
        "batch transposed": 2,
        "channels last": 3,
        "expanded over pixels": 3,
        "negative stride, last axis": 2,
        "zero stride, last axis": 2,
    }
    return tuple([layout for layout in LAYOUTS if axes >= fewest.get(layout, 1)])


class Decks:
    """Layouts for one case after the other, independently for each array.

    Each comes in its turn, where it makes a difference, so that all come up even in few cases. Two of five arrays stay
    plain.
    """

    def __init__(self, state: Sequence[str], asked: Callable[[Case], bool], generator: np.random.Generator) -> None:
        self._state, self._asked, self._generator = state, asked, generator
        self._decks: dict[tuple[str, int], list[str]] = {}

    def arrange(self, case: Case) -> Case:
        """The case with its arrays in drawn layouts."""
        wanted: dict[str, str] = {}
        for name, array in case.arrays.items():
            if array is not None and self._generator.random() < 0.6:
                deck = self._deck(name, array)
                wanted |= next((alone for layout in deck if (alone := self._alone(case, name, layout))), {})
        found = arranged(case, wanted, self._asked)
        for name, layout in found.layouts.items():
            array = found.arrays[name]
            assert array is not None
            deck = self._deck(name, array)
            deck.remove(layout)
            deck.append(layout)
        return found

    def _alone(self, case: Case, name: str, layout: str) -> Mapping[str, str]:
        return arranged(case, {name: layout}, self._asked).layouts

    def _deck(self, name: str, array: Array) -> list[str]:
        key = (name, array.ndim)
        if key not in self._decks:
            layouts = choices(name, array.ndim, self._state)
            self._decks[key] = [layouts[k] for k in self._generator.permutation(len(layouts))]
        return self._decks[key]
