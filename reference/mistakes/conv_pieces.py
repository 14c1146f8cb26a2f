"""Mistakes in what is summed and written: samples, filters, channels, windows, taps and pixels that are left out, or
assigned where they are to be added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.mistakes.convolution import GRADIENT, READERS, Convolution, Makers, mistake, rereading

#: How often each of so many terms counts; None: each once.
Weights = Callable[[int], Array | None]

#: What can be summed: its name, the array that it is part of, and, for that array, the shape of a weight a piece; None
#: where a case has no such thing.
Extent = Callable[[Convolution], tuple[int, tuple[int, ...]] | None]


def along(array: str, axis: int) -> Extent:
    """One axis of an array."""

    def extent(conv: Convolution) -> tuple[int, tuple[int, ...]]:
        shape = getattr(conv, array).shape
        return shape[axis], tuple([n if k == axis else 1 for k, n in enumerate(shape)])

    return extent


def along_spatial(array: str, which: str) -> Extent:
    """One spatial axis of several; in a volume there is a middle one."""

    def extent(conv: Convolution) -> tuple[int, tuple[int, ...]] | None:
        axis = {"first": 0, "middle": 1, "last": conv.rank - 1}[which]
        if conv.rank < (3 if which == "middle" else 2):
            return None
        return along(array, 2 + axis)(conv)

    return extent


def spread_out(array: str) -> Extent:
    """All spatial axes, one behind the other."""

    def extent(conv: Convolution) -> tuple[int, tuple[int, ...]]:
        shape = getattr(conv, array).shape[2:]
        return prod(shape), (1, 1, *shape)

    return extent


def of_groups(conv: Convolution) -> tuple[int, tuple[int, ...]]:
    """The groups of filters."""
    return conv.groups, (1, -1, *[1] * conv.rank)


def in_groups(conv: Convolution) -> tuple[int, tuple[int, ...]]:
    """The filters of a group."""
    return conv.dout.shape[1] // conv.groups, (1, -1, *[1] * conv.rank)


@dataclass(frozen=True)
class Thing:
    """What there are several of: how it is called, the array that it is part of, which tensors are sums over it, while
    the others have an entry for each of them, and the largest tile of it.
    """

    one: str
    many: str
    array: str
    extent: Extent
    summed: tuple[str, ...]
    largest: int

    @property
    def written(self) -> tuple[str, ...]:
        """The tensors that have an entry for each."""
        return tuple(t for t in (*READERS[self.array], GRADIENT[self.array]) if t not in self.summed)


THINGS: tuple[Thing, ...] = (
    Thing("sample", "samples", "dout", along("dout", 0), ("dw", "db"), 64),
    Thing("filter", "filters", "dout", along("dout", 1), ("dx",), 64),
    Thing("channel", "channels", "x", along("x", 1), ("out",), 64),
    Thing("window", "windows", "dout", spread_out("dout"), ("dx", "dw", "db"), 64),
    Thing("tap", "taps of a kernel", "w", spread_out("w"), ("out", "dx"), 16),
    Thing("pixel", "pixels of a channel", "x", spread_out("x"), ("out", "dw"), 64),
    Thing("channel of a group", "channels of a group", "w", along("w", 1), ("out",), 3),
    Thing("filter of a group", "filters of a group", "dout", in_groups, ("dx",), 3),
    Thing("group", "groups", "dout", of_groups, (), 64),
    *(
        Thing(
            f"{noun} along the {which} axis",
            f"{nouns} along the {which} axis",
            array,
            along_spatial(array, which),
            summed,
            most,
        )
        for which, longest in (("first", 64), ("last", 64), ("middle", 16))
        for noun, nouns, array, summed, most in (
            ("window", "windows", "dout", ("dx", "dw", "db"), longest),
            ("tap", "taps", "w", ("out", "dx"), 4),
            ("pixel", "pixels", "x", ("out", "dw"), longest),
        )
    ),
)


def counted(n: int, *ranges: range) -> Array:
    """How often each of n terms is in these ranges."""
    weights = np.zeros(n)
    for among in ranges:
        weights[among.start : among.stop : among.step] += 1
    return weights


def but(at: int, fewest: int) -> Weights:
    """All but one, where there are so many."""

    def weights(n: int) -> Array | None:
        if n < fewest:
            return None
        result = np.ones(n)
        result[at] = 0
        return result

    return weights


def one(at: int) -> Weights:
    """One alone."""

    def weights(n: int) -> Array | None:
        if n < 2:
            return None
        result = np.zeros(n)
        result[at] = 1
        return result

    return weights


def every_second(first: int) -> Weights:
    """Every second one alone."""
    return lambda n: counted(n, range(first, n, 2)) if n > 1 else None


#: What is done to the pieces that there are, and how often each counts.
PATTERNS: tuple[tuple[str, Weights], ...] = (
    ("leaves out the last {one}, or the only one: the loop over {many} ends one too early", but(-1, 1)),
    ("leaves out the first {one}, or the only one: the loop over {many} starts at 1", but(0, 1)),
    ("leaves out the last {one} where there are several", but(-1, 2)),
    ("leaves out the first {one} where there are several", but(0, 2)),
    ("counts every second {one} alone, the first, the third and so on", every_second(0)),
    ("counts every second {one} alone, the second, the fourth and so on", every_second(1)),
)

#: What is written or read once, or assigned in a loop.
ALONE: tuple[tuple[str, str, int], ...] = (
    (
        "is assigned for every {one} instead of added up: the last one alone counts",
        "holds the last {one} alone: the others are zero",
        -1,
    ),
    ("adds up nothing but the first {one}", "holds the first {one} alone: the others are zero", 0),
)


def weighed(conv: Convolution, extent: Extent, weights: Weights) -> Array | None:
    """The weight of every piece of the array, ready to be multiplied with it."""
    found = extent(conv)
    if found is None:
        return None
    n, shape = found
    each = weights(n) if n else None
    if each is None:
        return None
    if extent is of_groups:
        each = np.repeat(each, conv.dout.shape[1] // n)
    elif extent is in_groups:
        each = np.tile(each, conv.groups)
    return each.reshape(shape)


def weighing(sentence: str, thing: Thing, weights: Weights, tensors: tuple[str, ...]) -> Mistake:
    """The mistake of counting some pieces otherwise than once, in these tensors."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        mask = weighed(conv, thing.extent, weights)
        if mask is None:
            return None
        return rereading(conv, right, thing.array, lambda a: a * mask, lambda a: a * mask)

    words = sentence.format(one=thing.one, many=thing.many)
    return mistake(f"{{tensor}} {words}.", " ".join(tensors), makers)


def left_out() -> Iterator[Mistake]:
    """Every pattern of every thing."""
    for words, weights in PATTERNS:
        for thing in THINGS:
            yield weighing(words, thing, weights, (*thing.summed, *thing.written))
    for summed, written, at in ALONE:
        for thing in THINGS:
            if thing.summed:
                yield weighing(summed, thing, one(at), thing.summed)
            yield weighing(written, thing, one(at), thing.written)


def innermost(sentence: str, tensors: str, ends: Callable[[Convolution], dict[str, Array]]) -> Mistake:
    """A sum that is assigned in its innermost loop, so that one term of each entry is left."""

    def makers(conv: Convolution, right: Results) -> Makers:
        last = ends(conv)
        x, w, dout = (getattr(conv, name) * last.get(name, 1.0) for name in ("x", "w", "dout"))
        return {
            "out": lambda: conv.out(conv.windows, w),
            "dw": lambda: conv.dw(conv.cut(x, conv.tables), dout),
            "db": lambda: conv.db(dout),
        }

    return mistake(sentence, tensors, makers)


def last_of(array: Array, axes: tuple[int, ...]) -> Array:
    """1 at the end of these axes, 0 elsewhere."""
    mask = np.zeros(array.shape)
    mask[tuple([slice(-1, None) if k in axes else slice(None) for k in range(array.ndim)])] = 1
    return mask


PIECES: tuple[Mistake, ...] = (
    *left_out(),
    innermost(
        "{tensor} is assigned in its innermost loop: the last sample's last window alone counts.",
        "dw db",
        lambda conv: {"dout": last_of(conv.dout, (0, *conv.spatial))},
    ),
    innermost(
        "{tensor} is assigned in its innermost loop: the last channel's last tap alone counts.",
        "out",
        lambda conv: {"w": last_of(conv.w, (1, *conv.spatial))},
    ),
)
