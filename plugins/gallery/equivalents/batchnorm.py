"""Batch norms whose formulas or results look wrong and are right."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from backproof.plugins.gallery.fault import equivalent

BOTH = ("float64", "float32")


class Kept(NamedTuple):
    """What a backward needs; x has a row for each element of a channel."""

    x: Any
    gamma: Any
    mean: Any
    inverse: Any
    training: bool

    @property
    def xhat(self):
        return (self.x - self.mean) * self.inverse


class Normed:
    """Each step in a place of its own."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "batchnorm": {"spatial_dims": (2,)}}
    #: The conventions of the running statistics.
    biased, momentum_of_the_old = False, False

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        return self.forward(x, gamma, beta, eps, training, running_mean, running_var, momentum)

    def forward(self, x, gamma, beta, eps, training=True, running_mean=0, running_var=1, momentum=0.1):
        a = self.rows(x)
        mean, var = self.statistics(a) if training else (running_mean, running_var)
        if training:
            bessel = a.dtype.type(1 if self.biased else len(a) / max(len(a) - 1, 1))
            running_mean = self.moved(running_mean, mean, momentum)
            running_var = self.moved(running_var, var * bessel, momentum)
        kept = Kept(a, gamma, mean, self.inverse(var, a.dtype.type(eps), len(a)), training)
        return self.images(self.out(kept, beta), x.shape), kept, running_mean, running_var

    def batchnorm_backward(self, dout, kept):
        dx, dgamma, dbeta = self.back(self.rows(dout), kept)
        return self.images(dx, dout.shape), dgamma, dbeta

    def rows(self, x):
        return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])

    def images(self, a, shape):
        return np.moveaxis(a.reshape(shape[0], *shape[2:], shape[1]), -1, 1)

    def statistics(self, a):
        return a.mean(axis=0), a.var(axis=0)

    def moved(self, old, new, momentum):
        share = new.dtype.type(1 - momentum if self.momentum_of_the_old else momentum)
        return (1 - share) * old + share * new

    def inverse(self, var, eps, m):
        return 1 / np.sqrt(var + eps)

    def out(self, kept, beta):
        return kept.xhat * kept.gamma + beta

    def back(self, up, kept):
        m, dgamma, dbeta = up.dtype.type(len(up)), (up * kept.xhat).sum(axis=0), up.sum(axis=0)
        through = (dbeta + kept.xhat * dgamma) / m if self.moves(kept) else 0
        return kept.gamma * kept.inverse * (up - through), dgamma, dbeta

    def moves(self, kept):
        """Whether mean and variance depend on x."""
        return kept.training


@equivalent("PyTorch #5406, MXNet #9580: training and eval differ")
class goes_back_otherwise_in_eval(Normed):
    """dx of eval has one term and not three: the statistics do not depend on x there."""

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var):
        return self.forward(x, gamma, beta, eps, training, running_mean, running_var)


@equivalent("PyTorch #19902, #7028, #60528, #77427, #106366: the running variance is not the one that normalises")
class tracks_another_variance_than_it_divides_by(Normed):
    """The batch is divided by the root of its biased variance, and the unbiased one is tracked: the convention."""

    def batchnorm_forward(self, x, gamma, beta, eps, running_mean, running_var, momentum):
        return self.forward(x, gamma, beta, eps, True, running_mean, running_var, momentum)


@equivalent("PyTorch #19902, #7028, #60528, #77427, #106366: the running variance is not the one that normalises")
class tracks_the_biased_variance(Normed):
    """The biased variance is tracked, as declared."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        "dtypes": BOTH,
        "batchnorm": {"spatial_dims": (0,), "running_var": "biased"},
    }
    biased = True


@equivalent("own: Keras and Caffe")
class weighs_the_old_value_by_momentum(Normed):
    """The running statistics keep a share `momentum` of what they were, as declared."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "batchnorm": {"spatial_dims": (1,), "momentum": "old"}}
    momentum_of_the_old = True


@equivalent("MXNet #12899: dgamma is missing")
class fixes_gamma_at_one(Normed):
    """There is no gamma and no dgamma: what the forward does not take has no gradient."""

    def batchnorm_forward(self, x, beta, eps):
        return self.forward(x, x.dtype.type(1), beta, eps)[:2]

    def batchnorm_backward(self, dout, kept):
        return super().batchnorm_backward(dout, kept)[::2]


@equivalent("PyTorch #2330: a gradient is missing")
class leaves_out_what_nobody_wants(Normed):
    """The gradients come as a dict, in which that of a gamma or a beta that was None is missing."""

    def batchnorm_forward(self, x, gamma=None, beta=None, *, eps):
        scale, shift = x.dtype.type(1) if gamma is None else gamma, 0 if beta is None else beta
        out, kept, *_ = self.forward(x, scale, shift, eps)
        return out, (kept, gamma, beta)

    def batchnorm_backward(self, dout, cache):
        kept, gamma, beta = cache
        dx, dgamma, dbeta = super().batchnorm_backward(dout, kept)
        wanted = {} if gamma is None else {"dgamma": dgamma}
        return {"dx": dx, **wanted} if beta is None else {"dbeta": dbeta, **wanted, "dx": dx}


@equivalent("Darknet #1723, #1634, MXNet #1053, mlpack #2474: a path is missing")
class adds_the_vanishing_term(Normed):
    """dmean has a part that comes through the variance, as in the paper of 2015: a multiple of sum(x - mean), so 0."""

    def back(self, up, kept):
        if not kept.training:
            return super().back(up, kept)
        m, away, dxhat = up.dtype.type(len(up)), kept.x - kept.mean, up * kept.gamma
        dvar = -(dxhat * away).sum(axis=0) * kept.inverse**3 / 2
        dmean = self.mean_path(dxhat, kept) + dvar * self.through_variance(kept)
        dx = dxhat * kept.inverse + dvar * 2 * away / m + dmean / m
        return dx, (up * kept.xhat).sum(axis=0), up.sum(axis=0)

    def mean_path(self, dxhat, kept):
        return -(dxhat * kept.inverse).sum(axis=0)

    def through_variance(self, kept):
        return -2 * (kept.x - kept.mean).mean(axis=0)


@equivalent("Darknet #1723, #1634, MXNet #1053, mlpack #2474: a path is missing")
class leaves_out_the_vanishing_term(adds_the_vanishing_term):
    """The path from the variance through the mean is missing from dmean. It is a multiple of sum(x - mean), so 0."""

    def through_variance(self, kept):
        return 0


@equivalent("own: the graph of CS231n")
class goes_back_in_ten_steps(Normed):
    """The backward undoes the forward's steps one by one, and x - mean gets its gradient in two parts."""

    def back(self, up, kept):
        m, away = up.dtype.type(len(up)), kept.x - kept.mean
        dgamma, dbeta = (up * (away * kept.inverse)).sum(axis=0), up.sum(axis=0)
        dxhat = up * kept.gamma
        daway = dxhat * kept.inverse
        if not kept.training:
            return daway, dgamma, dbeta
        dinverse = (dxhat * away).sum(axis=0)
        droot = -dinverse * kept.inverse**2
        dvar = droot * kept.inverse / 2
        dsquares = np.ones_like(up) * (dvar / m)
        daway = daway + 2 * away * dsquares
        dmean = -daway.sum(axis=0)
        return daway + np.ones_like(up) * (dmean / m), dgamma, dbeta


@equivalent("own")
class multiplies_by_the_whole_jacobian(Normed):
    """dx is the product of dout with a matrix of m x m derivatives for each channel."""

    def back(self, up, kept):
        _, dgamma, dbeta = super().back(up, kept)
        eye, xhat = np.eye(len(up), dtype=up.dtype)[:, :, None], kept.xhat
        paths = (1 + xhat[:, None] * xhat) / up.dtype.type(len(up)) if kept.training else 0
        jacobian = kept.gamma * kept.inverse * (eye - paths)
        return np.einsum("ijc,jc->ic", jacobian, up), dgamma, dbeta


@equivalent("own: torch's and cuDNN's inference")
class folds_all_into_one_factor(Normed):
    """out is x * factor + summand and never x - mean: the two terms cancel where the mean is large, as they may."""

    def out(self, kept, beta):
        factor = kept.gamma * kept.inverse
        return kept.x * factor + (beta - kept.mean * factor)


@equivalent("own: batch norm folded into the layer before it")
class folds_eval_alone_into_one_factor(folds_all_into_one_factor):
    """Training and eval compute out by different formulas, and so do their gradients: dx of eval is dout * factor."""

    def out(self, kept, beta):
        return kept.xhat * kept.gamma + beta if kept.training else super().out(kept, beta)

    def back(self, up, kept):
        _, dgamma, dbeta = super().back(up, kept)
        return super().back(up, kept)[0] if kept.training else up * (kept.gamma * kept.inverse), dgamma, dbeta


@equivalent("own")
class takes_dgamma_from_the_centred_dout(Normed):
    """In training the mean of dout is subtracted before dgamma is computed. xhat sums to 0, so it does not matter."""

    def back(self, up, kept):
        if not kept.training:
            return super().back(up, kept)
        centred, xhat = up - up.mean(axis=0), kept.xhat
        dgamma = (centred * xhat).sum(axis=0)
        dx = kept.gamma * kept.inverse * (centred - xhat * (dgamma / up.dtype.type(len(up))))
        return dx, dgamma, up.sum(axis=0)


@equivalent("own")
class shrinks_the_unbiased_variance(Normed):
    """The variance is divided by m - 1; it is multiplied by (m - 1) / m before anything is divided by its root."""

    def statistics(self, a):
        m = a.dtype.type(len(a))
        away = a - a.mean(axis=0)
        unbiased = (away * away).sum(axis=0) / max(m - 1, 1)
        return a.mean(axis=0), unbiased * ((m - 1) / m)


@equivalent("own")
class multiplies_eps_by_m(Normed):
    """The root is that of m var + m eps, and its inverse is multiplied by the root of m."""

    def inverse(self, var, eps, m):
        m = var.dtype.type(m)
        return np.sqrt(m) / np.sqrt(m * var + m * eps)


@equivalent("own: Kratzert's formula in short")
class multiplies_dout_by_m(Normed):
    """dx begins with m times dout, and everything is divided by m at the end."""

    def back(self, up, kept):
        if not kept.training:
            return super().back(up, kept)
        m, dgamma, dbeta = up.dtype.type(len(up)), (up * kept.xhat).sum(axis=0), up.sum(axis=0)
        return kept.gamma * kept.inverse / m * (m * up - dbeta - kept.xhat * dgamma), dgamma, dbeta


@equivalent("own")
class normalises_one_channel_after_the_other(Normed):
    """Every channel is a batch norm of its own: no channel's statistics or gradients know of another."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "batchnorm": {"spatial_dims": (1,)}}

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        of_each = zip(gamma, beta, running_mean, running_var, strict=True)
        parts = []
        for k, (scale, shift, mean, var) in enumerate(of_each):
            parts.append(self.forward(x[:, k : k + 1], scale, shift, eps, training, mean, var, momentum))
        outs, kept, means, variances = zip(*parts, strict=True)
        return np.concatenate(outs, axis=1), kept, *[np.ravel(a).astype(x.dtype) for a in (means, variances)]

    def batchnorm_backward(self, dout, cache):
        parts = [Normed.batchnorm_backward(self, dout[:, k : k + 1], kept) for k, kept in enumerate(cache)]
        dxs, dgammas, dbetas = zip(*parts, strict=True)
        return np.concatenate(dxs, axis=1), np.concatenate(dgammas), np.concatenate(dbetas)


@equivalent("own: TensorFlow's layout")
class takes_the_channels_last(Normed):
    """The sums run over all axes but the last, as declared."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        "dtypes": BOTH,
        "batchnorm": {"spatial_dims": (2,), "layout": "channels_last"},
    }

    def rows(self, x):
        return x.reshape(-1, x.shape[-1])

    def images(self, a, shape):
        return a.reshape(shape)


@equivalent("own: in place, as torch does")
class writes_the_statistics_in_place(Normed):
    """The forward returns no statistics; it writes the new ones into the arrays that were passed."""

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        statistics = running_mean, running_var, momentum
        out, kept, new_mean, new_var = self.forward(x, gamma, beta, eps, training, *statistics)
        if training:
            running_mean[...], running_var[...] = new_mean, new_var
        return out, kept


@equivalent("own")
class writes_the_statistics_in_place_and_returns_them(Normed):
    """The new statistics are the arrays that were passed, changed in place and returned."""

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        statistics = running_mean, running_var, momentum
        out, kept, running_mean[...], running_var[...] = self.forward(x, gamma, beta, eps, training, *statistics)
        return out, kept, running_mean, running_var


@equivalent("own: checkpointing")
class remembers_its_inputs_alone(Normed):
    """The cache holds the very arrays that were passed, and the backward goes forward once more."""

    def forward(self, *arrays_and_options):
        out, _, *statistics = super().forward(*arrays_and_options)
        return out, arrays_and_options, *statistics

    def batchnorm_backward(self, dout, cache):
        return super().batchnorm_backward(dout, super().forward(*cache)[1])
