"""Batch norms with one fault each."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from . import fault


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

    CONFORMANCE: ClassVar = {"batchnorm": {"spatial_dims": (0,)}}

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        return self.forward(x, gamma, beta, eps, training, running_mean, running_var, momentum)

    def forward(self, x, gamma, beta, eps=1e-5, training=True, running_mean=None, running_var=None, momentum=0.1):
        rows = self.rows(x)
        mean, var = (rows.mean(axis=0), rows.var(axis=0)) if training else (running_mean, running_var)
        scale = self.scale(var, eps, training)
        xhat = (rows - mean) * scale
        cache = Cache(rows, mean, var, scale, xhat, gamma, beta, eps, training)
        out = self.images(gamma * xhat + beta, x.shape)
        if running_mean is None:
            return out, cache
        return out, cache, *self.tracked(running_mean, running_var, mean, var, momentum, len(rows), training)

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

    def scale(self, var, eps, training):
        return 1 / np.sqrt(var + eps)

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

    CONFORMANCE: ClassVar = {"batchnorm": {"spatial_dims": (0, 2)}}


class Softened(BatchNorm):
    """Right, with eps."""

    def batchnorm_forward(self, x, gamma, beta, eps):
        return self.forward(x, gamma, beta, eps)


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


@fault("dx identities", "value", "M52")
class leaves_out_the_path_through_the_mean(Plain):
    """dx lacks -dbeta / m."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, 0, cache)


@fault("dx identities", "value", "M51")
class leaves_out_the_path_through_the_variance(Plain):
    """dx lacks -xhat dgamma / m."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, 0, dbeta, cache)


@fault("dx edges identities", "value nonfinite", "M55")
class divides_by_one_less(Plain):
    """dx takes the path through the variance over m - 1."""

    def dx(self, upstream, dgamma, dbeta, cache):
        m = np.float64(len(upstream))
        return super().dx(upstream, dgamma * m / (m - 1), dbeta, cache)


@fault("dx identities linearity", "value", "M58")
class leaves_gamma_out_of_dx(Plain):
    """dx is that of gamma 1."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(gamma=1))


@fault("dx identities", "value", "H147")
class scales_one_term_by_gamma(Plain):
    """gamma multiplies dout, but neither of the two means of dx."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(cache.gamma * upstream, dgamma, dbeta, cache._replace(gamma=1))


@fault("dgamma identities", "value", "M60")
class weighs_dgamma_by_x(Plain):
    """dgamma is the sum of dout x, not of dout xhat."""

    def batchnorm_backward(self, dout, cache):
        dx, _, dbeta = super().batchnorm_backward(dout, cache)
        return dx, (dout * cache.rows).sum(axis=0), dbeta


@fault("dgamma dbeta identities", "value", "M61")
class averages_the_gradients_of_the_parameters(Plain):
    """dgamma and dbeta are means over the batch instead of sums."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, dgamma / len(dout), dbeta / len(dout)


@fault("dx dgamma", "nonfinite", "M63")
class recovers_xhat_from_the_output(Plain):
    """xhat is taken to be (out - beta) / gamma, which a gamma of 0 does not give back."""

    def batchnorm_backward(self, dout, cache):
        xhat = cache.gamma * cache.xhat / cache.gamma
        return super().batchnorm_backward(dout, cache._replace(xhat=xhat))


@fault("dx identities", "value", "M66")
class takes_the_scale_for_the_variance(Plain):
    """The backward computes 1 / sqrt(var + eps) of what is 1 / sqrt(var + eps) already."""

    def dx(self, upstream, dgamma, dbeta, cache):
        scale = self.scale(cache.scale, cache.eps, training=True)
        return super().dx(upstream, dgamma, dbeta, cache._replace(scale=scale))


@fault("out dx dgamma identities stability", "value", "M62")
class adds_eps_to_the_deviation(Softened):
    """x is divided by sqrt(var) + eps; eps stands outside the root."""

    def scale(self, var, eps, training):
        return 1 / (np.sqrt(var) + eps)


@fault("out dx dgamma identities", "value", "H121")
class keeps_eps_from_being_small(Softened):
    """An eps below 1e-5 is taken for 1e-5."""

    def scale(self, var, eps, training):
        return super().scale(var, max(eps, 1e-5), training)


@fault("dx identities", "value", "M64")
class divides_by_the_batch_alone(Imaged):
    """The means of dx are over N, though an image has more elements a channel."""

    def batchnorm_backward(self, dout, cache):
        pixels = dout.size // (dout.shape[0] * dout.shape[1])
        _, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        dx = self.dx(self.rows(dout), pixels * dgamma, pixels * dbeta, cache)
        return self.images(dx, dout.shape), dgamma, dbeta


@fault("out dx dgamma dbeta identities", "value", "M65")
class reshapes_images_without_a_transpose(Imaged):
    """(N, C, H, W) is read as (N H W, C), which mixes channels and pixels."""

    def rows(self, x):
        return x.reshape(-1, x.shape[1])

    def images(self, rows, shape):
        return rows.reshape(shape)


@fault("dx", "value", "H111")
class differentiates_eval_as_training(Switched):
    """dx in eval goes through the batch's mean and variance too."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(training=True))


@fault("out dx dgamma", "value nonfinite", "H119")
class forgets_eps_in_eval(Switched):
    """In eval x is divided by sqrt(running_var)."""

    def scale(self, var, eps, training):
        return super().scale(var, eps if training else 0, training)


@fault("running_mean running_var", "state", "M68")
class updates_the_statistics_in_eval(Switched):
    """Every forward moves the running statistics."""

    def forward(self, x, *args):
        out, cache, running_mean, running_var = super().forward(x, *args)
        rows = self.rows(x)
        if cache.training:
            return out, cache, running_mean, running_var
        mean, var = rows.mean(axis=0), rows.var(axis=0)
        return out, cache, *self.tracked(running_mean, running_var, mean, var, 0.1, len(rows), True)


@fault("running_mean running_var", "value", "H123")
class never_updates_the_statistics(Switched):
    """The running statistics come back as they were, in training too."""

    def tracked(self, running_mean, running_var, *_):
        return running_mean, running_var


@fault("running_mean running_var", "value", "M68")
class reverses_the_momentum(BatchNorm):
    """momentum weighs the old statistics though the new ones are declared."""

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        return super().tracked(running_mean, running_var, mean, var, 1 - momentum, m, training)


@fault("running_var", "value", "H125")
class tracks_the_biased_variance(Switched):
    """The running variance is that over m instead of over m - 1."""

    def bessel(self, m):
        return 1


@fault("edges", "crash", "M69")
class fails_on_one_element(Switched):
    """The factor m / (m - 1) of the running variance is a division by zero for one element a channel."""

    def bessel(self, m):
        return m / (m - 1)


@fault("dx", "crash", "H151")
class cannot_do_without_gamma(Bare):
    """The backward multiplies by gamma where there is none."""

    def batchnorm_backward(self, dout, cache):
        return BatchNorm.batchnorm_backward(self, dout, cache)[:2]


@fault("purity memory_layout", "mutation crash", "M13")
class multiplies_dout_in_place(Plain):
    """dx is built in dout."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        dout *= cache.gamma
        return dx, dgamma, dbeta


@fault("repeatability", "state", "H109")
class keeps_the_statistics_on_the_layer(Plain):
    """The scale is kept on the layer, where the next forward replaces it, instead of in the cache."""

    def scale(self, var, eps, training):
        self.last = super().scale(var, eps, training)
        return self.last

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(scale=self.last))


@fault("stability", "value", "H141")
class squares_before_it_subtracts(BatchNorm):
    """The variance is mean(x^2) - mean(x)^2, where the mean is so large that it cancels."""

    def batchnorm_forward(self, x, gamma, beta, eps):
        rows = self.rows(x)
        mean = rows.mean(axis=0)
        far = np.abs(mean) > 200 * rows.std(axis=0)
        var = np.where(far, np.maximum((rows * rows).mean(axis=0) - mean * mean, 0), rows.var(axis=0))
        scale = self.scale(var, eps, True)
        xhat = (rows - mean) * scale
        return self.images(gamma * xhat + beta, x.shape), Cache(rows, mean, var, scale, xhat, gamma, beta, eps, True)
