"""Right adapters in every convention that the contract allows, on top of one vectorised implementation."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from candidates import im2col


class OutputFirst:
    """Linear with w as (C, D), any number of leading axes, gradients by name, two dtypes."""

    CONFORMANCE = {"linear": {"weight": "oi", "ranks": [2, 3, 4]}, "dtypes": ["float32", "float64"]}

    def linear_forward(self, x, w, b=None):
        out = x @ w.T
        return (out if b is None else out + b), (x, w, b)

    def linear_backward(self, dout, cache):
        x, w, b = cache
        rows = dout.reshape(-1, dout.shape[-1])
        gradients = {"dx": dout @ w, "dw": rows.T @ x.reshape(-1, x.shape[-1])}
        return gradients if b is None else {**gradients, "db": rows.sum(0)}


class NoBias:
    """A linear layer without a bias, with a None for the bias that it does not have."""

    def linear_forward(self, x, w):
        return x @ w, (x, w)

    def linear_backward(self, dout, cache):
        x, w = cache
        return [dout @ w.T, x.T @ dout, None]


class Consumed:
    """A cache that serves one backward."""

    CONFORMANCE = {"reusable_cache": False}

    def linear_forward(self, x, w, b):
        return x @ w + b, [x, w]

    def linear_backward(self, dout, cache):
        w, x = cache.pop(), cache.pop()
        return dout @ w.T, x.T @ dout, dout.sum(0)


class Layered:
    """A layer object made in each forward, its own cache."""

    class Layer:
        def __init__(self, x, w):
            self.x, self.w = x, w

    def linear_forward(self, x, w, b):
        return x @ w + b, self.Layer(x, w)

    def linear_backward(self, dout, layer):
        return dout @ layer.w.T, layer.x.T @ dout, dout.sum(0)


class ChannelsLast:
    """Channels last, one int for stride and padding, the old momentum, the biased variance, statistics in place."""

    CONFORMANCE = {
        "conv": {"layout": "channels_last", "spatial_dims": (1, 2, 3)},
        "batchnorm": {
            "layout": "channels_last",
            "momentum": "old",
            "running_var": "biased",
            "spatial_dims": (0, 1, 2, 3),
        },
    }

    def conv_forward(self, x, w, b, stride: int, padding: int):
        dims = x.ndim - 2
        first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
        ones = (1,) * dims
        out, cache = im2col.conv_forward(first, w, b, (stride,) * dims, ((padding,) * 2,) * dims, ones, 1)
        return np.moveaxis(out, 1, -1), cache

    def conv_backward(self, dout, cache):
        dx, dw, db = im2col.conv_backward(np.ascontiguousarray(np.moveaxis(dout, -1, 1)), cache)
        return np.moveaxis(dx, 1, -1), dw, db

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        first = np.moveaxis(x, -1, 1)
        axes = (0, *range(2, x.ndim))
        out, cache, *_ = im2col.batchnorm_forward(
            first, gamma, beta, eps, training, running_mean.copy(), running_var.copy(), 0.5
        )
        if training:
            for statistic, new in ((running_mean, first.mean(axes)), (running_var, first.var(axes))):
                statistic *= momentum
                statistic += (1 - momentum) * new
        return np.moveaxis(out, 1, -1), cache

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = im2col.batchnorm_backward(np.moveaxis(dout, -1, 1), cache)
        return np.moveaxis(dx, 1, -1), dgamma, dbeta


class Unions:
    """Options in several forms, a limited set of padding modes, a dilation that may be None by its annotation."""

    CONFORMANCE = {"conv": {"spatial_dims": (1, 2)}}

    def conv_forward(
        self,
        x,
        w,
        b,
        stride: int | tuple[int, ...],
        padding: int | tuple[int, ...] | tuple[tuple[int, int], ...],
        dilation: int | None,
        padding_mode: Literal["zeros", "circular"],
    ):
        dims = x.ndim - 2
        assert type(dilation) is int
        stride = (stride,) * dims if isinstance(stride, int) else stride
        sides = (padding,) * dims if isinstance(padding, int) else padding
        sides = tuple((side, side) if isinstance(side, int) else side for side in sides)
        mode = {"zeros": "constant", "circular": "wrap"}[padding_mode]
        padded = np.pad(x, ((0, 0), (0, 0), *sides), mode=mode)
        none = ((0, 0),) * dims
        out, cache = im2col.conv_forward(padded, w, b, stride, none, (dilation,) * dims, 1)
        return out, (cache, x.shape, sides, padding_mode)

    def conv_backward(self, dout, cache):
        inner, shape, sides, padding_mode = cache
        dx, dw, db = im2col.conv_backward(dout, inner)
        for axis, (low, _) in enumerate(sides, 2):
            folded = np.zeros((*dx.shape[:axis], shape[axis], *dx.shape[axis + 1 :]), dx.dtype)
            for k in range(dx.shape[axis]):
                to = (k - low) % shape[axis] if padding_mode == "circular" else k - low
                if 0 <= to < shape[axis]:
                    before = (slice(None),) * axis
                    folded[(*before, to)] += dx[(*before, k)]
            dx = folded
        return dx, dw, db


class Star:
    """All arrays and all options as they come; every padding mode but zeros is refused."""

    def conv_forward(self, *arrays, **options):
        if options.pop("padding_mode") != "zeros":
            raise NotImplementedError("padding modes")
        padding = tuple((side, side) for side in options.pop("padding"))
        return im2col.conv_forward(*arrays, padding=padding, **options)

    def conv_backward(self, dout, cache):
        return im2col.conv_backward(dout, cache)


class Plain:
    """Batch norm without parameters, with an eps of its own, without running statistics."""

    CONFORMANCE = {"batchnorm": {"eps": 1e-3, "empty_batch": False}}

    def batchnorm_forward(self, x):
        std = np.sqrt(x.var(0) + 1e-3)
        return (x - x.mean(0)) / std, ((x - x.mean(0)) / std, std)

    def batchnorm_backward(self, dout, cache):
        xhat, std = cache
        return ((dout - dout.mean(0) - xhat * (dout * xhat).mean(0)) / std,)


class TrainingOnly:
    """Running statistics, but no eval."""

    def batchnorm_forward(self, x, gamma, beta, eps, running_mean, running_var, momentum):
        return im2col.batchnorm_forward(x, gamma, beta, eps, True, running_mean, running_var, momentum)

    def batchnorm_backward(self, dout, cache):
        return im2col.batchnorm_backward(dout, cache)


class FixedMomentum:
    """A momentum that is no parameter."""

    CONFORMANCE = {"batchnorm": {"fixed_momentum": 0.3, "spatial_dims": (0, 2)}}

    def batchnorm_forward(self, x, gamma, beta, training, running_mean, running_var):
        return im2col.batchnorm_forward(x, gamma, beta, 1e-5, training, running_mean, running_var, 0.3)

    def batchnorm_backward(self, dout, cache):
        return im2col.batchnorm_backward(dout, cache)


class Rounded:
    """Linear and batch norm in the formats of 16 bits: computed in float32 and rounded."""

    CONFORMANCE = {"dtypes": ("float16", "bfloat16"), "batchnorm": {"parameters": "float32", "spatial_dims": (0, 2)}}

    def linear_forward(self, x, w, b):
        wide = [a.astype(np.float32) for a in (x, w, b)]
        return (wide[0] @ wide[1] + wide[2]).astype(x.dtype), (wide, x.dtype)

    def linear_backward(self, dout, cache):
        (x, w, _), dtype = cache
        up = dout.astype(np.float32)
        return [a.astype(dtype) for a in (up @ w.T, x.T @ up, up.sum(0))]

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        out, cache, mean, var = im2col.batchnorm_forward(
            x.astype(np.float32), gamma, beta, eps, training, running_mean, running_var, momentum
        )
        return out.astype(x.dtype), (cache, x.dtype), mean, var

    def batchnorm_backward(self, dout, cache):
        inner, dtype = cache
        dx, dgamma, dbeta = im2col.batchnorm_backward(dout.astype(np.float32), inner)
        return dx.astype(dtype), dgamma, dbeta


RIGHT = (
    OutputFirst,
    NoBias,
    Consumed,
    Layered,
    ChannelsLast,
    Unions,
    Star,
    Plain,
    TrainingOnly,
    FixedMomentum,
    Rounded,
)


def declared(adapter: type, **constant: Any) -> type:
    """The same adapter with another constant: a convention declared that it does not have."""
    return type(
        f"Not{adapter.__name__}", (adapter,), {"CONFORMANCE": {**getattr(adapter, "CONFORMANCE", {}), **constant}}
    )


#: Right code under a wrong declaration, and the items that say so.
WRONG = {
    "weight io": (declared(OutputFirst, linear={}), "out"),
    "channels first": (declared(ChannelsLast, conv={}), "out"),
    "momentum new": (declared(ChannelsLast, batchnorm={"running_var": "biased"}), "running_mean"),
    "unbiased": (declared(ChannelsLast, batchnorm={"momentum": "old"}), "running_var"),
    "eps": (declared(Plain, batchnorm={"eps": 1e-5}), "dx"),
    "fixed momentum": (declared(FixedMomentum, batchnorm={}), "running_mean"),
    "parameters same": (declared(Rounded, batchnorm={}), "running_mean"),
    "float64": (declared(Rounded, dtypes=["float64"]), "out"),
}
