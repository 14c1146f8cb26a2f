"""Convolution over 1, 2 or 3 axes, as loops over single numbers.

    out[n, o, p] = b[o] + sum over c, k of x_padded[n, c, p * stride + k * dilation] * w[o, c, k]

p and k have a number for each spatial axis. With groups, filter o sees only the channels of its own group.
(The layers called convolutions are cross-correlations: w is not turned around.)
Source: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.

Everything is computed as a volume; one or two axes make one of depth 1. A plane of the output gets a part
from each plane of the kernel and the plane of the input that lies under it: two loops around a plane's.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from backproof.reference.textbook.numerical import Array, precision

Triple: TypeAlias = tuple[int, int, int]
PerAxis: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]]

#: What np.pad calls the padding modes.
MODES: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Geometry(NamedTuple):
    """How a kernel walks over an input, for a volume: a missing axis has size, stride and dilation 1."""

    stride: Triple
    dilation: Triple
    padding: tuple[tuple[int, int], ...]
    groups: int
    padding_mode: str
    padded_size: Triple
    out_size: Triple


class ConvCache(NamedTuple):
    """The arrays as they were given, and the geometry."""

    x: Array
    w: Array
    b: Array | None
    geometry: Geometry


@np.errstate(all="ignore")  # what leaves the dtype's range is inf or NaN in the result, without a warning
def conv_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> tuple[Array, ConvCache]:
    """Slides every filter over every image.

    x (N, C, *S) with 1, 2 or 3 spatial axes, w (O, C/groups, *K), b (O,) or None for no bias. stride and
    dilation are one int or one for each axis; padding is one int, one for each axis, or a pair (low, high)
    for each axis. The padding holds zeros, or repeats x: "reflect" mirrors it without its edge, "replicate"
    repeats its edge, "circular" goes on at its other end. Returns out (N, O, *P), cache, where for each axis

        P = floor((S + low + high - dilation * (K - 1) - 1) / stride) + 1

    Raises ValueError where these do not fit, where a size other than the batch's would be less than 1, where
    "reflect" reaches past the axis or "circular" more than once around it; TypeError for arrays that do not
    hold floating point numbers.
    """
    geometry = _geometry(x.shape, w.shape, stride, padding, dilation, groups, padding_mode)
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"b must have shape {w.shape[:1]}, but it has {b.shape}.")

    dtype = precision(x, w, b)
    padded, weight = _padded(_volume(x).astype(dtype), geometry), _volume(w).astype(dtype)
    out = np.zeros((len(x), len(w), *geometry.out_size), dtype)
    for out_plane in range(geometry.out_size[0]):
        for kernel_plane in range(weight.shape[2]):
            plane = out_plane * geometry.stride[0] + kernel_plane * geometry.dilation[0]
            _add_out(out[:, :, out_plane], padded[:, :, plane], weight[:, :, kernel_plane], geometry)
    if b is not None:
        for o in range(len(w)):
            out[:, o] += b[o].astype(dtype)
    return out.reshape(_out_shape(x, w, geometry)).astype(x.dtype), ConvCache(x, w, b, geometry)


@np.errstate(all="ignore")
def conv_backward(dout: Array, cache: ConvCache) -> tuple[Array, Array, Array | None]:
    """The gradients of x, w and b; db is None where b was None.

        dx_padded[n, c, i] = sum over o, k, p of w[o, c, k] * dout[n, o, p] if i == p * stride + k * dilation
        dw[o, c, k] = sum over n, p of x_padded[n, c, p * stride + k * dilation] * dout[n, o, p]
        db[o] = sum over n, p of dout[n, o, p]

    A padded pixel that repeats a pixel of x hands its gradient to it. Over an empty batch dw and db are zero:
    sums of nothing. Raises ValueError where dout is not of out's shape.
    """
    x, w, b, geometry = cache
    if dout.shape != _out_shape(x, w, geometry):
        raise ValueError(f"dout must have shape {_out_shape(x, w, geometry)}, but it has {dout.shape}.")

    dtype = precision(x, w, b)
    padded, weight = _padded(_volume(x).astype(dtype), geometry), _volume(w).astype(dtype)
    upstream = _volume(dout).astype(dtype, order="C")
    dpadded, dw, db = np.zeros_like(padded), np.zeros_like(weight), np.zeros(len(w), dtype)
    for out_plane in range(geometry.out_size[0]):
        for kernel_plane in range(weight.shape[2]):
            plane = out_plane * geometry.stride[0] + kernel_plane * geometry.dilation[0]
            dout_plane = upstream[:, :, out_plane]
            _add_dx(dpadded[:, :, plane], dout_plane, weight[:, :, kernel_plane], geometry)
            _add_dw(dw[:, :, kernel_plane], dout_plane, padded[:, :, plane], geometry)
    for o in range(len(w)):
        db[o] = np.sum(upstream[:, o])
    dx = _folded(dpadded, x.shape, geometry)
    return dx.astype(x.dtype), dw.reshape(w.shape).astype(w.dtype), None if b is None else db.astype(b.dtype)


def conv_steps(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> int:
    """How often the innermost of conv_backward's loops for dx runs: they are nearly all of its cost.

    >>> conv_steps((1, 1, 3, 3), (1, 1, 2, 2))  # nine pixels, four weights, four outputs
    144
    """
    geometry = _geometry(x_shape, w_shape, stride, padding, dilation, groups, padding_mode)
    steps = x_shape[0] * w_shape[0] * w_shape[1]  # each filter meets each channel of its group
    for size in (*geometry.padded_size[1:], *geometry.out_size, *w_shape[2:]):
        steps *= size
    return steps


def _add_out(out: Array, x: Array, w: Array, geometry: Geometry) -> None:
    """One plane: every output gathers from the window that it sees."""
    images, filters, out_rows, out_columns = out.shape
    _, group_channels, kernel_rows, kernel_columns = w.shape
    _, row_stride, column_stride = geometry.stride
    _, row_dilation, column_dilation = geometry.dilation
    for n in range(images):
        for o in range(filters):
            group = o // (filters // geometry.groups)
            for p in range(out_rows):
                for q in range(out_columns):
                    for c in range(group_channels):
                        for k in range(kernel_rows):
                            for m in range(kernel_columns):
                                row = p * row_stride + k * row_dilation
                                column = q * column_stride + m * column_dilation
                                out[n, o, p, q] += x[n, group * group_channels + c, row, column] * w[o, c, k, m]


def _add_dw(dw: Array, dout: Array, x: Array, geometry: Geometry) -> None:
    """One plane: every weight gathers from the pixels that it met, times what became of them."""
    images, filters, out_rows, out_columns = dout.shape
    _, group_channels, kernel_rows, kernel_columns = dw.shape
    _, row_stride, column_stride = geometry.stride
    _, row_dilation, column_dilation = geometry.dilation
    for o in range(filters):
        group = o // (filters // geometry.groups)
        for c in range(group_channels):
            for k in range(kernel_rows):
                for m in range(kernel_columns):
                    for n in range(images):
                        for p in range(out_rows):
                            for q in range(out_columns):
                                row = p * row_stride + k * row_dilation
                                column = q * column_stride + m * column_dilation
                                dw[o, c, k, m] += x[n, group * group_channels + c, row, column] * dout[n, o, p, q]


def _add_dx(dx: Array, dout: Array, w: Array, geometry: Geometry) -> None:
    """One plane, the nine loops: every pixel asks every weight and every output whether they met."""
    images, channels, rows, columns = dx.shape
    _, filters, out_rows, out_columns = dout.shape
    _, group_channels, kernel_rows, kernel_columns = w.shape
    _, row_stride, column_stride = geometry.stride
    _, row_dilation, column_dilation = geometry.dilation
    group_filters = filters // geometry.groups
    for n in range(images):
        for channel in range(channels):
            group, c = divmod(channel, group_channels)
            for row in range(rows):
                for column in range(columns):
                    for o in range(group * group_filters, (group + 1) * group_filters):
                        for k in range(kernel_rows):
                            for m in range(kernel_columns):
                                for p in range(out_rows):
                                    for q in range(out_columns):
                                        if (
                                            row == p * row_stride + k * row_dilation
                                            and column == q * column_stride + m * column_dilation
                                        ):
                                            dx[n, channel, row, column] += w[o, c, k, m] * dout[n, o, p, q]


def _padded(x: Array, geometry: Geometry, **constant: float) -> Array:
    """The volume x with its padding."""
    pairs = ((0, 0), (0, 0), *geometry.padding)
    padded: Array = np.pad(x, pairs, mode=MODES[geometry.padding_mode], **constant)
    return padded


def _folded(dpadded: Array, shape: tuple[int, ...], geometry: Geometry) -> Array:
    """The gradients of the padded pixels, each added to the pixel of x that it repeats.

    Which one that is, padding says itself: the pixels' own numbers, padded, stand where they were repeated.
    """
    dx = np.zeros(shape, dpadded.dtype)
    numbers = np.arange(dx.size).reshape(shape)
    outside = {"constant_values": -1} if geometry.padding_mode == "zeros" else {}
    sources = _padded(_volume(numbers), geometry, **outside)
    for source, gradient in zip(sources.flat, dpadded.flat, strict=True):
        if source >= 0:
            dx.flat[source] += gradient
    return dx


def _volume(array: Array) -> Array:
    """The array with three spatial axes: the missing ones come first and have size 1."""
    return array.reshape(*array.shape[:2], *_triple(array.shape[2:]))


def _triple(values: Sequence[int]) -> Triple:
    first, second, third = (1, 1, *values)[-3:]
    return first, second, third


def _out_shape(x: Array, w: Array, geometry: Geometry) -> tuple[int, ...]:
    return (len(x), len(w), *geometry.out_size[5 - x.ndim :])


def _geometry(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    stride: PerAxis,
    padding: Padding,
    dilation: PerAxis,
    groups: int,
    padding_mode: str,
) -> Geometry:
    """What the options come to; raises ValueError where they have no meaning."""
    x_shape, w_shape = tuple(x_shape), tuple(w_shape)
    if len(x_shape) not in (3, 4, 5) or len(w_shape) != len(x_shape):
        raise ValueError(
            f"x must be (N, C, *S) and w (O, C/groups, *K), both with 1, 2 or 3 spatial axes, "
            f"but their shapes are {x_shape} and {w_shape}."
        )
    if min(x_shape[1:]) < 1 or min(w_shape) < 1:
        raise ValueError(f"Only the batch may be empty, but x has shape {x_shape} and w {w_shape}.")
    channels, filters, axes = x_shape[1], w_shape[0], len(x_shape) - 2
    if groups < 1 or channels % groups or filters % groups:
        raise ValueError(f"groups must divide {channels} channels and {filters} filters, but it is {groups}.")
    if w_shape[1] * groups != channels:
        raise ValueError(f"w must take {channels // groups} channels a group, but it takes {w_shape[1]}.")
    strides, dilations = _per_axis("stride", stride, axes), _per_axis("dilation", dilation, axes)
    if min(strides) < 1 or min(dilations) < 1:
        raise ValueError(f"stride and dilation must be 1 or more, but they are {strides} and {dilations}.")
    pairs = _pairs(padding, axes)
    if padding_mode not in MODES:
        raise ValueError(f"padding_mode must be one of {', '.join(MODES)}, but it is {padding_mode!r}.")

    padded_size, out_size = [], []
    for axis, (size, kernel) in enumerate(zip(x_shape[2:], w_shape[2:], strict=True)):
        low, high = pairs[axis]
        if min(low, high) < 0:
            raise ValueError(f"padding must not be negative, but it is {pairs}.")
        if padding_mode == "reflect" and max(low, high) >= size:
            raise ValueError(f"reflect pads by less than the size {size}, but the padding is {low, high}.")
        if padding_mode == "circular" and max(low, high) > size:
            raise ValueError(f"circular pads by at most the size {size}, but the padding is {low, high}.")
        reach = dilations[axis] * (kernel - 1) + 1
        if size + low + high < reach:
            raise ValueError(f"The kernel spans {reach}, but the padded input only {size + low + high}.")
        padded_size.append(size + low + high)
        out_size.append((size + low + high - reach) // strides[axis] + 1)
    return Geometry(
        _triple(strides),
        _triple(dilations),
        ((0, 0),) * (3 - axes) + pairs,
        groups,
        padding_mode,
        _triple(padded_size),
        _triple(out_size),
    )


def _per_axis(name: str, value: PerAxis, axes: int) -> tuple[int, ...]:
    values = tuple(map(index, value)) if isinstance(value, Sequence) else (index(value),) * axes
    if len(values) != axes:
        raise ValueError(f"{name} must be one int or {axes}, but it is {values}.")
    return values


def _pairs(padding: Padding, axes: int) -> tuple[tuple[int, int], ...]:
    sides: tuple[PerAxis, ...] = tuple(padding) if isinstance(padding, Sequence) else (padding,) * axes
    if len(sides) != axes:
        raise ValueError(f"padding must be one int, {axes} ints or {axes} pairs, but it is {padding}.")
    pairs = []
    for side in sides:
        low, high = _per_axis("each side of padding", side, 2)
        pairs.append((low, high))
    return tuple(pairs)
