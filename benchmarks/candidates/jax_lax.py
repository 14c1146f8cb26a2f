"""JAX as a right candidate: lax's convolution, jnp's products and means, jax.vjp for every gradient.

    pytest --impl=benchmarks/candidates/jax_lax.py

Formats of 16 bits are computed in float32 and rounded at the end. JAX compiles for each new shape, so a run takes
minutes.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from backproof.reference.axis import NUMPY_MODES

jax.config.update("jax_enable_x64", True)

CONFORMANCE = {
    "dtypes": ("float64", "float32", "float16", "bfloat16"),
    "linear": {"ranks": (2, 3, 4)},
    "conv": {"spatial_dims": (1, 2, 3)},
    "batchnorm": {"spatial_dims": (0, 1, 2, 3)},
}

from_numpy = jnp.array  # copies: JAX takes its arrays for immutable
to_numpy = np.asarray


def linear_forward(x, w, b=None):
    return called(linear, (x, w, b))


def conv_forward(
    x,
    w,
    b=None,
    *,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"],
):
    return called(conv, (x, w, b), (), (stride, padding, dilation, groups, padding_mode))


def batchnorm_forward(x, gamma=None, beta=None, *, eps, training, running_mean, running_var, momentum):
    if not training:
        return (*called(eval_norm, (x, gamma, beta), (eps, running_mean, running_var)), running_mean, running_var)
    out, cache = called(training_norm, (x, gamma, beta), (eps,))
    return out, cache, *updated(x, running_mean, running_var, momentum)


def linear_backward(dout, cache):
    function, arrays, constants, options = cache
    return pulled_back(function, options, arrays, constants, dout)


conv_backward = batchnorm_backward = linear_backward


def called(function, arrays, constants=(), options=()):
    """The function's value, and what its pullback needs."""
    return value(function, options, arrays, constants), (function, arrays, constants, options)


@partial(jax.jit, static_argnums=(0, 1))
def value(function, options, arrays, constants):
    return function(arrays, constants, *options)


@partial(jax.jit, static_argnums=(0, 1))
def pulled_back(function, options, arrays, constants, dout):
    """The gradients of the arrays; the constants have none."""
    _, pullback = jax.vjp(lambda arrays: function(arrays, constants, *options), arrays)
    return pullback(dout)[0]


def linear(arrays, _):
    x, w, b = map(wide, arrays)
    out = x @ w
    return (out if b is None else out + b).astype(arrays[0].dtype)


def conv(arrays, _, stride, padding, dilation, groups, padding_mode):
    x, w, b = map(wide, arrays)
    if padding_mode != "zeros":
        x, padding = jnp.pad(x, ((0, 0), (0, 0), *padding), NUMPY_MODES[padding_mode]), ((0, 0),) * len(padding)
    out = lax.conv_general_dilated(x, w, stride, padding, None, dilation, feature_group_count=groups)
    if b is not None:
        out = out + b.reshape(-1, *[1] * len(padding))
    return out.astype(arrays[0].dtype)


def training_norm(arrays, constants):
    x = wide(arrays[0])
    mean, var = statistics(x)
    return normalised(x, mean, var, constants[0], arrays)


def eval_norm(arrays, constants):
    eps, mean, var = constants
    return normalised(wide(arrays[0]), wide(mean), wide(var), eps, arrays)


def normalised(x, mean, var, eps, arrays):
    column = (-1, *[1] * (x.ndim - 2))
    out = (x - mean.reshape(column)) * lax.rsqrt(var + eps).reshape(column)
    _, gamma, beta = arrays
    if gamma is not None:
        out = out * wide(gamma).reshape(column)
    if beta is not None:
        out = out + wide(beta).reshape(column)
    return out.astype(arrays[0].dtype)


@jax.jit
def updated(x, running_mean, running_var, momentum):
    """The running statistics after this batch, the variance the unbiased one."""
    mean, var = statistics(wide(x))
    m = x.size // x.shape[1]
    unbiased = var * (m / max(m - 1, 1))
    new = (
        (1 - momentum) * wide(running_mean) + momentum * mean,
        (1 - momentum) * wide(running_var) + momentum * unbiased,
    )
    return new[0].astype(running_mean.dtype), new[1].astype(running_var.dtype)


def statistics(x):
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes)


def wide(a):
    """The array in the format that it is computed in: its own, float32 for those of 16 bits."""
    return a.astype(jnp.float32) if a is not None and a.dtype.itemsize < 4 else a
