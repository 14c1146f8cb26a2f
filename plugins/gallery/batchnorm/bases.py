"""Right batch norms, for the faulty ones to change in one place."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np


class Cache(NamedTuple):
    """What the backward needs; a row for each element of a channel."""

    rows: Any
    mean: Any
    var: Any
    scale: Any
    xhat: Any
    gamma: Any
    beta: Any
    eps: float
    training: bool


class BatchNorm:
    """Right, with every option; each step is a method that a fault may change."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"batchnorm": {"spatial_dims": (0,)}}

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        return self.forward(x, gamma, beta, eps, training, running_mean, running_var, momentum)

    def forward(self, x, gamma, beta, eps=1e-5, training=True, running_mean=None, running_var=None, momentum=0.1):
        rows = self.rows(x)
        mean, var = self.statistics(rows) if training else (running_mean, running_var)
        scale = self.scale(var, eps, training)
        xhat = (rows - mean) * scale
        cache = Cache(rows, mean, var, scale, xhat, gamma, beta, eps, training)
        out = self.images(self.affine(xhat, gamma, beta), x.shape)
        if running_mean is None:
            return out, cache
        return out, cache, *self.tracked(running_mean, running_var, mean, var, momentum, len(rows), training)

    def statistics(self, rows):
        return rows.mean(axis=0), rows.var(axis=0)

    def scale(self, var, eps, training):
        return 1 / np.sqrt(var + eps)

    def affine(self, xhat, gamma, beta):
        return gamma * xhat + beta

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        if not training:
            return running_mean, running_var
        new_mean = (1 - momentum) * running_mean + momentum * mean
        return new_mean, (1 - momentum) * running_var + momentum * self.bessel(m) * var

    def bessel(self, m):
        """What makes a variance over m elements one over m - 1."""
        return m / max(m - 1, 1)

    def batchnorm_backward(self, dout, cache):
        upstream = self.rows(dout)
        dgamma, dbeta = (upstream * cache.xhat).sum(axis=0), upstream.sum(axis=0)
        return self.images(self.dx(upstream, dgamma, dbeta, cache), dout.shape), dgamma, dbeta

    def dx(self, upstream, dgamma, dbeta, cache):
        m = len(upstream)
        through = (dbeta + cache.xhat * dgamma) / m if cache.training else 0
        return cache.gamma * cache.scale * (upstream - through)

    def rows(self, x):
        return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])

    def images(self, rows, shape):
        return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


class Plain(BatchNorm):
    """Right, without options."""

    def batchnorm_forward(self, x, gamma, beta):
        return self.forward(x, gamma, beta)


class Imaged(Plain):
    """Right, without options, for images too."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"batchnorm": {"spatial_dims": (0, 2)}}


class Ranked(Plain):
    """Right, without options, for signals and images too."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"batchnorm": {"spatial_dims": (0, 1, 2)}}


class Pictured(BatchNorm):
    """Right, with every option, for images."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"batchnorm": {"spatial_dims": (2,)}}


class ChannelsLast(BatchNorm):
    """Right, with every option, for images with the channels behind the pixels."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"batchnorm": {"spatial_dims": (2,), "layout": "channels_last"}}

    def rows(self, x):
        return x.reshape(-1, x.shape[-1])

    def images(self, rows, shape):
        return rows.reshape(shape)


class Softened(BatchNorm):
    """Right, with eps."""

    def batchnorm_forward(self, x, gamma, beta, eps):
        return self.forward(x, gamma, beta, eps)


class Checked(Softened):
    """Right, with eps, and raises where a case has no meaning."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"rejects": True, "batchnorm": {"spatial_dims": (0,)}}

    def batchnorm_forward(self, x, gamma, beta, eps):
        self.check_eps(eps)
        if x.shape[1] < 1:
            raise ValueError("x has no channels")
        return self.forward(x, gamma, beta, eps)

    def batchnorm_backward(self, dout, cache):
        return super().batchnorm_backward(self.checked(dout, cache), cache)

    def check_eps(self, eps):
        if eps <= 0:
            raise ValueError("eps must be positive")

    def checked(self, dout, cache):
        if dout.shape != cache.rows.shape:
            raise ValueError("dout must have the shape of out")
        return dout


class Switched(BatchNorm):
    """Right, with eps, in training and in eval."""

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var):
        return self.forward(x, gamma, beta, eps, training, running_mean, running_var)


class Bare(BatchNorm):
    """Right, with or without gamma."""

    def batchnorm_forward(self, x, gamma=None):
        ones = np.ones(x.shape[1]) if gamma is None else gamma
        out, cache = self.forward(x, ones, 0)
        return out, cache._replace(gamma=gamma)

    def batchnorm_backward(self, dout, cache):
        if cache.gamma is None:
            return super().batchnorm_backward(dout, cache._replace(gamma=1))[0], None
        return super().batchnorm_backward(dout, cache)[:2]


class Affine(BatchNorm):
    """Right, with or without gamma and beta."""

    def batchnorm_forward(self, x, gamma=None, beta=None):
        out, cache = self.forward(x, self.factor(gamma), self.shift(beta))
        return out, cache._replace(gamma=gamma, beta=beta)

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache._replace(gamma=self.factor(cache.gamma)))
        return dx, None if cache.gamma is None else dgamma, None if cache.beta is None else dbeta

    def factor(self, gamma):
        return 1 if gamma is None else gamma

    def shift(self, beta):
        return 0 if beta is None else beta


class Measured(BatchNorm):
    """Right, in float32."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": ("float32",), "batchnorm": {"spatial_dims": (0,)}}


class Emptied(BatchNorm):
    """Right, asked for an empty batch too: the statistics stay as they were."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"batchnorm": {"spatial_dims": (0,), "empty_batch": True}}

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        training = training and m > 0
        return super().tracked(running_mean, running_var, mean, var, momentum, m, training)


class Rounded(BatchNorm):
    """Right, computed in float32 and rounded; the parameters stay float32."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        "dtypes": ("bfloat16", "float32"),
        "batchnorm": {"spatial_dims": (0,), "parameters": "float32"},
    }

    def forward(self, x, *others):
        out, *rest = super().forward(x.astype(np.float32), *others)
        return out.astype(x.dtype), *rest

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout.astype(np.float32), cache)
        return dx.astype(dout.dtype), dgamma, dbeta


class Packed(BatchNorm):
    """Right, computed in float32 and rounded to float16, with parameters and statistics in float16 too."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": ("float16",), "batchnorm": {"spatial_dims": (0,)}}

    def forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        x, gamma, beta, mean, var = (a.astype(np.float32) for a in (x, gamma, beta, running_mean, running_var))
        out, cache, mean, var = super().forward(x, gamma, beta, eps, training, mean, var, momentum)
        return out.astype(np.float16), cache, mean.astype(np.float16), var.astype(np.float16)

    def batchnorm_backward(self, dout, cache):
        return [a.astype(np.float16) for a in super().batchnorm_backward(dout.astype(np.float32), cache)]


class Halved(Rounded):
    """Right, computed in float32 and rounded to float16; the parameters stay float32."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        "dtypes": ("float16",),
        "batchnorm": {"spatial_dims": (0,), "parameters": "float32"},
    }
