"""Mistakes in factors, in the bias and its gradient, and in the shapes of gradients."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.mistakes.conv_borders import Made, border
from backproof.reference.mistakes.conv_parts import Makers, Parts, each, mistake, places

#: A factor of one case; None: there is none, or it makes no difference.
Factor = Callable[[Parts], float]

COUNTS: tuple[tuple[str, Factor], ...] = (
    ("the number of samples", lambda parts: len(parts.x)),
    ("the number of windows", lambda parts: prod(parts.windows_along)),
    ("the number of samples and windows (N*OH*OW)", lambda parts: len(parts.x) * prod(parts.windows_along)),
    ("the number of taps", lambda parts: prod(parts.kernel)),
    ("the number of channels", lambda parts: parts.x.shape[1]),
    ("the number of filters", lambda parts: len(parts.w)),
    ("the number of groups", lambda parts: parts.groups),
    ("the number of channels of a group", lambda parts: parts.w.shape[1]),
    ("the number of filters of a group", lambda parts: len(parts.w) // parts.groups),
    ("the number of terms of out (channels of a group times taps)", lambda parts: prod(parts.w.shape[1:])),
    ("the stride", lambda parts: prod([axis.stride for axis in parts.axes])),
    ("the number of pixels of a channel", lambda parts: prod(parts.sizes)),
    ("the number of pixels of all samples", lambda parts: len(parts.x) * prod(parts.sizes)),
    ("the height of out", lambda parts: parts.windows_along[0]),
    ("the width of out", lambda parts: parts.windows_along[-1]),
)

ALL = "out dx dw db"


def scaled(sentence: str, factor: Factor) -> Mistake:
    """Every result times a factor."""

    def makers(parts: Parts, right: Results) -> Makers | None:
        by = factor(parts)
        if by == 1:
            return None
        return each(right, right, lambda a: a * by)

    return mistake(f"{{tensor}} {sentence}.", ALL, makers)


def inverse(factor: Factor) -> Factor:
    """One divided by it; NaN for an empty batch."""
    return lambda parts: 1 / factor(parts) if factor(parts) else float("nan")


def biased(sentence: str, bias: Callable[[Parts, Array], Array | None]) -> Mistake:
    """out with something else added than the bias, of the bias as it lies along the filters; None: it is right."""

    def makers(parts: Parts, right: Results) -> Makers | None:
        if parts.b is None:
            return None
        added = bias(parts, parts.b.reshape(1, -1, *[1] * parts.rank))
        return None if added is None else {"out": lambda: parts.products(parts.windows, parts.w) + added}

    return mistake(f"{{tensor}} {sentence}.", "out", makers)


def only(array: str, axes: Callable[[Parts], tuple[int, ...]], *, at: int = 0) -> Callable[[Parts, Array], Array]:
    """The bias at one place along these axes of out, zero elsewhere."""

    def bias(parts: Parts, b: Array) -> Array:
        mask = np.zeros(parts.dout.shape)
        among = axes(parts)
        mask[tuple([slice(at, at + 1 or None) if k in among else slice(None) for k in range(mask.ndim)])] = 1
        return b * mask

    return bias


def times(factor: Factor) -> Callable[[Parts, Array], Array]:
    """The bias times a factor."""
    return lambda parts, b: b * factor(parts)


def first_group(parts: Parts, b: Array) -> Array | None:
    """The biases of the first group's filters for those of every group."""
    filters = b.shape[1] // parts.groups
    return b[:, np.arange(b.shape[1]) % filters] if parts.groups > 1 else None


def along_last(parts: Parts, b: Array) -> Array | None:
    """The bias broadcast along the last axis of out, where it fits."""
    return b.reshape(-1) if b.size in (1, parts.windows_along[-1]) else None


def db_over(axes: Callable[[int], tuple[int, ...]], *, keep: bool = False) -> Made:
    """dout summed over these axes."""

    def made(parts: Parts, right: Results) -> Array | None:
        return np.asarray(parts.dout.sum(axis=axes(parts.rank), keepdims=keep))

    return made


def of_db(change: Callable[[Array], Array]) -> Made:
    """Something else made of db, where there is one."""
    return lambda parts, right: change(right["db"]) if "db" in right else None


def squeezed(parts: Parts, right: Results) -> Makers | None:
    """Without its axes of size 1."""
    return each(right, [t for t in ("out", "dx", "dw") if 1 in right[t].shape], np.squeeze)


def shaped_as(tensor: str, words: str, shape: Callable[[Parts], tuple[int, ...]]) -> list[Mistake]:
    """The shape of another array, filled up with zeros, cut, or repeated."""

    def resized(parts: Parts, right: Results) -> Array | None:
        return None if shape(parts) == right[tensor].shape else np.resize(right[tensor], shape(parts))

    def zeros(parts: Parts, right: Results) -> Array | None:
        return None if shape(parts) == right[tensor].shape else np.zeros(shape(parts))

    return [
        border(f"{{tensor}} has the shape of {words}.", resized, tensor),
        border(f"{{tensor}} is zeros in the shape of {words}.", zeros, tensor),
    ]


def folded_by_out(parts: Parts, right: Results) -> Array | None:
    """Transforms as long as dout: what lies behind them wraps around to the first pixels."""
    if all(size <= n for size, n in zip(parts.sizes, parts.windows_along, strict=True)):
        return None
    dx = right["dx"]
    for k, (size, n) in enumerate(zip(parts.sizes, parts.windows_along, strict=True), 2):
        wrapped = np.zeros((n, *np.delete(dx.shape, k)))
        np.add.at(wrapped, np.arange(size) % n, np.moveaxis(dx, k, 0))
        dx = np.moveaxis(wrapped[np.arange(size) % n], 0, k)
    return dx


def around_x(parts: Parts, right: Results) -> Array:
    """Windows that wrap around the edges of x."""
    tables = [(place - axis.low) % axis.size for place, axis in zip(parts.places, parts.axes, strict=True)]
    return parts.out(parts.cut(parts.x, tables), parts.w)


def as_it_is(parts: Parts, right: Results) -> Makers | None:
    """An array handed on for its gradient."""
    return {"dx": lambda: parts.x, "dw": lambda: parts.w, "out": lambda: parts.dout}


def absolute(parts: Parts, right: Results) -> Makers | None:
    """Without signs."""
    return each(right, right, np.abs)


def begun(parts: Parts, right: Results) -> Makers:
    """x, w or b added to its gradient."""
    makers = {"dx": lambda: right["dx"] + parts.x, "dw": lambda: right["dw"] + parts.w}
    if parts.b is not None:
        b = parts.b
        makers["db"] = lambda: right["db"] + b
    return makers


def without_signs(parts: Parts, right: Results) -> Makers | None:
    """Negative entries as zeros."""
    return each(right, right, lambda a: np.maximum(a, 0.0))


def truncated(parts: Parts, right: Results) -> Makers | None:
    """Without fractions."""
    return each(right, right, np.trunc)


def by_sample(parts: Parts, right: Results) -> Array | None:
    """dw of every sample."""
    return np.stack(
        [parts.dw(parts.windows[n : n + 1], parts.dout[n : n + 1]) for n in range(len(parts.x))] or [right["dw"]]
    )


def three_taps(parts: Parts, right: Results) -> Array | None:
    """Three taps from where each kernel begins, on into the next one."""
    if parts.rank > 1 or parts.kernel == (3,):
        return None
    begins = np.arange(parts.w.shape[0] * parts.w.shape[1]).reshape(*parts.w.shape[:2], 1) * parts.kernel[0]
    w = parts.w.ravel()[(begins + np.arange(3)) % parts.w.size]
    tables = parts.pixels([places(parts.axes[0]._replace(kernel=3), windows=parts.axes[0].out)])
    return parts.out(parts.cut(parts.x, tables), w)


def ones_for_dout(parts: Parts, right: Results) -> Makers:
    """As if every entry of dout were 1."""
    dout = np.ones_like(parts.dout)
    return {
        "dx": lambda: parts.dx(parts.pulled_back(parts.w, dout), parts.tables),
        "dw": lambda: parts.dw(parts.windows, dout),
        "db": lambda: parts.db(dout),
    }


SCALES: tuple[Mistake, ...] = (
    scaled("is zero: it is never written", lambda parts: 0.0),
    scaled("has the wrong sign", lambda parts: -1.0),
    scaled("is twice as large: something is added up twice", lambda parts: 2.0),
    scaled("is half as large", lambda parts: 0.5),
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
    biased("has no bias added", lambda parts, b: 0 * b),
    biased("has the bias added twice", lambda parts, b: 2 * b),
    biased("has the bias subtracted", lambda parts, b: -b),
    biased("has the first filter's bias in all filters", lambda parts, b: b[:, :1]),
    biased("has the biases of the filters in the opposite order", lambda parts, b: b[:, ::-1]),
    biased("has the biases of the first group in every group: the group's offset into b is missing", first_group),
    biased("has the bias broadcast along its last axis instead of along the filters", along_last),
    *(
        biased(f"has the bias added once for each of {words}", times(count))
        for words, count in (
            ("the groups", lambda parts: parts.groups),
            ("the taps", lambda parts: prod(parts.kernel)),
            ("the channels", lambda parts: parts.x.shape[1]),
            ("the channels of a group", lambda parts: parts.w.shape[1]),
            ("the terms (taps times channels of a group)", lambda parts: prod(parts.w.shape[1:])),
            ("the samples", lambda parts: len(parts.x)),
            ("the filters", lambda parts: len(parts.w)),
        )
    ),
    *(
        biased(f"has the bias added to {words} alone", only("out", axes))
        for words, axes in (
            ("the first sample", lambda parts: (0,)),
            ("the first window", lambda parts: parts.spatial),
            ("the first row of windows", lambda parts: (2,)),
            ("the first column of windows", lambda parts: (1 + parts.rank,)),
            ("the first filter", lambda parts: (1,)),
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
    *shaped_as("dw", "x", lambda parts: parts.x.shape),
    *shaped_as("dx", "dout", lambda parts: parts.dout.shape),
    *shaped_as("dx", "w", lambda parts: parts.w.shape),
    border("{tensor} is not summed over the samples: it has an axis too many.", by_sample, "dw"),
    border(
        "{tensor} takes every kernel for one of three taps, which are read on into the next one.", three_taps, "out"
    ),
    border(
        "{tensor} has no axis of channels within a group: it is as large as a dense kernel's, zero between the groups.",
        lambda parts, right: dense(parts, right["dw"]),
        "dw",
    ),
    border(
        "{tensor} is transformed over too few pixels, as many as dout has: its last pixels wrap around to the first.",
        folded_by_out,
    ),
    border("{tensor} wraps around the edges of x: its transforms leave no room for the padding.", around_x, "out"),
    border(
        "{tensor} is laid out without the remainder, so that every later index is off.",
        lambda parts, right: dense_rows(parts),
    ),
)


def dense(parts: Parts, dw: Array) -> Array | None:
    """dw in the blocks of a dense kernel's."""
    if parts.groups == 1:
        return None
    filters, channels = dw.shape[0] // parts.groups, dw.shape[1]
    result = np.zeros((dw.shape[0], channels * parts.groups, *dw.shape[2:]))
    for g in range(parts.groups):
        rows = slice(g * filters, (g + 1) * filters)
        result[rows, g * channels : (g + 1) * channels] = dw[rows]
    return result


def dense_rows(parts: Parts) -> Array | None:
    """The padded dx written as if it ended with the last window."""
    if not any(axis.remainder for axis in parts.axes):
        return None
    padded = parts.padded_dx(parts.back)
    ends = [axis.padded - axis.remainder for axis in parts.axes]
    written = padded[(slice(None), slice(None), *[slice(end) for end in ends])]
    result = np.zeros(padded.shape)
    batch, places_ = len(padded), written[:1].size
    result.reshape(batch, prod(padded.shape[1:]))[:, :places_] = written.reshape(batch, places_)
    return parts.folded(result)
