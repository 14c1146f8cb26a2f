"""A vectorised NumPy implementation with the full geometry, as a candidate: stride tricks and products."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

CONFORMANCE = {
    "dtypes": ("float64", "float32"),
    "conv": {"spatial_dims": (1, 2)},
    "batchnorm": {"spatial_dims": (0, 2)},
}


def linear_forward(x, w, b):
    return x @ w + b, (x, w)


def linear_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(0)


def conv_forward(
    x, w, b, stride: tuple[int, ...], padding: tuple[tuple[int, int], ...], dilation: tuple[int, ...], groups: int
):
    padded = np.pad(x, ((0, 0), (0, 0), *padding))
    span = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
    spatial = tuple(range(2, x.ndim))
    steps = tuple(slice(None, None, s) for s in stride)
    taps = tuple(slice(None, None, d) for d in dilation)
    windows = sliding_window_view(padded, span, spatial)[(slice(None), slice(None), *steps, *taps)]
    pixels, kernel = windows.shape[2 : x.ndim], w.shape[2:]
    channels, rows, count = x.shape[1] // groups, len(x) * np.prod(pixels), np.prod(kernel)
    columns = windows.reshape(len(x), groups, channels, np.prod(pixels), count)
    columns = columns.transpose(1, 2, 4, 0, 3).reshape(groups, channels * count, rows)
    filters = w.reshape(groups, len(w) // groups, -1)
    out = (filters @ columns).reshape(len(w), len(x), *pixels).swapaxes(0, 1)
    out = np.ascontiguousarray(out) + b.reshape(-1, *[1] * len(pixels))
    return out, (x, w, columns, padded.shape, stride, padding, dilation, groups)


def conv_backward(dout, cache):
    x, w, columns, padded_shape, stride, padding, dilation, groups = cache
    upstream = dout.swapaxes(0, 1).reshape(groups, len(w) // groups, columns.shape[2])
    dw = (upstream @ columns.swapaxes(1, 2)).reshape(w.shape)
    filters = w.reshape(groups, len(w) // groups, -1)
    back = filters.swapaxes(1, 2) @ upstream
    back = back.reshape(x.shape[1], *w.shape[2:], len(x), *dout.shape[2:])
    padded = np.zeros((padded_shape[1], padded_shape[0], *padded_shape[2:]), x.dtype)
    for tap in np.ndindex(*w.shape[2:]):
        where = tuple(
            slice(t * d, t * d + (q - 1) * s + 1, s)
            for t, d, q, s in zip(tap, dilation, dout.shape[2:], stride, strict=True)
        )
        padded[(slice(None), slice(None), *where)] += back[(slice(None), *tap)]
    inner = tuple(slice(low, low + size) for (low, _), size in zip(padding, x.shape[2:], strict=True))
    dx = padded[(slice(None), slice(None), *inner)].swapaxes(0, 1)
    return np.ascontiguousarray(dx), dw, dout.sum((0, *range(2, dout.ndim)))


def batchnorm_forward(x, gamma, beta, eps, training, running_mean, running_var, momentum):
    axes, column = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    m = x.size // x.shape[1]
    mean, var = (x.mean(axes), x.var(axes)) if training else (running_mean, running_var)
    std = np.sqrt(var + x.dtype.type(eps)).reshape(column)
    xhat = (x - mean.reshape(column)) / std
    if training:
        share = x.dtype.type(momentum)
        running_mean = (1 - share) * running_mean + share * mean
        running_var = (1 - share) * running_var + share * var * x.dtype.type(m / max(m - 1, 1))
    out = gamma.reshape(column) * xhat + beta.reshape(column)
    return out, (xhat, gamma, std, training, m), running_mean, running_var


def batchnorm_backward(dout, cache):
    xhat, gamma, std, training, m = cache
    axes, column = (0, *range(2, dout.ndim)), (-1, *[1] * (dout.ndim - 2))
    dgamma, dbeta = (dout * xhat).sum(axes), dout.sum(axes)
    dx = dout
    if training:
        dx = dout - (dbeta.reshape(column) + xhat * dgamma.reshape(column)) / dout.dtype.type(m)
    return gamma.reshape(column) / std * dx, dgamma, dbeta
