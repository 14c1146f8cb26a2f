"""Mistakes in the running statistics: how they are moved, by what, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.batchnorm_stages import COUNTS, Change, Mode, Stages, Value, giving, mistake, total

BOTH = "running_mean running_var"


def _moving(weight: Callable[[Stages], Any], old: Callable[[Stages], Any] | None = None) -> Change:
    return lambda s: s.tracked(weight=weight(s), old=None if old is None else old(s))


def _always(weight: float) -> Value:
    return lambda s: weight


def _towards(mean: Value | None = None, var: Value | None = None) -> Change:
    """Another statistic of the batch that the running one moves towards."""
    return lambda s: s.tracked(mean=None if mean is None else mean(s), var=None if var is None else var(s))


def _weights() -> Iterator[Mistake]:
    for words, change in (
        (
            "comes back as it was before the forward: it is not updated, or what is returned is not the update",
            _moving(lambda s: 0.0, lambda s: 1.0),
        ),
        ("is the batch's own statistic: the old one does not count", _moving(lambda s: 1.0)),
        (
            "has the momentum the wrong way round: it weighs the old statistic for the new",
            _moving(lambda s: 1 - s.weight),
        ),
        ("has the momentum in it twice: the new statistic counts momentum^2", _moving(lambda s: s.weight**2)),
        (
            "weighs the new statistic twice, but the old one by 1 - momentum",
            _moving(lambda s: s.weight**2, lambda s: 1 - s.weight),
        ),
        ("is updated twice with the same batch", _moving(lambda s: 1 - (1 - s.weight) ** 2)),
        (
            "does not weigh the old statistic: momentum * new is added to it",
            _moving(lambda s: s.weight, lambda s: 1.0),
        ),
        (
            "does not weigh the new statistic: it is (1 - momentum) * old + new",
            _moving(lambda s: 1.0, lambda s: 1 - s.weight),
        ),
        ("is the sum of the old and the new statistic, without momentum", _moving(lambda s: 1.0, lambda s: 1.0)),
        ("lacks the new statistic: it is (1 - momentum) * old", _moving(lambda s: 0.0, lambda s: 1 - s.weight)),
        ("lacks the old statistic: it is momentum * new", _moving(lambda s: s.weight, lambda s: 0.0)),
        (
            "weighs both the old and the new statistic by momentum",
            _moving(lambda s: s.weight, lambda s: s.weight),
        ),
        (
            "weighs both the old and the new statistic by 1 - momentum",
            _moving(lambda s: 1 - s.weight, lambda s: 1 - s.weight),
        ),
        (
            "moves away from the batch's statistic: the difference has the wrong sign",
            _moving(lambda s: -s.weight, lambda s: 1 + s.weight),
        ),
        (
            "subtracts the new statistic",
            _moving(lambda s: -s.weight, lambda s: 1 - s.weight),
        ),
        ("is the average of the old and the new statistic, whatever the momentum", _moving(lambda s: 0.5)),
        *(
            (f"moves by {weight:g} of the way, whatever the momentum", _moving(_always(weight)))
            for weight in (0.1, 0.9, 0.01, 0.99, 0.001, 0.999, 0.05, 0.95)
        ),
    ):
        yield mistake(f"{{tensor}} {words}.", BOTH, change, mode="training")
    yield mistake("{tensor} is 0.", BOTH, lambda s: _plain(s, 0.0))
    yield mistake("{tensor} is 1.", "running_var", lambda s: _plain(s, 1.0))


def _plain(s: Stages, value: float) -> dict[str, Array]:
    return {name: np.full((1, s.channels, 1), value) for name in BOTH.split()}


def _means() -> Iterator[Mistake]:
    for words, mean in (
        ("has the variance where the mean belongs", lambda s: s.batch_var),
        ("moves towards the mean of out", lambda s: total(s.out) / s.m),
        ("moves towards |mean|", lambda s: np.abs(s.batch_mean)),
        ("moves towards the mean of the first sample", lambda s: _of_sample(s, 0)),
        ("moves towards the mean of the last sample", lambda s: _of_sample(s, -1)),
    ):
        yield mistake(f"{{tensor}} {words}.", "running_mean", _towards(mean=mean), mode="training")


def _of_sample(s: Stages, index: int) -> Array:
    """The mean of the first or the last sample; of vectors the right one."""
    return s.x[[index]].mean(axis=2, keepdims=True) if len(s.shape) > 2 else s.batch_mean


def _unbiased(m: Any) -> Any:
    return m / max(m - 1, 1)


def _factor(factor: Callable[[Stages], Any]) -> Change:
    """The batch's variance over m, times something, for the running variance."""

    def change(s: Stages) -> dict[str, Array] | None:
        found = factor(s)
        return None if found is None else s.tracked(var=found * s.batch_var)

    return change


def _when_unbiased(factor: Callable[[Stages], Any]) -> Callable[[Stages], Any]:
    return lambda s: factor(s) if s.case.options["running_var"] == "unbiased" else None


def _bessel(count: Callable[[Stages], Any], *, guarded: bool = True) -> Callable[[Stages], Any]:
    """n / (n - 1) of another count n; guarded, it is 1 for n = 1."""

    def factor(s: Stages) -> Any:
        n = count(s)
        if n is None:
            return None
        return n / np.maximum(n - 1, 1) if guarded else n / (n - 1)

    return factor


def _variances() -> Iterator[Mistake]:
    counts: list[tuple[str, Callable[[Stages], Any]]] = [(c.words, c.of) for c in COUNTS if "m -" not in c.words]
    counts += [
        ("half of m, as one of two workers has it", lambda s: np.float64((int(s.m) + 1) // 2)),
        ("half of m, rounded down", lambda s: np.float64(int(s.m) // 2)),
        ("twice m", lambda s: 2 * s.m),
        ("m - 1", lambda s: s.m - 1),
    ]
    yield mistake(
        "{tensor} moves towards the biased variance, over m, where the unbiased one, over m - 1, belongs.",
        "running_var",
        _factor(_when_unbiased(lambda s: 1.0)),
        mode="training",
    )
    yield mistake(
        "{tensor} moves towards the unbiased variance, over m - 1, where the biased one, over m, belongs.",
        "running_var",
        lambda s: s.tracked(var=_unbiased(s.m) * s.batch_var) if s.case.options["running_var"] == "biased" else None,
        mode="training",
    )
    for words, count in counts:
        may_be_one = "all" not in words and "m + 1" not in words and "twice" not in words
        for guard, guarded in (("", True), (", which is infinite where n = 1", False))[: 1 + may_be_one]:
            yield mistake(
                f"{{tensor}} has n = {words} in the unbiased variance's factor n / (n - 1), not n = m{guard}.",
                "running_var",
                _factor(_when_unbiased(_bessel(count, guarded=guarded))),
                mode="training",
            )
    for words, factor in (
        ("(m - 1) / m where m / (m - 1) belongs", lambda s: (s.m - 1) / s.m),
        ("the factor m / (m - 1) twice", lambda s: _unbiased(s.m) ** 2),
    ):
        yield mistake(f"{{tensor}} has {words}.", "running_var", _factor(_when_unbiased(factor)), mode="training")
    for words, factor in (
        ("the sum of the squares, not divided by m", lambda s: s.m),
        ("the variance divided by m once more", lambda s: s.bessel / s.m),
    ):
        yield mistake(f"{{tensor}} moves towards {words}.", "running_var", _factor(factor), mode="training")
    yield mistake(
        "{tensor} is multiplied by m / (m - 1) as a whole, the old statistic with the new.",
        "running_var",
        lambda s: {"running_var": _unbiased(s.m) * s.tracked(var=s.batch_var)["running_var"]},
        mode="training",
    )
    for words, var in (
        ("the deviation, the variance's root", lambda s: np.sqrt(s.bessel * s.batch_var)),
        ("sqrt(var + eps)", lambda s: 1 / s.scale),
        ("1 / sqrt(var + eps)", lambda s: s.scale),
        ("1 / (var + eps)", lambda s: s.scale**2),
        ("var + eps", lambda s: s.bessel * s.batch_var + s.eps),
        ("var + eps, times m / (m - 1)", lambda s: s.bessel * (s.batch_var + s.eps)),
        ("the square of the variance", lambda s: (s.bessel * s.batch_var) ** 2),
        ("the mean where the variance belongs", lambda s: s.batch_mean),
        ("the variance about the new running mean", lambda s: _about(s, s.tracked()["running_mean"])),
        ("the variance of out", lambda s: s.bessel * s.gamma**2 * s.batch_var * s.scale**2),
        ("the variance of xhat", lambda s: s.bessel * s.batch_var * s.scale**2),
    ):
        yield mistake(
            f"{{tensor}} moves towards {words}.",
            "running_var",
            _towards(var=var),
            mode="training",
        )
    yield mistake("{tensor} stands in the other's place: running_mean and running_var are exchanged.", BOTH, _exchanged)


def _about(s: Stages, mean: Array) -> Array:
    return np.asarray(s.bessel * total(np.square(s.x - mean)) / s.m)


def _exchanged(s: Stages) -> dict[str, Array]:
    found = s.tracked() if s.training else {"running_mean": s.running_mean, "running_var": s.running_var}
    return {"running_mean": found["running_var"], "running_var": found["running_mean"]}


def _in_eval() -> Iterator[Mistake]:
    mode: Mode = "eval"
    updated = "{tensor} is updated with the batch's in eval too"
    yield mistake(f"{updated}.", BOTH, lambda s: s.tracked(), mode=mode)
    yield mistake(
        f"{updated}, without its factor m / (m - 1).", "running_var", _towards(var=lambda s: s.batch_var), mode=mode
    )
    yield mistake(
        f"{updated}, and its factor n / (n - 1) has n = N.",
        "running_var",
        lambda s: s.tracked(var=_unbiased(s.samples) * s.batch_var) if len(s.shape) > 2 else None,
        mode=mode,
    )
    yield mistake(
        "{tensor} becomes the batch's own in eval.",
        BOTH,
        lambda s: {"running_mean": s.batch_mean, "running_var": s.batch_var},
        mode=mode,
    )
    for words, value in (
        ("has eps added to it in eval", lambda s: s.running_var + s.eps),
        ("becomes sqrt(running_var + eps) in eval", lambda s: np.sqrt(s.running_var + s.eps)),
        ("becomes sqrt(running_var) in eval", lambda s: np.sqrt(s.running_var)),
        ("becomes 1 / sqrt(running_var + eps) in eval", lambda s: s.scale),
        ("is multiplied by m / (m - 1) in eval", lambda s: _unbiased(s.m) * s.running_var),
    ):
        change = giving("running_var", value)
        yield mistake(f"{{tensor}} {words}, in the array that is passed.", "running_var", change, mode=mode)
    yield mistake(
        "{tensor} shrinks in eval: it is multiplied by 1 - momentum.",
        BOTH,
        lambda s: s.tracked(weight=0.0, old=1 - s.weight),
        mode=mode,
    )


def _channels() -> Iterator[Mistake]:
    """Of the channels, some alone are updated, or in a wrong place."""
    for words, which in (
        ("the first channel", lambda count: np.arange(count) < 1),
        ("all channels but the last", lambda count: np.arange(count) < count - 1),
        ("every other channel", lambda count: np.arange(count) % 2 == 0),
        ("the first half of the channels", lambda count: np.arange(count) < (count + 1) // 2),
    ):

        def change(s: Stages, which: Callable[[int], Array] = which) -> dict[str, Array]:
            here, new = which(s.channels).reshape(1, -1, 1), s.tracked()
            return {
                "running_mean": np.where(here, new["running_mean"], s.running_mean),
                "running_var": np.where(here, new["running_var"], s.running_var),
            }

        yield mistake(f"{{tensor}} is updated in {words} alone.", BOTH, change, mode="training")


def _of_nothing() -> Iterator[Mistake]:
    nothing = np.nan
    for words, stat in (("the mean of nothing, which is not a number", nothing), ("zeros, the sums over nothing", 0.0)):

        def change(s: Stages, stat: float = stat) -> dict[str, Array]:
            return s.tracked(mean=np.full((1, s.channels, 1), stat), var=np.full((1, s.channels, 1), stat))

        yield mistake(f"{{tensor}} is moved by {words}, on an empty batch.", BOTH, change, mode="training", empty=True)


MISTAKES: tuple[Mistake, ...] = (*_weights(), *_means(), *_variances(), *_in_eval(), *_channels(), *_of_nothing())
