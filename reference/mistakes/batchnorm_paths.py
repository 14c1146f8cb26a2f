"""Mistakes in the paths of dx in training: dx = gamma / sqrt(var + eps) * (dout - mean(dout) - xhat mean(dout xhat)).

The second term is the path through the mean, the third the path through the variance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.batchnorm_stages import COUNTS, Change, Stages, Value, mistake, total

Factor = Value


def terms(s: Stages, direct: Any, level: Any, slant: Any) -> dict[str, Array]:
    """dx of the compact formula with these three terms in the brackets."""
    return {"dx": s.gamma * s.scale * (direct - level - slant)}


def times(mean: Factor | None, variance: Factor | None) -> Change:
    """Each path multiplied by something; None: the path is right."""

    def change(s: Stages) -> dict[str, Array] | None:
        factors = [1.0 if factor is None else factor(s) for factor in (mean, variance)]
        if any(factor is None for factor in factors):
            return None
        return terms(s, s.dout, factors[0] * s.level, factors[1] * s.slant)

    return change


def in_dx(sentence: str, change: Change, step: int | tuple[int, ...] | None = None) -> Mistake:
    """A mistake of dx in training."""
    return mistake(sentence, "dx", change, mode="training", step=step)


def constant(value: float) -> Factor:
    """The same number in every case."""
    return lambda s: value


def _over(count: Factor) -> Factor:
    """What makes a division by m one by another count."""

    def factor(s: Stages) -> Any:
        divisor = count(s)
        return None if divisor is None else s.m / divisor

    return factor


def _power(exponent: float) -> Factor:
    """What makes (var + eps)^(-3/2) another power of it."""
    return lambda s: (s.var + s.eps) ** (exponent + 1.5)


def _without_eps(power: float) -> Factor:
    """What makes 1 / (var + eps)^power one over var^power."""
    return lambda s: ((s.var + s.eps) / s.var) ** power


def _step(**changed: Callable[[Stages, Array], Array]) -> Change:
    """The ten steps, with one of their gradients changed."""

    def change(s: Stages) -> dict[str, Array]:
        bound = {name: (lambda value, new=new: new(s, value)) for name, new in changed.items()}
        return {"dx": s.backward(bound)}

    return change


def _uncentred_share(factor: Factor) -> Change:
    """dmean with dvar * mean(-2 x), which is not 0, in the place of dvar * mean(-2 (x - mean)), which is."""

    def change(s: Stages) -> dict[str, Array]:
        dvar = -total(s.gamma * s.dout * s.centred) * s.scale**3 / 2
        return {"dx": s.dx + dvar * -2 * s.batch_mean * factor(s) / s.m}

    return change


def _weighted(elements: Callable[[Stages], Array], summed: Callable[[Stages], Array]) -> Change:
    """The path through the variance as elements * mean(dout * summed)."""
    return lambda s: terms(s, s.dout, s.level, elements(s) * (total(s.dout * summed(s)) / s.m))


def _means(axes: tuple[int, ...], which: str) -> Change:
    """The means of dx taken over other axes of (N, C, P)."""

    def change(s: Stages) -> dict[str, Array] | None:
        if len(s.shape) == 2 and axes != (0, 1, 2):
            return None
        upstream = s.gamma * s.dout

        def mean(a: Array) -> Array:
            return np.asarray(a.mean(axis=axes, keepdims=True))

        level = mean(upstream) if "mean" in which else total(upstream) / s.m
        slant = mean(upstream * s.xhat) if "variance" in which else total(upstream * s.xhat) / s.m
        return {"dx": s.scale * (upstream - level - s.xhat * slant)}

    return change


def _single() -> Iterator[Mistake]:
    zero, twice, half, minus = map(constant, (0.0, 2.0, 0.5, -1.0))
    mean, variance = "{tensor} %s the path through the mean%s", "{tensor} %s the path through the variance%s"
    yield in_dx(mean % ("leaves out", ": mean(dout) is not subtracted."), times(zero, None), 1)
    yield in_dx(variance % ("leaves out", ": xhat * mean(dout * xhat) is not subtracted."), times(None, zero), 3)
    yield in_dx(
        "{tensor} leaves out both statistics' paths: mean and variance are taken for constants, as in eval.",
        times(zero, zero),
        (3, 1),
    )
    yield in_dx(mean % ("adds", ", which is to be subtracted."), times(minus, None), 2)
    yield in_dx(variance % ("adds", ", which is to be subtracted."), times(None, minus), 7)
    yield in_dx("{tensor} adds both statistics' paths, which are to be subtracted.", times(minus, minus))
    yield in_dx(mean % ("subtracts", " twice: mean(dout) counts two times."), times(twice, None), 1)
    yield in_dx(mean % ("has only half of", "."), times(half, None), 1)
    yield in_dx(
        variance % ("has twice", ": the factor 1/2 of the root's derivative is missing."), times(None, twice), 6
    )
    yield in_dx(
        variance % ("has half of", ": the factor 2 of the square's derivative is missing."), times(None, half), 3
    )
    yield in_dx("{tensor} subtracts both statistics' paths twice.", times(twice, twice))
    yield in_dx("{tensor} has only half of both statistics' paths.", times(half, half))
    for sentence, left, right, step in ((mean, True, False, 1), (variance, False, True, 4), ("", True, True, None)):
        what = sentence or "{tensor} %s both statistics' paths%s"
        sums = times(*[_over(constant(1.0)) if used else None for used in (left, right)])
        yield in_dx(what % ("sums", " instead of averaging: 1 / m is missing."), sums, step)
        squared = times(*[_over(lambda s: s.m**2) if used else None for used in (left, right)])
        yield in_dx(what % ("divides", " by m twice."), squared, step)
        for count in COUNTS:
            over = times(*[_over(count.of) if used else None for used in (left, right)])
            yield in_dx(what % ("divides", f" by {count.words}, not by m, the elements of a channel."), over, step)


def _powers() -> Iterator[Mistake]:
    has = "{tensor} has %s in the path through the variance where (var + eps)^(-3/2) belongs."
    for words, exponent, step in (
        ("(var + eps)^(-1/2)", -0.5, 7),
        ("1 / (var + eps)", -1.0, 7),
        ("(var + eps)^(-2)", -2.0, 6),
        ("(var + eps)^(-5/2)", -2.5, 7),
        ("(var + eps)^(3/2)", 1.5, 7),
        ("no power of var + eps", 0.0, 7),
    ):
        yield in_dx(has % words, times(None, _power(exponent)), step)
    yield in_dx(
        "{tensor} lacks the root's derivative 1 / (2 deviation) in the path through the variance.",
        times(None, lambda s: 2 / s.scale),
        6,
    )
    yield in_dx(
        "{tensor} lacks the derivative of 1 / deviation, -1 / deviation^2, in the path through the variance.",
        times(None, lambda s: -1 / s.scale**2),
        7,
    )
    for words, power, step in (
        ("1 / deviation^2", 1.0, 7),
        ("1 / deviation", 0.5, 6),
        ("(var + eps)^(-3/2)", 1.5, 7),
    ):
        yield in_dx(
            f"{{tensor}} leaves eps out of {words} in the path through the variance.",
            times(None, _without_eps(power)),
            step,
        )


def _mean_path() -> Iterator[Mistake]:
    yield in_dx(
        "{tensor} lacks 1 / sqrt(var + eps) in the path through the mean.", times(lambda s: 1 / s.scale, None), 2
    )
    yield in_dx("{tensor} has 1 / (var + eps) in the path through the mean.", times(lambda s: s.scale, None), 2)
    yield in_dx("{tensor} has x where x - mean belongs in dmean.", _uncentred_share(lambda s: 1.0), 2)
    yield in_dx(
        "{tensor} has x where x - mean belongs in dmean, and 1 / m is missing there.",
        _uncentred_share(lambda s: s.m),
        2,
    )


def _variance_path() -> Iterator[Mistake]:
    xs: Callable[[Stages], Array] = lambda s: s.x * s.scale  # noqa: E731
    xhat: Callable[[Stages], Array] = lambda s: s.xhat  # noqa: E731
    outs: Callable[[Stages], Array] = lambda s: s.out  # noqa: E731
    path = "in the path through the variance"
    for words, elements, summed, step in (
        ("x where x - mean belongs, in the factor of each element,", xs, xhat, 3),
        ("x where x - mean belongs, in the sum,", xhat, xs, 8),
        ("out where xhat belongs, in the factor of each element,", outs, xhat, 3),
        ("out where xhat belongs, in the sum,", xhat, outs, 8),
        ("x where xhat belongs, in the factor of each element,", lambda s: s.x, xhat, 3),
        ("x where xhat belongs, in the sum,", xhat, lambda s: s.x, 8),
        ("x where xhat belongs, in the sum and in the factor of each element,", lambda s: s.x, lambda s: s.x, 3),
        ("the square of xhat, in the factor of each element,", lambda s: s.xhat**2, xhat, 3),
        ("|xhat| where xhat belongs, in the factor of each element,", lambda s: np.abs(s.xhat), xhat, 3),
        ("mean(dout) where mean(dout * xhat) belongs", xhat, lambda s: np.ones_like(s.x), 8),
    ):
        yield in_dx(f"{{tensor}} has {words} {path}.", _weighted(elements, summed), step)
    yield in_dx(
        "{tensor} lacks the factor xhat in the path through the variance: each element gets the same share.",
        lambda s: terms(s, s.dout, s.level, s.dgamma / s.m),
        3,
    )
    yield in_dx(
        "{tensor} does not sum dout * xhat over the channel in the path through the variance.",
        lambda s: terms(s, s.dout, s.level, s.xhat**2 * s.dout / s.m),
        8,
    )
    yield in_dx(
        "{tensor} neither sums dout * xhat over the channel in the path through the variance nor divides it by m.",
        lambda s: terms(s, s.dout, s.level, s.xhat**2 * s.dout),
        8,
    )
    yield in_dx(
        "{tensor} does not sum dout * (x - mean) over the channel in step 8, and its dmean is that of this.",
        _step(dinverse=lambda s, _: s.gamma * s.dout * s.centred),
        8,
    )
    yield in_dx(
        "{tensor} does not sum dout over the channel in the path through the mean.",
        lambda s: terms(s, s.dout, s.dout / s.m, s.slant),
        2,
    )
    yield in_dx(
        "{tensor} has dgamma and dbeta in each other's place: dout - dgamma / m - xhat * dbeta / m.",
        lambda s: terms(s, s.dout, s.dgamma / s.m, s.xhat * s.dbeta / s.m),
    )


def _direct_path() -> Iterator[Mistake]:
    yield in_dx(
        "{tensor} lacks the straight path: dcentered of step 8 is overwritten, not added to.",
        lambda s: terms(s, 0.0, 0.0, s.slant),
        3,
    )
    yield in_dx(
        "{tensor} is the path through the mean alone: what step 2 gives is overwritten, not added to.",
        lambda s: terms(s, 0.0, s.level, 0.0),
        1,
    )
    yield in_dx(
        "{tensor} leaves out dout itself and has both statistics' paths.", lambda s: terms(s, 0.0, s.level, s.slant)
    )
    yield in_dx(
        "{tensor} is the negative of the right one in the straight path alone.",
        lambda s: terms(s, -s.dout, s.level, s.slant),
        8,
    )
    yield in_dx(
        "{tensor} lacks 1 / sqrt(var + eps) in the straight path, and so in the path through the mean.",
        lambda s: {"dx": s.gamma * (s.dout - s.level - s.scale * s.slant)},
        8,
    )
    yield in_dx(
        "{tensor} lacks 1 / sqrt(var + eps) in the straight path.",
        lambda s: {"dx": s.gamma * (s.dout - s.scale * (s.level + s.slant))},
        8,
    )
    yield in_dx(
        "{tensor} has 1 / sqrt(var + eps) in the straight path alone.",
        lambda s: {"dx": s.gamma * (s.scale * s.dout - s.level - s.slant)},
        8,
    )
    yield in_dx(
        "{tensor} multiplies by sqrt(var + eps) in the straight path instead of dividing.",
        _step(direct=lambda s, _: s.gamma * s.dout / s.scale),
        8,
    )


def _groups() -> Iterator[Mistake]:
    for axes, words in (
        ((0, 1, 2), "over all channels together"),
        ((2,), "over the pixels of each sample, not over the batch,"),
        ((0,), "over the batch for each pixel, not over the pixels,"),
    ):
        yield in_dx(f"{{tensor}} takes the mean of dout {words} in the path through the mean.", _means(axes, "mean"), 2)
        yield in_dx(
            f"{{tensor}} takes the mean of dout * xhat {words} in the path through the variance.",
            _means(axes, "variance"),
            8,
        )
        yield in_dx(
            f"{{tensor}} takes the means of dout and dout * xhat {words} in both paths.", _means(axes, "mean variance")
        )


MISTAKES: tuple[Mistake, ...] = (
    *_single(),
    *_powers(),
    *_mean_path(),
    *_variance_path(),
    *_direct_path(),
    *_groups(),
)
