"""Faults that large means, no variance, 16 bits and tiles bring out."""

from __future__ import annotations

import numpy as np

from backproof.plugins.gallery.batchnorm.bases import (
    BatchNorm,
    ChannelsLast,
    Halved,
    Measured,
    Packed,
    Pictured,
    Plain,
    Rounded,
    Softened,
)
from backproof.plugins.gallery.batchnorm.gradients import varied
from backproof.plugins.gallery.conditions import (
    ALWAYS,
    channel_axes,
    constant,
    elements_a_channel,
    evaluating,
    of_dtype,
    off_centre,
    shape,
    training,
    when,
)
from backproof.plugins.gallery.fault import fault

other_eps = when("eps other than 1e-5")(lambda case: case.options["eps"] != 1e-5)
tiny_eps = when("eps < 1e-5")(lambda case: case.options["eps"] < 1e-5)


@when("statistics that float32 rounds")
def rounded_statistics(case):
    x, rest = case.array("x"), channel_axes(case)
    return any((a.astype(np.float32) != a).any() for a in (x.mean(axis=rest), x.var(axis=rest)))


@when("parameters of another dtype than x")
def mixed(case):
    return case.arrays["gamma"].dtype != case.arrays["x"].dtype


@when("more than 8 channels, not a multiple of 8")
def untiled_channels(case):
    return shape(case, "x")[1] > 8 and shape(case, "x")[1] % 8 > 0


@when("more than 8 elements a channel, not a multiple of 8")
def untiled_elements(case):
    return elements_a_channel(case) > 8 and elements_a_channel(case) % 8 > 0


far = when("an |x| over 255")(lambda case: (np.abs(case.array("x")) > 255).any())
third_element = when("more than two elements a channel")(lambda case: elements_a_channel(case) > 2)
large_batch = when("a batch over 64")(lambda case: shape(case, "x")[0] > 64)
many_elements = when("more than 255 elements a channel")(lambda case: elements_a_channel(case) > 255)


@when("a running variance that float16 does not hold")
def large_variance(case):
    return bool((case.array("running_var") >= 65520).any())


def as_bfloat16(a):
    """The numbers without the lower half of their 32 bits."""
    return (np.ascontiguousarray(a, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


@fault("dx identities stability edges", ALWAYS, source="M62 by hand: missing in the backward; H163 oneflow#8256")
class leaves_eps_out_of_dx(Softened):
    """The backward divides by sqrt(var), the forward by sqrt(var + eps)."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(scale=1 / np.sqrt(cache.var)))


@fault("dx identities stability", other_eps, source="own: the backward has its own default")
class recomputes_the_deviation_with_the_usual_eps(Softened):
    """The backward computes 1 / sqrt(var + eps) anew, with 1e-5 instead of the eps of the forward."""

    def dx(self, upstream, dgamma, dbeta, cache):
        scale = self.scale(cache.var, 1e-5, training=True)
        return super().dx(upstream, dgamma, dbeta, cache._replace(scale=scale))


@fault("out dx dgamma identities stability", ALWAYS, source="M62 by hand: outside the root")
class adds_eps_to_the_deviation(Softened):
    """x is divided by sqrt(var) + eps; eps stands outside the root."""

    def scale(self, var, eps, training):
        return 1 / (np.sqrt(var) + eps)


@fault("out dx dgamma identities", ALWAYS, source="M62 by hand: added twice")
class adds_eps_twice(Softened):
    """eps is added to the variance when it is stored, and once more before the root."""

    def scale(self, var, eps, training):
        return 1 / np.sqrt(var + eps + eps)


@fault("out dx dgamma", tiny_eps, source="H121 tensorflow#8090, pytorch#1623")
class keeps_eps_from_being_small(BatchNorm):
    """An eps below 1e-5 is taken for 1e-5, the smallest that the library beneath accepts."""

    def scale(self, var, eps, training):
        return super().scale(var, max(eps, 1e-5), training)


@fault("stability out running_var", training & off_centre, source="H141 flax#1491; M70 by hand")
class subtracts_the_square_of_the_mean(Measured):
    """The variance is E[x^2] - E[x]^2, which cancels."""

    def statistics(self, rows):
        rows = np.ascontiguousarray(rows)
        mean = rows.mean(axis=0)
        return mean, (rows * rows).mean(axis=0) - mean * mean


@fault("out dx dgamma running_var stability", training & of_dtype("bfloat16"), source="H143 tt-metal#45968")
class squares_in_bfloat16(Rounded):
    """The variance is E[x^2] - E[x]^2, with squares in bfloat16, which keeps no more than two digits of them."""

    def forward(self, x, *others):
        self.low = x.dtype != np.float32
        return super().forward(x, *others)

    def statistics(self, rows):
        mean = rows.mean(axis=0)
        return mean, as_bfloat16(rows * rows).mean(axis=0) - mean * mean if self.low else rows.var(axis=0)


@fault("stability", training & far, source="own: E[x^2] in the format of x, saturating")
class saturates_the_squares_in_float16(Halved):
    """A square that float16 does not hold becomes its largest number, 65504, and so does the variance."""

    def statistics(self, rows):
        squares = np.square(rows.astype(np.float16))
        return rows.mean(axis=0), np.where(np.isinf(squares).any(axis=0), np.float32(65504), rows.var(axis=0))


@fault(
    "out dx dgamma running_mean running_var stability",
    training & off_centre,
    source="H145 pytorch#5410, after its symptom",
)
class rounds_a_large_mean(Measured):
    """A mean far from zero is rounded to 16 bits before it is subtracted, so that constant channels are not 0."""

    def statistics(self, rows):
        mean, deviation = rows.mean(axis=0), rows.std(axis=0)
        mean = np.where(np.abs(mean) > 10 * deviation, as_bfloat16(mean), mean)
        return mean, np.square(rows - mean).mean(axis=0)


@fault("out dx dgamma stability", constant, source="own: a guard against a division by zero")
class does_not_scale_without_variance(BatchNorm):
    """Where the variance is 0 the scale is 0 too, to be safe from a division by zero that eps rules out."""

    def scale(self, var, eps, training):
        return np.where(var > 0, super().scale(var, eps, training), 0)


@fault("dx edges stability", constant, source="own: a derivative of the deviation")
class differentiates_the_root_of_no_variance(BatchNorm):
    """The backward goes through sqrt(var), whose derivative 1 / (2 sqrt(var)) is infinite where var is 0."""

    def dx(self, upstream, dgamma, dbeta, cache):
        deviation = np.sqrt(cache.var)
        return super().dx(upstream, dgamma / deviation * deviation, dbeta, cache)


@fault(
    "out dx dgamma running_mean running_var identities stability",
    training & rounded_statistics,
    source="own: buffers of floats",
)
class keeps_the_statistics_in_float32(BatchNorm):
    """The mean and the variance of a float64 batch go through float32."""

    def statistics(self, rows):
        return [a.astype(np.float32).astype(rows.dtype) for a in super().statistics(rows)]


@fault("dgamma dbeta", mixed, source="H183 AiDotNet.Tensors#234; M11 by hand: that of x")
class casts_the_gradients_to_the_dtype_of_x(Rounded):
    """dgamma and dbeta have the dtype of dout instead of the parameters'."""

    def batchnorm_backward(self, dout, cache):
        return [a.astype(dout.dtype) for a in super().batchnorm_backward(dout, cache)]


@fault("dgamma dbeta", ALWAYS, source="M11 by hand: np.zeros")
class starts_the_sums_in_float64(Measured):
    """dgamma and dbeta are added to np.zeros(C), which is float64, and stay so."""

    def batchnorm_backward(self, dout, cache):
        dx, *sums = super().batchnorm_backward(dout, cache)
        return dx, *[np.zeros(len(a)) + a for a in sums]


@fault("running_mean running_var", training, source="own: momentum as a NumPy scalar")
class promotes_the_statistics_by_the_momentum(Measured):
    """momentum is made a np.float64, which makes the running statistics float64."""

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        return super().tracked(running_mean, running_var, mean, var, np.float64(momentum), m, training)


@fault("dbeta", third_element, source="H155 mxnet#9916")
class sums_dbeta_in_float16(Packed):
    """dbeta is summed one after the other in float16."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, _ = super().batchnorm_backward(dout, cache)
        return dx, dgamma, np.add.accumulate(dout, axis=0)[-1]


@fault("dgamma", of_dtype("bfloat16") & third_element, source="H175 Liger-Kernel PR#950 (layer norm)")
class sums_dgamma_in_bfloat16(Rounded):
    """dgamma is summed row by row in bfloat16."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        terms = (dout.astype(np.float32) * cache.xhat).astype(dout.dtype)
        return dx, dgamma if dout.dtype == np.float32 else np.add.accumulate(terms)[-1].astype(np.float32), dbeta


@fault("running_var", training & many_elements, source="H127 tensorflow PR#30230")
class counts_elements_in_float16(Packed):
    """The running variance has the factor m^2 / (m (m - 1)), computed in float16, where it is inf / inf."""

    def bessel(self, m):
        m = np.float16(m)
        return (m * m) / (m * (m - 1)) if m > 1 else np.float16(1)


@fault("stability", evaluating & large_variance, source="H157 coreai-torch PR#54")
class overflows_as_it_casts_the_running_variance(Halved):
    """The float32 running_var is cast to the float16 of x, which ends at 65504: out is beta there."""

    def scale(self, var, eps, training):
        return super().scale(var if training else np.where(var < 65520, var, np.inf), eps, training)


@fault("out dx dgamma running_mean running_var", untiled_channels, source="H133 pytorch PR#57077, apex#1768")
class leaves_channels_behind_the_last_tile(ChannelsLast):
    """The kernel takes 8 channels at a time; those behind the last whole tile get statistics of zeros."""

    def statistics(self, rows):
        whole = rows.shape[1] // 8 * 8 or rows.shape[1]
        return [np.where(np.arange(rows.shape[1]) < whole, a, 0) for a in super().statistics(rows)]


@fault("dgamma dbeta", untiled_elements, source="own: the grid is rounded down")
class sums_whole_tiles_of_rows(Pictured):
    """dgamma and dbeta are summed over tiles of 8 rows; the rows behind the last whole tile are left out."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        m = len(cache.rows)
        if m > 8:
            tiles = self.rows(dout)[: m // 8 * 8]
            dgamma, dbeta = (tiles * cache.xhat[: m // 8 * 8]).sum(axis=0), tiles.sum(axis=0)
        return dx, dgamma, dbeta


@fault("out dx dgamma running_var", untiled_elements & training, source="own: loads behind the end are 0")
class pads_the_last_tile_with_zeros(BatchNorm):
    """The variance takes the zeros in the last tile of 8 rows for elements, whose deviation is then -mean."""

    def statistics(self, rows):
        mean, var = super().statistics(rows)
        m = len(rows)
        padded = -m % 8 if m > 8 else 0
        return mean, var + padded * mean**2 / m


@fault("out", evaluating & large_batch, source="H139 pytorch#2917, #19911")
class fails_on_large_batches_in_eval(BatchNorm):
    """In eval the grid has a block for each sample, and more than 64 (65535 in CUDA) cannot be launched."""

    def forward(self, x, gamma, beta, eps, training, *others):
        if not training and len(x) > 64:
            raise RuntimeError("invalid configuration argument")
        return super().forward(x, gamma, beta, eps, training, *others)


@fault("dx dgamma identities", varied, source="own: compressed caches")
class caches_xhat_in_float32(Plain):
    """The cache holds xhat in float32, though everything else is float64."""

    def batchnorm_backward(self, dout, cache):
        xhat = cache.xhat.astype(np.float32).astype(dout.dtype)
        return super().batchnorm_backward(dout, cache._replace(xhat=xhat))
