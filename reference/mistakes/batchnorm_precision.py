"""Mistakes of number formats: values that pass through a narrower one, and sums that are kept in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.batchnorm_stages import Change, Stages, mistake, total


def _single(a: Array) -> Array:
    """Through float32."""
    return a.astype(np.float32).astype(np.float64)


def _low(s: Stages, a: Array) -> Array:
    """Through x's own format, for the formats of 16 bits."""
    return a.astype(s.case.precision.dtype).astype(np.float64)


def _of_doubles(change: Callable[[Stages], dict[str, Array]]) -> Change:
    return lambda s: change(s) if s.case.dtype == "float64" else None


def _of_16_bits(change: Callable[[Stages], dict[str, Array] | None]) -> Change:
    return lambda s: change(s) if s.case.precision.low else None


def _statistics(s: Stages, mean: Array, var: Array) -> dict[str, Array]:
    return s.normalized(mean, 1 / np.sqrt(var + s.eps)) | s.tracked(mean=mean, var=s.bessel * var)


def _cancelling(axes: tuple[int, ...]) -> Change:
    """E[x^2] - E[x]^2 in the format that sums are kept in: what cancels leaves the rounding of the squares."""

    def change(s: Stages) -> dict[str, Array] | None:
        if s.m < 2:
            return None
        x: Array = s.x.reshape(s.shape).astype("float64" if s.case.dtype == "float64" else "float32")
        if len(axes) == 1:
            x, over = np.moveaxis(x, 1, -1).reshape(-1, s.channels), (0,)
        else:
            over = (0, *range(2, x.ndim))
        mean = x.mean(axis=over)
        column = (1, -1, 1)
        mean, var = mean.reshape(column), ((x * x).mean(axis=over) - mean * mean).reshape(column)
        return _statistics(s, mean.astype(np.float64), var.astype(np.float64))

    return change


def _cancellation() -> Iterator[Mistake]:
    for words, axes in (("summed as rows of channels", (0,)), ("summed over the axes of x", (0, 2))):
        yield mistake(
            f"{{tensor}} has E[x^2] - E[x]^2 for the variance, {words}, which cancels where the mean is large.",
            "out dx dgamma running_var",
            _cancelling(axes),
            mode="training",
            step=4,
        )


def _through_float32() -> Iterator[Mistake]:
    for words, tensors, change in (
        ("the mean", "out dx dgamma running_mean", lambda s: _statistics(s, _single(s.mean), s.var)),
        ("the variance", "out dx dgamma running_var", lambda s: _statistics(s, s.mean, _single(s.var))),
        ("mean and variance", "out dx dgamma", lambda s: _statistics(s, _single(s.mean), _single(s.var))),
    ):
        yield mistake(
            f"{{tensor}} has {words} rounded to float32, though x is float64.",
            tensors,
            _of_doubles(change),
            mode="training",
        )
    yield mistake(
        "{tensor} has 1 / sqrt(var + eps) rounded to float32, though x is float64.",
        "out dx dgamma",
        _of_doubles(lambda s: s.normalized(scale=_single(s.scale))),
    )
    yield mistake(
        "{tensor} has xhat rounded to float32 in the backward, though x is float64.",
        "dx dgamma",
        _of_doubles(lambda s: _with_xhat(s, _single(s.xhat))),
    )
    for name in ("out", "dx", "dgamma", "dbeta", "running_mean", "running_var"):
        yield mistake(
            "{tensor} is rounded to float32, though it is float64: " + f"{name} has 24 bits of 53.",
            name,
            _of_doubles(_rounded(name)),
        )


def _rounded(name: str) -> Callable[[Stages], dict[str, Array]]:
    def change(s: Stages) -> dict[str, Array]:
        if name.startswith("running") and s.training:
            return {name: _single(s.tracked()[name])}
        return {name: _single(getattr(s, name))}

    return change


def _with_xhat(s: Stages, xhat: Array) -> dict[str, Array]:
    dgamma = total(s.dout * xhat)
    through = (s.dbeta + xhat * dgamma) / s.m if s.training else 0.0
    return {"dx": s.gamma * s.scale * (s.dout - through), "dgamma": dgamma}


def _cut(s: Stages, a: Array) -> Array:
    """The upper 16 bits of a float32, which are a bfloat16; float16 is rounded to."""
    if s.case.dtype != "bfloat16":
        return _low(s, a)
    bits = np.ascontiguousarray(a, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float64).reshape(a.shape)


def _with_squares(narrow: Callable[[Stages, Array], Array]) -> Callable[[Stages], dict[str, Array]]:
    return lambda s: _statistics(s, s.mean, total(narrow(s, np.square(s.x))) / s.m - np.square(s.mean))


def _in_16_bits() -> Iterator[Mistake]:
    def one_by_one(s: Stages, terms: Array) -> Array:
        rows = np.moveaxis(terms, 1, -1).reshape(-1, s.channels).astype(s.case.precision.dtype)
        return np.asarray(np.add.accumulate(rows, axis=0)[-1].astype(np.float64).reshape(1, -1, 1))

    yield mistake(
        "{tensor} is summed one element after the other in x's own format of 16 bits.",
        "dgamma dbeta",
        _of_16_bits(lambda s: {"dgamma": one_by_one(s, s.dout * s.xhat), "dbeta": one_by_one(s, s.dout)}),
    )
    for words, narrow in (("rounded to", _low), ("cut to", _cut)):
        yield mistake(
            f"{{tensor}} has E[x^2] - E[x]^2 for the variance, with squares {words} 16 bits.",
            "out dx dgamma running_var",
            _of_16_bits(_with_squares(narrow)),
            mode="training",
        )
    for words, value in (("becomes infinite", np.inf), ("stays at the largest number of that", None)):

        def overflow(s: Stages, value: float | None = value) -> dict[str, Array] | None:
            largest = s.case.precision.largest
            over = (np.square(s.x) > largest).any(axis=(0, 2), keepdims=True)
            var = np.where(over, largest if value is None else value, s.var)
            return _statistics(s, s.mean, var) if over.any() else None

        yield mistake(
            f"{{tensor}} has squares of x that x's own format does not hold: the variance {words}.",
            "out dx dgamma running_var",
            _of_16_bits(overflow),
            mode="training",
        )

    def cast(s: Stages) -> dict[str, Array] | None:
        var = _low(s, s.running_var)
        return s.normalized(scale=1 / np.sqrt(np.where(np.isfinite(var), s.running_var, np.inf) + s.eps))

    yield mistake(
        "{tensor} has the running variance in x's own format of 16 bits, which overflows: the scale is 0 there.",
        "out dx dgamma",
        _of_16_bits(cast),
        mode="eval",
    )
    for words, factor in (
        ("m / (m - 1)", lambda m: m / (m - m.dtype.type(1))),
        ("m^2 / (m * (m - 1))", lambda m: (m * m) / (m * (m - m.dtype.type(1)))),
    ):

        def counted(s: Stages, factor: Callable[[Any], Any] = factor) -> dict[str, Array] | None:
            if s.case.options["running_var"] != "unbiased" or s.m < 2:
                return None
            m = np.asarray(s.m).astype(s.case.precision.dtype)[()]
            return s.tracked(var=np.float64(factor(m)) * s.batch_var)

        yield mistake(
            f"{{tensor}} has {words} computed in x's own format of 16 bits, which does not hold every m.",
            "running_var",
            _of_16_bits(counted),
            mode="training",
        )


MISTAKES: tuple[Mistake, ...] = (*_through_float32(), *_cancellation(), *_in_16_bits())
