"""Mistakes with eps, the root and the variance's divisor: what x - mean is multiplied by, forward and backward.

A wrong scale shows in three ways: it is used throughout; the backward alone has it, in the last factor of dx; or the
backward differentiates the wrong forward rightly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.batchnorm_stages import (
    COUNTS,
    Change,
    Mode,
    Stages,
    Value,
    in_each_mode,
    mistake,
    total,
)

#: A wrong scale, from the variance, eps and the case.
Scale = Callable[[Any, Any, Stages], Any]
#: The step of a complex number by which a function is differentiated without cancellation.
_STEP = 1e-30


@dataclass(frozen=True)
class Wrong:
    """One wrong scale, in words that follow "{tensor}"; `smooth`: it may be differentiated."""

    words: str
    of: Scale
    step: int = 6
    mode: Mode | None = None
    smooth: bool = True
    #: Whether training, eval and the last factor of dx are reported apart: not if it shows in one of them alone.
    split: bool = True


def _fixed(eps: float) -> Scale:
    return lambda var, _, s: 1 / np.sqrt(var + eps)


def _at_least(least: float) -> Scale:
    return lambda var, eps, s: 1 / np.sqrt(var + np.maximum(eps, least))


def _unbiased(var: Any, eps: Any, s: Stages) -> Any:
    return 1 / np.sqrt(var * s.m / (s.m - 1) + eps)


WRONG = (
    Wrong("leaves out eps: the deviation is sqrt(var)", lambda var, eps, s: 1 / np.sqrt(var), 5, smooth=False),
    Wrong(
        "adds eps outside the root: the deviation is sqrt(var) + eps", lambda var, eps, s: 1 / (np.sqrt(var) + eps), 5
    ),
    Wrong("adds eps twice", lambda var, eps, s: 1 / np.sqrt(var + 2 * eps), 5, smooth=False),
    Wrong("adds eps inside the root and outside of it too", lambda var, eps, s: 1 / (np.sqrt(var + eps) + eps), 5),
    Wrong("subtracts eps", lambda var, eps, s: 1 / np.sqrt(var - eps), 5, smooth=False),
    Wrong("adds the square of eps", lambda var, eps, s: 1 / np.sqrt(var + eps**2), 5, smooth=False),
    Wrong("adds the root of eps", lambda var, eps, s: 1 / np.sqrt(var + np.sqrt(eps)), 5, smooth=False),
    Wrong("adds eps to 1 / sqrt(var)", lambda var, eps, s: 1 / np.sqrt(var) + eps, 5),
    Wrong("adds eps to 1 / deviation once more", lambda var, eps, s: 1 / np.sqrt(var + eps) + eps, 5),
    Wrong("adds eps / m", lambda var, eps, s: 1 / np.sqrt(var + eps / s.m), 5, smooth=False),
    *(
        Wrong(f"has an eps of {eps:g}, whatever is asked for", _fixed(eps), 5, smooth=False)
        for eps in (1e-5, 1e-3, 1e-4, 1e-6, 1e-7, 1e-8, 1e-12, 0.1, 1.0)
    ),
    *(
        Wrong(
            f"does not take an eps below {least:g}: it has {least:g} there",
            _at_least(least),
            5,
            smooth=False,
        )
        for least in (1e-5, 1e-6, 1e-7, 1e-8)
    ),
    Wrong(
        "takes the larger of var and eps, not their sum",
        lambda var, eps, s: 1 / np.sqrt(np.maximum(var, eps)),
        5,
        smooth=False,
    ),
    Wrong(
        "takes the larger of sqrt(var) and eps for the deviation",
        lambda var, eps, s: 1 / np.maximum(np.sqrt(var), eps),
        5,
        smooth=False,
    ),
    Wrong("divides by var + eps instead of by its root", lambda var, eps, s: 1 / (var + eps)),
    Wrong("divides by var, without root and eps", lambda var, eps, s: 1 / var),
    Wrong(
        "takes the variance for a deviation and squares it: it divides by sqrt(var^2 + eps)",
        lambda var, eps, s: 1 / np.sqrt(var**2 + eps),
        5,
    ),
    Wrong(
        "takes the deviation for the variance: it divides by sqrt(sqrt(var) + eps)",
        lambda var, eps, s: 1 / np.sqrt(np.sqrt(var) + eps),
    ),
    Wrong("takes the root twice: it divides by (var + eps)^(1/4)", lambda var, eps, s: (var + eps) ** -0.25),
    Wrong("multiplies by sqrt(var + eps) instead of dividing", lambda var, eps, s: np.sqrt(var + eps), 7),
    Wrong("does not divide by the deviation", lambda var, eps, s: np.ones_like(var), 8),
    Wrong("divides by the deviation, sqrt(var + eps), three times", lambda var, eps, s: (var + eps) ** -1.5, 8),
    Wrong(
        "takes 1 / sqrt(var + eps) for the variance: it divides by sqrt(1 / sqrt(var + eps) + eps)",
        lambda var, eps, s: 1 / np.sqrt(1 / np.sqrt(var + eps) + eps),
        5,
    ),
    Wrong(
        "takes sqrt(var + eps) for the variance: it divides by sqrt(sqrt(var + eps) + eps)",
        lambda var, eps, s: 1 / np.sqrt(np.sqrt(var + eps) + eps),
        5,
    ),
    Wrong("has the variance over m - 1 instead of over m", _unbiased, 4, "training"),
    Wrong(
        "has the sum of the squares for the variance: 1 / m is missing",
        lambda var, eps, s: 1 / np.sqrt(var * s.m + eps),
        4,
        "training",
    ),
    Wrong("divides the variance by m twice", lambda var, eps, s: 1 / np.sqrt(var / s.m + eps), 4, "training"),
    Wrong("multiplies the running variance by m / (m - 1)", _unbiased, 4, "eval"),
    Wrong(
        "multiplies the running variance by (m - 1) / m",
        lambda var, eps, s: 1 / np.sqrt(var * (s.m - 1) / s.m + eps),
        4,
        "eval",
    ),
    Wrong(
        "has a scale of 0 where the variance is 0",
        lambda var, eps, s: np.where(var > 0, 1 / np.sqrt(var + eps), 0.0),
        7,
        smooth=False,
        split=False,
    ),
    Wrong(
        "has a scale of 1 where the variance is 0",
        lambda var, eps, s: np.where(var > 0, 1 / np.sqrt(var + eps), 1.0),
        7,
        smooth=False,
        split=False,
    ),
    Wrong(
        "has a scale of 0 where the variance is below eps",
        lambda var, eps, s: np.where(var >= eps, 1 / np.sqrt(var + eps), 0.0),
        7,
        smooth=False,
        split=False,
    ),
    Wrong(
        "has the mean of the deviations over the channels",
        lambda var, eps, s: np.full_like(var, np.mean(1 / np.sqrt(var + eps))),
        8,
        smooth=False,
    ),
)


def throughout(of: Scale) -> Change:
    """The scale in out, dgamma and all of dx."""
    return lambda s: s.normalized(scale=of(s.var, s.eps, s))


def in_last_factor(of: Scale) -> Change:
    """The scale in the last factor of dx alone: xhat, and with it dgamma, is right."""
    return lambda s: {"dx": s.gamma * of(s.var, s.eps, s) * (s.dout - s.level - s.slant)}


def differentiated(of: Scale) -> Change:
    """dx of a forward that has this scale, differentiated rightly."""

    def change(s: Stages) -> dict[str, Array]:
        scale = of(s.var, s.eps, s)
        slope = np.imag(of(s.var + 1j * _STEP, s.eps, s)) / _STEP
        upstream = s.gamma * s.dout
        through = 2 / s.m * s.centred * slope * total(upstream * s.centred)
        return {"dx": scale * (upstream - total(upstream) / s.m) + through}

    return change


def _everywhere(wrong: Wrong) -> Iterator[Mistake]:
    sentence, tensors = f"{{tensor}} {wrong.words}.", "out dx dgamma"
    if wrong.mode is None and wrong.split:
        yield from in_each_mode(sentence, tensors, throughout(wrong.of), step=wrong.step)
    else:
        yield mistake(sentence, tensors, throughout(wrong.of), mode=wrong.mode, step=wrong.step)


def _in_backward(wrong: Wrong) -> Iterator[Mistake]:
    if wrong.mode != "eval" and wrong.split:
        yield mistake(
            f"{{tensor}} {wrong.words}, in the last factor of the formula alone: xhat is right in it.",
            "dx",
            in_last_factor(wrong.of),
            mode="training",
            step=wrong.step,
        )
        if wrong.smooth:
            yield mistake(
                f"{{tensor}} {wrong.words}, and the backward differentiates this rightly.",
                "dx",
                differentiated(wrong.of),
                mode="training",
                step=wrong.step,
            )


def _variances() -> Iterator[Mistake]:
    """Wrong variances of the batch, all in training: out, the gradients and what goes into the running variance."""
    for count in COUNTS[1:]:
        divides = f"{{tensor}} divides the variance by {count.words}, not by m"
        yield mistake(
            f"{divides}.", "out dx dgamma running_var", _with_variance(_over(count.of)), mode="training", step=4
        )
        yield mistake(
            f"{divides}, and the backward divides by it too.", "dx", _by_steps(count.of), mode="training", step=4
        )
    for words, var in (
        (
            "has the mean of the squares of x for the variance: the mean is not subtracted",
            lambda s: total(s.x**2) / s.m,
        ),
        ("has the mean of |x - mean| for the variance", lambda s: total(np.abs(s.centred)) / s.m),
        ("has the square of the mean of |x - mean| for the variance", lambda s: (total(np.abs(s.centred)) / s.m) ** 2),
        (
            "takes the variance about the running mean",
            lambda s: total((s.x - s.running_mean) ** 2) / s.m if s.tracks else None,
        ),
        ("takes 1 for the variance", lambda s: np.ones_like(s.var)),
        ("takes the range of x for the deviation", lambda s: np.ptp(s.x, axis=(0, 2), keepdims=True) ** 2),
        ("takes the variance of the first channel for all", lambda s: np.full_like(s.var, s.var.flat[0])),
        ("takes the variance of the channel before", lambda s: np.roll(s.var, 1, axis=1)),
        ("takes the mean of the variances of all channels", lambda s: np.full_like(s.var, s.var.mean())),
    ):
        yield mistake(
            f"{{tensor}} {words}.",
            "out dx dgamma running_var",
            _with_variance(var),
            mode="training",
            step=4,
        )


def _with_variance(variance: Value) -> Change:
    def change(s: Stages) -> dict[str, Array] | None:
        var = variance(s)
        return None if var is None else s.normalized(scale=1 / np.sqrt(var + s.eps)) | s.tracked(var=s.bessel * var)

    return change


def _by_steps(count: Value) -> Change:
    """dx of the ten steps whose fourth divides by another count, there and back."""

    def change(s: Stages) -> dict[str, Array] | None:
        divisor = count(s)
        return None if divisor is None else {"dx": s.backward(var=s.var * s.m / divisor, var_count=divisor)}

    return change


def _over(count: Value) -> Value:
    """The sum of the squares over another count."""

    def variance(s: Stages) -> Any:
        divisor = count(s)
        return None if divisor is None else s.var * s.m / divisor

    return variance


def _of_nothing() -> Iterator[Mistake]:
    yield mistake(
        "{tensor} is not a number where the variance is 0: the derivative of sqrt(var) is infinite there.",
        "dx",
        lambda s: {"dx": np.where(s.var > 0, s.dx, np.nan)},
        mode="training",
        step=6,
    )
    yield mistake(
        "{tensor} is 0, not beta, in channels without variance.",
        "out",
        lambda s: {"out": np.where(s.var > 0, s.out, 0.0)},
    )


MISTAKES: tuple[Mistake, ...] = (
    *(entry for wrong in WRONG for entry in _everywhere(wrong)),
    *_variances(),
    *_of_nothing(),
    *(entry for wrong in WRONG for entry in _in_backward(wrong)),
)
