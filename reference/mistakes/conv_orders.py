"""Mistakes in the order of things: groups, channels, filters and samples that are taken for others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.mistakes.conv_memory import Rereading, read_as
from backproof.reference.mistakes.convolution import GRADIENT, READERS, Convolution, Makers, mistake, rereading

#: For each of n places the one that is read in its stead, of n and the number of groups; None: its own.
Order = Callable[[int, int], Array | None]


def backwards(n: int, groups: int) -> Array | None:
    """The last first."""
    return np.arange(n)[::-1] if n > 1 else None


def rotated(by: int) -> Order:
    """Each for a neighbour."""
    return lambda n, groups: (np.arange(n) + by) % n if n > 1 else None


def by_turns(n: int, groups: int) -> Array | None:
    """Every G-th one for a group, one group after the other."""
    return np.arange(n).reshape(-1, groups).T.ravel() if 1 < groups < n else None


def dealt_out(n: int, groups: int) -> Array | None:
    """The opposite: one of each group, by turns."""
    return np.arange(n).reshape(groups, -1).T.ravel() if 1 < groups < n else None


def groups_backwards(n: int, groups: int) -> Array | None:
    """The last group first."""
    return np.arange(n).reshape(groups, -1)[::-1].ravel() if 1 < groups < n else None


def groups_rotated(n: int, groups: int) -> Array | None:
    """Each group for the next one."""
    return np.roll(np.arange(n).reshape(groups, -1), -1, axis=0).ravel() if 1 < groups < n else None


def all_first(n: int, groups: int) -> Array | None:
    """The first for all."""
    return np.zeros(n, dtype=np.int64) if n > 1 else None


def all_last(n: int, groups: int) -> Array | None:
    """The last for all."""
    return np.full(n, n - 1) if n > 1 else None


def first_group(n: int, groups: int) -> Array | None:
    """The first group for all."""
    return np.arange(n) % (n // groups) if groups > 1 else None


def last_group(n: int, groups: int) -> Array | None:
    """The last group for all."""
    return n - n // groups + np.arange(n) % (n // groups) if groups > 1 else None


#: In words, of {many} in {array}: those that only change places, and those that lose some.
MOVED: tuple[tuple[str, Order], ...] = (
    ("takes the {many} of {array} in the opposite order", backwards),
    ("takes the next of the {many} of {array} for each, and the first for the last", rotated(1)),
    ("takes the one before of the {many} of {array} for each, and the last for the first", rotated(-1)),
    ("interleaves the groups: every G-th of the {many} of {array} makes a group, where neighbours do", by_turns),
    ("deals the {many} of {array} out to the groups by turns, where neighbours make a group", dealt_out),
    ("takes the groups of the {many} of {array} in the opposite order", groups_backwards),
    ("takes the next group of the {many} of {array} for each", groups_rotated),
)
LOST: tuple[tuple[str, Order], ...] = (
    ("takes the first of the {many} of {array} for all: the offset is missing", all_first),
    ("takes the last of the {many} of {array} for all", all_last),
    (
        "takes the {many} of {array} in the first group for those of every group: the group's offset is missing",
        first_group,
    ),
    ("takes the {many} of {array} in the last group for those of every group", last_group),
)
#: The same of what is written.
REPEATED: tuple[tuple[str, Order], ...] = (
    ("repeats the first of its {many} for all: the offset is missing", all_first),
    ("repeats the last of its {many} for all", all_last),
    ("repeats the first group's {many} in every group: the group's offset is missing", first_group),
    ("repeats the last group's {many} in every group", last_group),
)

#: What has an order: array, axis, plural. That of groups makes sense of channels and filters alone.
ORDERED: tuple[tuple[str, int, str], ...] = (
    ("x", 1, "channels"),
    ("w", 0, "filters"),
    ("dout", 1, "filters"),
    ("x", 0, "samples"),
    ("dout", 0, "samples"),
    ("w", 1, "channels"),
)


def reordered(array: str, axis: int, order: Order, conv: Convolution) -> Array | None:
    """The places that are read along an axis of an array; None: their own."""
    grouped = (array, axis) in (("x", 1), ("w", 0), ("dout", 1))
    n = getattr(conv, array).shape[axis]
    if order in (by_turns, dealt_out, groups_backwards, groups_rotated, first_group, last_group) and not grouped:
        return None
    found = order(n, conv.groups)
    return None if found is None or np.array_equal(found, np.arange(n)) else found


def moved(sentence: str, array: str, axis: int, order: Order) -> Mistake:
    """The mistake of another order, in all that reads the array, and the other way round in its gradient."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        at = reordered(array, axis, order, conv)
        if at is None:
            return None
        return rereading(conv, right, array, lambda a: a.take(at, axis), lambda a: a.take(np.argsort(at), axis))

    return mistake(f"{{tensor}} {sentence}.", " ".join((*READERS[array], GRADIENT[array])), makers)


def lost(sentence: str, array: str, axis: int, order: Order) -> Mistake:
    """The mistake of reading one thing for several."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        at = reordered(array, axis, order, conv)
        return None if at is None else rereading(conv, right, array, lambda a: a.take(at, axis), lambda a: a)

    return mistake(f"{{tensor}} {sentence}.", " ".join(READERS[array]), makers)


def repeated(sentence: str, axes: Mapping[str, int], order: Order) -> Mistake:
    """The mistake of writing one thing for several, along these axes of the tensors that have it."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        places = {tensor: order(right[tensor].shape[axis], conv.groups) for tensor, axis in axes.items()}
        return {
            tensor: partial(right[tensor].take, at, axes[tensor]) for tensor, at in places.items() if at is not None
        } or None

    return mistake(f"{{tensor}} {sentence}.", " ".join(axes), makers)


def across_groups(w: Array, conv: Convolution) -> Rereading | None:
    """Channels and filters exchanged in the whole of w instead of within each group."""
    groups, filters = conv.groups, len(w) // conv.groups
    if groups == 1 or w.shape[1] == 1:
        return None
    numbers = np.arange(w.shape[0] * w.shape[1]).reshape(w.shape[:2])
    at = numbers.T.reshape(groups, w.shape[1], filters).swapaxes(1, 2).ravel()

    def reading(a: Array) -> Array:
        return a.reshape(at.size, *a.shape[2:])[at].reshape(a.shape)

    def adjoint(a: Array) -> Array:
        return a.reshape(at.size, *a.shape[2:])[np.argsort(at)].reshape(a.shape)

    return reading, adjoint


def offset_by_channels(w: Array, conv: Convolution) -> Rereading | None:
    """Group g begins at filter g C/G instead of g O/G."""
    channels, filters = w.shape[1], len(w) // conv.groups
    at = ((np.arange(conv.groups)[:, None] * channels + np.arange(filters)) % len(w)).ravel()
    if np.array_equal(at, np.arange(len(w))):
        return None

    def adjoint(a: Array) -> Array:
        result = np.zeros_like(a)
        np.add.at(result, at, a)
        return result

    return lambda a: a[at], adjoint


def all_groups(x: Array, conv: Convolution) -> Rereading | None:
    """The sum over all groups for each of them."""
    if conv.groups == 1:
        return None

    def summed(a: Array) -> Array:
        by_group = a.reshape(len(a), conv.groups, a.shape[1] // conv.groups, *a.shape[2:])
        return np.broadcast_to(by_group.sum(axis=1, keepdims=True), by_group.shape).reshape(a.shape)

    return summed, summed


def depthwise_by_turns(conv: Convolution, right: Results) -> Makers | None:
    """Filter o of a depthwise convolution reads channel o % C instead of o // (O / C)."""
    channels, filters = conv.groups, len(conv.w)
    if conv.w.shape[1] > 1 or not 1 < channels < filters:
        return None
    reads = np.arange(filters) % channels
    bias = 0.0 if conv.b is None else conv.b.reshape(-1, *[1] * conv.rank)
    taps = (len(conv.x), filters, *conv.kernel, *[1] * conv.rank)

    def out() -> Array:
        return np.asarray((conv.windows[:, reads] * conv.w.reshape(1, *taps[1:])).sum(axis=conv.spatial) + bias)

    def back() -> Array:
        dout = conv.dout.reshape(*conv.dout.shape[:2], *[1] * conv.rank, *conv.windows_along)
        each = conv.w.reshape(1, *taps[1:]) * dout
        return np.asarray(each.reshape(len(each), filters // channels, channels, *each.shape[2:]).sum(axis=1))

    def dw() -> Array:
        dout = conv.dout.reshape(*conv.dout.shape[:2], *[1] * conv.rank, *conv.windows_along)
        axes = (0, *range(2 + conv.rank, 2 + 2 * conv.rank))
        return np.asarray((conv.windows[:, reads] * dout).sum(axis=axes)).reshape(conv.w.shape)

    return {"out": out, "dx": lambda: conv.dx(back(), conv.tables), "dw": dw}


def ungrouped(conv: Convolution, right: Results) -> Makers | None:
    """Every group's dout and filters on the channels of the first group alone."""
    if conv.groups == 1:
        return None
    channels = conv.w.shape[1]

    def dx() -> Array:
        result = np.zeros_like(right["dx"])
        own = right["dx"].reshape(len(result), conv.groups, channels, *conv.sizes)
        result[:, :channels] = own.sum(axis=1)
        return result

    return {"dx": dx}


ORDERS: tuple[Mistake, ...] = (
    *(
        moved(words.format(many=many, array=array), array, axis, order)
        for words, order in MOVED
        for array, axis, many in ORDERED
        if (array, axis) != ("x", 0)
        and (axis == (0 if array == "w" else 1) or order not in (by_turns, dealt_out, groups_backwards, groups_rotated))
    ),
    *(
        lost(words.format(many=many, array=array), array, axis, order)
        for words, order in LOST
        for array, axis, many in ORDERED
        if axis == (0 if array == "w" else 1) or order not in (first_group, last_group)
    ),
    *(
        repeated(words.format(many=many), axes, order)
        for words, order in REPEATED
        for many, axes in (("channels", {"dx": 1}), ("filters", {"out": 1, "dw": 0}))
    ),
    repeated("repeats the first of a filter's channels for all: the offset is missing", {"dw": 1}, all_first),
    repeated("repeats the last of a filter's channels for all", {"dw": 1}, all_last),
    read_as(
        "{tensor} exchanges channels and filters across the whole of w instead of within each group.",
        "w",
        across_groups,
    ),
    read_as("{tensor} lets group g begin at filter g*C/G of w, where it begins at g*O/G.", "w", offset_by_channels),
    read_as("{tensor} adds the channels of all groups up: every filter reads those of every group.", "x", all_groups),
    mistake(
        "{tensor} deals depthwise filters out by turns: filter o reads channel o % C instead of o // (O/C).",
        "out dx dw",
        depthwise_by_turns,
    ),
    mistake(
        "{tensor} adds every group to the channels of the first one: the group's offset is missing.", "dx", ungrouped
    ),
)
