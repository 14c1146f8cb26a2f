"""A vectorised NumPy implementation of everything that the contract allows, as a right candidate.

    pytest --impl=benchmarks/candidates/vectorised.py                channels first, every dtype, rank and option
    pytest --impl=benchmarks/candidates/vectorised.py:channels_last  channels last, statistics in place
    pytest --impl=benchmarks/candidates/vectorised.py:output_first   linear with w as (C, D)
    pytest --impl=benchmarks/candidates/vectorised.py:mixed          batch norm's parameters float32 under 16 bits
    pytest --impl=benchmarks/candidates/vectorised.py:fourier        convolution by FFT

It shares no formula with the references: the convolution reads strided windows, its dx is a full correlation of the
dilated dout with the turned kernel, and batch norm folds mean, variance, gamma and beta into one factor and one
summand for each channel. Formats of 16 bits are computed in float32 and rounded at the end.
"""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backproof.reference.axis import NUMPY_MODES

ALL: dict[str, Any] = {
    "dtypes": ("float64", "float32", "float16", "bfloat16"),
    "linear": {"ranks": (2, 3, 4)},
    "conv": {"spatial_dims": (1, 2, 3)},
    "batchnorm": {"spatial_dims": (0, 1, 2, 3), "empty_batch": True},
}


class Linear:
    """Products over one axis."""

    def linear_forward(self, x, w, b=None):
        """Contracts the last axis of x with the first of w."""
        out = np.tensordot(wide(x), wide(w), 1)
        if b is not None:
            out += wide(b)
        return out.astype(x.dtype), (x, w, b)

    def linear_backward(self, dout, cache):
        """Contracts the axes that are left over."""
        x, w, b = cache
        up, leading = wide(dout), tuple(range(x.ndim - 1))
        dx = np.tensordot(up, wide(w), (-1, 1))
        dw = np.tensordot(wide(x), up, (leading, leading))
        return dx.astype(x.dtype), dw.astype(w.dtype), None if b is None else up.sum(leading).astype(b.dtype)


class Conv:
    """Strided windows and their products."""

    def conv_forward(
        self,
        x,
        w,
        b=None,
        *,
        stride: int | tuple[int, ...],
        padding: int | tuple[int, ...] | tuple[tuple[int, int], ...],
        dilation: int | tuple[int, ...],
        groups: int,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"],
    ):
        """Pads x and correlates it with w."""
        axes = x.ndim - 2
        strides, dilations = per_axis(stride, axes), per_axis(dilation, axes)
        pairs = tuple((side, side) if isinstance(side, int) else side for side in per_axis(padding, axes))
        padded = np.pad(wide(x), ((0, 0), (0, 0), *pairs), mode=NUMPY_MODES[padding_mode])
        out = self.correlated(padded, wide(w), strides, dilations, groups)
        if b is not None:
            out = out + wide(b).reshape(-1, *[1] * axes)
        return out.astype(x.dtype), (x, w, b, padded, strides, pairs, dilations, groups, padding_mode)

    def conv_backward(self, dout, cache):
        """The gradients of the padded x and of w, and the padding's gradients handed to the pixels it repeats."""
        x, w, b, padded, strides, pairs, dilations, groups, padding_mode = cache
        up = wide(dout)
        dpadded, dw = self.pulled_back(up, padded, wide(w), strides, dilations, groups)
        dx = dpadded
        for axis, (size, pair) in enumerate(zip(x.shape[2:], pairs, strict=True), 2):
            dx = folded(dx, axis, size, pair, padding_mode)
        db = None if b is None else up.sum((0, *range(2, up.ndim))).astype(b.dtype)
        return dx.astype(x.dtype), dw.astype(w.dtype), db

    def correlated(self, padded, w, strides, dilations, groups):
        """Every window of the padded x with every filter of its group."""
        seen, filters = windows(padded, w.shape[2:], strides, dilations, groups), by_group(w, 0, groups)
        n, g, c, o, pixels, taps = subscripts(len(strides))
        out = np.einsum(seen, [n, g, c, *pixels, *taps], filters, [g, o, c, *taps], [n, g, o, *pixels])
        return out.reshape(len(padded), len(w), *out.shape[3:])

    def pulled_back(self, up, padded, w, strides, dilations, groups):
        """The gradients of the padded x and of w."""
        n, g, c, o, pixels, taps = subscripts(len(strides))
        seen, upstream = windows(padded, w.shape[2:], strides, dilations, groups), by_group(up, 1, groups)
        dw = np.zeros(by_group(w, 0, groups).shape)
        if len(up):  # einsum over no samples was once seen to give NaN
            dw = np.einsum(seen, [n, g, c, *pixels, *taps], upstream, [n, g, o, *pixels], [g, o, c, *taps])
        # dout with stride - 1 zeros between its pixels, and around it what a kernel's reach wants.
        reach = [d * (k - 1) for d, k in zip(dilations, w.shape[2:], strict=True)]
        sizes = [size + r for size, r in zip(padded.shape[2:], reach, strict=True)]
        around = tuple(slice(r, r + (q - 1) * s + 1, s) for r, q, s in zip(reach, up.shape[2:], strides, strict=True))
        dilated = np.zeros((*up.shape[:2], *sizes), up.dtype)
        dilated[(..., *around)] = up
        turned = np.flip(w, tuple(range(2, w.ndim)))
        over = windows(dilated, w.shape[2:], (1,) * len(strides), dilations, groups)
        filters = by_group(turned, 0, groups)
        dx = np.einsum(over, [n, g, o, *pixels, *taps], filters, [g, o, c, *taps], [n, g, c, *pixels])
        return dx.reshape(padded.shape), dw.reshape(w.shape)


class BatchNorm:
    """One factor and one summand for each channel."""

    def batchnorm_forward(self, x, gamma=None, beta=None, *, eps, training, running_mean, running_var, momentum):
        """Every element as x * factor + (beta - mean * factor)."""
        axes, column = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
        values, m = wide(x), x.size // x.shape[1]
        updated = running_mean.copy(), running_var.copy()
        mean, var = wide(running_mean), wide(running_var)
        if training and m:
            weight = values.dtype.type(momentum)
            batch_mean = values.sum(axes) / values.dtype.type(m)
            away = values - batch_mean.reshape(column)
            batch_var = (away * away).sum(axes) / values.dtype.type(m)
            unbiased = batch_var * values.dtype.type(m / max(m - 1, 1))
            updated = (
                (mean + weight * (batch_mean - mean)).astype(running_mean.dtype),
                (var + weight * (unbiased - var)).astype(running_var.dtype),
            )
            mean, var = batch_mean, batch_var
        inverse = 1 / np.sqrt(var + values.dtype.type(eps))
        factor = inverse if gamma is None else wide(gamma) * inverse
        summand = -mean * factor if beta is None else wide(beta) - mean * factor
        out = values * factor.reshape(column) + summand.reshape(column)
        cache = x, gamma, beta, mean, inverse, factor, training and m > 0, axes, column
        return out.astype(x.dtype), cache, *updated

    def batchnorm_backward(self, dout, cache):
        """dx as three parts, each a factor for a channel: of dout, of x - mean, and one for every element."""
        x, gamma, beta, mean, inverse, factor, training, axes, column = cache
        up, away = wide(dout), wide(x) - mean.reshape(column)
        total, product = up.sum(axes), (up * away).sum(axes)
        dx = up * factor.reshape(column)
        if training:
            m = up.dtype.type(x.size // x.shape[1])
            dx -= away * (factor * inverse * inverse * product / m).reshape(column)
            dx -= (factor * total / m).reshape(column)
        return (
            dx.astype(x.dtype),
            None if gamma is None else (product * inverse).astype(gamma.dtype),
            None if beta is None else total.astype(beta.dtype),
        )


class Vectorised(Linear, Conv, BatchNorm):
    """All of it, channels first."""

    CONFORMANCE: ClassVar[dict[str, Any]] = ALL


class ChannelsLast(Conv, BatchNorm):
    """The channels behind the spatial axes; the running statistics are updated in place."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        **ALL,
        "conv": {**ALL["conv"], "layout": "channels_last"},
        "batchnorm": {**ALL["batchnorm"], "layout": "channels_last"},
    }

    def conv_forward(
        self,
        x,
        w,
        b=None,
        *,
        stride: int | tuple[int, ...],
        padding: tuple[tuple[int, int], ...],
        dilation: int | tuple[int, ...],
        groups: int,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"],
    ):
        """The one above between two transpositions."""
        out, cache = super().conv_forward(
            np.moveaxis(x, -1, 1),
            w,
            b,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            padding_mode=padding_mode,
        )
        return np.moveaxis(out, 1, -1), cache

    def conv_backward(self, dout, cache):
        """Likewise."""
        dx, dw, db = super().conv_backward(np.moveaxis(dout, -1, 1), cache)
        return np.moveaxis(dx, 1, -1), dw, db

    def batchnorm_forward(self, x, gamma=None, beta=None, *, eps, training, running_mean, running_var, momentum):
        """Likewise, and the new statistics are written into the arrays that were passed."""
        out, cache, *updated = super().batchnorm_forward(
            np.moveaxis(x, -1, 1),
            gamma,
            beta,
            eps=eps,
            training=training,
            running_mean=running_mean,
            running_var=running_var,
            momentum=momentum,
        )
        running_mean[...], running_var[...] = updated
        return np.moveaxis(out, 1, -1), cache

    def batchnorm_backward(self, dout, cache):
        """Likewise."""
        dx, dgamma, dbeta = super().batchnorm_backward(np.moveaxis(dout, -1, 1), cache)
        return np.moveaxis(dx, 1, -1), dgamma, dbeta


class OutputFirst(Linear):
    """Linear with w as (C, D)."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        **ALL,
        "linear": {**ALL["linear"], "weight": "oi"},
    }

    def linear_forward(self, x, w, b=None):
        """The one above with w transposed."""
        return super().linear_forward(x, w.T, b)

    def linear_backward(self, dout, cache):
        """Likewise."""
        dx, dw, db = super().linear_backward(dout, cache)
        return {"dx": dx, "dw": dw.T, "db": db}


class Mixed(BatchNorm):
    """Batch norm; gamma, beta and the statistics are float32 under a format of 16 bits."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        "dtypes": ("float16", "bfloat16"),
        "batchnorm": {**ALL["batchnorm"], "parameters": "float32"},
    }


class Fourier(Conv):
    """Convolution by FFT: its rounding errors are in proportion to norms, not to single products."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {**ALL, "exact": False}

    def correlated(self, padded, w, strides, dilations, groups):
        """A product of spectra for each filter and channel of its group; every stride-th pixel of what they give."""
        sizes, spread = padded.shape[2:], dilated_kernel(w, dilations)
        pixels, kernel = by_group(spectrum(padded, sizes), 1, groups), by_group(spectrum(spread, sizes), 0, groups)
        out = signal(np.einsum("ngc...,goc...->ngo...", pixels, kernel.conj()), sizes)
        valid = tuple(slice(0, size - k + 1, s) for size, k, s in zip(sizes, spread.shape[2:], strides, strict=True))
        out = out[(..., *valid)]
        return np.ascontiguousarray(out).reshape(len(padded), len(w), *out.shape[3:])

    def pulled_back(self, up, padded, w, strides, dilations, groups):
        """dx is a convolution with the kernel, dw a correlation of x and dout; no window wraps around."""
        sizes, spread = padded.shape[2:], dilated_kernel(w, dilations)
        dilated = np.zeros(
            (*up.shape[:2], *[(q - 1) * s + 1 for q, s in zip(up.shape[2:], strides, strict=True)]), up.dtype
        )
        dilated[(..., *[slice(None, None, s) for s in strides])] = up
        pixels, kernel = by_group(spectrum(padded, sizes), 1, groups), by_group(spectrum(spread, sizes), 0, groups)
        upstream = by_group(spectrum(dilated, sizes), 1, groups)
        dx = signal(np.einsum("ngo...,goc...->ngc...", upstream, kernel), sizes)
        dw = signal(np.einsum("ngc...,ngo...->goc...", pixels, upstream.conj()), sizes)
        taps = tuple(slice(0, d * (k - 1) + 1, d) for d, k in zip(dilations, w.shape[2:], strict=True))
        return dx.reshape(padded.shape), dw[(..., *taps)].reshape(w.shape)


def wide(a):
    """The array in the format that it is computed in: its own, float32 for those of 16 bits."""
    return a if a.dtype in (np.float32, np.float64) else a.astype(np.float32)


def per_axis(value, axes):
    """One value for each axis."""
    return (value,) * axes if isinstance(value, int) else value


def by_group(a, axis, groups):
    """The axis of filters or channels as two: the group, and the place in it."""
    return a.reshape(*a.shape[:axis], groups, a.shape[axis] // groups, *a.shape[axis + 1 :])


def subscripts(axes):
    """einsum's numbers for batch, group, channel, filter, and for each axis the pixel and the tap."""
    return 0, 1, 2, 3, list(range(4, 4 + axes)), list(range(4 + axes, 4 + 2 * axes))


def windows(a, kernel, strides, dilations, groups):
    """A view (N, groups, channels of a group, *outputs, *taps) of a C-contiguous array."""
    n, channels = a.shape[:2]
    outputs = [
        (size - d * (k - 1) - 1) // s + 1 for size, k, s, d in zip(a.shape[2:], kernel, strides, dilations, strict=True)
    ]
    batch, channel, *pixel = a.strides
    return as_strided(
        a,
        (n, groups, channels // groups, *outputs, *kernel),
        (
            batch,
            channel * (channels // groups),
            channel,
            *[step * s for step, s in zip(pixel, strides, strict=True)],
            *[step * d for step, d in zip(pixel, dilations, strict=True)],
        ),
        writeable=False,
    )


def folded(dpadded, axis, size, pair, padding_mode):
    """Every padded line's gradient added to that of the line which it repeats, along one axis."""
    if padding_mode == "zeros":
        low, _ = pair
        return dpadded[(slice(None),) * axis + (slice(low, low + size),)]
    sources = np.pad(np.arange(size), pair, mode=NUMPY_MODES[padding_mode])
    lines = np.zeros((size, *np.delete(dpadded.shape, axis)), dpadded.dtype)
    np.add.at(lines, sources, np.moveaxis(dpadded, axis, 0))
    return np.moveaxis(lines, 0, axis)


def dilated_kernel(w, dilations):
    """The kernel with dilation - 1 zeros between its taps."""
    sizes = [d * (k - 1) + 1 for d, k in zip(dilations, w.shape[2:], strict=True)]
    spread = np.zeros((*w.shape[:2], *sizes), w.dtype)
    spread[(..., *[slice(None, None, d) for d in dilations])] = w
    return spread


def spectrum(a, sizes):
    """The Fourier transform over the spatial axes, zeros added to these sizes."""
    if not prod(a.shape):
        return np.zeros((*a.shape[:2], *sizes[:-1], sizes[-1] // 2 + 1), np.result_type(a.dtype, np.complex64))
    return np.fft.rfftn(a, sizes, tuple(range(2, a.ndim)))


def signal(a, sizes):
    """The array whose spectrum it is, in the format that it came from."""
    real = np.float32 if a.dtype == np.complex64 else np.float64
    if not prod(a.shape):
        return np.zeros((*a.shape[:3], *sizes), real)
    return np.fft.irfftn(a, sizes, tuple(range(3, a.ndim))).astype(real, copy=False)


_FIRST = Vectorised()
CONFORMANCE = ALL
linear_forward, linear_backward = _FIRST.linear_forward, _FIRST.linear_backward
conv_forward, conv_backward = _FIRST.conv_forward, _FIRST.conv_backward
batchnorm_forward, batchnorm_backward = _FIRST.batchnorm_forward, _FIRST.batchnorm_backward
channels_last, output_first, mixed, fourier = ChannelsLast(), OutputFirst(), Mixed(), Fourier()
