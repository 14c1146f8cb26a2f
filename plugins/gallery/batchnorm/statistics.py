"""Faults of the statistics: mean, variance, running ones, and eval mode."""

from __future__ import annotations

import numpy as np

from backproof.plugins.gallery.batchnorm.bases import BatchNorm, ChannelsLast, Imaged, Pictured, Softened, Switched
from backproof.plugins.gallery.batchnorm.gradients import several_elements, shifted, spread, varied
from backproof.plugins.gallery.conditions import elements_a_channel, evaluating, images, scaled, shape, training, when
from backproof.plugins.gallery.fault import fault


@when("a running variance + eps other than 1")
def running_spread(case):
    return bool((case.array("running_var") + case.options["eps"] != 1).any())


other_momentum = when("momentum other than 0.1")(lambda case: case.options["momentum"] != 0.1)
uneven_momentum = when("momentum other than 0.5")(lambda case: case.options["momentum"] != 0.5)


@when("an odd number of elements a channel, more than one")
def odd(case):
    return elements_a_channel(case) % 2 == 1 and elements_a_channel(case) > 1


wide = when("several columns of pixels")(lambda case: shape(case, "x")[3] > 1)
several_images = when("several images")(lambda case: len(shape(case, "x")) > 2 and shape(case, "x")[0] > 1)


@when("other numbers of channels and rows of pixels")
def not_so_many_channels(case):
    return shape(case, "x")[1] != shape(case, "x")[2]


@when("as many rows of pixels as channels, several")
def ambiguous(case):
    return 1 < shape(case, "x")[1] == shape(case, "x")[2]


@fault("out dx dgamma identities", varied, source="M55 by hand: in the normalization")
class normalizes_by_the_unbiased_variance(Softened):
    """x is divided by the deviation over m - 1 elements instead of over m."""

    def statistics(self, rows):
        return rows.mean(axis=0), self.bessel(len(rows)) * rows.var(axis=0)


@fault("out dx dgamma identities", spread, source="M56 by hand: var for its root")
class divides_by_the_variance(Softened):
    """x - mean is divided by var + eps instead of by its root."""

    def scale(self, var, eps, training):
        return 1 / (var + eps)


@fault("out dx dgamma identities", spread, source="M56 by hand: the square")
class squares_the_variance(Softened):
    """The variance is taken for a deviation and squared before eps is added."""

    def scale(self, var, eps, training):
        return 1 / np.sqrt(var**2 + eps)


@fault("out", shifted & scaled, source="own: the brackets of gamma * (xhat + beta)")
class adds_beta_before_scaling(Softened):
    """out is gamma (xhat + beta): beta is multiplied by gamma too."""

    def affine(self, xhat, gamma, beta):
        return gamma * (xhat + beta)


@fault("out dx dgamma running_mean running_var identities", odd, source="own: a merge as in the method of Welford")
class merges_halves_of_different_sizes_as_equal(BatchNorm):
    """The statistics of two halves of the batch are averaged, though the one has an element more."""

    def statistics(self, rows):
        halves = [half for half in np.array_split(rows, 2) if len(half)]
        means, variances = [half.mean(axis=0) for half in halves], [half.var(axis=0) for half in halves]
        return np.mean(means, axis=0), np.mean(variances, axis=0) + np.var(means, axis=0)


@fault("out dx dgamma running_var identities stability", training & varied, source="own: synchronized batch norms")
class averages_the_variances_of_the_halves(BatchNorm):
    """The variance is the mean of those of two halves of the batch, without what their means differ by."""

    def statistics(self, rows):
        halves = [half for half in np.array_split(rows, 2) if len(half)]
        weights = [len(half) for half in halves]
        return rows.mean(axis=0), np.average([half.var(axis=0) for half in halves], axis=0, weights=weights)


@fault("running_var", training & varied, source="H131 pytorch#22192, apex#387")
class takes_the_bessel_factor_of_a_half(BatchNorm):
    """The variance is that of the whole batch, its factor m / (m - 1) that of the half that one worker has."""

    def bessel(self, m):
        return super().bessel((m + 1) // 2)


@fault("running_mean running_var", training & uneven_momentum, source="M68 by hand: reversed")
class reverses_the_momentum(BatchNorm):
    """momentum weighs the old statistics though it is declared to weigh the new ones."""

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        return super().tracked(running_mean, running_var, mean, var, 1 - momentum, m, training)


@fault("running_mean running_var", training & other_momentum, source="own: the factor of the textbook")
class ignores_the_momentum(BatchNorm):
    """The running statistics move by a tenth, whatever the momentum."""

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        return super().tracked(running_mean, running_var, mean, var, 0.1, m, training)


@fault("running_mean running_var", training, source="own: a weight too many")
class applies_the_momentum_twice(BatchNorm):
    """What is new is weighed by momentum when it is stored, and again when it is mixed with the old."""

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        return super().tracked(running_mean, running_var, mean, var, momentum**2, m, training)


@fault("running_mean running_var", training, source="own: in place and returned")
class updates_the_statistics_twice(BatchNorm):
    """The arrays are updated in place, and what is returned is an update of those."""

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        running_mean[...], running_var[...] = super().tracked(
            running_mean, running_var, mean, var, momentum, m, training
        )
        return super().tracked(running_mean, running_var, mean, var, momentum, m, training)


@fault("running_mean running_var", training, source="H123 aprender PR#2166; M68 by hand: never updated")
class never_updates_the_statistics(Switched):
    """The running statistics come back as they were, in training too."""

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        return running_mean, running_var


@fault("running_mean running_var", training, source="own: read too early")
class returns_the_statistics_before_the_update(BatchNorm):
    """The arrays are updated in place, but copies made before that are returned."""

    def tracked(self, running_mean, running_var, *others):
        before = running_mean.copy(), running_var.copy()
        running_mean[...], running_var[...] = super().tracked(running_mean, running_var, *others)
        return before


@fault("running_mean", training & several_elements, source="own: a sum that is not divided")
class adds_the_sum_to_the_running_mean(BatchNorm):
    """The running mean moves towards the sum of the batch instead of its mean."""

    def tracked(self, running_mean, running_var, mean, var, momentum, m, training):
        return super().tracked(running_mean, running_var, m * mean, var, momentum, m, training)


@fault("running_var", training & varied, source="H125 Keras#8982, tensorflow#55545; M68 by hand: biased")
class forgets_bessel_in_the_running_variance(Switched):
    """The running variance is that over m instead of over m - 1."""

    def bessel(self, m):
        return 1


@fault("running_mean running_var", evaluating, source="M68 by hand: updated in eval")
class updates_the_statistics_in_eval(Switched):
    """Every forward moves the running statistics, in eval too."""

    def forward(self, x, *others):
        out, cache, *tracked = super().forward(x, *others)
        if not cache.training:
            tracked = self.tracked(*others[4:], *self.statistics(self.rows(x)), 0.1, len(x), True)
        return out, cache, *tracked


@fault("running_mean running_var", training, source="M68 by hand: updated in the backward")
class updates_the_statistics_in_the_backward(Switched):
    """The backward runs the forward's update once more, on the arrays that were passed."""

    def forward(self, x, *others):
        out, cache, *tracked = super().forward(x, *others)
        return out, (cache, *others[4:]), *tracked

    def batchnorm_backward(self, dout, cache):
        cache, mean, var = cache
        mean[...], var[...] = self.tracked(mean, var, cache.mean, cache.var, 0.1, len(cache.rows), cache.training)
        return super().batchnorm_backward(dout, cache)


@fault("dx", evaluating, source="H111 xla#913, xla#3361; M67 by hand")
class differentiates_eval_as_training(BatchNorm):
    """dx in eval goes through the batch's mean and variance too."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache._replace(training=True))


@fault("dgamma", evaluating, source="H113 tensorflow#10857")
class takes_dgamma_of_the_batch_in_eval(BatchNorm):
    """In eval dgamma is summed over the xhat of the batch's own mean and variance."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        if not cache.training:
            mean, var = self.statistics(cache.rows)
            dgamma = (self.rows(dout) * (cache.rows - mean) * self.scale(var, cache.eps, False)).sum(axis=0)
        return dx, dgamma, dbeta


@fault("dgamma dbeta", evaluating, source="own: eval is taken for frozen")
class gives_no_gradients_to_the_parameters_in_eval(BatchNorm):
    """In eval dgamma and dbeta are zeros."""

    def batchnorm_backward(self, dout, cache):
        dx, *sums = super().batchnorm_backward(dout, cache)
        return dx, *[a if cache.training else np.zeros_like(a) for a in sums]


@fault("dx", evaluating & running_spread, source="H115 chainer PR#3468")
class leaves_the_deviation_out_of_dx_in_eval(BatchNorm):
    """In eval dx is gamma dout, not divided by sqrt(running_var + eps)."""

    def dx(self, upstream, dgamma, dbeta, cache):
        return super().dx(upstream, dgamma, dbeta, cache if cache.training else cache._replace(scale=1))


@fault("out dx dgamma", evaluating, source="H119 chainer PR#2214")
class forgets_eps_in_eval(Switched):
    """In eval x is divided by sqrt(running_var)."""

    def scale(self, var, eps, training):
        return super().scale(var, eps if training else 0, training)


@fault("out dgamma", evaluating, source="own: one of the two is switched")
class takes_the_mean_of_the_batch_in_eval(BatchNorm):
    """In eval the running variance is used, but the mean is that of the batch."""

    def forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        mean = running_mean if training else self.statistics(self.rows(x))[0]
        found = super().forward(x, gamma, beta, eps, training, mean, running_var, momentum)
        return found if training else (*found[:2], running_mean, running_var)


@fault("out dx dgamma", evaluating, source="own: training is not handed on")
class normalizes_by_the_batch_in_eval(BatchNorm):
    """In eval x is normalized by the batch's statistics, and the running ones are handed back unused."""

    def forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        mean, var = (running_mean, running_var) if training else self.statistics(self.rows(x))
        found = super().forward(x, gamma, beta, eps, training, mean, var, momentum)
        return found if training else (*found[:2], running_mean, running_var)


@fault("running_var", evaluating, source="own: inverted in place")
class adds_eps_to_the_running_variance_in_eval(BatchNorm):
    """In eval eps is added to running_var in the array that was passed."""

    def scale(self, var, eps, training):
        if training:
            return super().scale(var, eps, training)
        var += eps
        return 1 / np.sqrt(var)


@fault("out dx dgamma identities", several_images, source="own: instance norm")
class normalizes_every_image_by_itself(Imaged):
    """The statistics of images are taken over the pixels of each one, not over the batch."""

    def batchnorm_forward(self, x, gamma, beta):
        x = np.ascontiguousarray(x)
        n = len(x) if x.ndim > 2 else 1
        out, cache = self.forward(x.reshape(len(x) // n, -1, *x.shape[2:]), np.tile(gamma, n), np.tile(beta, n))
        return out.reshape(x.shape), cache

    def batchnorm_backward(self, dout, cache):
        n, shape = cache.rows.shape[1] // dout.shape[1], dout.shape
        dx, *sums = super().batchnorm_backward(dout.reshape(len(dout) // n, -1, *shape[2:]), cache)
        return dx.reshape(shape), *[a.reshape(n, -1).sum(axis=0) for a in sums]


@fault("out dx dgamma identities", images, source="own: statistics for each activation")
class normalizes_every_pixel_by_itself(Imaged):
    """The statistics of images are taken over the batch for each pixel, not over the pixels too."""

    def batchnorm_forward(self, x, gamma, beta):
        x, pixels = np.ascontiguousarray(x), x[0, 0].size
        out, cache = self.forward(x.reshape(len(x), -1), np.repeat(gamma, pixels), np.repeat(beta, pixels))
        return out.reshape(x.shape), cache

    def batchnorm_backward(self, dout, cache):
        dx, *sums = super().batchnorm_backward(dout.reshape(len(dout), -1), cache)
        return dx.reshape(dout.shape), *[a.reshape(dout.shape[1], -1).sum(axis=1) for a in sums]


@fault(
    "out dx dgamma running_mean running_var identities", training & wide, source="own: one spatial axis is forgotten"
)
class divides_the_mean_by_the_height(Pictured):
    """The sum over N H W pixels is divided by N H to give the mean."""

    def rows(self, x):
        self.width = x.shape[3]
        return super().rows(x)

    def statistics(self, rows):
        mean = rows.mean(axis=0) * self.width
        return mean, ((rows - mean) ** 2).mean(axis=0)


@fault("out", ambiguous, source="own: gamma[:, None, None]")
class scales_rows_of_pixels_by_gamma(ChannelsLast):
    """gamma and beta go with the axis behind the batch, where that is as long as the last."""

    def forward(self, x, gamma, beta, *others):
        out, cache, *tracked = super().forward(x, gamma, beta, *others)
        if len(gamma) == x.shape[1]:
            out = gamma[:, None, None] * cache.xhat.reshape(x.shape) + beta[:, None, None]
        return out, cache, *tracked


@fault("running_var", training & not_so_many_channels & varied, source="H137 nnabla PR#1169")
class counts_rows_of_pixels_as_channels(ChannelsLast):
    """m / (m - 1) of the running variance counts as if the channels came first: m is N W C."""

    def rows(self, x):
        self.m = x.size // x.shape[1]
        return super().rows(x)

    def bessel(self, m):
        return super().bessel(self.m)


@fault("out dx dgamma dbeta running_mean running_var", ambiguous, source="own: guessed layouts")
class guesses_the_layout_from_the_shape(ChannelsLast):
    """Where the axis behind the batch is as long as the last, it is taken for the channels."""

    def rows(self, x):
        return BatchNorm.rows(self, x) if x.shape[1] == x.shape[-1] else super().rows(x)

    def images(self, rows, shape):
        return BatchNorm.images(self, rows, shape) if shape[1] == shape[-1] else super().images(rows, shape)
