"""Mistakes in factors, in the bias and its gradient, and in the shapes of gradients."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.mistakes.conv_borders import Made, border
from backproof.reference.mistakes.convolution import Convolution, Makers, each, mistake, places

#: A factor of one case; None: there is none, or it makes no difference.
Factor = Callable[[Convolution], float]

COUNTS: tuple[tuple[str, Factor], ...] = (
    ("the number of samples", lambda conv: len(conv.x)),
    ("the number of windows", lambda conv: prod(conv.windows_along)),
    ("the number of samples and windows (N*OH*OW)", lambda conv: len(conv.x) * prod(conv.windows_along)),
    ("the number of taps", lambda conv: prod(conv.kernel)),
    ("the number of channels", lambda conv: conv.x.shape[1]),
    ("the number of filters", lambda conv: len(conv.w)),
    ("the number of groups", lambda conv: conv.groups),
    ("the number of channels of a group", lambda conv: conv.w.shape[1]),
    ("the number of filters of a group", lambda conv: len(conv.w) // conv.groups),
    ("the number of terms of out (channels of a group times taps)", lambda conv: prod(conv.w.shape[1:])),
    ("the stride", lambda conv: prod([axis.stride for axis in conv.axes])),
    ("the number of pixels of a channel", lambda conv: prod(conv.sizes)),
    ("the number of pixels of all samples", lambda conv: len(conv.x) * prod(conv.sizes)),
    ("the height of out", lambda conv: conv.windows_along[0]),
    ("the width of out", lambda conv: conv.windows_along[-1]),
)

ALL = "out dx dw db"


def scaled(sentence: str, factor: Factor) -> Mistake:
    """Every result times a factor."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        by = factor(conv)
        if by == 1:
            return None
        return each(right, right, lambda a: a * by)

    return mistake(f"{{tensor}} {sentence}.", ALL, makers)


def inverse(factor: Factor) -> Factor:
    """One divided by it; NaN for an empty batch."""
    return lambda conv: 1 / factor(conv) if factor(conv) else float("nan")


def biased(sentence: str, bias: Callable[[Convolution, Array], Array | None]) -> Mistake:
    """out with something else added than the bias, of the bias as it lies along the filters; None: it is right."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        if conv.b is None:
            return None
        added = bias(conv, conv.b.reshape(1, -1, *[1] * conv.rank))
        return None if added is None else {"out": lambda: conv.products(conv.windows, conv.w) + added}

    return mistake(f"{{tensor}} {sentence}.", "out", makers)


def only(
    array: str, axes: Callable[[Convolution], tuple[int, ...]], *, at: int = 0
) -> Callable[[Convolution, Array], Array]:
    """The bias at one place along these axes of out, zero elsewhere."""

    def bias(conv: Convolution, b: Array) -> Array:
        mask = np.zeros(conv.dout.shape)
        among = axes(conv)
        mask[tuple([slice(at, at + 1 or None) if k in among else slice(None) for k in range(mask.ndim)])] = 1
        return b * mask

    return bias


def times(factor: Factor) -> Callable[[Convolution, Array], Array]:
    """The bias times a factor."""
    return lambda conv, b: b * factor(conv)


def first_group(conv: Convolution, b: Array) -> Array | None:
    """The biases of the first group's filters for those of every group."""
    filters = b.shape[1] // conv.groups
    return b[:, np.arange(b.shape[1]) % filters] if conv.groups > 1 else None


def along_last(conv: Convolution, b: Array) -> Array | None:
    """The bias broadcast along the last axis of out, where it fits."""
    return b.reshape(-1) if b.size in (1, conv.windows_along[-1]) else None


def db_over(axes: Callable[[int], tuple[int, ...]], *, keep: bool = False) -> Made:
    """dout summed over these axes."""

    def made(conv: Convolution, right: Results) -> Array | None:
        return np.asarray(conv.dout.sum(axis=axes(conv.rank), keepdims=keep))

    return made


def of_db(change: Callable[[Array], Array]) -> Made:
    """Something else made of db, where there is one."""
    return lambda conv, right: change(right["db"]) if "db" in right else None


def squeezed(conv: Convolution, right: Results) -> Makers | None:
    """Without its axes of size 1."""
    return each(right, [t for t in ("out", "dx", "dw") if 1 in right[t].shape], np.squeeze)


def shaped_as(tensor: str, words: str, shape: Callable[[Convolution], tuple[int, ...]]) -> list[Mistake]:
    """The shape of another array, filled up with zeros, cut, or repeated."""

    def resized(conv: Convolution, right: Results) -> Array | None:
        return None if shape(conv) == right[tensor].shape else np.resize(right[tensor], shape(conv))

    def zeros(conv: Convolution, right: Results) -> Array | None:
        return None if shape(conv) == right[tensor].shape else np.zeros(shape(conv))

    return [
        border(f"{{tensor}} has the shape of {words}.", resized, tensor),
        border(f"{{tensor}} is zeros in the shape of {words}.", zeros, tensor),
    ]


def folded_by_out(conv: Convolution, right: Results) -> Array | None:
    """Transforms as long as dout: what lies behind them wraps around to the first pixels."""
    if all(size <= n for size, n in zip(conv.sizes, conv.windows_along, strict=True)):
        return None
    dx = right["dx"]
    for k, (size, n) in enumerate(zip(conv.sizes, conv.windows_along, strict=True), 2):
        wrapped = np.zeros((n, *np.delete(dx.shape, k)))
        np.add.at(wrapped, np.arange(size) % n, np.moveaxis(dx, k, 0))
        dx = np.moveaxis(wrapped[np.arange(size) % n], 0, k)
    return dx


def around_x(conv: Convolution, right: Results) -> Array:
    """Windows that wrap around the edges of x."""
    tables = [(place - axis.low) % axis.size for place, axis in zip(conv.places, conv.axes, strict=True)]
    return conv.out(conv.cut(conv.x, tables), conv.w)


def as_it_is(conv: Convolution, right: Results) -> Makers | None:
    """An array handed on for its gradient."""
    return {"dx": lambda: conv.x, "dw": lambda: conv.w, "out": lambda: conv.dout}


def absolute(conv: Convolution, right: Results) -> Makers | None:
    """Without signs."""
    return each(right, right, np.abs)


def begun(conv: Convolution, right: Results) -> Makers:
    """x, w or b added to its gradient."""
    makers = {"dx": lambda: right["dx"] + conv.x, "dw": lambda: right["dw"] + conv.w}
    if conv.b is not None:
        b = conv.b
        makers["db"] = lambda: right["db"] + b
    return makers


def without_signs(conv: Convolution, right: Results) -> Makers | None:
    """Negative entries as zeros."""
    return each(right, right, lambda a: np.maximum(a, 0.0))


def truncated(conv: Convolution, right: Results) -> Makers | None:
    """Without fractions."""
    return each(right, right, np.trunc)


def by_sample(conv: Convolution, right: Results) -> Array | None:
    """dw of every sample."""
    return np.stack(
        [conv.dw(conv.windows[n : n + 1], conv.dout[n : n + 1]) for n in range(len(conv.x))] or [right["dw"]]
    )


def three_taps(conv: Convolution, right: Results) -> Array | None:
    """Three taps from where each kernel begins, on into the next one."""
    if conv.rank > 1 or conv.kernel == (3,):
        return None
    begins = np.arange(conv.w.shape[0] * conv.w.shape[1]).reshape(*conv.w.shape[:2], 1) * conv.kernel[0]
    w = conv.w.ravel()[(begins + np.arange(3)) % conv.w.size]
    tables = conv.pixels([places(conv.axes[0]._replace(kernel=3), windows=conv.axes[0].out)])
    return conv.out(conv.cut(conv.x, tables), w)


def ones_for_dout(conv: Convolution, right: Results) -> Makers:
    """As if every entry of dout were 1."""
    dout = np.ones_like(conv.dout)
    return {
        "dx": lambda: conv.dx(conv.pulled_back(conv.w, dout), conv.tables),
        "dw": lambda: conv.dw(conv.windows, dout),
        "db": lambda: conv.db(dout),
    }


SCALES: tuple[Mistake, ...] = (
    scaled("is zero: it is never written", lambda conv: 0.0),
    scaled("has the wrong sign", lambda conv: -1.0),
    scaled("is twice as large: something is added up twice", lambda conv: 2.0),
    scaled("is half as large", lambda conv: 0.5),
    *(scaled(f"is divided by {words}: it is averaged instead of summed", inverse(count)) for words, count in COUNTS),
    *(scaled(f"is multiplied by {words}", count) for words, count in COUNTS),
    mistake("{tensor} leaves dout out: it is what ones give.", "dx dw db", ones_for_dout),
    mistake("{tensor} is what was passed in, and no gradient.", "out dx dw", as_it_is),
    mistake("{tensor} has lost its signs.", ALL, absolute),
    mistake("{tensor} begins with the array itself instead of zeros: x, w or b is added to it.", "dx dw db", begun),
    mistake("{tensor} has its negative entries cleared, as an activation does.", ALL, without_signs),
    mistake("{tensor} has lost its fractions: it is kept in integers.", ALL, truncated),
)

BIASES: tuple[Mistake, ...] = (
    biased("has no bias added", lambda conv, b: 0 * b),
    biased("has the bias added twice", lambda conv, b: 2 * b),
    biased("has the bias subtracted", lambda conv, b: -b),
    biased("has the first filter's bias in all filters", lambda conv, b: b[:, :1]),
    biased("has the biases of the filters in the opposite order", lambda conv, b: b[:, ::-1]),
    biased("has the biases of the first group in every group: the group's offset into b is missing", first_group),
    biased("has the bias broadcast along its last axis instead of along the filters", along_last),
    *(
        biased(f"has the bias added once for each of {words}", times(count))
        for words, count in (
            ("the groups", lambda conv: conv.groups),
            ("the taps", lambda conv: prod(conv.kernel)),
            ("the channels", lambda conv: conv.x.shape[1]),
            ("the channels of a group", lambda conv: conv.w.shape[1]),
            ("the terms (taps times channels of a group)", lambda conv: prod(conv.w.shape[1:])),
            ("the samples", lambda conv: len(conv.x)),
            ("the filters", lambda conv: len(conv.w)),
        )
    ),
    *(
        biased(f"has the bias added to {words} alone", only("out", axes))
        for words, axes in (
            ("the first sample", lambda conv: (0,)),
            ("the first window", lambda conv: conv.spatial),
            ("the first row of windows", lambda conv: (2,)),
            ("the first column of windows", lambda conv: (1 + conv.rank,)),
            ("the first filter", lambda conv: (1,)),
        )
    ),
    border("{tensor} is not summed over the windows: the samples alone are.", db_over(lambda rank: (0,)), "db"),
    border(
        "{tensor} is not summed over the samples: the windows alone are.",
        db_over(lambda rank: tuple(range(2, 2 + rank))),
        "db",
    ),
    border("{tensor} is not summed over the last axis.", db_over(lambda rank: (0, *range(2, 1 + rank))), "db"),
    border("{tensor} is not summed over the first spatial axis.", db_over(lambda rank: (0, *range(3, 2 + rank))), "db"),
    border(
        "{tensor} is summed over the samples, the filters and all spatial axes but the first: these are the axes of the"
        " other layout.",
        db_over(lambda rank: (0, 1, *range(3, 2 + rank))),
        "db",
    ),
    border(
        "{tensor} is summed over the samples and the filters alone.",
        db_over(lambda rank: (0, 1)),
        "db",
    ),
    border(
        "{tensor} keeps the axes that it is summed over, as axes of size 1.",
        db_over(lambda rank: (0, *range(2, 2 + rank)), keep=True),
        "db",
    ),
    border("{tensor} has an axis too many: its shape is (1, O).", of_db(lambda db: db[None]), "db"),
    border("{tensor} has an axis too many: its shape is (O, 1).", of_db(lambda db: db[:, None]), "db"),
    border("{tensor} is a single number.", of_db(lambda db: np.asarray(db.sum())), "db"),
)

SHAPES: tuple[Mistake, ...] = (
    mistake("{tensor} has lost its axes of size 1: squeeze() takes them all away.", "out dx dw", squeezed),
    *shaped_as("dw", "x", lambda conv: conv.x.shape),
    *shaped_as("dx", "dout", lambda conv: conv.dout.shape),
    *shaped_as("dx", "w", lambda conv: conv.w.shape),
    border("{tensor} is not summed over the samples: it has an axis too many.", by_sample, "dw"),
    border(
        "{tensor} takes every kernel for one of three taps, which are read on into the next one.", three_taps, "out"
    ),
    border(
        "{tensor} has no axis of channels within a group: it is as large as a dense kernel's, zero between the groups.",
        lambda conv, right: dense(conv, right["dw"]),
        "dw",
    ),
    border(
        "{tensor} is transformed over too few pixels, as many as dout has: its last pixels wrap around to the first.",
        folded_by_out,
    ),
    border("{tensor} wraps around the edges of x: its transforms leave no room for the padding.", around_x, "out"),
    border(
        "{tensor} is laid out without the remainder, so that every later index is off.",
        lambda conv, right: dense_rows(conv),
    ),
)


def dense(conv: Convolution, dw: Array) -> Array | None:
    """dw in the blocks of a dense kernel's."""
    if conv.groups == 1:
        return None
    filters, channels = dw.shape[0] // conv.groups, dw.shape[1]
    result = np.zeros((dw.shape[0], channels * conv.groups, *dw.shape[2:]))
    for g in range(conv.groups):
        rows = slice(g * filters, (g + 1) * filters)
        result[rows, g * channels : (g + 1) * channels] = dw[rows]
    return result


def dense_rows(conv: Convolution) -> Array | None:
    """The padded dx written as if it ended with the last window."""
    if not any(axis.remainder for axis in conv.axes):
        return None
    padded = conv.padded_dx(conv.back)
    ends = [axis.padded - axis.remainder for axis in conv.axes]
    written = padded[(slice(None), slice(None), *[slice(end) for end in ends])]
    result = np.zeros(padded.shape)
    batch, places_ = len(padded), written[:1].size
    result.reshape(batch, prod(padded.shape[1:]))[:, :places_] = written.reshape(batch, places_)
    return conv.folded(result)
