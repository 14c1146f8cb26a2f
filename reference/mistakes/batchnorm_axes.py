"""Mistakes with axes and order: channels sought where they are not, arrays reshaped without a transposition."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.batchnorm_stages import Change, Stages, in_each_mode, mistake

ALL = "out dx dgamma dbeta running_mean running_var"

#: What makes of an array in x's shape one of (elements, channels), and how that comes back.
Reading = tuple[Callable[[Stages, Array], Array], Callable[[Stages, Array], Array]]


def _normalized_rows(s: Stages, x: Array, dout: Array) -> dict[str, Array]:
    """Batch norm of (elements, C), gradients and all."""
    gamma, beta = s.gamma.reshape(-1), s.beta.reshape(-1)
    m = np.float64(len(x))
    if s.training:
        mean = x.mean(axis=0)
        var = np.square(x - mean).mean(axis=0)
    else:
        mean, var = s.running_mean.reshape(-1), s.running_var.reshape(-1)
    scale = 1 / np.sqrt(var + s.eps)
    xhat = (x - mean) * scale
    dgamma, dbeta = (dout * xhat).sum(axis=0), dout.sum(axis=0)
    dx = dout - (dbeta + xhat * dgamma) / m if s.training else dout
    found = {"out": gamma * xhat + beta, "dx": gamma * scale * dx, "dgamma": dgamma, "dbeta": dbeta}
    column = (1, -1, 1)
    if s.training:
        found |= s.tracked(mean=mean.reshape(column), var=s.bessel * var.reshape(column))
    return found


def _read_as(there: Callable[[Stages, Array], Array], back: Callable[[Stages, Array], Array]) -> Change:
    """x and dout read as (elements, C) in a wrong way, out and dx written in the same way."""

    def change(s: Stages) -> dict[str, Array] | None:
        x, dout = (there(s, a.reshape(s.shape)) for a in (s.x, s.dout))
        if x.shape[1] != s.channels:
            return None
        found = _normalized_rows(s, x, dout)
        return {name: back(s, a) if name in ("out", "dx") else a for name, a in found.items()}

    return change


def _rows(s: Stages, a: Array) -> Array:
    """The right way: the channels moved behind everything else."""
    return np.moveaxis(a, 1, -1).reshape(-1, s.channels)


def _channel_axis(axis: int) -> Reading:
    """An axis of images that is as long as the channels', taken for it."""

    def there(s: Stages, a: Array) -> Array:
        if a.ndim == 2 or a.shape[axis] != s.channels or axis % a.ndim == 1:
            return np.zeros((0, 0))
        return np.moveaxis(a, axis, -1).reshape(-1, s.channels)

    def back(s: Stages, rows: Array) -> Array:
        moved = np.moveaxis(np.empty(s.shape), axis, -1).shape
        return np.moveaxis(rows.reshape(moved), -1, axis)

    return there, back


def _reshaped() -> Iterator[Mistake]:
    as_rows: Reading = (lambda s, a: a.reshape(-1, s.channels)), (lambda s, rows: rows.reshape(s.shape))
    as_columns: Reading = (lambda s, a: a.reshape(s.channels, -1).T), (lambda s, rows: rows.T.reshape(s.shape))
    for words, reading in (
        ("reads (N, C, H, W) as (N * H * W, C) without moving the channels to the end first", as_rows),
        ("reads (N, C, H, W) as (C, N * H * W) without moving the channels to the front first", as_columns),
        ("takes the last spatial axis for the channels where it is as long", _channel_axis(-1)),
        (
            "takes the first spatial axis for the channels where it is as long, as in another layout",
            _channel_axis(2),
        ),
        ("takes the batch for the channels where it is as large", _batch_for_channels()),
    ):
        yield mistake(
            f"{{tensor}} {words}.", "out dx dgamma" if reading in (as_rows, as_columns) else ALL, _read_as(*reading)
        )
    for words, there in (("(N * H * W, C)", as_rows[0]), ("(C, N * H * W)", as_columns[0])):

        def statistics(s: Stages, there: Callable[[Stages, Array], Array] = there) -> dict[str, Array]:
            rows = there(s, s.x.reshape(s.shape))
            mean, var = (a.reshape(1, -1, 1) for a in (rows.mean(axis=0), rows.var(axis=0)))
            return s.normalized(mean, 1 / np.sqrt(var + s.eps)) | s.tracked(mean=mean, var=s.bessel * var)

        yield mistake(
            f"{{tensor}} has mean and variance of x read as {words}, without a transposition.",
            "out dx dgamma running_mean running_var",
            statistics,
            mode="training",
        )

        def backward(s: Stages, there: Callable[[Stages, Array], Array] = there) -> dict[str, Array]:
            x, dout = _rows(s, s.x.reshape(s.shape)), there(s, s.dout.reshape(s.shape))
            return _normalized_rows(s, x, dout)

        yield mistake(f"{{tensor}} reads dout as {words}, without a transposition.", "dgamma dbeta", backward)

    def not_back(s: Stages) -> dict[str, Array]:
        arrays = {"out": s.out, "dx": s.dx}
        return {name: _rows(s, a.reshape(s.shape)).reshape(s.shape) for name, a in arrays.items()}

    yield from in_each_mode(
        "{tensor} is reshaped from (N * H * W, C) without moving the channels back.", "out dx", not_back
    )

    def columns_not_back(s: Stages) -> dict[str, Array]:
        arrays = {"out": s.out, "dx": s.dx}
        return {name: _rows(s, a.reshape(s.shape)).T.reshape(s.shape) for name, a in arrays.items()}

    yield from in_each_mode(
        "{tensor} is reshaped from (C, N * H * W) without moving the channels back.", "out dx", columns_not_back
    )


def _batch_for_channels() -> Reading:
    def there(s: Stages, a: Array) -> Array:
        return np.moveaxis(a, 0, -1).reshape(-1, a.shape[0]) if s.samples == s.channels else np.zeros((0, 0))

    def back(s: Stages, rows: Array) -> Array:
        return np.moveaxis(rows.reshape(*s.shape[1:], s.samples), -1, 0)

    return there, back


def _along(s: Stages, vector: Array, axis: int) -> Array:
    """One number a channel, laid along another axis of x."""
    shape = [1] * len(s.shape)
    shape[axis] = s.channels
    return vector.reshape(shape)


def _fits(s: Stages, axis: int) -> bool:
    """Whether another axis is as long as the channels' and may be taken for it."""
    return axis % len(s.shape) != 1 and s.shape[axis] == s.channels


def _laid_along() -> Iterator[Mistake]:
    """gamma and beta, or all vectors, broadcast along a wrong axis wherever NumPy lets them."""
    for words, axis, images in (
        ("the last spatial axis", -1, True),
        ("the first spatial axis", 2, True),
        ("the batch", 0, False),
    ):

        def affine(s: Stages, axis: int = axis, images: bool = images) -> dict[str, Array] | None:
            if (images and len(s.shape) == 2) or not _fits(s, axis):
                return None
            gamma, beta = _along(s, s.gamma, axis), _along(s, s.beta, axis)
            xhat, dout = s.xhat.reshape(s.shape), s.dout.reshape(s.shape)
            upstream = (gamma * dout).reshape(s.x.shape)
            dx = upstream
            if s.training:
                level, slant = (a.sum(axis=(0, 2), keepdims=True) / s.m for a in (upstream, upstream * s.xhat))
                dx = upstream - level - s.xhat * slant
            rest = tuple(k for k in range(len(s.shape)) if k != axis % len(s.shape))
            return {
                "out": gamma * xhat + beta,
                "dx": s.scale * dx,
                "dgamma": (dout * xhat).sum(axis=rest),
                "dbeta": dout.sum(axis=rest),
            }

        def statistics(s: Stages, axis: int = axis, images: bool = images) -> dict[str, Array] | None:
            if (images and len(s.shape) == 2) or not _fits(s, axis):
                return None
            xhat = (s.x.reshape(s.shape) - _along(s, s.mean, axis)) * _along(s, s.scale, axis)
            gamma, beta = _along(s, s.gamma, 1), _along(s, s.beta, 1)
            rest = (0, *range(2, len(s.shape)))
            return {"out": gamma * xhat + beta, "dgamma": (s.dout.reshape(s.shape) * xhat).sum(axis=rest)}

        def out_of_both(s: Stages, axis: int = axis, images: bool = images) -> dict[str, Array] | None:
            if (images and len(s.shape) == 2) or not _fits(s, axis):
                return None
            vectors = (_along(s, a, axis) for a in (s.mean, s.scale, s.gamma, s.beta))
            mean, scale, gamma, beta = vectors
            return {"out": gamma * (s.x.reshape(s.shape) - mean) * scale + beta}

        yield mistake(
            f"{{tensor}} has gamma and beta go along {words}, where that is as long as there are channels.",
            "out dx dgamma",
            affine,
        )
        yield mistake(
            f"{{tensor}} has mean and deviation go along {words}, where that is as long as there are channels.",
            "out dgamma",
            statistics,
        )
        yield mistake(
            f"{{tensor}} has all four vectors go along {words}, where that is as long as there are channels.",
            "out",
            out_of_both,
        )


MISTAKES: tuple[Mistake, ...] = (*_reshaped(), *_laid_along())
