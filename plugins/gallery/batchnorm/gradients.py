"""Faults of the gradients of batch norm in training: paths, factors, gamma and eps."""

from __future__ import annotations

import numpy as np

from backproof.plugins.gallery.batchnorm.bases import Affine, BatchNorm, Imaged, Plain, Ranked
from backproof.plugins.gallery.conditions import (
    ALWAYS,
    channel_axes,
    elements_a_channel,
    images,
    no_scale,
    scaled,
    several_channels,
    shape,
    single,
    spatial,
    when,
)
from backproof.plugins.gallery.fault import fault


@when("a channel with sum(dout) other than 0")
def level(case):
    return bool((case.array("dout").sum(axis=channel_axes(case)) != 0).any())


@when("a channel with sum(dout xhat) other than 0")
def slanted(case):
    x, rest = case.array("x"), channel_axes(case)
    return bool(((x - x.mean(axis=rest, keepdims=True)) * case.array("dout")).sum(axis=rest).any())


@when("a gamma, beside a sum(dout) or sum(dout xhat), other than 0")
def moved(case):
    return (level & sloped)(case) or (slanted & sloped)(case)


with_gamma = when("a gamma")(lambda case: case.arrays["gamma"] is not None)
falling = when("a negative gamma")(lambda case: (case.array("gamma") < 0).any())
sloped = when("a gamma other than 0")(lambda case: (case.array("gamma") != 0).any())
steep = when("a gamma other than 0 and 1")(lambda case: ((case.array("gamma") != 0) & (case.array("gamma") != 1)).any())
shifted = when("a beta other than 0")(lambda case: (case.array("beta") != 0).any())
centred_elsewhere = when("a mean other than 0")(lambda case: case.array("x").mean(axis=channel_axes(case)).any())


@when("a variance other than 1")
def spread(case):
    return bool((case.array("x").var(axis=channel_axes(case)) + case.options["eps"] != 1).any())


several_elements = when("several elements a channel")(lambda case: elements_a_channel(case) > 1)
varied = when("a channel with variance")(lambda case: np.ptp(case.array("x"), axis=channel_axes(case)).any())
tall = when("several rows of pixels")(lambda case: shape(case, "x")[2:3] > (1,))


@fault("dx identities", level & sloped, source="M52 by hand")
class leaves_out_the_path_through_the_mean(Plain):
    """dx lacks -dbeta / m."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, 0, cache)


@fault("dx identities", slanted & sloped, source="M51 by hand")
class leaves_out_the_path_through_the_variance(Plain):
    """dx lacks -xhat dgamma / m."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, 0, dbeta, cache)


@fault("dx identities", moved, source="own: both statistics detached from the graph")
class takes_the_statistics_for_constants(Plain):
    """dx is that of eval: neither the mean nor the variance is differentiated."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(training=False))


@fault("dx identities", level & sloped, source="M54 by hand")
class sums_the_path_through_the_mean(Plain):
    """The path through the mean lacks its 1 / m: dx takes the sum of dout instead of its mean."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta * len(upstream), cache)


@fault("dx identities", slanted & sloped, source="M53 by hand")
class sums_the_path_through_the_variance(Plain):
    """The path through the variance lacks its 1 / m."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma * len(upstream), dbeta, cache)


@fault("dx edges identities", slanted | single, source="M55 by hand")
class divides_by_one_less_in_dx(Plain):
    """dx takes the path through the variance over m - 1, as if the variance were the unbiased one."""

    def dx(self, upstream, dgamma, dbeta, cache):
        m = np.float64(len(upstream))
        return super().dx(upstream, dgamma * m / (m - 1), dbeta, cache)


@fault("dx identities", level & sloped, source="own: a sign lost where dmean is added up")
class adds_the_path_through_the_mean(Plain):
    """dx adds dbeta / m instead of subtracting it."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, -dbeta, cache)


@fault("dx identities", slanted & sloped, source="M57 by hand: the sign")
class adds_the_path_through_the_variance(Plain):
    """dvar has the wrong sign, so that dx adds xhat dgamma / m instead of subtracting it."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, -dgamma, dbeta, cache)


@fault("dx identities", slanted & sloped, source="M57 by hand: the 2 of the square")
class forgets_the_two_of_the_square(Plain):
    """(x - mean)^2 is differentiated as x - mean, without the 2: half the path through the variance."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma / 2, dbeta, cache)


@fault("dx identities", slanted & sloped, source="M57 by hand: the 1/2 of the root")
class forgets_the_half_of_the_root(Plain):
    """(var + eps)^(-1/2) is differentiated without its factor 1/2: twice the path through the variance."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma * 2, dbeta, cache)


@fault("dx identities", slanted & sloped & spread, source="M56 by hand: -1/2 for -3/2")
class takes_the_root_for_its_cube_in_dvar(Plain):
    """dvar has (var + eps)^(-1/2) where (var + eps)^(-3/2) belongs."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma * (cache.var + cache.eps), dbeta, cache)


@fault("dx identities", spread & sloped & several_elements, source="M56 by hand: var for its root")
class divides_dx_by_the_variance(Plain):
    """dx is divided by var + eps instead of by its root."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(scale=cache.scale**2))


@fault("dx identities", spread & sloped & several_elements, source="M66 by hand")
class takes_the_scale_for_the_variance(Plain):
    """The backward computes 1 / sqrt(var + eps) of what is 1 / sqrt(var + eps) already."""

    def dx(self, upstream, dgamma, dbeta, cache):
        scale = self.scale(cache.scale, cache.eps, training=True)
        return super().dx(upstream, dgamma, dbeta, cache._replace(scale=scale))


@fault("dx identities", level & sloped, source="H167 tt-metal PR#53215 (layer norm)")
class subtracts_the_mean_of_dout_twice(Plain):
    """dx subtracts the mean of dout from dout, and then the path through the mean once more."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream - dbeta / len(upstream), dgamma, dbeta, cache)


@fault("dx identities", slanted & sloped & centred_elsewhere, source="own: x in the place of x - mean")
class does_not_centre_x_in_dx(Plain):
    """The path through the variance has x where x - mean belongs."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(xhat=cache.rows * cache.scale))


@fault("dx identities", scaled & several_elements, source="M58 by hand")
class leaves_gamma_out_of_dx(Plain):
    """dx is that of gamma 1."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(gamma=1))


@fault("dx identities", scaled, source="M59 by hand; H147 MIOpen#104")
class scales_dout_alone_by_gamma(Affine):
    """gamma multiplies dout, but neither of the two means that dx subtracts from it."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(cache.gamma * upstream, dgamma, dbeta, cache._replace(gamma=1))


@fault("dx identities", scaled, source="M59 by hand: the other term")
class scales_the_means_alone_by_gamma(Affine):
    """gamma multiplies the two means that dx subtracts, but not dout."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, cache.gamma * dgamma, cache.gamma * dbeta, cache._replace(gamma=1))


@fault("dx identities", steep & several_elements, source="own: dxhat = gamma dout, and gamma in the last line too")
class scales_dx_by_gamma_twice(Plain):
    """dx has gamma^2 for gamma: dout is multiplied by gamma first, and the result again."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(gamma=cache.gamma**2))


@fault("dgamma identities", slanted | centred_elsewhere, source="M60 by hand")
class weighs_dgamma_by_x(Plain):
    """dgamma is the sum of dout x, not of dout xhat."""

    def batchnorm_backward(self, dout, cache):
        dx, _, dbeta = super().batchnorm_backward(dout, cache)
        return dx, (dout * cache.rows).sum(axis=0), dbeta


@fault("dgamma identities", ALWAYS, source="M60 by hand: out for xhat")
class weighs_dgamma_by_out(Plain):
    """dgamma is the sum of dout out, not of dout xhat."""

    def batchnorm_backward(self, dout, cache):
        dx, _, dbeta = super().batchnorm_backward(dout, cache)
        return dx, (dout * (cache.gamma * cache.xhat + cache.beta)).sum(axis=0), dbeta


@fault("dgamma identities", scaled & slanted, source="own: dout *= gamma comes before the sums")
class scales_dgamma_by_gamma(Plain):
    """dgamma is summed over gamma dout xhat: gamma is multiplied in too early."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, cache.gamma * dgamma, dbeta


@fault("dbeta", scaled & level, source="own: dout *= gamma comes before the sums")
class scales_dbeta_by_gamma(Affine):
    """dbeta is summed over gamma dout: gamma is multiplied in too early."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, dgamma, None if dbeta is None else self.factor(cache.gamma) * dbeta


@fault("dgamma dbeta identities", several_elements, source="M61 by hand")
class averages_the_gradients_of_the_parameters(Plain):
    """dgamma and dbeta are means over the batch instead of sums."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, dgamma / len(dout), dbeta / len(dout)


@fault("dgamma dbeta identities", ALWAYS, source="own: the order of the results")
class returns_dbeta_before_dgamma(Plain):
    """dgamma and dbeta stand in each other's place."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, dbeta, dgamma


@fault("dgamma linearity identities", ALWAYS, source="H161 tensorflow#107705")
class adds_a_constant_to_dgamma(Plain):
    """dgamma starts at 0.001 instead of 0, so that it does not grow with dout."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, dgamma + 1e-3, dbeta


@fault("out dx", falling, source="own: invertible norms keep gamma positive")
class takes_gamma_without_its_sign(Plain):
    """x is scaled by |gamma|."""

    def forward(self, x, gamma, beta):
        return super().forward(x, np.abs(gamma), beta)


@fault("out dx dgamma identities", with_gamma, source="own: gamma fixed by default")
class takes_every_gamma_for_one(Affine):
    """gamma is taken for 1 and its gradient for 0."""

    def factor(self, gamma):
        return 1

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, None if dgamma is None else np.zeros_like(dgamma), dbeta


@fault("dx dgamma", no_scale, source="M63 by hand")
class recovers_xhat_from_the_output(Plain):
    """xhat is taken to be (out - beta) / gamma, which a gamma of 0 does not give back."""

    def batchnorm_backward(self, dout, cache):
        xhat = cache.gamma * cache.xhat / cache.gamma
        return super().batchnorm_backward(dout, cache._replace(xhat=xhat))


@fault("dx identities", images, source="M64 by hand; H165 FlagGems#5392 (layer norm)")
class divides_by_the_batch_alone(Imaged):
    """The means of dx are over N, though an image has more elements a channel."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, self.pixels * dgamma, self.pixels * dbeta, cache)

    def batchnorm_backward(self, dout, cache):
        self.pixels = dout.size // (dout.shape[0] * dout.shape[1])
        return super().batchnorm_backward(dout, cache)


@fault("dx identities", tall, source="H169 Liger-Kernel PR#1376 (group norm)")
class counts_one_row_of_pixels(Imaged):
    """The means of dx are over N W elements, though an image has N H W a channel."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, self.height * dgamma, self.height * dbeta, cache)

    def batchnorm_backward(self, dout, cache):
        self.height = dout.shape[2] if dout.ndim == 4 else 1
        return super().batchnorm_backward(dout, cache)


@fault("dbeta", spatial(2), source="own: the sum of the version for vectors")
class sums_dbeta_over_the_batch_alone(Imaged):
    """dbeta of images keeps an entry for each pixel: the spatial axes are not summed."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, _ = super().batchnorm_backward(dout, cache)
        return dx, dgamma, dout.sum(axis=0)


@fault("out dx dgamma dbeta identities", images & several_channels, source="M65 by hand")
class reshapes_images_without_a_transpose(Imaged):
    """(N, C, H, W) is read as (N H W, C), which mixes channels and pixels."""

    def rows(self, x):
        return x.reshape(-1, x.shape[1])

    def images(self, rows, shape):
        return rows.reshape(shape)


@fault("dx dgamma dbeta", spatial(1), source="H159 AiDotNet.Tensors#233")
class cannot_go_back_through_signals(Ranked):
    """The backward knows four axes and two; three, which the forward takes, fall into the branch for two."""

    def batchnorm_backward(self, dout, cache):
        if dout.ndim != 4:
            _batch, _channels = dout.shape
        return super().batchnorm_backward(dout, cache)


@fault("dx dgamma identities", ALWAYS, source="own: out is computed in the buffer of xhat")
class turns_the_cached_xhat_into_out(BatchNorm):
    """xhat is multiplied by gamma and shifted by beta in place, in the array that the cache holds."""

    def affine(self, xhat, gamma, beta):
        xhat *= gamma
        xhat += beta
        return xhat
