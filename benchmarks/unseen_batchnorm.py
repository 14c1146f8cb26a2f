"""Thirteen faulty batch norms and the right ones that each of them changes in one place, for benchmarks/unseen.py."""

# The implementations are written as users write theirs, and the gallery's right ones without types.
# ruff: noqa: D102
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backproof.conformance.spec.case import Case
from backproof.plugins.gallery.batchnorm import bases
from backproof.plugins.gallery.conditions import (
    ALWAYS,
    Condition,
    asked_as,
    channel_axes,
    elements_a_channel,
    evaluating,
    missing,
    several_channels,
    several_samples,
    shape,
    training,
    when,
)

Array = NDArray[Any]

#: The rows whose statistics are taken at once.
CHUNK = 4


class Staged:
    """Right, in the nine steps of the computational graph, forwards and backwards."""

    def batchnorm_forward(self, x: Array, gamma: Array, beta: Array, eps: float) -> Any:
        xmu = x - x.mean(axis=0)
        var = (xmu**2).mean(axis=0)
        sqrtvar = np.sqrt(var + eps)
        ivar = 1.0 / sqrtvar
        xhat = xmu * ivar
        return gamma * xhat + beta, (xhat, gamma, xmu, ivar, sqrtvar, var)

    def batchnorm_backward(self, dout: Array, cache: Any) -> Any:
        xhat, gamma, xmu, ivar, sqrtvar, var = cache
        n = len(dout)
        dbeta, dgamma = dout.sum(axis=0), (dout * xhat).sum(axis=0)
        dxhat = dout * gamma
        divar, dxmu1 = (dxhat * xmu).sum(axis=0), dxhat * ivar
        dsqrtvar = -divar / self._square(sqrtvar, var)
        dvar = 0.5 * dsqrtvar / sqrtvar
        dsq = np.ones_like(dout) / n * dvar
        dxmu2 = self._of_square(xmu, dsq)
        dx1 = dxmu1 + dxmu2
        dmu = -dx1.sum(axis=0)
        return dx1 + dmu / n, dgamma, dbeta

    def _square(self, sqrtvar: Array, var: Array) -> Any:
        return sqrtvar**2

    def _of_square(self, xmu: Array, dsq: Array) -> Any:
        return 2 * xmu * dsq


class SquareWithoutItsTwo(Staged):
    """The step back through the square multiplies by x - mean, and not by twice that."""

    def _of_square(self, xmu: Array, dsq: Array) -> Any:
        return xmu * dsq


class RootSquaredIsTheVariance(Staged):
    """The step back through 1/sqrt(var + eps) divides by the cached var, which has no eps in it."""

    def _square(self, sqrtvar: Array, var: Array) -> Any:
        return var


class Images:
    """Right, for images that need not be square."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"batchnorm": {"spatial_dims": (2,)}}

    def batchnorm_forward(self, x: Array, gamma: Array, beta: Array) -> Any:
        flat = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
        centred = flat - flat.mean(axis=1, keepdims=True)
        scale = 1 / np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 1e-5)
        out = self._unfolded(gamma[:, None] * centred * scale + beta[:, None], x.shape)
        return out, (centred * scale, gamma[:, None] * scale)

    def batchnorm_backward(self, dout: Array, cache: Any) -> Any:
        xhat, factor = cache
        upstream = dout.transpose(1, 0, 2, 3).reshape(dout.shape[1], -1)
        dgamma, dbeta = (upstream * xhat).sum(axis=1), upstream.sum(axis=1)
        m = self._count(*dout.shape)
        dx = factor / m * (m * upstream - dbeta[:, None] - xhat * dgamma[:, None])
        return self._unfolded_back(dx, dout.shape), dgamma, dbeta

    def _unfolded(self, flat: Array, shape: Any) -> Array:
        samples, channels, high, wide = shape
        return flat.reshape(channels, samples, high, wide).transpose(1, 0, 2, 3)

    def _unfolded_back(self, flat: Array, shape: Any) -> Array:
        return self._unfolded(flat, shape)

    def _count(self, samples: int, channels: int, high: int, wide: int) -> int:
        return samples * high * wide


class HeightTakenForWidth(Images):
    """The backward counts the elements of a channel as samples * height * height."""

    def _count(self, samples: int, channels: int, high: int, wide: int) -> int:
        return samples * high * high


class UnfoldedInOneStep(Images):
    """dx, held as (channels, samples * pixels), is reshaped to x's shape without moving the samples to the front."""

    def _unfolded_back(self, flat: Array, shape: Any) -> Array:
        return flat.reshape(shape)


class Signals:
    """Right: one channel after the other, with loops for the sums of the backward."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"batchnorm": {"spatial_dims": (0, 1)}}

    def batchnorm_forward(self, x: Array, gamma: Array, beta: Array) -> Any:
        out, kept = np.empty_like(x), []
        for c in range(x.shape[1]):
            centred = x[:, c] - x[:, c].mean()
            scale = 1 / np.sqrt((centred * centred).mean() + 1e-5)
            kept.append((centred * scale, gamma[c] * scale))
            out[:, c] = gamma[c] * kept[c][0] + beta[c]
        return out, kept

    def batchnorm_backward(self, dout: Array, cache: Any) -> Any:
        dx, dgamma, dbeta = np.empty_like(dout), np.empty(len(cache), dout.dtype), np.empty(len(cache), dout.dtype)
        total = product = 0.0
        for c, (xhat, factor) in enumerate(cache):
            total, product = self._begun(total, product)
            for sample, normal in zip(dout[:, c], xhat, strict=True):
                total += sample.sum()
                product += (sample * normal).sum()
            dgamma[c], dbeta[c] = product, total
            dx[:, c] = factor * (dout[:, c] - (total + xhat * product) / xhat.size)
        return dx, dgamma, dbeta

    def _begun(self, total: float, product: float) -> tuple[float, float]:
        return 0.0, 0.0


class SumsRunOnIntoTheNextChannel(Signals):
    """The two sums of a channel are set to zero before the loop over the channels and not within it."""

    def _begun(self, total: float, product: float) -> tuple[float, float]:
        return total, product


class Chunked:
    """Right: mean and variance of chunks of rows, merged by their counts."""

    def batchnorm_forward(self, x: Array, gamma: Array, beta: Array, eps: float) -> Any:
        parts = [x[start : start + CHUNK] for start in range(0, len(x), CHUNK)]
        weights = self._weights([len(part) for part in parts])[:, None]
        means = np.stack([part.mean(axis=0) for part in parts])
        mean = (weights * means).sum(axis=0)
        within = np.stack([part.var(axis=0) for part in parts])
        var = (weights * (within + (means - mean) ** 2)).sum(axis=0)
        scale = (var + eps) ** -0.5
        return (x - mean) * scale * gamma + beta, (x - mean, scale, gamma)

    def batchnorm_backward(self, dout: Array, cache: Any) -> Any:
        centred, scale, gamma = cache
        dgamma, dbeta = np.einsum("nc,nc,c->c", dout, centred, scale), np.einsum("nc->c", dout)
        dx = gamma * scale * (dout - dbeta / len(dout) - centred * scale * dgamma / len(dout))
        return dx, dgamma, dbeta

    def _weights(self, counts: list[int]) -> Array:
        return np.array(counts) / sum(counts)


class ChunksCountAlike(Chunked):
    """The statistics of chunks of rows are averaged, the last and smaller chunk with the weight of a whole one."""

    def _weights(self, counts: list[int]) -> Array:
        return np.full(len(counts), 1 / len(counts))


class EvalCentresDout(bases.BatchNorm):
    """In eval the gradient through the variance is left out, and the one through the mean is not."""

    def dx(self, upstream: Array, dgamma: Array, dbeta: Array, cache: Any) -> Any:
        if cache.training:
            return super().dx(upstream, dgamma, dbeta, cache)
        return cache.gamma * cache.scale * (upstream - upstream.mean(axis=0))


class Recomputing(bases.ChannelsLast):
    """Right, and keeps x instead of what is normalised."""

    def batchnorm_backward(self, dout: Array, cache: Any) -> Any:
        mean, var = self._again(cache)
        xhat = (cache.rows - mean) / np.sqrt(var + cache.eps)
        return super().batchnorm_backward(dout, cache._replace(xhat=xhat))

    def _again(self, cache: Any) -> tuple[Array, Array]:
        return cache.mean, cache.var


class RecomputedFromTheBatch(Recomputing):
    """To save memory the backward normalises x again, with the batch's mean and variance in eval mode too."""

    def _again(self, cache: Any) -> tuple[Array, Array]:
        return cache.rows.mean(axis=0), cache.rows.var(axis=0)


class InPlace(bases.BatchNorm):
    """Right: updates the running statistics in place."""

    def tracked(self, running_mean: Array, running_var: Array, mean: Array, var: Array, *others: Any) -> Any:
        new = super().tracked(running_mean, running_var, mean, var, *others)
        self._store(running_mean, running_var, *new)
        return self._returned(running_mean, running_var, mean, var, *others)

    def _store(self, running_mean: Array, running_var: Array, new_mean: Array, new_var: Array) -> None:
        running_mean[...] = new_mean
        running_var[...] = new_var

    def _returned(self, running_mean: Array, running_var: Array, *others: Any) -> Any:
        return running_mean, running_var


class AveragedInPlaceAndAgain(InPlace):
    """The moving averages are updated in place, and what is returned is the same formula applied to them again."""

    def _returned(self, running_mean: Array, running_var: Array, *others: Any) -> Any:
        return bases.BatchNorm.tracked(self, running_mean, running_var, *others)


class Optional:
    """Right, with gamma and beta or without them."""

    def batchnorm_forward(self, x: Array, gamma: Array | None = None, beta: Array | None = None) -> Any:
        centred = x - np.add.reduce(x) / len(x)
        scale = 1 / np.sqrt(np.add.reduce(centred**2) / len(x) + 1e-5)
        out = xhat = centred * scale
        out = out if gamma is None else out * gamma
        return out if beta is None else out + beta, (xhat, scale, gamma, beta)

    def batchnorm_backward(self, dout: Array, cache: Any) -> Any:
        xhat, scale, gamma, beta = cache
        dxhat = dout if gamma is None else dout * gamma
        dx = scale * (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0))
        dgamma = None if gamma is None else (dout * xhat).sum(axis=0)
        return self._gradients(dx, dgamma, None if beta is None else dout.sum(axis=0))

    def _gradients(self, *gradients: Array | None) -> Any:
        return gradients


class GradientsMovedUp(Optional):
    """The gradients that there are go into a list one after the other; without gamma dbeta is in dgamma's place."""

    def _gradients(self, *gradients: Array | None) -> Any:
        there = [gradient for gradient in gradients if gradient is not None]
        return [*there, *[None] * (len(gradients) - len(there))]


class FlatChannelsLeftAlone(bases.Softened):
    """Channels with a variance below eps count as constant and are multiplied by 0 instead of 1/sqrt(var + eps)."""

    def scale(self, var: Array, eps: float, training: bool) -> Any:
        return np.where(var < eps, 0.0, super().scale(var, eps, training))


class Economical(bases.Plain):
    """Right: dx is made in place, in an array of its own."""

    def dx(self, upstream: Array, dgamma: Array, dbeta: Array, cache: Any) -> Any:
        through = self._room(cache)
        through *= dgamma / len(upstream)
        through += dbeta / len(upstream)
        return cache.gamma * cache.scale * (upstream - through)

    def _room(self, cache: Any) -> Array:
        return np.array(cache.xhat)


class NormalisedScaledInPlace(Economical):
    """The backward makes its correction term of the cached xhat in place, which a second backward takes for xhat."""

    def _room(self, cache: Any) -> Array:
        xhat: Array = cache.xhat
        return xhat


class GammaGradientInHalf(bases.Halved):
    """With float16 images and float32 parameters, dgamma is cast to the dtype of dout as dx is."""

    def batchnorm_backward(self, dout: Array, cache: Any) -> Any:
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx, dgamma.astype(dout.dtype), dbeta


@when("more rows than a chunk and no multiple of one")
def rows_left(case: Case) -> bool:
    rows = elements_a_channel(case)
    return rows > CHUNK and rows % CHUNK > 0


@when("height != width")
def oblong(case: Case) -> bool:
    _, _, high, wide = shape(case, "x")
    return high != wide


@when("a variance below eps")
def flat_channel(case: Case) -> bool:
    return bool((case.array("x").var(axis=channel_axes(case)) < case.options["eps"]).any())


several = Condition("several elements a channel", lambda case: elements_a_channel(case) > 1)

#: Each fault, the right implementation that it is a change of, where it shows, and what catches it.
ROWS: tuple[tuple[type, type, Condition, str], ...] = (
    (SquareWithoutItsTwo, Staged, several, "dx identities"),
    (RootSquaredIsTheVariance, Staged, ALWAYS, "dx identities stability edges"),
    (HeightTakenForWidth, Images, oblong, "dx identities"),
    (UnfoldedInOneStep, Images, several_samples & several_channels, "dx identities"),
    (SumsRunOnIntoTheNextChannel, Signals, several_channels, "dgamma dbeta dx identities"),
    (ChunksCountAlike, Chunked, rows_left, "out dx dgamma identities"),
    (EvalCentresDout, bases.BatchNorm, evaluating, "dx"),
    (RecomputedFromTheBatch, Recomputing, evaluating, "dgamma"),
    (AveragedInPlaceAndAgain, InPlace, training, "running_mean running_var"),
    (GradientsMovedUp, Optional, missing("gamma") & ~missing("beta"), "dbeta"),
    (FlatChannelsLeftAlone, bases.Softened, flat_channel, "dx out dgamma stability"),
    (NormalisedScaledInPlace, Economical, asked_as("a second backward on one cache"), "repeatability"),
    (GammaGradientInHalf, bases.Halved, ALWAYS, "dgamma"),
)
