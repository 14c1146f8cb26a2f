"""Batch norms that come by their mean and variance, or round them, in a way that looks wrong and is right."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from backproof.plugins.gallery.equivalents import sums
from backproof.plugins.gallery.equivalents.batchnorm import BOTH, Kept, Normed
from backproof.plugins.gallery.fault import equivalent


class Averaged(Normed):
    """Every sum in one place, `total`."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "batchnorm": {"spatial_dims": (0,)}}

    def total(self, terms):
        return terms.sum(axis=0)

    def statistics(self, a):
        m = a.dtype.type(len(a))
        mean = self.total(a) / m
        return mean, self.total((a - mean) * (a - mean)) / m

    def back(self, up, kept):
        m, dgamma, dbeta = up.dtype.type(len(up)), self.total(up * kept.xhat), self.total(up)
        through = (dbeta + kept.xhat * dgamma) / m if kept.training else 0
        return kept.gamma * kept.inverse * (up - through), dgamma, dbeta


@equivalent("own")
class averages_in_pairs(Averaged):
    """The sums are those of halves of halves, so they differ from a loop's in their last digits. Both round."""

    total = staticmethod(sums.pairwise)


@equivalent("own")
class averages_one_after_the_other(Averaged):
    """Nothing is done against rounding, neither in the mean nor in the variance, whose errors grow with m."""

    total = staticmethod(sums.one_after_the_other)


@equivalent("own")
class averages_from_the_end(Averaged):
    """The loops run from the last sample to the first. A sum has no order."""

    total = staticmethod(sums.from_the_end)


@equivalent("own")
class averages_the_smallest_first(Averaged):
    """The terms are sorted by size, for every channel otherwise. A sum has no order."""

    total = staticmethod(sums.smallest_first)


@equivalent("own")
class averages_in_blocks(Averaged):
    """The sums run over blocks of four samples; what is left behind the last of them is added apart."""

    total = staticmethod(sums.in_blocks)


@equivalent("own: Kahan's sum")
class averages_with_compensation(Averaged):
    """Each term is changed before it is added, by what the last addition rounded away. In exact numbers that is 0."""

    total = staticmethod(sums.compensated)


@equivalent("own")
class averages_without_rounding(Averaged):
    """The sums are computed without rounding, so they are better than any reference's in the same format."""

    total = staticmethod(sums.without_rounding)


@equivalent("own: float32 with a longer accumulator")
class averages_in_float64(Averaged):
    """float32 is summed in float64 and rounded once. A longer accumulator is allowed, a shorter one is not."""

    total = staticmethod(sums.in_float64)


@equivalent("own: Welford's variance, as torch's on the CPU")
class updates_mean_and_variance_together(Normed):
    """Each sample is measured from the mean before it and the mean after it, and both are wrong but for the last."""

    def statistics(self, a):
        mean, squares = np.zeros_like(a[0]), np.zeros_like(a[0])
        for k, row in enumerate(a, 1):
            before = row - mean
            mean = mean + before / a.dtype.type(k)
            squares = squares + before * (row - mean)
        return mean, squares / a.dtype.type(len(a))


@equivalent("own: Chan, Golub and LeVeque, 1983")
class merges_the_statistics_of_halves(Normed):
    """The batch is halved until one sample is left; two halves have their variances and the distance of their means."""

    def statistics(self, a):
        if len(a) == 1:
            return a[0], np.zeros_like(a[0])
        n, m = a.dtype.type(len(a) // 2), a.dtype.type(len(a))
        (mean, var), (other, other_var) = self.statistics(a[: len(a) // 2]), self.statistics(a[len(a) // 2 :])
        apart, share = other - mean, (m - n) / m
        return mean + share * apart, (1 - share) * var + share * other_var + share * (1 - share) * apart * apart


@equivalent("own: the two-pass variance, corrected")
class corrects_the_variance_by_the_deviations(Normed):
    """The square of the mean deviation is subtracted from the variance. It is 0 but for the rounding of the mean."""

    def statistics(self, a):
        mean, m = a.mean(axis=0), a.dtype.type(len(a))
        away = a - mean
        left = away.sum(axis=0)
        return mean, ((away * away).sum(axis=0) - left * left / m) / m


@equivalent("own")
class measures_how_far_samples_are_apart(Normed):
    """The variance knows no mean: it is half of the mean square of the differences of all pairs of samples."""

    def statistics(self, a):
        apart = a[:, None] - a
        # A mean of means: one sum of m x m terms would round more than a sum over the channel may.
        return a.mean(axis=0), (apart * apart).mean(axis=1).mean(axis=0) / 2


@equivalent("own: apex and other kernels for float32")
class subtracts_squares_in_float64(Normed):
    """The variance is mean(x^2) - mean(x)^2, which is a fault in float32; float64 has the digits that cancel."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": ("float32",), "batchnorm": {"spatial_dims": (0, 2)}}

    def statistics(self, a):
        wide = a.astype(np.float64)
        mean = wide.mean(axis=0)
        var = np.maximum((wide * wide).mean(axis=0) - mean * mean, 0)
        return mean.astype(a.dtype), var.astype(a.dtype)


@equivalent("own: shifted data")
class measures_from_the_first_sample(Normed):
    """The variance is a difference of squares, which cancel; but they are squares of what is left without a sample."""

    def statistics(self, a):
        shifted = a - a[0]
        mean = shifted.mean(axis=0)
        return a[0] + mean, np.maximum((shifted * shifted).mean(axis=0) - mean * mean, 0)


@equivalent("own: the running statistics as a step")
class moves_the_statistics_by_the_difference(Normed):
    """The old statistics are never multiplied by 1 - momentum: they move by a share of the way to the new ones."""

    def moved(self, old, new, momentum):
        return old + new.dtype.type(momentum) * (new - old)


@equivalent("own: 16 bits differ from float32")
class keeps_xhat_in_16_bits(Normed):
    """The backward uses the xhat that was rounded to 16 bits, though mean and variance were computed in float32."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        "dtypes": ("float16", "bfloat16"),
        "batchnorm": {"spatial_dims": (2,)},
    }

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        x, gamma, beta, means, variances = wide(x, gamma, beta, running_mean, running_var)
        out, kept, *statistics = super().batchnorm_forward(x, gamma, beta, eps, training, means, variances, momentum)
        xhat = kept.xhat.astype(running_mean.dtype)
        statistics = [a.astype(running_mean.dtype) for a in statistics]
        return out.astype(running_mean.dtype), (xhat, gamma, kept.inverse, training), *statistics

    def batchnorm_backward(self, dout, cache):
        xhat, gamma, inverse, training = cache
        # As rows that have mean 0 and variance 1 already.
        kept = Kept(*wide(xhat), gamma * inverse, 0, 1, training)
        dx, dgamma, dbeta = super().batchnorm_backward(*wide(dout), kept)
        return [a.astype(dout.dtype) for a in (dx, dgamma, dbeta)]


@equivalent("own: cuDNN's parameters under 16 bits")
class keeps_its_parameters_in_float32(Normed):
    """gamma, beta, the statistics and their gradients are float32 while x, out and dx have 16 bits, as declared."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        "dtypes": ("float16", "bfloat16"),
        "batchnorm": {"spatial_dims": (0,), "parameters": "float32"},
    }

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        arrays = gamma, beta, eps, training, running_mean, running_var, momentum
        out, *rest = super().batchnorm_forward(*wide(x), *arrays)
        return out.astype(x.dtype), *rest

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(*wide(dout), cache)
        return dx.astype(dout.dtype), dgamma, dbeta


def wide(*arrays):
    """The arrays in float32."""
    return [a.astype(np.float32) for a in arrays]
