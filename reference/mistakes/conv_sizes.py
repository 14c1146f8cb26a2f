"""Mistakes in how large out, dx and dw are: padding and remainder that are left on or taken off, and the number of
windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.axis import Axis
from backproof.reference.mistakes.conv_borders import Made, border
from backproof.reference.mistakes.conv_walks import Number, another
from backproof.reference.mistakes.convolution import Convolution, places


def cropped(begin: Number, end: Callable[[Axis], int | None]) -> Made:
    """The padded dx cut with a slice, where that gives another shape."""

    def made(conv: Convolution, right: Results) -> Array | None:
        cuts = [slice(begin(axis), end(axis)) for axis in conv.axes]
        padded = [axis.padded for axis in conv.axes]
        sizes = [len(range(n)[cut]) for n, cut in zip(padded, cuts, strict=True)]
        return None if tuple(sizes) == conv.sizes else conv.padded_dx(conv.back)[(slice(None), slice(None), *cuts)]

    return made


def crops_one(which: Callable[[int], int]) -> Made:
    """The padding is taken off one axis alone."""

    def made(conv: Convolution, right: Results) -> Array | None:
        at: list[slice] = [slice(None)] * conv.rank
        k = which(conv.rank)
        if all(axis.low == axis.high == 0 for j, axis in enumerate(conv.axes) if j != k):
            return None
        at[k] = slice(conv.axes[k].low, conv.axes[k].low + conv.axes[k].size)
        return conv.padded_dx(conv.back)[(slice(None), slice(None), *at)]

    return made


def covered(axis: Axis) -> int:
    """The padded pixels up to the end of the last window."""
    return axis.padded - axis.remainder


def longest(conv: Convolution, right: Results) -> Array | None:
    """Zeros for rows of a remainder that is not there."""
    more = [(0, axis.stride - 1 - axis.remainder) for axis in conv.axes]
    return np.pad(right["dx"], ((0, 0), (0, 0), *more)) if any(high for _, high in more) else None


def longer(conv: Convolution, right: Results) -> Array | None:
    """A tap more for every pixel of the remainder, which are what a longer kernel would have."""
    taps = [axis._replace(kernel=axis.kernel + axis.remainder // axis.dilation) for axis in conv.axes]
    tables = conv.pixels([places(one) for one in taps])
    return conv.dw(conv.cut(conv.x, tables), conv.dout)


def zeros_behind(conv: Convolution, right: Results) -> Array | None:
    """The same taps, as zeros."""
    more = [(0, axis.remainder // axis.dilation) for axis in conv.axes]
    return np.pad(right["dw"], ((0, 0), (0, 0), *more))


CROPS: tuple[Mistake, ...] = (
    border("{tensor} keeps the padding: it is as large as the padded x.", cropped(lambda a: 0, lambda a: None)),
    border(
        "{tensor} is cut with [padding:-padding], which is empty for a padding of 0.",
        cropped(lambda a: a.low, lambda a: -a.low),
    ),
    border(
        "{tensor} is cut with [low:-high], which is empty for a high padding of 0.",
        cropped(lambda a: a.low, lambda a: -a.high),
    ),
    border(
        "{tensor} is cut as if there were as much padding behind x as before it.",
        cropped(lambda a: a.low, lambda a: a.size + a.high),
    ),
    border(
        "{tensor} is cut as if there were as much padding before x as behind it.",
        cropped(lambda a: a.high, lambda a: a.size + a.low),
    ),
    border(
        "{tensor} has its low padding taken off and its high padding left on.", cropped(lambda a: a.low, lambda a: None)
    ),
    border(
        "{tensor} has its high padding taken off and its low padding left on.",
        cropped(lambda a: 0, lambda a: a.low + a.size),
    ),
    border("{tensor} has the padding taken off its first axis alone.", crops_one(lambda rank: 0)),
    border("{tensor} has the padding taken off its last axis alone.", crops_one(lambda rank: rank - 1)),
    border(
        "{tensor} ends with the last window: the rows that are left over behind it are missing.",
        cropped(lambda a: a.low, lambda a: max(a.low, min(covered(a), a.low + a.size))),
    ),
    border(
        "{tensor} ends with the last window, less the padding on both sides, and the remainder is missing.",
        cropped(lambda a: a.low, lambda a: max(a.low, covered(a) - a.high)),
    ),
    border(
        "{tensor} has one row for any remainder, though up to stride-1 rows may be left over.",
        cropped(lambda a: a.low, lambda a: a.low + a.size - max(0, a.remainder - 1)),
    ),
    border(
        "{tensor} is longer by stride-1 less the remainder: the largest remainder is taken for the one that there is.",
        longest,
    ),
    border(
        "{tensor} is not cropped to the kernel: it has a further tap wherever the remainder leaves room for one.",
        longer,
        "dw",
    ),
    border("{tensor} has zeros behind its taps, as many as the remainder leaves room for.", zeros_behind, "dw"),
)


#: How many windows an axis is taken to have, of all axes and the number of the one.
Count = Callable[[Sequence[Axis], int], int]


def fitting(axis: Axis, padding: int | None = None, kernel: int | None = None, stride: int | None = None) -> int:
    """(size + padding - kernel) // stride + 1, at least 0."""
    room = axis.size + (axis.low + axis.high if padding is None else padding)
    room -= axis.reach if kernel is None else kernel
    return max(0, room // (axis.stride if stride is None else stride) + 1)


#: In words, and whether there may be more of them than belong there.
COUNTS: tuple[tuple[str, bool, Count], ...] = (
    ("without the padding", False, lambda axes, k: fitting(axes[k], 0)),
    ("with the low padding alone", False, lambda axes, k: fitting(axes[k], axes[k].low)),
    ("with the high padding alone", False, lambda axes, k: fitting(axes[k], axes[k].high)),
    ("with twice the low padding", True, lambda axes, k: fitting(axes[k], 2 * axes[k].low)),
    ("with twice the high padding", True, lambda axes, k: fitting(axes[k], 2 * axes[k].high)),
    ("with K for dilation*(K-1) + 1", True, lambda axes, k: fitting(axes[k], kernel=axes[k].kernel)),
    (
        "with dilation*K for dilation*(K-1) + 1",
        False,
        lambda axes, k: fitting(axes[k], kernel=axes[k].dilation * axes[k].kernel),
    ),
    (
        "rounded up: one window more begins inside x and ends behind it",
        True,
        lambda axes, k: axes[k].out + (axes[k].remainder > 0),
    ),
    ("without the + 1", False, lambda axes, k: axes[k].out - 1),
    ("without the stride", True, lambda axes, k: fitting(axes[k], stride=1)),
    ("as size // stride", True, lambda axes, k: axes[k].size // axes[k].stride),
    ("as ceil(size / stride)", True, lambda axes, k: -(-axes[k].size // axes[k].stride)),
    (
        "as (size + padding - K + 1) // stride",
        False,
        lambda axes, k: fitting(axes[k], padding=axes[k].low + axes[k].high + 1) - 1,
    ),
    *(
        (f"with {what} of the {which} axis", True, count)
        for which in ("first", "last")
        for what, count in (
            (
                "the kernel",
                lambda axes, k, which=which: fitting(
                    axes[k], kernel=axes[k].dilation * (another(axes, k, which).kernel - 1) + 1
                ),
            ),
            ("the stride", lambda axes, k, which=which: fitting(axes[k], stride=another(axes, k, which).stride)),
            (
                "the padding",
                lambda axes, k, which=which: fitting(
                    axes[k], another(axes, k, which).low + another(axes, k, which).high
                ),
            ),
            ("the size", lambda axes, k, which=which: another(axes, k, which).out),
        )
    ),
)


def sized(count: Count, behind: str) -> Made:
    """out with another number of windows; those that are too many are zeros, repeated, or computed of zeros."""

    def made(conv: Convolution, right: Results) -> Array | None:
        sizes = [count(conv.axes, k) for k in range(conv.rank)]
        if tuple(sizes) == conv.windows_along:
            return None
        out = right["out"]
        if behind == "computed":
            starts = [np.arange(n)[:, None] * a.stride for n, a in zip(sizes, conv.axes, strict=True)]
            taps = [np.arange(a.kernel) * a.dilation for a in conv.axes]
            tables = conv.pixels([q + k for q, k in zip(starts, taps, strict=True)])
            return conv.out(conv.cut(conv.x, tables), conv.w)
        if behind == "repeated":
            for k, size in enumerate(sizes, 2):
                out = out.take(np.arange(size) % out.shape[k], k)
            return out
        shape = np.maximum(sizes, conv.windows_along)
        larger = np.zeros((*out.shape[:2], *[int(n) for n in shape]))
        larger[(slice(None), slice(None), *[slice(n) for n in conv.windows_along])] = out
        return larger[(slice(None), slice(None), *[slice(n) for n in sizes])]

    return made


SIZES: tuple[Mistake, ...] = tuple(
    border(f"{{tensor}} has its size computed {words}{more}.", sized(count, behind), "out")
    for behind, more in (
        ("zeros", ""),
        ("computed", ", and its last windows read zeros behind x"),
        ("repeated", ", and its last windows repeat the first"),
    )
    for words, longer, count in COUNTS
    if longer or behind == "zeros"
)
