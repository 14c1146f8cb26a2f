"""Batch norms whose fault shows under one condition."""

from __future__ import annotations

from math import prod
from typing import ClassVar

import numpy as np

from ..faults.batchnorm import Bare, BatchNorm, Cache
from . import SCATTERED, lies, reveals, shape
from .memory import buffer_of, is_scattered


class Measured(BatchNorm):
    """Right, in float32."""

    CONFORMANCE: ClassVar = {"dtypes": ("float32",), "batchnorm": {"spatial_dims": (0,)}}

    def forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        mean, var = self.statistics(x) if training else (running_mean, running_var)
        scale = self.scale(var, eps, training)
        xhat = (x - mean) * scale
        cache = Cache(x, mean, var, scale, xhat, gamma, beta, eps, training)
        tracked = self.tracked(running_mean, running_var, mean, var, momentum, len(x), training)
        return gamma * xhat + beta, cache, *tracked

    def statistics(self, x):
        return x.mean(axis=0), x.var(axis=0)


class Emptied(BatchNorm):
    """Right, asked for an empty batch too: the statistics stay as they were."""

    CONFORMANCE: ClassVar = {"batchnorm": {"spatial_dims": (0,), "empty_batch": True}}

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        training = training and m > 0
        return super().tracked(running_mean, running_var, mean, var, momentum, m, training)


class Rounded(BatchNorm):
    """Right, computed in float32 and rounded; the parameters stay float32."""

    CONFORMANCE: ClassVar = {
        "dtypes": ("bfloat16", "float32"),
        "batchnorm": {"spatial_dims": (0,), "parameters": "float32"},
    }

    def forward(self, x, *others):
        out, *rest = super().forward(x.astype(np.float32), *others)
        return out.astype(x.dtype), *rest

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout.astype(np.float32), cache)
        return dx.astype(dout.dtype), dgamma, dbeta


@reveals("EVAL", "eval", lambda case: not case.options["training"], "dx", "H111")
class differentiates_eval_as_training(BatchNorm):
    """dx in eval goes through the batch's mean and variance too."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(training=True))


@reveals("RS", "momentum != 0.1", lambda case: case.options["momentum"] != 0.1, "running_mean running_var", "M68")
class ignores_the_momentum(BatchNorm):
    """The running statistics move by a tenth, whatever the momentum."""

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        return super().tracked(running_mean, running_var, mean, var, 0.1, m, training)


@reveals("EPS", "eps < 1e-5", lambda case: case.options["eps"] < 1e-5, "out dx dgamma", "H121")
class keeps_eps_from_being_small(BatchNorm):
    """An eps below 1e-5 is taken for 1e-5."""

    def scale(self, var, eps, training):
        return super().scale(var, max(eps, 1e-5), training)


def constant(case):
    """Whether a channel has no variance."""
    if case.options["training"]:
        return bool((np.ptp(case.array("x"), axis=0) == 0).any())
    return bool((case.array("running_var") == 0).any())


@reveals("ZV", "a channel without variance", constant, "out dx dgamma", "own")
class does_not_scale_without_variance(BatchNorm):
    """Where the variance is 0 the scale is 0 too, to be safe from a division by zero that eps rules out."""

    def scale(self, var, eps, training):
        return np.where(var > 0, super().scale(var, eps, training), 0)


@reveals("N1", "one element a channel", lambda case: prod(shape(case, "x")[:1]) == 1, "edges", "M69")
class fails_on_one_element(BatchNorm):
    """The factor m / (m - 1) of the running variance is a division by zero for one element a channel."""

    def bessel(self, m):
        return m / (m - 1)


@reveals("N0", "an empty batch", lambda case: 0 in shape(case, "x"), "edges", "H129")
class averages_over_no_samples(Emptied):
    """The running statistics are moved by the mean of nothing, which is not a number."""

    def tracked(self, *statistics):
        return BatchNorm.tracked(self, *statistics)


@reveals("AFF", "no gamma", lambda case: case.arrays["gamma"] is None, "dx", "H151")
class cannot_do_without_gamma(Bare):
    """The backward multiplies by gamma where there is none."""

    def batchnorm_backward(self, dout, cache):
        return BatchNorm.batchnorm_backward(self, dout, cache)[:2]


@reveals("NCX", "x is not contiguous", lies("x", *SCATTERED), "memory_layout", "M49")
class reads_the_buffer_of_x(BatchNorm):
    """The strides of x are ignored: its numbers are read as they lie in memory."""

    def forward(self, x, *others):
        return super().forward(buffer_of(x) if is_scattered(x) else x, *others)


@reveals(
    "MX",
    "parameters of another dtype than x",
    lambda case: case.arrays["gamma"].dtype != case.arrays["x"].dtype,
    "dgamma dbeta",
    "M11",
)
class casts_the_gradients_to_the_dtype_of_x(Rounded):
    """dgamma and dbeta have the dtype of dout instead of the parameters'."""

    def batchnorm_backward(self, dout, cache):
        return [a.astype(dout.dtype) for a in super().batchnorm_backward(dout, cache)]


def is_off_centre(case):
    """Whether a channel lies further from zero than ten of its deviations."""
    x = case.array("x")
    return bool((np.abs(x.mean(axis=0)) > 10 * x.std(axis=0)).any())


@reveals("OFF", "|mean| > 10 std", is_off_centre, "stability", "H141")
class subtracts_the_square_of_the_mean(Measured):
    """The variance is E[x^2] - E[x]^2, which cancels."""

    def statistics(self, x):
        mean = x.mean(axis=0)
        return mean, (x * x).mean(axis=0) - mean * mean
