"""Another walk of the windows over x: other places to read, along every axis or along one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.axis import Axis
from backproof.reference.mistakes.convolution import Convolution, Makers, mistake, places, walking

#: The places that an axis' windows read, of all axes and the number of the one.
Places = Callable[[Sequence[Axis], int], Array]
#: A number of one axis.
Number = Callable[[Axis], int]


@dataclass(frozen=True)
class Change:
    """Other places: what is done, why it is wrong, and the options without which it would be called otherwise."""

    what: str
    why: str
    places: Places
    needs: str = ""


def steps(stride: Number = lambda a: a.stride, dilation: Number = lambda a: a.dilation) -> Places:
    """Another way from window to window, or from tap to tap."""
    return lambda axes, k: places(axes[k], stride(axes[k]), dilation(axes[k]))


def starts(padding: Number) -> Places:
    """Another number of pixels taken off for the padding before x."""
    return lambda axes, k: places(axes[k], shift=axes[k].low - padding(axes[k]))


def another(axes: Sequence[Axis], k: int, which: str) -> Axis:
    """The axis that is taken for the k-th: the first, the last, or that of the opposite order."""
    return axes[{"first": 0, "last": len(axes) - 1, "opposite": len(axes) - 1 - k}[which]]


def rolled(change: Places) -> Places:
    """What leaves the padded x at one end comes in again at the other."""

    def places_of(axes: Sequence[Axis], k: int) -> Array:
        return change(axes, k) % (axes[k].padded)

    return places_of


def without(dropped: Callable[[Axis, Array, Array], Array | bool]) -> Places:
    """Some taps of some windows read nothing and get nothing: a predicate of the axis, windows and taps."""

    def places_of(axes: Sequence[Axis], k: int) -> Array:
        axis = axes[k]
        windows, taps = np.arange(axis.out)[:, None], np.arange(axis.kernel)[None, :]
        return np.where(dropped(axis, windows, taps), -1, places(axis))

    return places_of


def over_the_edge(axis: Axis, windows: Array, taps: Array) -> Array:
    """The windows that touch padding."""
    at = windows * axis.stride + taps * axis.dilation - axis.low
    return np.asarray(((at < 0) | (at >= axis.size)).any(axis=1, keepdims=True))


def tables_of(
    conv: Convolution, change: Places, needs: str = "", along: Callable[[int], range] = range
) -> tuple[Array, ...] | None:
    """The pixels of x that windows read with this change along some axes; None: the right ones, or options that it
    needs are not there.
    """
    if not conv.takes(needs):
        return None
    changed = set(along(conv.rank))
    tables = conv.pixels([change(conv.axes, k) if k in changed else place for k, place in enumerate(conv.places)])
    same = all(np.array_equal(one, other) for one, other in zip(tables, conv.tables, strict=True))
    return None if same else tables


def walked(
    sentence: str,
    change: Places,
    needs: str = "",
    ranks: Sequence[int] = (1, 2, 3),
    along: Callable[[int], range] = range,
) -> Mistake:
    """The mistake of reading and writing other pixels."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        tables = tables_of(conv, change, needs, along) if conv.rank in ranks else None
        return None if tables is None else walking(conv, tables)

    return mistake(sentence, "out dx dw", makers)


def in_the_last_block(sentence: str, change: Change, tile: int) -> Mistake:
    """The mistake, in the channels that fill no whole block; large blocks count where there is a whole one."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        channels = conv.x.shape[1]
        full = channels // tile * tile
        if full == channels or (tile > 4 and not full):
            return None
        tables = tables_of(conv, change.places, change.needs)
        if tables is None:
            return None

        def windows() -> Array:
            other = conv.cut(conv.x[:, full:], tables)
            return np.concatenate([conv.windows[:, :full], other], axis=1)

        return {
            "out": lambda: conv.out(windows(), conv.w),
            "dx": lambda: np.concatenate([right["dx"][:, :full], conv.dx(conv.back[:, full:], tables)], axis=1),
            "dw": lambda: conv.dw(windows(), conv.dout),
        }

    return mistake(sentence, "out dx dw", makers)
