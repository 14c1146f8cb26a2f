"""The axes of a convolution: padding around x and its adjoint, their enumeration by size, what a case may cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.layer import Space
from backproof.reference.axis import Axis, positions

Kind = tuple[int, int, int]


def pad(x: Array, source: Sequence[Array], padding: Sequence[tuple[int, int]], mode: str) -> Array:
    """x (N, C, *S) with its padding around it; `source` says what each padded pixel shows, as `positions` does."""
    if mode == "zeros":
        room = [size + low + high for size, (low, high) in zip(x.shape[2:], padding, strict=True)]
        inner = [slice(low, low + size) for size, (low, _) in zip(x.shape[2:], padding, strict=True)]
        out = np.zeros((*x.shape[:2], *room))
        out[(slice(None), slice(None), *inner)] = x
        return out
    for axis, index in enumerate(source):
        x = x.take(index, axis + 2)
    return x


def fold(padded: Array, source: Sequence[Array], shape: Sequence[int], options: Mapping[str, Any]) -> Array:
    """The adjoint of padding: the gradient of every padded pixel goes to the pixel that it shows."""
    if options["padding_mode"] == "zeros":
        inner = [slice(low, low + size) for size, (low, _) in zip(shape[2:], options["padding"], strict=True)]
        return padded[(slice(None), slice(None), *inner)]
    for axis, index in enumerate(source, 2):
        folded = np.zeros((*padded.shape[:axis], shape[axis], *padded.shape[axis + 1 :]))
        place: tuple[Any, ...] = (*[slice(None)] * axis, index)
        np.add.at(folded, place, padded)
        padded = folded
    return padded


def axis_choices(space: Space, largest: int) -> dict[Kind, dict[int, list[Axis]]]:
    """All axes with meaning in some padding mode, by (size, kernel, out) and by excess.

    Sizes to the largest, kernels to 5, stride and dilation to 4, padding to the dilated kernel + 2.
    """
    strides = range(1, 5 if space.takes("stride") else 2)
    dilations = range(1, 5 if space.takes("dilation") else 2)
    modes = space.spellings("padding_mode") if space.takes("padding_mode") else ("zeros",)
    symmetric = space.takes("padding") and "pairs" not in space.spellings("padding")
    found: dict[Kind, dict[int, list[Axis]]] = {}
    for size, kernel, stride, dilation in product(range(1, largest + 1), range(1, 6), strides, dilations):
        most = dilation * (kernel - 1) + 3 if space.takes("padding") else 0
        for low in range(most + 1):
            for high in (low,) if symmetric else range(most + 1):
                axis = Axis(size, kernel, stride, dilation, low, high)
                if any(axis.has_meaning(mode) for mode in modes):
                    kind = (size, kernel, axis.out)
                    found.setdefault(kind, {}).setdefault(axis.complexity, []).append(axis)
    return found


def shapes_by_elements(
    elements: int, rank: int, biases: Sequence[int], grouped: bool, choices: Mapping[Kind, object]
) -> Iterator[tuple[dict[str, int], tuple[Kind, ...]]]:
    """All shapes of so many elements: the sizes that are no axis', and the kind of each axis."""
    kinds = _kinds_by_product(tuple(sorted(choices)), rank, elements)
    most = range(1, elements + 1)
    for groups, channels, filters, bias in product(most if grouped else (1,), most, most, biases):
        weights, outputs = groups * filters * channels, groups * filters
        if weights + bias * outputs >= elements:
            continue
        for batch in range(1, elements // max(outputs, groups * channels) + 1):
            x = batch * groups * channels
            sizes = {"batch": batch, "groups": groups, "channels": channels, "filters": filters, "bias": bias}
            for (size, kernel, out), options in kinds.items():
                if x * size + weights * kernel + bias * outputs + batch * outputs * out == elements:
                    for axes in options:
                        yield sizes, axes


@lru_cache(maxsize=256)
def _kinds_by_product(choices: tuple[Kind, ...], rank: int, limit: int) -> dict[Kind, list[tuple[Kind, ...]]]:
    """The kinds of all axes together by the products of their sizes, kernels and outs, none above the limit."""
    found: dict[Kind, list[tuple[Kind, ...]]] = {(1, 1, 1): [()]}
    for _ in range(rank):
        longer: dict[Kind, list[tuple[Kind, ...]]] = {}
        for (h, k, q), shorter in found.items():
            for kind in choices:
                key = (h * kind[0], k * kind[1], q * kind[2])
                if sum(key) <= limit:
                    longer.setdefault(key, []).extend((*axes, kind) for axes in shorter)
        found = longer
    return found


def spread(complexity: int, axes: Sequence[Mapping[int, list[Axis]]]) -> Iterator[tuple[Axis, ...]]:
    """All choices of one axis from each whose excesses add up to this."""
    if not axes:
        if complexity == 0:
            yield ()
        return
    for own, options in axes[0].items():
        if own <= complexity:
            for rest in spread(complexity - own, axes[1:]):
                for axis in options:
                    yield (axis, *rest)


def read_pixels(axes: Sequence[Axis], mode: str) -> Array:
    """The flat pixel of x that output pixel q reads at tap k, (Q, K); -1 outside."""
    found = np.zeros((1, 1), np.int64)
    for axis in axes:
        read = positions(axis.size, axis.low, axis.high, mode)[axis.reads]
        outside = (found < 0)[:, None, :, None] | (read < 0)[None, :, None, :]
        found = np.where(outside, -1, found[:, None, :, None] * axis.size + read[None, :, None, :])
        found = found.reshape(found.shape[0] * axis.out, -1)
    return found


#: How much a drawn case may cost: output pixels of all samples, terms of a sum over all channels. Most are small.
#: At the edge of a tile there is room for it in any one place.
EDGE_ROOM = (512, 256)
ROOMS = (
    (64, 32),
    (64, 32),
    (64, 32),
    (64, 32),
    (160, 96),
    (64, 32),
    (160, 96),
    (64, 32),
    (512, 256),
    (64, 32),
)


def affordable(
    batch: int,
    groups: int,
    channels: int,
    filters: int,
    axes: list[Axis],
    mode: str,
    room: tuple[int, int],
    main: int | None = None,
) -> tuple[int, int, int, int, list[Axis]]:
    """The sizes, cut down until the case fits the room; at the edge of a tile all but the edge, the main axis last."""
    rows, terms = room
    samples = 1 if main is None else batch
    planes = samples * (1 if main is None else groups * channels)
    taps = prod([axis.kernel for axis in axes])
    while (
        taps > terms
        or samples * prod([axis.out for axis in axes]) > rows
        or prod([axis.size for axis in axes]) > 512
        or planes * prod([axis.size for axis in axes]) > 2000
    ):
        large = max(
            range(len(axes)),
            key=lambda k: (
                main not in (None, k) and axes[k].out * axes[k].size > 1,
                axes[k].kernel * axes[k].out * axes[k].size,
            ),
        )
        axis = axes[large]
        smaller = axis._replace(kernel=max(1, axis.kernel - 1), size=max(1, axis.size - axis.stride))
        smaller = smaller.with_meaning(mode)
        if smaller == axis:  # All of it is padding.
            axes = [a._replace(low=0, high=0).with_meaning(mode) for a in axes]
        else:
            axes = [smaller if k == large else a for k, a in enumerate(axes)]
        taps = prod([axis.kernel for axis in axes])
    pixels = prod([axis.out for axis in axes])
    while groups * channels * taps > terms and groups * channels > 1:
        groups, channels = (groups - 1, channels) if groups > 2 or channels == 1 else (groups, channels - 1)
    # x fits the middle one of the oracle's size classes.
    samples = min(rows // pixels, 2000 // (groups * channels * prod([axis.size for axis in axes])))
    return min(batch, max(1, samples)), groups, channels, filters, axes
