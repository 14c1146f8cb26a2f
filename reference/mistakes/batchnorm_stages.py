"""Batch norm in stages that a mistake may change one at a time, and the mistakes made of such changes.

Numbers are laid out as (N, C, P), P the pixels of a sample, and one number a channel as (1, C, 1). The ten steps and
their gradients are those of the textbook's page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any, Literal

import numpy as np

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.mistake import Mistake, Results

Mode = Literal["training", "eval"]

#: The steps whose gradients are spoken of, in the words of the textbook's backward.
STEPS: Mapping[int, str] = {
    10: "step 10: shifted_out = scaled + shift",
    9: "step 9: scaled = scale * normalized",
    8: "step 8: normalized = centered * inverse",
    7: "step 7: inverse = 1 / deviation",
    6: "step 6: deviation = sqrt(shifted)",
    5: "step 5: shifted = variance + eps",
    4: "step 4: variance = sum of squared / count",
    3: "step 3: squared = centered * centered: the second path into centered",
    2: "step 2: centered = rows - mean",
    1: "step 1: mean = sum of rows / count: the second path into x",
}

#: The gradients that `Stages.backward` goes through, in its order.
GRADIENTS = (
    *("dnormalized", "dinverse", "direct", "ddeviation", "dshifted", "dsquared", "through_variance"),
    *("dmean", "through_mean"),
)


def total(a: Array) -> Array:
    """The sum over every channel."""
    return np.asarray(a.sum(axis=(0, 2), keepdims=True))


@dataclass(frozen=True, eq=False)
class Stages:
    """The values of one case, each computed when it is first asked for. No array may be changed."""

    case: Case

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of x, as it is passed."""
        return self.case.configuration.shape("x")

    @cached_property
    def samples(self) -> int:
        """N."""
        return self.shape[0]

    @cached_property
    def channels(self) -> int:
        """C."""
        return self.shape[1]

    @cached_property
    def pixels(self) -> int:
        """P, 1 of vectors."""
        return prod(self.shape[2:])

    @cached_property
    def m(self) -> Any:
        """The number of elements of a channel, as a NumPy scalar: dividing by zero does not raise."""
        return np.float64(self.samples * self.pixels)

    @property
    def training(self) -> bool:
        """Whether the batch's own statistics are the right ones."""
        return bool(self.case.options["training"])

    @cached_property
    def eps(self) -> Any:
        """As a NumPy scalar."""
        return np.float64(self.case.options["eps"])

    @cached_property
    def x(self) -> Array:
        """(N, C, P)."""
        return self.wide("x")

    @cached_property
    def dout(self) -> Array:
        """(N, C, P)."""
        return self.wide("dout")

    @cached_property
    def gamma(self) -> Array:
        """Ones where there is none."""
        return self.vector("gamma", 1.0)

    @cached_property
    def beta(self) -> Array:
        """Zeros where there is none."""
        return self.vector("beta", 0.0)

    @cached_property
    def running_mean(self) -> Array:
        """As it is passed; zeros where it is not."""
        return self.vector("running_mean", 0.0)

    @cached_property
    def running_var(self) -> Array:
        """As it is passed; ones where it is not."""
        return self.vector("running_var", 1.0)

    @property
    def tracks(self) -> bool:
        """Whether there are running statistics."""
        return self.case.arrays.get("running_var") is not None

    def has(self, name: str) -> bool:
        """Whether gamma or beta is passed, and not None."""
        return self.case.arrays.get(name) is not None

    def wide(self, name: str) -> Array:
        """x or dout as (N, C, P)."""
        return self.case.array(name).reshape(self.samples, self.channels, self.pixels)

    def vector(self, name: str, plain: float) -> Array:
        """One number a channel, (1, C, 1), in float64."""
        found = self.case.wide.get(name)
        return np.full((1, self.channels, 1), plain) if found is None else found.reshape(1, -1, 1)

    @cached_property
    def batch_mean(self) -> Array:
        """Of the batch, in eval too."""
        return np.asarray(total(self.x) / self.m)

    @cached_property
    def batch_var(self) -> Array:
        """Of the batch, over m, in eval too."""
        return np.asarray(total(np.square(self.x - self.batch_mean)) / self.m)

    @property
    def mean(self) -> Array:
        """The right one to subtract."""
        return self.batch_mean if self.training else self.running_mean

    @property
    def var(self) -> Array:
        """The right one to divide by the root of."""
        return self.batch_var if self.training else self.running_var

    @cached_property
    def scale(self) -> Array:
        """1 / sqrt(var + eps)."""
        return np.asarray(1 / np.sqrt(self.var + self.eps))

    @cached_property
    def centred(self) -> Array:
        """Step 2."""
        return self.x - self.mean

    @cached_property
    def xhat(self) -> Array:
        """Step 8."""
        return np.asarray(self.centred * self.scale)

    @cached_property
    def out(self) -> Array:
        """Step 10."""
        return np.asarray(self.gamma * self.xhat + self.beta)

    @cached_property
    def dbeta(self) -> Array:
        """The sum of dout."""
        return total(self.dout)

    @cached_property
    def dgamma(self) -> Array:
        """The sum of dout * xhat."""
        return total(self.dout * self.xhat)

    @cached_property
    def level(self) -> Array:
        """What the path through the mean takes off dout: its mean. Nothing in eval."""
        return np.asarray(self.dbeta / self.m) if self.training else np.zeros_like(self.dbeta)

    @cached_property
    def slant(self) -> Array:
        """What the path through the variance takes off dout: xhat * mean(dout * xhat). Nothing in eval."""
        return np.asarray(self.xhat * (self.dgamma / self.m)) if self.training else np.zeros_like(self.x)

    @cached_property
    def dx(self) -> Array:
        """The compact formula."""
        return np.asarray(self.gamma * self.scale * (self.dout - self.level - self.slant))

    def normalized(
        self,
        mean: Array | None = None,
        scale: Array | None = None,
        *,
        training: bool | None = None,
        gamma: Array | None = None,
        beta: Array | None = None,
    ) -> dict[str, Array]:
        """out, dx and dgamma of the compact formulas with other numbers in them; `training` says which dx."""
        mean = self.mean if mean is None else mean
        scale = self.scale if scale is None else scale
        gamma = self.gamma if gamma is None else gamma
        beta = self.beta if beta is None else beta
        xhat = (self.x - mean) * scale
        dgamma = total(self.dout * xhat)
        dx = self.dout
        if self.training if training is None else training:
            dx = dx - self.dbeta / self.m - xhat * (dgamma / self.m)
        return {"out": gamma * xhat + beta, "dx": gamma * scale * dx, "dgamma": dgamma}

    def backward(
        self,
        changed: Mapping[str, Callable[[Array], Array]] | None = None,
        *,
        centred: Array | None = None,
        var: Array | None = None,
        mean_count: Any = None,
        var_count: Any = None,
    ) -> Array:
        """dx of training by the ten steps; `changed` has, by the names in GRADIENTS, what becomes of one of them.

        `centred` and `var` are the forward's values where they are not the right ones, the counts those of steps 1
        and 4.
        """
        changes = changed or {}

        def step(name: str, value: Array) -> Array:
            return changes[name](value) if name in changes else value

        centred = self.centred if centred is None else centred
        deviation = np.sqrt((self.var if var is None else var) + self.eps)
        inverse = 1 / deviation
        dnormalized = step("dnormalized", self.dout * self.gamma)
        dinverse = step("dinverse", total(dnormalized * centred))
        direct = step("direct", dnormalized * inverse)
        ddeviation = step("ddeviation", -dinverse * inverse * inverse)
        dshifted = step("dshifted", ddeviation / (2 * deviation))
        dsquared = step("dsquared", dshifted / (self.m if var_count is None else var_count))
        dcentred = direct + step("through_variance", 2 * centred * dsquared)
        dmean = step("dmean", -total(dcentred))
        return np.asarray(dcentred + step("through_mean", dmean / (self.m if mean_count is None else mean_count)))

    @property
    def weight(self) -> float:
        """How much the batch's statistics count in the running ones."""
        momentum = float(self.case.options["momentum"])
        return momentum if self.case.options["weighs"] == "new" else 1 - momentum

    @property
    def bessel(self) -> Any:
        """What the variance over m is multiplied by for the running one."""
        return self.m / max(self.m - 1, 1) if self.case.options["running_var"] == "unbiased" else np.float64(1)

    def tracked(
        self,
        *,
        mean: Array | None = None,
        var: Array | None = None,
        weight: Any = None,
        old: Any = None,
    ) -> dict[str, Array]:
        """The running statistics: old * before + weight * (mean, var), var with its factor m / (m - 1) in it."""
        weight = self.weight if weight is None else weight
        old = 1 - weight if old is None else old
        mean = self.batch_mean if mean is None else mean
        var = self.bessel * self.batch_var if var is None else var
        return {
            "running_mean": old * self.running_mean + weight * mean,
            "running_var": old * self.running_var + weight * var,
        }

    def as_passed(self, name: str, a: Array) -> Array:
        """(N, C, P) as x's shape, (1, C, 1) as (C,); another shape as it is."""
        if name in ("out", "dx"):
            if a.shape == self.shape:
                return a
            return np.broadcast_to(a, (self.samples, self.channels, self.pixels)).reshape(self.shape)
        return a.reshape(-1) if a.shape == (1, self.channels, 1) else a


@lru_cache(maxsize=256)
def stages(case: Case) -> Stages:
    """The same ones for all mistakes: a case is never changed."""
    return Stages(case)


Change = Callable[[Stages], Mapping[str, Array] | None]
#: One number, or one array, of a case; None where it is not to be spoken of.
Value = Callable[[Stages], Any]


def giving(tensor: str, value: Value) -> Change:
    """One tensor's wrong value."""

    def change(s: Stages) -> dict[str, Array] | None:
        found = value(s)
        return None if found is None else {tensor: found}

    return change


def mistake(
    sentence: str,
    tensors: str,
    change: Change,
    *,
    step: int | tuple[int, ...] | None = None,
    mode: Mode | None = None,
    empty: bool = False,
    shaped: bool = True,
) -> Mistake:
    """The mistake whose results `change` gives where it shows; `mode` keeps it to training or to eval.

    `empty`: it shows on an empty batch alone, else nowhere there. Not `shaped`: the results have shapes of their own.
    """
    names = tuple(tensors.split())

    def gives(case: Case, right: Results) -> Results | None:
        found = stages(case)
        if (mode is not None and found.training != (mode == "training")) or (found.x.size == 0) != empty:
            return None
        with np.errstate(all="ignore"):
            wrong = change(found)
        if wrong is None:
            return None
        there = {name: a for name, a in wrong.items() if name in names and name in right}
        return {name: found.as_passed(name, a) for name, a in there.items()} if shaped else there

    steps = () if step is None else (step,) if isinstance(step, int) else step
    return Mistake(sentence, names, gives, "; ".join(STEPS[number] for number in steps) or None)


def tracking(change: Change) -> Change:
    """Only where there are running statistics: what is asked in training alone needs no word that it is."""
    return lambda s: change(s) if s.tracks else None


def in_each_mode(sentence: str, tensors: str, change: Change, *, step: int | None = None) -> Iterator[Mistake]:
    """The mistake in training and eval, in eval alone, and in training alone."""
    yield mistake(sentence, tensors, change, step=step)
    yield mistake(f"In eval, {sentence}", tensors, change, mode="eval", step=step)
    yield mistake(f"In training alone, {sentence}", tensors, tracking(change), mode="training", step=step)


@dataclass(frozen=True)
class Count:
    """A number that may stand where m belongs, in words; None where it is not to be spoken of."""

    words: str
    of: Value


def of_images(of: Value) -> Value:
    """What is spoken of where there are spatial axes."""
    return lambda s: np.float64(of(s)) if len(s.shape) > 2 else None


#: What is taken for the number of elements of a channel.
COUNTS = (
    Count("m - 1", lambda s: s.m - 1),
    Count("the number of samples N", of_images(lambda s: s.samples)),
    Count("the number of pixels of a sample", of_images(lambda s: s.pixels)),
    Count("the number of all elements, N * C * H * W", lambda s: s.m * s.channels),
    Count("the number of channels", lambda s: np.float64(s.channels)),
    Count("N * C", of_images(lambda s: s.samples * s.channels)),
    Count("C * H * W, the elements of a sample", of_images(lambda s: s.channels * s.pixels)),
    Count("N times the size of the first spatial axis", of_images(lambda s: s.samples * s.shape[2])),
    Count("N times the size of the last spatial axis", of_images(lambda s: s.samples * s.shape[-1])),
    Count("the size of the first spatial axis", of_images(lambda s: s.shape[2])),
    Count("the size of the last spatial axis", of_images(lambda s: s.shape[-1])),
    Count(
        "N * C times the size of the last spatial axis, as one has it who takes one layout for the other",
        of_images(lambda s: s.m * s.channels / s.shape[2]),
    ),
    Count("m + 1", lambda s: s.m + 1),
)
