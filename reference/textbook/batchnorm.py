"""Batch normalisation: out = gamma * (x - mean) / sqrt(variance + eps) + beta, for each channel.

Ten small steps forward, the same ten in reverse backward. Source: Ioffe & Szegedy 2015, "Batch Normalization:
Accelerating Deep Network Training by Reducing Internal Covariate Shift", arXiv:1502.03167.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from backproof.reference.textbook.numerical import Array, precision


class TrainingCache(NamedTuple):
    """The arrays given, and the intermediates of the ten steps."""

    x: Array
    gamma: Array | None
    beta: Array | None
    scale: Array
    centered: Array
    deviation: Array
    inverse: Array
    normalized: Array


class EvalCache(NamedTuple):
    """The arrays given, and what the running statistics made of them."""

    x: Array
    gamma: Array | None
    beta: Array | None
    scale: Array
    inverse: Array
    normalized: Array


Result: TypeAlias = tuple[Array, TrainingCache | EvalCache] | tuple[Array, TrainingCache | EvalCache, Array, Array]


@np.errstate(all="ignore")  # what leaves the dtype's range is inf or NaN in the result, without a warning
def batchnorm_forward(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    eps: float = 1e-5,
    training: bool = True,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    momentum: float = 0.1,
) -> Result:
    """Each channel to mean 0 and variance 1, then scaled by gamma and shifted by beta.

    x (N, C) or (N, C, *S); gamma, beta, running_mean and running_var (C,); a gamma of None is 1, a beta of
    None is 0. Returns out, cache, and where running statistics were given, these too, as new arrays:

        running = (1 - momentum) * running + momentum * statistic of this batch

    with the unbiased variance, over n - 1, where a channel has n > 1 elements. Without `training` the running
    statistics take the batch's place and come back as they were. An empty batch changes none of them.

    Raises ValueError where shapes do not fit, a size other than the batch is 0, eps is not above 0, a running
    variance is negative, one running statistic comes alone, or evaluation lacks them; TypeError for arrays
    that do not hold floating point numbers.
    """
    _check(x, gamma, beta, eps, running_mean, running_var)
    dtype = precision(x, gamma, beta, running_mean, running_var)
    rows = _to_rows(x, dtype)
    scale = np.ones(x.shape[1], dtype) if gamma is None else gamma.astype(dtype)
    shift = np.zeros(x.shape[1], dtype) if beta is None else beta.astype(dtype)

    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("Evaluation needs running_mean and running_var.")
        inverse = 1 / np.sqrt(running_var.astype(dtype) + dtype.type(eps))
        normalized = (rows - running_mean.astype(dtype)) * inverse
        out = _from_rows(normalized * scale + shift, x)
        eval_cache = EvalCache(x, gamma, beta, scale, inverse, normalized)
        return out, eval_cache, running_mean.copy(), running_var.copy()

    count = max(len(rows), 1)  # of an empty batch every sum is 0, and so is its mean

    # 1. The mean of each channel.
    mean = np.sum(rows, axis=0) / count
    # 2. What each element differs from it.
    centered = rows - mean
    # 3. The square of that.
    squared = centered * centered
    # 4. The variance: the mean of the squares.
    variance = np.sum(squared, axis=0) / count
    # 5. Away from zero.
    shifted = variance + dtype.type(eps)
    # 6. The standard deviation.
    deviation = np.sqrt(shifted)
    # 7. One over it.
    inverse = 1 / deviation
    # 8. The normalized x: where steps 2 and 7 meet.
    normalized = centered * inverse
    # 9. Scaled by gamma.
    scaled = scale * normalized
    # 10. Shifted by beta.
    shifted_out = scaled + shift

    out = _from_rows(shifted_out, x)
    cache = TrainingCache(x, gamma, beta, scale, centered, deviation, inverse, normalized)
    if running_mean is None or running_var is None:
        return out, cache
    if len(rows) == 0:
        return out, cache, running_mean.copy(), running_var.copy()
    unbiased = variance * count / max(count - 1, 1)
    new_mean = (1 - momentum) * running_mean.astype(dtype) + momentum * mean
    new_var = (1 - momentum) * running_var.astype(dtype) + momentum * unbiased
    return out, cache, new_mean.astype(running_mean.dtype), new_var.astype(running_var.dtype)


@np.errstate(all="ignore")
def batchnorm_backward(dout: Array, cache: TrainingCache | EvalCache) -> tuple[Array, Array | None, Array | None]:
    """The gradients of x, gamma and beta: the ten steps from the last to the first, a line for each gradient.

    x reaches out by three paths: straight (step 2), through the variance (step 3) and through the mean (step
    1); where paths meet, their gradients add up. In evaluation the statistics are constants and one path is
    left: dx = dout * gamma / sqrt(running_var + eps). dgamma and dbeta are None where gamma and beta were.

    Raises ValueError where dout is not of out's shape.
    """
    if dout.shape != cache.x.shape:
        raise ValueError(f"dout must have shape {cache.x.shape}, but it has {dout.shape}.")
    upstream = _to_rows(dout, cache.scale.dtype)

    if isinstance(cache, EvalCache):
        dbeta = np.sum(upstream, axis=0)
        dgamma = np.sum(upstream * cache.normalized, axis=0)
        dx = upstream * cache.scale * cache.inverse
        return _gradients(dx, dgamma, dbeta, cache)

    count = max(len(upstream), 1)

    # 10. shifted_out = scaled + shift
    dbeta = np.sum(upstream, axis=0)
    dscaled = upstream
    # 9. scaled = scale * normalized
    dgamma = np.sum(dscaled * cache.normalized, axis=0)
    dnormalized = dscaled * cache.scale
    # 8. normalized = centered * inverse
    dinverse = np.sum(dnormalized * cache.centered, axis=0)
    dcentered = dnormalized * cache.inverse
    # 7. inverse = 1 / deviation
    ddeviation = -dinverse * cache.inverse * cache.inverse
    # 6. deviation = sqrt(shifted)
    dshifted = ddeviation / (2 * cache.deviation)
    # 5. shifted = variance + eps
    dvariance = dshifted
    # 4. variance = sum of squared / count
    dsquared = np.ones_like(upstream) * dvariance / count
    # 3. squared = centered * centered: the second path into centered
    dcentered = dcentered + 2 * cache.centered * dsquared
    # 2. centered = rows - mean
    dmean = -np.sum(dcentered, axis=0)
    dx = dcentered
    # 1. mean = sum of rows / count: the second path into x
    dx = dx + dmean / count

    return _gradients(dx, dgamma, dbeta, cache)


def _check(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    running_mean: Array | None,
    running_var: Array | None,
) -> None:
    if x.ndim < 2:
        raise ValueError(f"x must be (N, C) or (N, C, *S), but its shape is {x.shape}.")
    if min(x.shape[1:]) < 1:
        raise ValueError(f"Only the batch may be empty, but the shape of x is {x.shape}.")
    named = {"gamma": gamma, "beta": beta, "running_mean": running_mean, "running_var": running_var}
    for name, array in named.items():
        if array is not None and array.shape != x.shape[1:2]:
            raise ValueError(f"{name} must have shape {x.shape[1:2]}, but it has {array.shape}.")
    if not eps > 0:
        raise ValueError(f"eps must be above 0, but it is {eps}.")
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var come together; one of them is None.")
    if running_var is not None and np.any(running_var < 0):
        raise ValueError("running_var holds a negative variance.")


def _to_rows(array: Array, dtype: np.dtype[Any]) -> Array:
    """(N, C, *S) as one row of C channels for each element: (N * S, C)."""
    # Always in the same order in memory, since the sums over the rows follow it.
    return np.moveaxis(array, 1, -1).reshape(-1, array.shape[1]).astype(dtype, order="C")


def _from_rows(rows: Array, like: Array) -> Array:
    """The rows in the shape and the dtype that the array they came from has."""
    channels_last = np.moveaxis(like, 1, -1).shape
    return np.ascontiguousarray(np.moveaxis(rows.reshape(channels_last), -1, 1), dtype=like.dtype)


def _gradients(
    dx: Array, dgamma: Array, dbeta: Array, cache: TrainingCache | EvalCache
) -> tuple[Array, Array | None, Array | None]:
    return (
        _from_rows(dx, cache.x),
        None if cache.gamma is None else dgamma.astype(cache.gamma.dtype),
        None if cache.beta is None else dbeta.astype(cache.beta.dtype),
    )
