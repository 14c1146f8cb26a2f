"""Mistakes in the order of memory: axes that are taken for others, or that lie as far apart as others do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from math import prod

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.mistakes.convolution import GRADIENT, READERS, Convolution, Makers, mistake, rereading

#: How an array is read, and how its gradient is written then.
Rereading = tuple[Callable[[Array], Array], Callable[[Array], Array]]
#: An array read otherwise, and what its gradient is then; None: as it is.
Reading = Callable[[Array, Convolution], Rereading | None]


def read_as(sentence: str, array: str, reading: Reading, *, db: bool = True, among: Sequence[str] = ()) -> Mistake:
    """The mistake of reading x, w or dout otherwise than it lies, and of writing its gradient so, or one `among` those;
    db is perhaps what some plainer reading has for it.
    """

    def makers(conv: Convolution, right: Results) -> Makers | None:
        found = reading(getattr(conv, array), conv)
        return None if found is None else rereading(conv, right, array, *found)

    tensors = [tensor for tensor in among or (*READERS[array], GRADIENT[array]) if db or tensor != "db"]
    return mistake(sentence, " ".join(tensors), makers)


NAMES = {"x": ("N", "C"), "w": ("O", "C"), "dout": ("N", "O")}


def in_order(array: str, blocks: tuple[int, ...], *, turned: bool) -> tuple[str, Callable[[int], tuple[int, ...]]]:
    """The order of the first two axes and the spatial ones, these perhaps from the last to the first."""
    spatial = ("*K" if array == "w" else "*S") + (" reversed" if turned else "")
    words = ", ".join((*NAMES[array], spatial)[block] for block in blocks)

    def axes(ndim: int) -> tuple[int, ...]:
        among = tuple(range(2, ndim))
        return tuple([k for block in blocks for k in ((among[::-1] if turned else among) if block == 2 else (block,))])

    return f"({words})", axes


def taken_for(axes: Callable[[int], tuple[int, ...]]) -> Reading:
    """The memory taken to lie in another order of axes."""

    def reading(a: Array, conv: Convolution) -> Rereading | None:
        order = axes(a.ndim)
        if order == tuple(range(a.ndim)) or not _differs(a.shape, order):
            return None
        shape, back = tuple([a.shape[k] for k in order]), np.argsort(order)
        return (
            lambda a: a.reshape(shape).transpose(back),
            lambda a: a.transpose(order).reshape(a.shape),
        )

    return reading


def moved_to(axes: Callable[[int], tuple[int, ...]]) -> Reading:
    """The axes moved, and the shape given back without moving them."""

    def reading(a: Array, conv: Convolution) -> Rereading | None:
        found = taken_for(axes)(a, conv)
        return None if found is None else found[::-1]

    return reading


def _differs(shape: tuple[int, ...], order: tuple[int, ...]) -> bool:
    """Whether axes of more than one entry change places."""
    kept = [k for k in order if shape[k] > 1]
    return kept != sorted(kept)


def returned(words: str, tensor: str, axes: Callable[[int], tuple[int, ...]]) -> Mistake:
    """A result with its axes in another order, and so perhaps another shape."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        result = right[tensor].transpose(axes(right[tensor].ndim))
        if result.shape == right[tensor].shape and not _differs(result.shape, axes(result.ndim)):
            return None
        return {tensor: lambda: result}

    # The layer's own layout may be another: the names are those of the axes with the channels first.
    sentence = f"{{tensor}} is returned with its axes in the order {words}, as they are named with the channels first."
    return mistake(sentence, tensor, makers)


#: The steps from one entry to the next along all axes but the last, of the sizes; None: they are right.
Pitches = Callable[[tuple[int, ...]], tuple[int, ...] | None]


def pitched(pitches: Pitches) -> Reading:
    """An array read by the wrong steps from row to row and from plane to plane, on from the start of its channel."""

    def reading(a: Array, conv: Convolution) -> Rereading | None:
        sizes = a.shape[2:]
        steps = pitches(sizes) if conv.rank > 1 else None
        if steps is None:
            return None
        at = np.zeros((1,) * conv.rank, dtype=np.int64)
        for k, step in enumerate((*steps, 1)):
            at = at + (np.arange(sizes[k]) * step).reshape([-1 if j == k else 1 for j in range(conv.rank)])
        at = at.ravel() % prod(sizes)
        if np.array_equal(at, np.arange(at.size)):
            return None

        def written(a: Array) -> Array:
            added = np.zeros((at.size, *a.shape[:2]))
            np.add.at(added, at, np.moveaxis(a.reshape(*a.shape[:2], at.size), 2, 0))
            return np.moveaxis(added, 0, 2).reshape(a.shape)

        return lambda a: a.reshape(*a.shape[:2], at.size)[:, :, at].reshape(a.shape), written

    return reading


def in_memory() -> list[Mistake]:
    """x, w and dout, and their gradients, in every other order of axes."""
    found = []
    for turned in (False, True):
        for blocks in permutations(range(3)):
            if blocks == (0, 1, 2) and not turned:
                continue
            for array in ("w", "dout", "x"):
                words, axes = in_order(array, blocks, turned=turned)
                plain, _ = in_order(array, (0, 1, 2), turned=False)
                for tensors, name in ((READERS[array], array), ((GRADIENT[array],), GRADIENT[array])):
                    found.append(
                        read_as(
                            f"{{tensor}} takes the memory of {name}, {plain}, for one in the order {words}.",
                            array,
                            taken_for(axes),
                            db=blocks in ((0, 2, 1), (1, 0, 2), (2, 1, 0)) and not turned,
                            among=tensors,
                        )
                    )
                    found.append(
                        read_as(
                            f"{{tensor}} brings {name} to the order {words} and back to {plain} by a reshape.",
                            array,
                            moved_to(axes),
                            db=blocks == (1, 0, 2) and not turned,
                            among=tensors,
                        )
                    )
                found.append(returned(words, GRADIENT[array], axes))
    return found


#: Steps through an array's memory that are those of another axis.
PITCHES: tuple[tuple[str, Pitches], ...] = (
    (
        "the height for the width: rows lie a height apart where they are a width apart",
        lambda s: (s[0],) if len(s) == 2 else (s[1] * s[2], s[1]),
    ),
    (
        "the depth for the height: planes lie depth*width apart where they are height*width apart",
        lambda s: (s[0] * s[2], s[2]) if len(s) == 3 else None,
    ),
    (
        "the height for the width: planes lie height*height apart and rows a height",
        lambda s: (s[1] * s[1], s[1]) if len(s) == 3 else None,
    ),
    (
        "the width for the height: planes lie width*width apart where they are height*width apart",
        lambda s: (s[2] * s[2], s[2]) if len(s) == 3 else None,
    ),
)


def turned(axes: Callable[[int], tuple[int, ...]]) -> Reading:
    """The array turned around along these axes."""

    def reading(a: Array, conv: Convolution) -> Rereading | None:
        among = axes(a.ndim)
        if all(a.shape[k] == 1 for k in among):
            return None
        return lambda a: np.flip(a, among), lambda a: np.flip(a, among)

    return reading


def by_filter(dout: Array, conv: Convolution) -> Rereading | None:
    """The pixels and samples of a filter in the order (*S, N), taken for (N, *S)."""
    if len(dout) == 1 or prod(dout.shape[2:]) == 1:
        return None
    across, order = (dout.shape[1], *dout.shape[2:], len(dout)), (1, *range(2, dout.ndim), 0)

    def read(a: Array) -> Array:
        return a.transpose(order).reshape(dout.shape[1], len(dout), *dout.shape[2:]).swapaxes(0, 1)

    def written(a: Array) -> Array:
        return a.swapaxes(0, 1).reshape(across).transpose(np.argsort(order))

    return read, written


def by_sample(dout: Array, conv: Convolution) -> Rereading | None:
    """The pixels and samples of a filter in the order (N, *S), taken for (*S, N)."""
    found = by_filter(dout, conv)
    return None if found is None else found[::-1]


MEMORY: tuple[Mistake, ...] = (
    *in_memory(),
    read_as(
        "{tensor} multiplies windows in the order (N, OH, OW) by entries of dout in the order (OH, OW, N).",
        "dout",
        by_filter,
        db=False,
    ),
    read_as(
        "{tensor} multiplies windows in the order (OH, OW, N) by entries of dout in the order (N, OH, OW).",
        "dout",
        by_sample,
        db=False,
    ),
    *(
        read_as(f"{{tensor}} turns {array} around along {words}.", array, turned(axes), db=False)
        for array, words, axes in (
            ("w", "all its axes", lambda ndim: tuple(range(ndim))),
            ("w", "its channels and taps", lambda ndim: tuple(range(1, ndim))),
            ("w", "its filters and taps", lambda ndim: (0, *range(2, ndim))),
            ("w", "its filters and channels", lambda ndim: (0, 1)),
            ("x", "its spatial axes", lambda ndim: tuple(range(2, ndim))),
            ("x", "its last axis", lambda ndim: (ndim - 1,)),
            ("dout", "all its axes", lambda ndim: tuple(range(ndim))),
        )
    ),
    *(
        read_as(f"{{tensor}} takes, in {array}, {words}.", array, pitched(pitches))
        for array in ("x", "w", "dout")
        for words, pitches in PITCHES
    ),
)
