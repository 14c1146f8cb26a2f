"""Three layers by hand, in NumPy: a model for an adapter of your own.

pytest --impl=examples/right.py
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

CONFORMANCE = {"dtypes": ("float64", "float32"), "batchnorm": {"spatial_dims": (0, 2)}}


def linear_forward(x, w, b):
    """Every row of x times w, plus b."""
    return x @ w + b, (x, w)


def linear_backward(dout, cache):
    """The gradients of x, w and b."""
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)


def conv_forward(x, w, b, stride: int, padding: int):
    """Every window of x, zeros around it, times every filter."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, w.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    out = np.einsum("nchwij,ocij->nohw", windows, w) + b[:, None, None]
    return out, (x, w, windows, padded.shape, stride, padding)


def conv_backward(dout, cache):
    """The gradients of x, w and b: each tap of the kernel hands dout back to the pixels that it read."""
    x, w, windows, padded_shape, stride, padding = cache
    height, width = dout.shape[2:]
    dpadded = np.zeros(padded_shape, x.dtype)
    for i, j in np.ndindex(w.shape[2:]):
        rows, columns = slice(i, i + height * stride, stride), slice(j, j + width * stride, stride)
        dpadded[:, :, rows, columns] += np.einsum("nohw,oc->nchw", dout, w[:, :, i, j])
    dx = dpadded[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    return dx, np.einsum("nohw,nchwij->ocij", dout, windows), dout.sum(axis=(0, 2, 3))


def batchnorm_forward(x, gamma, beta, eps, training, running_mean, running_var, momentum):
    """Each channel to mean 0 and variance 1, by the batch's statistics or the running ones."""
    axes, column, m = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2)), x.size // x.shape[1]
    mean, var = (x.mean(axes), x.var(axes)) if training else (running_mean, running_var)
    if training:
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * m / max(m - 1, 1)
    std = np.sqrt(var + eps).reshape(column)
    xhat = (x - mean.reshape(column)) / std
    out = gamma.reshape(column) * xhat + beta.reshape(column)
    return out, (xhat, gamma, std, training), running_mean, running_var


def batchnorm_backward(dout, cache):
    """The gradients of x, gamma and beta; the running statistics are constants."""
    xhat, gamma, std, training = cache
    axes, column, m = (0, *range(2, dout.ndim)), std.shape, dout.size // dout.shape[1]
    dgamma, dbeta = (dout * xhat).sum(axes), dout.sum(axes)
    dx = dout
    if training:
        dx = dout - (dbeta.reshape(column) + xhat * dgamma.reshape(column)) / m
    return gamma.reshape(column) / std * dx, dgamma, dbeta
