"""Mistakes in the padding, what it shows and where its gradient goes, and where windows overlap or leave gaps."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.axis import Axis, positions
from backproof.reference.mistakes.convolution import Convolution, Makers, mistake, walking

#: What becomes of one tensor; None: it is right.
Made = Callable[[Convolution, Results], Array | None]
#: What a place of the padded axis is taken to show, of the axis and the padding mode; -1 for a zero.
Source = Callable[[Axis, str], Array]


def right_source(axis: Axis, mode: str) -> Array:
    """What it shows."""
    return positions(axis.size, axis.low, axis.high, mode)


def inside(axis: Axis) -> Array:
    """Which places of the padded axis are pixels of x themselves."""
    at = np.arange(-axis.low, axis.size + axis.high)
    return (at >= 0) & (at < axis.size)


def as_mode(other: str, *modes: str) -> Source:
    """One padding mode in the place of others, as far as it has a meaning there."""

    def source(axis: Axis, mode: str) -> Array:
        if mode not in modes:
            return right_source(axis, mode)
        at = np.arange(-axis.low, axis.size + axis.high)
        if other == "circular":
            return at % axis.size
        if other == "symmetric":
            at = at % (2 * axis.size)
            return np.minimum(at, 2 * axis.size - 1 - at)
        if other == "reflect":
            period = max(1, 2 * axis.size - 2)
            at = at % period
            return np.minimum(at, period - at)
        return positions(axis.size, axis.low, axis.high, other)

    return source


def exchanged(axis: Axis, mode: str) -> Array:
    """As if the padding before x stood behind it."""
    return right_source(axis, mode) if mode == "zeros" else positions(axis.size, axis.high, axis.low, mode)


def in_their_order(axis: Axis, mode: str) -> Array:
    """The pixels that are shown, on each side in their own order."""
    source = right_source(axis, mode)
    if mode != "reflect":
        return source
    end = axis.low + axis.size
    return np.concatenate([source[: axis.low][::-1], source[axis.low : end], source[end:][::-1]])


def near_side(axis: Axis, mode: str) -> Array:
    """The first pixels before x, and the last behind it."""
    if mode != "circular":
        return right_source(axis, mode)
    behind = np.arange(axis.size - axis.high, axis.size)
    return np.concatenate([np.arange(axis.low), np.arange(axis.size), behind])


def negative(axis: Axis, mode: str) -> Array:
    """What stands before x is counted from the end, as far as that goes; behind it there are zeros."""
    at = np.arange(-axis.low, axis.size + axis.high)
    counted = np.where((at < 0) & (at >= -axis.size), at + axis.size, right_source(axis, mode))
    return counted if mode == "zeros" else right_source(axis, mode)


def one_sided(side: str) -> Source:
    """Zeros on one side, in every mode."""

    def source(axis: Axis, mode: str) -> Array:
        at = np.arange(-axis.low, axis.size + axis.high)
        return np.where(at < 0 if side == "before" else at >= axis.size, -1, right_source(axis, mode))

    return source


_zeros = as_mode("zeros", "reflect", "replicate", "circular")

SOURCES: tuple[tuple[str, Source], ...] = (
    ("{tensor} pads with zeros where the mode is reflect.", as_mode("zeros", "reflect")),
    ("{tensor} pads with zeros where the mode is replicate.", as_mode("zeros", "replicate")),
    ("{tensor} pads with zeros where the mode is circular.", as_mode("zeros", "circular")),
    (
        "{tensor} begins a reflection with the edge itself (symmetric); reflect begins with the pixel next to it.",
        as_mode("symmetric", "reflect"),
    ),
    ("{tensor} repeats the edge (replicate) where the mode is reflect.", as_mode("replicate", "reflect")),
    ("{tensor} repeats the edge (replicate) where the mode is circular.", as_mode("replicate", "circular")),
    ("{tensor} wraps around (circular) where the mode is reflect.", as_mode("circular", "reflect")),
    ("{tensor} wraps around (circular) where the mode is replicate.", as_mode("circular", "replicate")),
    ("{tensor} reflects where the mode is replicate.", as_mode("reflect", "replicate")),
    ("{tensor} reflects where the mode is circular.", as_mode("reflect", "circular")),
    (
        "{tensor} reflects, the edge included (symmetric), where the mode is replicate.",
        as_mode("symmetric", "replicate"),
    ),
    ("{tensor} reflects, the edge included (symmetric), where the mode is circular.", as_mode("symmetric", "circular")),
    (
        "{tensor} takes the padding before x for the one behind it: low and high are exchanged where a repeated border"
        " is made or folded back.",
        exchanged,
    ),
    ("{tensor} takes a reflection in its own order: the pixels that it shows are not turned around.", in_their_order),
    ("{tensor} wraps around on the wrong side: the first pixels stand before x where the last ones belong.", near_side),
    ("{tensor} repeats the edge where the padding is zeros: an index is clipped to x.", as_mode("replicate", "zeros")),
    (
        "{tensor} wraps around where the padding is zeros: an index is taken modulo the size.",
        as_mode("circular", "zeros"),
    ),
    ("{tensor} reflects where the padding is zeros.", as_mode("reflect", "zeros")),
    ("{tensor} wraps around before x where the padding is zeros: negative indices count from the end.", negative),
    ("{tensor} has zeros before x in every mode: the low padding repeats nothing.", one_sided("before")),
    ("{tensor} has zeros behind x in every mode: the high padding repeats nothing.", one_sided("behind")),
)


def sourced(sentence: str, source: Source, tensors: str = "out dx dw") -> Mistake:
    """The mistake of padding otherwise."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        sources = [source(axis, conv.mode) for axis in conv.axes]
        if all(np.array_equal(s, right_source(axis, conv.mode)) for s, axis in zip(sources, conv.axes, strict=True)):
            return None
        return walking(conv, [s[place] for s, place in zip(sources, conv.places, strict=True)])

    return mistake(sentence, tensors, makers)


def border(sentence: str, made: Made, tensor: str = "dx") -> Mistake:
    """A mistake in one tensor."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        result = made(conv, right) if tensor in right else None
        return None if result is None else {tensor: lambda: result}

    return mistake(sentence, tensor, makers)


def is_repeated(conv: Convolution) -> bool:
    """Whether padding shows pixels of x."""
    return conv.mode != "zeros" and any(axis.low + axis.high for axis in conv.axes)


def counts_once(conv: Convolution, right: Results) -> Array | None:
    """Of several places that show a pixel, the last one's gradient is kept."""
    if not is_repeated(conv):
        return None
    padded = conv.padded_dx(conv.back)
    dx = np.zeros(conv.x.shape)
    sources = [right_source(axis, conv.mode) for axis in conv.axes]
    flat = np.ravel_multi_index(np.meshgrid(*sources, indexing="ij"), conv.sizes).ravel()
    dx.reshape(*dx.shape[:2], prod(conv.sizes))[:, :, flat] = padded.reshape(*dx.shape[:2], flat.size)
    return dx


def without_corners(conv: Convolution, right: Results) -> Array | None:
    """What stands in the padding of two axes at once is lost."""
    if not is_repeated(conv) or conv.rank == 1:
        return None
    outside = [np.asarray(~inside(axis)) for axis in conv.axes]
    counted = sum(a.astype(int) for a in np.meshgrid(*outside, indexing="ij"))
    return conv.folded(np.where(np.asarray(counted) > 1, 0.0, conv.padded_dx(conv.back)))


def assigned_in_fold(conv: Convolution, right: Results) -> Array | None:
    """The gradient of the padding replaces that of the pixels that it shows."""
    if not is_repeated(conv):
        return None
    dx = conv.padded_dx(conv.back)
    for k, axis in enumerate(conv.axes):
        lines, own = np.moveaxis(dx, k + 2, 0), inside(axis)
        folded = lines[own].copy()
        folded[right_source(axis, conv.mode)[~own]] = lines[~own]
        dx = np.moveaxis(folded, 0, k + 2)
    return dx


def vanishes(mode: str, holds: Callable[[Axis], bool]) -> Made:
    """Zeros where one mode runs out of pixels."""

    def made(conv: Convolution, right: Results) -> Array | None:
        return np.zeros_like(right["dx"]) if conv.mode == mode and any(map(holds, conv.axes)) else None

    return made


def assigned(by: str) -> Made:
    """Where windows overlap, what is written last stays, tap after tap or window after window."""

    def made(conv: Convolution, right: Results) -> Array | None:
        sizes = [axis.padded for axis in conv.axes]
        rank, back = conv.rank, conv.back
        flat = np.zeros((1,) * (2 * rank), dtype=np.int64)
        for k, (place, size) in enumerate(zip(conv.places, sizes, strict=True)):
            shape = [1] * (2 * rank)
            shape[k], shape[rank + k] = place.shape[1], place.shape[0]
            flat = flat * size + place.T.reshape(shape)
        order = list(range(2 * rank))
        if by == "window":
            order = [*order[rank:], *order[:rank]]
        at = flat.transpose(order).ravel()
        values = back.transpose(0, 1, *[2 + k for k in order]).reshape(*back.shape[:2], at.size)
        padded = np.zeros((*back.shape[:2], prod(sizes)))
        padded[:, :, at] = values
        return conv.folded(padded.reshape(*back.shape[:2], *sizes))

    return made


def coverage(conv: Convolution) -> Array:
    """How many windows cover each place of the padded x."""
    return conv.padded_dx(np.ones((1, 1, *conv.kernel, *conv.windows_along)))


def averaged(conv: Convolution, right: Results) -> Array | None:
    """Every place divided by the number of windows that cover it."""
    return conv.folded(conv.padded_dx(conv.back) / np.maximum(coverage(conv), 1))


def unwritten(holds: Callable[[Axis], bool]) -> Made:
    """NaN where no window comes."""

    def made(conv: Convolution, right: Results) -> Array | None:
        if not any(map(holds, conv.axes)):
            return None
        hidden = conv.folded(np.where(coverage(conv) > 0, 0.0, 1.0))
        return np.where(hidden > 0, np.nan, right["dx"])

    return made


BORDERS: tuple[Mistake, ...] = (
    sourced("{tensor} pads with zeros in every mode: the padding mode is ignored.", _zeros, "out dw"),
    sourced(
        "{tensor} drops the gradient of the padding, which has to be added to the pixels that it repeats; or it pads "
        "with zeros in every mode.",
        _zeros,
        "dx",
    ),
    *(sourced(sentence, source) for sentence, source in SOURCES),
    border(
        "{tensor} keeps one gradient of a pixel that the padding repeats: they are assigned, not added up.", counts_once
    ),
    border(
        "{tensor} assigns the gradient of the padding to the pixels that it shows instead of adding it.",
        assigned_in_fold,
    ),
    border(
        "{tensor} loses the corners of the border: what is padded along two axes at once is not folded back.",
        without_corners,
    ),
    border(
        "{tensor} is zero where replicate pads more pixels than x has.",
        vanishes("replicate", lambda axis: max(axis.low, axis.high) > axis.size),
    ),
    border(
        "{tensor} is zero where circular padding repeats all of x: a slice [-n:n] is empty.",
        vanishes("circular", lambda axis: max(axis.low, axis.high) == axis.size > 1),
    ),
    border(
        "{tensor} is zero where reflect repeats all that it may.",
        vanishes("reflect", lambda axis: max(axis.low, axis.high) == axis.size - 1 > 0),
    ),
    border(
        "{tensor} is assigned where windows overlap: = stands for += where every tap adds to the pixels that it reads.",
        assigned("tap"),
    ),
    border(
        "{tensor} is assigned where windows overlap: the last window's gradient stays, = for += in a loop over windows,"
        " or dx[index] += ... with indices that repeat, which np.add.at adds up.",
        assigned("window"),
    ),
    border("{tensor} is divided by the number of windows that cover a pixel.", averaged),
    border(
        "{tensor} is not zeroed before the windows are added: pixels between two windows hold what was in memory.",
        unwritten(lambda axis: axis.stride > axis.kernel),
    ),
    border(
        "{tensor} is not zeroed: pixels that no window reaches hold what was in memory.", unwritten(lambda axis: True)
    ),
)
