"""Faults in how batch norms are called: state, caches, absent parameters, buffers, memory."""

from __future__ import annotations

import numpy as np

from backproof.plugins.gallery.batchnorm.bases import (
    Affine,
    Bare,
    BatchNorm,
    Checked,
    Emptied,
    Imaged,
    Plain,
    Softened,
    Switched,
)
from backproof.plugins.gallery.batchnorm.gradients import with_gamma
from backproof.plugins.gallery.conditions import (
    ALWAYS,
    asked_as,
    empty_batch,
    evaluating,
    expanded,
    missing,
    scattered,
    second_backward,
    several_channels,
    shape,
    single,
    training,
    when,
)
from backproof.plugins.gallery.every_layer import (
    AddsToTheLastBackward,
    EmptiesItsCache,
    KeptInOneBuffer,
    KeptOnTheObject,
    ReturnsAWorkspace,
)
from backproof.plugins.gallery.fault import fault
from backproof.plugins.gallery.memory import as_it_lies, buffer_of, is_expanded, is_scattered

two_forwards = asked_as("two forwards before their backwards")


@when("a single pixel, and x or dout not plain in memory")
def odd_pixel(case):
    return shape(case, "x")[2:] == (1, 1) and bool({"x", "dout"} & set(case.layouts))


def invalid(words, fits):
    """Whether a case lacks a meaning, for a reason of this kind."""
    return when(words)(lambda case: case.invalidity is not None and fits(case))


@fault("dx", missing("gamma"), source="H151 oneflow PR#5602")
class cannot_do_without_gamma(Bare):
    """The backward multiplies by gamma where there is none."""

    def batchnorm_backward(self, dout, cache):
        return BatchNorm.batchnorm_backward(self, dout, cache)[:2]


@fault("dx dgamma", missing("beta"), source="H153 Paddle PR#21237")
class cannot_do_without_beta(Affine):
    """The backward makes dbeta in the shape of beta, also where there is none."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, dgamma, np.reshape(dbeta, cache.beta.shape)


@fault("out dx identities", missing("gamma"), source="own: absent parameters are zeros")
class takes_no_gamma_for_zeros(Affine):
    """A missing gamma is filled with zeros, as a missing beta is."""

    def factor(self, gamma):
        return 0 if gamma is None else gamma


@fault("dx dbeta", missing("gamma"), source="own: a list of the gradients that there are")
class closes_the_gap_of_a_missing_gamma(Affine):
    """Where gamma is None the gradients are (dx, dbeta), with nothing in the place of dgamma."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return (dx, dbeta) if dgamma is None else (dx, dgamma, dbeta)


@fault("edges", single & training, source="M69 by hand")
class fails_on_one_element(BatchNorm):
    """The factor m / (m - 1) of the running variance is a division by zero for one element a channel."""

    def bessel(self, m):
        return m / (m - 1)


@fault("edges", single & training, source="own: more than one value a channel is demanded")
class demands_several_elements(Softened):
    """In training one element a channel raises a ValueError, though out is then beta and dx 0."""

    def statistics(self, rows):
        if len(rows) == 1:
            raise ValueError("expected more than 1 value per channel when training")
        return super().statistics(rows)


@fault("edges", empty_batch & training, source="H129 pytorch#36530")
class averages_over_no_samples(Emptied):
    """The running statistics are moved by the mean of nothing, which is not a number."""

    def tracked(self, *statistics):
        return BatchNorm.tracked(self, *statistics)


@fault("memory_layout", scattered("x"), source="M49 by hand")
class reads_the_buffer_of_x(BatchNorm):
    """The strides of x are ignored: its numbers are read as they lie in memory."""

    def forward(self, x, *others):
        return super().forward(as_it_lies(x), *others)


@fault("memory_layout", scattered("dout"), source="H197 torch/nn PR#345")
class reads_the_buffer_of_dout(BatchNorm):
    """The strides of dout are ignored in dbeta, which another kernel sums."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, dgamma, buffer_of(dout).sum(axis=0) if is_scattered(dout) else dbeta


@fault("memory_layout", scattered("gamma"), source="own: a vector needs no stride")
class reads_the_buffer_of_gamma(BatchNorm):
    """The stride of gamma is ignored: its numbers are read one behind the other."""

    def forward(self, x, gamma, *others):
        return super().forward(x, as_it_lies(gamma), *others)


@fault("memory_layout", expanded("dout"), source="own: memory taken for entries")
class sums_an_expanded_dout_once(BatchNorm):
    """dbeta sums the entries that dout has in memory: one that is expanded along the batch counts once."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, dgamma, dout[0] * 1.0 if is_expanded(dout) and dout.strides[0] == 0 else dbeta


@fault("memory_layout", odd_pixel, source="H173 pytorch#115940")
class wants_equal_strides_of_a_pixel(Imaged):
    """The backward asserts that x and dout have equal strides, which mean nothing on axes of size 1."""

    def batchnorm_forward(self, x, gamma, beta):
        out, cache = super().batchnorm_forward(x, gamma, beta)
        return out, (cache, x.strides[2:])

    def batchnorm_backward(self, dout, cache):
        cache, strides = cache
        if dout.shape[2:] == (1, 1) and dout.strides[2:] != strides:
            raise RuntimeError("memory formats differ")
        return super().batchnorm_backward(dout, cache)


@fault("purity memory_layout", with_gamma, source="M13 by hand")
class multiplies_dout_in_place(Affine):
    """dout is multiplied by gamma in the array that was passed."""

    def batchnorm_backward(self, dout, cache):
        found = super().batchnorm_backward(dout, cache)
        if cache.gamma is not None:
            dout *= cache.gamma
        return found


@fault("purity memory_layout", training, source="own: x -= mean")
class centres_x_in_place(BatchNorm):
    """The mean is subtracted from x in the array that was passed."""

    def forward(self, x, gamma, beta, eps, training, *others):
        found = super().forward(x.copy(), gamma, beta, eps, training, *others)
        if training:
            x -= x.mean(axis=0)
        return found


@fault("aliasing purity memory_layout", ALWAYS, source="own: x is done with")
class returns_dx_in_the_memory_of_x(Plain):
    """dx is written over x, which the backward itself needs no more."""

    def batchnorm_forward(self, x, gamma, beta):
        out, cache = super().batchnorm_forward(x.copy(), gamma, beta)
        return out, (cache, x)

    def batchnorm_backward(self, dout, cache):
        cache, x = cache
        x[...], dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return x, dgamma, dbeta


@fault("aliasing", ALWAYS, source="own: a workspace for dx")
class returns_dx_in_a_workspace(ReturnsAWorkspace, Plain, gradient=0):
    """dx is returned in an array of the layer, which the next backward of the same shape fills again."""


@fault("repeatability", two_forwards, source="own")
class keeps_the_scale_on_the_layer(KeptOnTheObject, Plain, part="scale"):
    """The scale is kept on the layer, where the next forward replaces it, instead of in the cache."""


@fault("repeatability", two_forwards, source="own")
class normalizes_into_a_workspace(KeptInOneBuffer, Plain, part="xhat"):
    """xhat lies in an array of the layer, which the next forward of the same shape fills again."""


@fault("repeatability", evaluating & second_backward, source="H109 pytorch#586")
class saves_the_statistics_in_the_backward_of_eval(Switched):
    """The backward in eval leaves the batch's deviation in the cache, and the next backward divides by it."""

    def forward(self, x, *others):
        out, cache, *tracked = super().forward(x, *others)
        return out, [cache], *tracked

    def batchnorm_backward(self, dout, cache):
        (held,) = cache
        if not held.training:
            cache[0] = held._replace(scale=self.scale(held.rows.var(axis=0), held.eps, False))
        return super().batchnorm_backward(dout, held)


@fault("repeatability", second_backward, source="H149 mxnet#18499")
class adds_dbeta_to_that_of_the_last_backward(AddsToTheLastBackward, Plain, gradient=2):
    """dbeta is added to what the last backward on the same cache left there."""


@fault("repeatability", second_backward, source="own: frees xhat")
class frees_xhat_in_the_backward(EmptiesItsCache, Plain):
    """The backward takes xhat out of its cache, where a second one looks for it."""


@fault("repeatability", second_backward, source="own: xhat *= dout")
class sums_dgamma_in_the_cached_xhat(Softened):
    """dout xhat is computed in the array of the cached xhat, after dx."""

    def batchnorm_backward(self, dout, cache):
        found = super().batchnorm_backward(dout, cache)
        np.multiply(cache.xhat, dout, out=cache.xhat)
        return found


@fault("dbeta repeatability linearity memory_layout", several_channels, source="H177 pytorch#193061")
class leaves_half_of_a_buffer_as_it_was(Plain):
    """Of a buffer of the layer only the first half is written: the rest of dbeta is that of the last call."""

    def __init__(self):
        self.last = {}

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        c = len(dbeta)
        left, self.last[c] = self.last.get(c, np.zeros(c)), dbeta
        return dx, dgamma, np.concatenate([dbeta[: (c + 1) // 2], left[(c + 1) // 2 :]])


@fault("rejection", invalid("eps <= 0", lambda case: case.options["eps"] <= 0), source="H179 mlx PR#4312")
class accepts_any_eps(Checked):
    """An eps of 0 or less is taken as it is, and out is not a number where var + eps is negative."""

    def check_eps(self, eps):
        pass


@fault("rejection", invalid("eps = 0", lambda case: case.options["eps"] == 0), source="own: < for <=")
class accepts_an_eps_of_zero(Checked):
    """Only a negative eps is rejected, not one of 0."""

    def check_eps(self, eps):
        if eps < 0:
            raise ValueError("eps must not be negative")


@fault(
    "rejection",
    invalid("a dout of one sample for a batch", lambda case: case.invalidity.in_backward),
    source="own: broadcasting",
)
class accepts_a_dout_that_broadcasts(Checked):
    """A dout with a single entry along an axis is taken for an expanded one."""

    def checked(self, dout, cache):
        return np.broadcast_to(dout, cache.rows.shape)
