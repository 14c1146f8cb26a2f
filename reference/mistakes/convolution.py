"""A convolution taken apart, so that a mistake can change one piece and leave the others as they are.

What a window reads along an axis is a table (windows, taps) of places in the padded x; which pixel of x shows at a
place is the padding mode's. out, dx and dw are matrix products with the windows that these tables cut out of x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from math import prod

import numpy as np

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.axis import Axis, axes_of, positions

#: Which tensors read an array, and which one is its gradient; out stands for what is the gradient of dout.
READERS = {"x": ("out", "dw"), "w": ("out", "dx"), "dout": ("dx", "dw", "db")}
GRADIENT = {"x": "dx", "w": "dw", "dout": "out"}

#: The largest table that becomes a matrix.
MATRIX = 1_000_000


class Convolution:
    """The pieces of one case's convolution, each computed when it is first asked for."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.x, self.w, self.dout = case.array("x"), case.array("w"), case.array("dout")
        self.b = case.wide.get("b")
        self.rank = self.x.ndim - 2
        self.axes: tuple[Axis, ...] = tuple(axes_of(case.configuration.parameters, self.rank))
        self.groups: int = case.options["groups"]
        self.mode: str = case.options["padding_mode"]
        self.spatial = tuple(range(2, 2 + self.rank))
        self.kernel = self.w.shape[2:]
        self.sizes = self.x.shape[2:]
        self.windows_along = self.dout.shape[2:]

    def takes(self, options: str) -> bool:
        """Whether the implementation has all of these options: stride, dilation, padding."""
        return all(option in self.case.configuration.spellings for option in options.split())

    @cached_property
    def places(self) -> tuple[Array, ...]:
        """The place in the padded x that each tap of each window reads, (windows, taps) for each axis."""
        return tuple(places(axis) for axis in self.axes)

    @cached_property
    def tables(self) -> tuple[Array, ...]:
        """The same as pixels of x; -1 for a zero."""
        return self.pixels(self.places)

    def pixels(self, places: Sequence[Array]) -> tuple[Array, ...]:
        """The pixel of x at each place of the padded x; -1 for a zero, and for what lies outside."""
        return tuple(shown(place, axis, self.mode) for place, axis in zip(places, self.axes, strict=True))

    @cached_property
    def windows(self) -> Array:
        """Every window, (N, C, taps along each axis, windows along each axis)."""
        return self.cut(self.x, self.tables)

    @cached_property
    def back(self) -> Array:
        """The gradient of every window, in the same order."""
        return self.pulled_back(self.w, self.dout)

    def cut(self, x: Array, tables: Sequence[Array]) -> Array:
        """The windows that these tables read."""
        for k in reversed(range(self.rank)):
            axis, table = k + 2, tables[k]
            if table.min(initial=0) < 0:
                x = np.concatenate([x, np.zeros((*x.shape[:axis], 1, *x.shape[axis + 1 :]))], axis)
            x = x.take(table, axis)
        return x.transpose(0, 1, *range(3, 3 + 2 * self.rank, 2), *range(2, 2 + 2 * self.rank, 2))

    def out(self, windows: Array, w: Array) -> Array:
        """Every window times every filter, and the bias."""
        result = self.products(windows, w)
        return result if self.b is None else result + self.b.reshape(-1, *[1] * self.rank)

    def products(self, windows: Array, w: Array) -> Array:
        """Every window times every filter."""
        batch, groups, pixels = len(windows), self.groups, windows.shape[2 + self.rank :]
        columns = windows.reshape(batch, groups, prod(w.shape[1:]), prod(pixels))
        rows = w.reshape(groups, len(w) // groups, prod(w.shape[1:]))
        return (rows @ columns).reshape(batch, len(w), *pixels)

    def dw(self, windows: Array, dout: Array) -> Array:
        """Every window times the dout of every filter, summed over samples and windows."""
        batch, filters, groups = *dout.shape[:2], self.groups
        taps, pixels = windows.shape[2 : 2 + self.rank], prod(dout.shape[2:])
        columns = windows.reshape(batch, groups, windows.shape[1] // groups * prod(taps), pixels)
        upstream = dout.reshape(batch, groups, filters // groups, pixels)
        dw = np.asarray((upstream @ columns.swapaxes(-1, -2)).sum(axis=0))
        return dw.reshape(filters, windows.shape[1] // groups, *taps)

    def pulled_back(self, w: Array, dout: Array) -> Array:
        """Every filter times its dout: the gradient of each window."""
        batch, filters, groups, pixels = *dout.shape[:2], self.groups, dout.shape[2:]
        rows = w.reshape(groups, filters // groups, prod(w.shape[1:])).swapaxes(-1, -2)
        back = rows @ dout.reshape(batch, groups, filters // groups, prod(pixels))
        return back.reshape(batch, groups * w.shape[1], *w.shape[2:], *pixels)

    def dx(self, back: Array, tables: Sequence[Array], sizes: Sequence[int] | None = None) -> Array:
        """The gradient of each window added to the pixels that these tables name; -1 is nowhere."""
        rank = self.rank
        windows = back.transpose(0, 1, *[k + 2 + rank * part for k in range(rank) for part in (1, 0)])
        for size, table in zip(sizes or self.sizes, tables, strict=True):
            windows = _added_up(windows, table, size)
        return windows

    def padded_dx(self, back: Array) -> Array:
        """The gradient of the padded x."""
        return self.dx(back, self.places, [axis.padded for axis in self.axes])

    def folded(self, padded: Array, sources: Sequence[Array] | None = None) -> Array:
        """The gradient of the padded x brought to the pixels that its places show; -1 is nowhere."""
        for k, axis in enumerate(self.axes):
            source = positions(axis.size, axis.low, axis.high, self.mode) if sources is None else sources[k]
            at = np.moveaxis(padded, k + 2, 0)
            folded = np.zeros((axis.size + 1, *at.shape[1:]))
            np.add.at(folded, source, at)
            padded = np.moveaxis(folded[:-1], 0, k + 2)
        return padded

    @property
    def padded_x(self) -> Array:
        """x with its padding around it."""
        x = self.x
        for k, axis in enumerate(self.axes, 2):
            x = np.concatenate([x, np.zeros((*x.shape[:k], 1, *x.shape[k + 1 :]))], k)
            x = x.take(positions(axis.size, axis.low, axis.high, self.mode), k)
        return x

    def db(self, dout: Array) -> Array:
        """The sum of dout over all but the filters."""
        return np.asarray(dout.sum(axis=(0, *range(2, dout.ndim))))


def _added_up(windows: Array, table: Array, size: int) -> Array:
    """The axes 2 and 3, windows and taps along one axis, added up to pixels, which become the last axis."""
    if table.size * size <= MATRIX:
        matrix = (table[..., None] == np.arange(size)).astype(np.float64)
        return np.tensordot(windows, matrix, ([2, 3], [0, 1]))
    lines = np.moveaxis(windows, (2, 3), (0, 1))
    lines = lines.reshape(table.size, *lines.shape[2:])
    added = np.zeros((size + 1, *lines.shape[1:]))
    np.add.at(added, table.ravel(), lines)
    return np.moveaxis(added[:-1], 0, -1)


def places(
    axis: Axis, stride: int | None = None, dilation: int | None = None, shift: int = 0, windows: int | None = None
) -> Array:
    """Where each tap of each window reads the padded axis, (windows, taps), perhaps with other steps or shifted."""
    step = axis.stride if stride is None else stride
    between = axis.dilation if dilation is None else dilation
    return (
        np.arange(axis.out if windows is None else windows)[:, None] * step + np.arange(axis.kernel) * between + shift
    )


def shown(place: Array, axis: Axis, mode: str) -> Array:
    """The pixel of x at each place of the padded axis; -1 for a zero, and for what lies outside."""
    source = positions(axis.size, axis.low, axis.high, mode)
    inside = (place >= 0) & (place < len(source))
    return np.where(inside, source[np.where(inside, place, 0)], -1)


@lru_cache(maxsize=256)
def convolution_of(case: Case) -> Convolution:
    """The pieces of a case, kept for the next mistake."""
    return Convolution(case)


class Wrong(Mapping[str, Array]):
    """Wrong tensors by name, each computed when it is asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], Array]]) -> None:
        self._makers = makers
        self._made: dict[str, Array] = {}

    def __getitem__(self, tensor: str) -> Array:
        if tensor not in self._made:
            self._made[tensor] = self._makers[tensor]()
        return self._made[tensor]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


Makers = Mapping[str, Callable[[], Array]]


def mistake(sentence: str, tensors: str, makers: Callable[[Convolution, Results], Makers | None]) -> Mistake:
    """A mistake in these tensors, of a function that has, for each of them, what computes it; None: all are right."""
    names = tuple(tensors.split())

    def gives(case: Case, right: Results) -> Results | None:
        made = makers(convolution_of(case), right)
        return None if made is None else Wrong({t: make for t, make in made.items() if t in names and t in right})

    return Mistake(sentence, names, gives)


def each(right: Results, tensors: Iterable[str], change: Callable[[Array], Array]) -> Makers | None:
    """The same change of several results; None: there is none."""
    return {tensor: partial(lambda tensor: change(right[tensor]), tensor) for tensor in tensors} or None


def rereading(
    conv: Convolution, right: Results, array: str, read: Callable[[Array], Array], adjoint: Callable[[Array], Array]
) -> Makers:
    """Every tensor of an implementation that reads x, w or dout otherwise; its gradient is what the adjoint says."""
    gradient = GRADIENT[array]
    makers: dict[str, Callable[[], Array]] = {gradient: lambda: adjoint(right[gradient])}
    if array == "x":
        makers["out"] = lambda: conv.out(conv.cut(read(conv.x), conv.tables), conv.w)
        makers["dw"] = lambda: conv.dw(conv.cut(read(conv.x), conv.tables), conv.dout)
    elif array == "w":
        makers["out"] = lambda: conv.out(conv.windows, read(conv.w))
        makers["dx"] = lambda: conv.dx(conv.pulled_back(read(conv.w), conv.dout), conv.tables)
    else:
        makers["dx"] = lambda: conv.dx(conv.pulled_back(conv.w, read(conv.dout)), conv.tables)
        makers["dw"] = lambda: conv.dw(conv.windows, read(conv.dout))
        makers["db"] = lambda: conv.db(read(conv.dout))
    return makers


def walking(conv: Convolution, tables: Sequence[Array]) -> Makers:
    """Every tensor of an implementation whose windows read other pixels."""
    return {
        "out": lambda: conv.out(conv.cut(conv.x, tables), conv.w),
        "dx": lambda: conv.dx(conv.back, tables),
        "dw": lambda: conv.dw(conv.cut(conv.x, tables), conv.dout),
    }
