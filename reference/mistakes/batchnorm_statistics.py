"""Mistakes in the statistics: the mean, what they are taken over, and which of them are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.batchnorm_stages import COUNTS, Change, Stages, mistake, total

Value = Callable[[Stages], Array]


def _inverse(s: Stages, var: Array) -> Array:
    return np.asarray(1 / np.sqrt(var + s.eps))


def _with_mean(mean: Callable[[Stages], Any], *, about: bool) -> Change:
    """Another mean in training; `about`: the variance is the mean of the squares of what it leaves."""

    def change(s: Stages) -> dict[str, Array] | None:
        wrong = mean(s)
        if wrong is None:
            return None
        var = total(np.square(s.x - wrong)) / s.m if about else s.var
        return s.normalized(wrong, _inverse(s, var)) | s.tracked(mean=wrong, var=s.bessel * var)

    return change


def _stepwise(mean: Callable[[Stages], Any], count: Callable[[Stages], Any] | None) -> Change:
    """dx by the ten steps, of a forward with another mean and the variance about it."""

    def change(s: Stages) -> dict[str, Array] | None:
        wrong = mean(s)
        if wrong is None:
            return None
        centred = s.x - wrong
        var = total(np.square(centred)) / s.m
        return {"dx": s.backward(centred=centred, var=var, mean_count=None if count is None else count(s))}

    return change


def _means() -> Iterator[Mistake]:
    divided = [(f"divides the sum of x by {count.words}, not by m, for the mean", count.of) for count in COUNTS]
    divided.append(("has the sum of x for the mean: it is not divided by m", lambda s: np.float64(1)))
    for words, count in divided:

        def mean(s: Stages, count: Callable[[Stages], Any] = count) -> Any:
            divisor = count(s)
            return None if divisor is None else total(s.x) / divisor

        yield from _of_mean(words, mean, count)
    for words, of in (
        ("takes the mean of the first channel for all", lambda s: np.full_like(s.mean, s.mean.flat[0])),
        ("takes the mean of the channel before", lambda s: np.roll(s.mean, 1, axis=1)),
        ("takes the mean of all channels together", lambda s: np.full_like(s.mean, s.mean.mean())),
        ("takes the median for the mean", lambda s: np.median(s.x, axis=(0, 2), keepdims=True)),
        ("takes the first element of each channel for the mean", lambda s: s.x[:1, :, :1]),
        ("takes the middle between the least and the largest for the mean", _middle),
    ):
        yield from _of_mean(words, of, None)
    for words, of in (
        ("does not subtract the mean of the batch", lambda s: np.zeros_like(s.mean)),
        ("adds the mean of the batch instead of subtracting it", lambda s: -s.mean),
    ):
        yield from _of_mean(words, of, None, running="")


def _of_mean(
    words: str,
    mean: Callable[[Stages], Any],
    count: Callable[[Stages], Any] | None,
    running: str = "running_mean running_var",
) -> Iterator[Mistake]:
    yield mistake(
        f"{{tensor}} {words}.",
        f"out dx dgamma {running}",
        _with_mean(mean, about=True),
        mode="training",
        step=1,
    )
    yield mistake(
        f"{{tensor}} {words}, while the variance is about the right one.",
        "out dx dgamma",
        _with_mean(mean, about=False),
        mode="training",
        step=1,
    )
    yield mistake(
        f"{{tensor}} {words}, and the ten steps back are those of the right one.",
        "dx",
        _stepwise(mean, None),
        mode="training",
        step=1,
    )
    if count is not None:
        yield mistake(
            f"{{tensor}} {words}, and the ten steps back divide by it too.",
            "dx",
            _stepwise(mean, count),
            mode="training",
            step=1,
        )


def _middle(s: Stages) -> Array:
    return np.asarray((s.x.min(axis=(0, 2), keepdims=True) + s.x.max(axis=(0, 2), keepdims=True)) / 2)


def _grouped(axes: Callable[[Stages], Sequence[int] | None], *, own_means: bool) -> Change:
    """Statistics over these axes of x in its own shape; None: they are the right ones.

    `own_means`: dx takes its means over them too, as the derivative of such a forward does; else over each channel.
    """

    def change(s: Stages) -> dict[str, Array] | None:
        found = axes(s)
        if found is None:
            return None
        over = tuple(found)
        x, dout = s.x.reshape(s.shape), s.dout.reshape(s.shape)
        column = (1, s.channels, *[1] * (len(s.shape) - 2))
        rest = (0, *range(2, len(s.shape)))
        mean = x.mean(axis=over, keepdims=True)
        var = np.square(x - mean).mean(axis=over, keepdims=True)
        scale = 1 / np.sqrt(var + s.eps)
        xhat = (x - mean) * scale
        gamma, upstream = s.gamma.reshape(column), dout * s.gamma.reshape(column)
        within = over if own_means else rest
        if own_means:
            level, slant = (a.mean(axis=within, keepdims=True) for a in (upstream, upstream * xhat))
        else:
            level = upstream.sum(axis=rest, keepdims=True) / s.m
            slant = (upstream * xhat).sum(axis=rest, keepdims=True) / s.m
        dx = scale * (upstream - level - xhat * slant)
        count = x[tuple(slice(None) if axis in over else slice(1) for axis in range(x.ndim))].size
        bessel = count / max(count - 1, 1) if s.case.options["running_var"] == "unbiased" else 1.0

        def by_channel(a: Array) -> Array:
            return np.asarray(np.broadcast_to(a, s.shape).mean(axis=rest).reshape(1, -1, 1))

        return {
            "out": gamma * xhat + s.beta.reshape(column),
            "dx": dx,
            "dgamma": (dout * xhat).sum(axis=rest),
            **s.tracked(mean=by_channel(mean), var=bessel * by_channel(var)),
        }

    return change


def _of_images(*axes: int) -> Callable[[Stages], Sequence[int] | None]:
    """Axes that only images have a reason to be normalized over; -1 is the last."""

    def found(s: Stages) -> Sequence[int] | None:
        rank = len(s.shape)
        return None if rank == 2 else sorted({axis % rank for axis in axes if axis < rank})

    return found


def _groups() -> Iterator[Mistake]:
    for words, axes, running in (
        ("over each sample by itself, as in instance norm", _of_images(2, 3, 4), "running_var"),
        ("over the batch for each pixel by itself", _of_images(0), "running_var"),
        ("over all channels together", lambda s: range(len(s.shape)), "running_var"),
        ("over each sample with all its channels, as in layer norm", lambda s: range(1, len(s.shape)), ""),
        ("over the channels of each pixel by itself", _of_images(1), ""),
        ("over the batch and the channels of each pixel", _of_images(0, 1), ""),
        (
            "over all axes but the last, as if the channels came last",
            lambda s: _of_images(*range(len(s.shape) - 1))(s),
            "",
        ),
        ("over the batch and the first spatial axis, for each column by itself", _rows_of(0), "running_var"),
        ("over the batch and the last spatial axis, for each row by itself", _rows_of(-1), "running_var"),
    ):
        sentence = f"{{tensor}} has mean and variance {words}"
        yield mistake(f"{sentence}.", f"out dx dgamma {running}", _grouped(axes, own_means=True), mode="training")
        yield mistake(
            f"{sentence}, and its own means over each channel.", "dx", _grouped(axes, own_means=False), mode="training"
        )


def _rows_of(axis: int) -> Callable[[Stages], Sequence[int] | None]:
    return lambda s: (0, 2 if axis == 0 else len(s.shape) - 1) if len(s.shape) > 3 else None


Part = Callable[[Stages], list[Array]]


def _halves_of_rows(s: Stages) -> list[Array]:
    """x in two halves of its elements, in the order sample by sample; the first may have one more."""
    rows = np.moveaxis(s.x, 1, -1).reshape(-1, s.channels)
    return [half.T.reshape(1, s.channels, -1) for half in np.array_split(rows, 2) if len(half)]


def _halves_of_batch(s: Stages) -> list[Array]:
    """x in two halves of its samples."""
    return [half for half in np.array_split(s.x, 2) if len(half)] if len(s.shape) > 2 else []


def _merged(part: Part, *, between: bool, weighed: bool, mean_weighed: bool) -> Change:
    """The statistics of two parts merged."""

    def change(s: Stages) -> dict[str, Array] | None:
        halves = part(s)
        if not halves:
            return None
        sizes = np.array([half.size for half in halves], dtype=np.float64)
        equal = np.ones(len(halves))
        means = np.stack([half.mean(axis=(0, 2)) for half in halves])
        variances = np.stack([half.var(axis=(0, 2)) for half in halves])

        def average(a: Array, weigh: bool) -> Array:
            return np.average(a, axis=0, weights=sizes if weigh else equal)

        mean = average(means, mean_weighed)
        var = average(variances, weighed)
        if between:
            var = var + average(np.square(means - average(means, weighed)), weighed)
        column = (1, -1, 1)
        mean, var = mean.reshape(column), var.reshape(column)
        return s.normalized(mean, _inverse(s, var)) | s.tracked(mean=mean, var=s.bessel * var)

    return change


def _merging() -> Iterator[Mistake]:
    tensors = "out dx dgamma running_mean running_var"
    for words, part in (("elements", _halves_of_rows), ("samples", _halves_of_batch)):
        for how, between, weighed, mean_weighed in (
            ("as if they were of the same size", True, False, False),
            (
                "without what their means differ by: the variance is the average of the two variances",
                False,
                True,
                True,
            ),
            ("without what their means differ by, and as if they were of the same size", False, False, False),
        ):
            merged = _merged(part, between=between, weighed=weighed, mean_weighed=mean_weighed)
            yield mistake(
                f"{{tensor}} merges the statistics of two halves of the {words} {how}.",
                # Weighted halves give the right mean; the mean of unweighted ones does not say which mistake this is.
                tensors if between else "out dx dgamma running_var",
                merged,
                mode="training",
            )
        for which, index in (("first", 0), ("second", -1)):

            def change(s: Stages, part: Part = part, index: int = index) -> dict[str, Array] | None:
                halves = part(s)
                if not halves:
                    return None
                mean, var = (
                    a.reshape(1, -1, 1) for a in (halves[index].mean(axis=(0, 2)), halves[index].var(axis=(0, 2)))
                )
                return s.normalized(mean, _inverse(s, var)) | s.tracked(mean=mean, var=s.bessel * var)

            yield mistake(
                f"{{tensor}} has the statistics of the {which} half of the {words} alone.",
                tensors,
                change,
                mode="training",
            )


def _swapped(mean: bool, var: bool, *, training: bool) -> Change:
    """The running statistics in training and the batch's in eval; `training` says which dx."""

    def change(s: Stages) -> dict[str, Array] | None:
        if not s.tracks:
            return None
        own, other = (s.batch_mean, s.batch_var), (s.running_mean, s.running_var)
        if s.training:
            own, other = other, own
        return s.normalized(own[0] if mean else other[0], _inverse(s, own[1] if var else other[1]), training=training)

    return change


def _sources() -> Iterator[Mistake]:
    """The batch's statistics where the running ones belong, and the reverse."""
    both = "out dx dgamma"
    for which, one, belong, mean, var in (
        ("mean and variance", "ones", "belong", True, True),
        ("mean", "one", "belongs", True, False),
        ("variance", "one", "belongs", False, True),
    ):
        for_constants, through = (_swapped(mean, var, training=training) for training in (False, True))
        wrong = f"{{tensor}} has the {which} of the batch in eval, where the running {one} {belong}"
        # dx of eval does not see the mean.
        yield mistake(f"{wrong}.", "out dgamma" if mean else both, for_constants, mode="eval")
        yield mistake(f"{wrong}, and goes through mean and variance.", "dx", through, mode="eval")
        wrong = f"{{tensor}} has the running {which} in training, where the batch's {belong}"
        yield mistake(f"{wrong}.", both, through, mode="training")
        if var and not mean:
            yield mistake(f"{wrong}, and takes it for a constant.", "dx", for_constants, mode="training")
    yield mistake(
        "{tensor} has the running statistics in training, after their update with the batch's.",
        both,
        lambda s: _updated(s) if s.tracks else None,
        mode="training",
    )
    yield mistake(
        "{tensor} has the running statistics in eval after an update with the batch's.", both, _updated, mode="eval"
    )
    yield mistake(
        "{tensor} has running_mean and running_var in each other's place.",
        both,
        lambda s: s.normalized(s.running_var, _inverse(s, s.running_mean)),
        mode="eval",
    )
    for words, change in (
        ("does not subtract running_mean in eval", lambda s: s.normalized(np.zeros_like(s.mean))),
        ("adds running_mean in eval instead of subtracting it", lambda s: s.normalized(-s.mean)),
    ):
        yield mistake(f"{{tensor}} {words}.", "out dgamma", change, mode="eval")
    yield mistake(
        "{tensor} takes 1 for the running variance in eval.",
        both,
        lambda s: s.normalized(scale=_inverse(s, np.ones_like(s.var))),
        mode="eval",
    )


def _updated(s: Stages) -> dict[str, Array]:
    moved = s.tracked()
    return s.normalized(moved["running_mean"], _inverse(s, moved["running_var"]))


def _in_eval() -> Iterator[Mistake]:
    """dx of training in eval, and parameters taken for frozen there."""
    yield mistake(
        "{tensor} is that of training: in eval it goes through mean and variance too.",
        "dx",
        lambda s: s.normalized(training=True),
        mode="eval",
    )
    for words, change in (
        ("mean", lambda s: {"dx": s.gamma * s.scale * (s.dout - s.dbeta / s.m)}),
        ("variance", lambda s: {"dx": s.gamma * s.scale * (s.dout - s.xhat * s.dgamma / s.m)}),
    ):
        yield mistake(
            f"{{tensor}} goes through the {words} in eval, which is a constant there.", "dx", change, mode="eval"
        )


MISTAKES: tuple[Mistake, ...] = (*_means(), *_sources(), *_in_eval(), *_groups(), *_merging())
