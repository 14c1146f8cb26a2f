"""Mistakes with gamma and beta: in out, in dx and in their own gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.batchnorm_stages import (
    COUNTS,
    Change,
    Stages,
    Value,
    giving,
    in_each_mode,
    mistake,
    total,
    tracking,
)


def with_gamma(gamma: Value) -> Change:
    """out and dx with another gamma."""
    return lambda s: s.normalized(gamma=gamma(s))


def with_beta(beta: Value) -> Change:
    """out with another beta."""
    return lambda s: {"out": s.gamma * s.xhat + beta(s)}


def _gamma_in_dx(direct: Value, level: Value, slant: Value) -> Change:
    """dx with a gamma of its own in each of its three terms."""
    return lambda s: {"dx": s.scale * (direct(s) * s.dout - level(s) * s.level - slant(s) * s.slant)}


def _one(s: Stages) -> Array:
    return np.ones_like(s.gamma)


def _own(s: Stages) -> Array:
    return s.gamma


def _squared(s: Stages) -> Array:
    return np.square(s.gamma)


def _plain_without(name: str) -> Change:
    """Neither gamma nor beta where one of them is None."""
    return lambda s: None if s.has(name) else s.normalized(gamma=np.ones_like(s.gamma), beta=np.zeros_like(s.beta))


def _less(subtracted: Value) -> Change:
    """out with something else subtracted where gamma * mean / sqrt(var + eps) belongs."""
    return lambda s: {"out": s.gamma * s.scale * s.x - subtracted(s) + s.beta}


def _weighed(weights: Value) -> Change:
    """dgamma with something else in the place of xhat."""
    return lambda s: {"dgamma": total(s.dout * weights(s))}


def _gamma() -> Iterator[Mistake]:
    yield from in_each_mode("{tensor} lacks gamma: it is the one of gamma 1.", "out dx", with_gamma(_one), step=9)
    yield from in_each_mode("{tensor} is multiplied by gamma twice.", "out dx", with_gamma(_squared), step=9)
    yield from in_each_mode(
        "{tensor} takes |gamma| for gamma: its sign is lost.", "out dx", with_gamma(lambda s: np.abs(s.gamma))
    )
    for words, of in (
        ("1 + gamma", lambda s: 1 + s.gamma),
        ("1 / gamma", lambda s: 1 / s.gamma),
        ("exp(gamma)", lambda s: np.exp(s.gamma)),
        ("beta", lambda s: s.beta),
        ("max(gamma, 0)", lambda s: np.maximum(s.gamma, 0)),
        ("the mean of gamma over the channels", lambda s: np.full_like(s.gamma, s.gamma.mean())),
        ("the gamma of the first channel", lambda s: np.full_like(s.gamma, s.gamma.flat[0])),
        ("the gamma of the last channel", lambda s: np.full_like(s.gamma, s.gamma.flat[-1])),
        ("the gamma of the channel before", lambda s: np.roll(s.gamma, 1, axis=1)),
        ("the gamma of the channel behind", lambda s: np.roll(s.gamma, -1, axis=1)),
        ("gamma with its channels in reverse order", lambda s: s.gamma[:, ::-1]),
    ):
        yield mistake(f"{{tensor}} takes {words} for gamma.", "out dx", with_gamma(of))
    for where, tensors in (("gamma", "out"), ("beta", "out dx")):
        yield mistake(
            f"{{tensor}} takes gamma for 1 and beta for 0 where {where} alone is None.", tensors, _plain_without(where)
        )
    yield mistake(
        "{tensor} takes a gamma of None for 0.",
        "out dx",
        lambda s: None if s.has("gamma") else s.normalized(gamma=np.zeros_like(s.gamma)),
    )
    yield mistake(
        "{tensor} takes a beta of None for 1.",
        "out",
        lambda s: None if s.has("beta") else s.normalized(beta=np.ones_like(s.beta)),
    )


def _gamma_in_terms() -> Iterator[Mistake]:
    for words, change in (
        ("multiplies dout alone by gamma, not the two means that are subtracted", _gamma_in_dx(_own, _one, _one)),
        ("multiplies the two means that are subtracted by gamma, not dout", _gamma_in_dx(_one, _own, _own)),
        ("lacks gamma in the path through the mean", _gamma_in_dx(_own, _one, _own)),
        ("lacks gamma in the path through the variance", _gamma_in_dx(_own, _own, _one)),
        ("has gamma in the path through the mean alone", _gamma_in_dx(_one, _own, _one)),
        ("has gamma in the path through the variance alone", _gamma_in_dx(_one, _one, _own)),
        ("has gamma twice in the path through the mean", _gamma_in_dx(_own, _squared, _own)),
        ("has gamma twice in the path through the variance", _gamma_in_dx(_own, _own, _squared)),
        ("has gamma twice in both statistics' paths", _gamma_in_dx(_own, _squared, _squared)),
        ("has gamma twice in the straight path", _gamma_in_dx(_squared, _own, _own)),
    ):
        yield mistake(f"{{tensor}} {words}.", "dx", change, mode="training", step=9)


def _affine() -> Iterator[Mistake]:
    yield from in_each_mode("{tensor} lacks beta.", "out", with_beta(lambda s: np.zeros_like(s.beta)), step=10)
    yield mistake("{tensor} subtracts beta instead of adding it.", "out", with_beta(lambda s: -s.beta))
    yield mistake("{tensor} adds beta twice.", "out", with_beta(lambda s: 2 * s.beta))
    yield mistake(
        "{tensor} multiplies beta by gamma: it is gamma * (xhat + beta).", "out", with_beta(lambda s: s.gamma * s.beta)
    )
    yield mistake(
        "{tensor} divides beta by sqrt(var + eps) too: it is (gamma * (x - mean) + beta) / sqrt(var + eps).",
        "out",
        with_beta(lambda s: s.beta * s.scale),
    )
    yield mistake(
        "{tensor} adds beta before the mean is subtracted and all is scaled.",
        "out",
        with_beta(lambda s: s.gamma * s.beta * s.scale),
    )
    yield mistake(
        "{tensor} has gamma and beta in each other's place.", "out", lambda s: {"out": s.beta * s.xhat + s.gamma}
    )
    for words, of in (
        ("subtracts mean / sqrt(var + eps) where gamma * mean / sqrt(var + eps) belongs", lambda s: s.mean * s.scale),
        ("subtracts gamma * mean where gamma * mean / sqrt(var + eps) belongs", lambda s: s.gamma * s.mean),
        ("subtracts the mean where gamma * mean / sqrt(var + eps) belongs", lambda s: s.mean),
    ):
        yield mistake(
            f"{{tensor}} {words}, while its variance is right.",
            "out",
            _less(of),
        )
    for words, of in (
        ("the beta of the first channel", lambda s: np.full_like(s.beta, s.beta.flat[0])),
        ("the beta of the last channel", lambda s: np.full_like(s.beta, s.beta.flat[-1])),
        ("the beta of the channel before", lambda s: np.roll(s.beta, 1, axis=1)),
        ("the beta of the channel behind", lambda s: np.roll(s.beta, -1, axis=1)),
        ("beta with its channels in reverse order", lambda s: s.beta[:, ::-1]),
        ("the mean of beta over the channels", lambda s: np.full_like(s.beta, s.beta.mean())),
        ("|beta|", lambda s: np.abs(s.beta)),
    ):
        yield mistake(f"{{tensor}} takes {words} for beta.", "out", with_beta(of))
    for words, of in (("xhat", lambda s: s.xhat), ("x - mean", lambda s: s.centred), ("x", lambda s: s.x)):
        yield from in_each_mode(f"{{tensor}} is {words} itself.", "out", giving("out", of))
    yield mistake(
        "{tensor} is beta - gamma * xhat: x and the mean stand in each other's place.",
        "out",
        lambda s: {"out": s.beta - s.gamma * s.xhat},
    )
    for words, change in (
        ("does not subtract the mean", lambda s: s.normalized(np.zeros_like(s.mean))),
        ("adds the mean instead of subtracting it", lambda s: s.normalized(-s.mean)),
    ):
        yield mistake(f"{{tensor}} {words}, in training and in eval.", "out dgamma", tracking(change))


def _weights() -> Iterator[Mistake]:
    """What dout is weighed by in the place of xhat."""
    for words, of in (
        ("x", lambda s: s.x),
        ("out - gamma", lambda s: s.out - s.gamma),
        ("xhat + beta", lambda s: s.xhat + s.beta),
        ("the square of xhat", lambda s: s.xhat**2),
        ("|xhat|", lambda s: np.abs(s.xhat)),
        ("the mean", lambda s: s.mean * np.ones_like(s.x)),
    ):
        yield from in_each_mode(
            f"{{tensor}} sums dout times {words} where xhat belongs.",
            "dgamma",
            _weighed(of),
            step=9,
        )
    yield mistake(
        "{tensor} takes out, which has been scaled and shifted, where xhat belongs.",
        "dx dgamma",
        lambda s: _cached(s, s.out),
        step=9,
    )
    yield mistake(
        "{tensor} has gamma in it too early: dout is multiplied by gamma before the sum, or xhat in the cache is.",
        "dgamma",
        lambda s: {"dgamma": s.gamma * s.dgamma},
        step=9,
    )
    yield mistake(
        "{tensor} takes gamma * xhat for xhat: what the cache holds has been scaled.",
        "dx",
        lambda s: _cached(s, s.gamma * s.xhat),
        step=9,
    )
    yield mistake(
        "{tensor} takes (out - beta) / gamma for xhat, which a gamma of 0 does not give back.",
        "dx dgamma",
        lambda s: _cached(s, s.gamma * s.xhat / s.gamma),
        step=9,
    )
    yield mistake(
        "{tensor} takes out / gamma for xhat: beta is not subtracted.",
        "dx dgamma",
        lambda s: _cached(s, s.xhat + s.beta / s.gamma),
        step=9,
    )
    yield mistake(
        "{tensor} takes out - beta for xhat: it is not divided by gamma again.",
        "dgamma",
        lambda s: {"dgamma": total(s.dout * (s.out - s.beta))} if s.has("beta") and s.beta.any() else None,
        step=9,
    )
    yield mistake(
        "{tensor} is the sum of dx * x, not of dout * xhat.", "dgamma", lambda s: {"dgamma": total(s.dx * s.x)}, step=9
    )
    yield mistake(
        "{tensor} is the sum of dx * xhat, not of dout * xhat.",
        "dgamma",
        lambda s: {"dgamma": total(s.dx * s.xhat)},
        step=9,
    )


def _cached(s: Stages, xhat: Array) -> dict[str, Array]:
    """The backward with another xhat."""
    dgamma = total(s.dout * xhat)
    through = (s.dbeta + xhat * dgamma) / s.m if s.training else 0.0
    return {"dx": s.gamma * s.scale * (s.dout - through), "dgamma": dgamma}


def _sums() -> Iterator[Mistake]:
    for factor, words in (
        (lambda s: s.m, "divided by m: it is an average where a sum belongs"),
        *((count.of, f"divided by {count.words}") for count in COUNTS),
    ):
        yield from in_each_mode(f"{{tensor}} is {words}.", "dgamma dbeta", _divided(factor))
    yield from in_each_mode(
        "{tensor} stands in the other's place: dgamma and dbeta are exchanged.",
        "dgamma dbeta",
        lambda s: {"dgamma": s.dbeta, "dbeta": s.dgamma},
    )
    for words, of in (
        ("the sum of gamma * dout: gamma is multiplied in too early", lambda s: s.gamma * s.dbeta),
        ("the sum of dx", lambda s: total(s.dx) if s.tracks else s.dbeta),
        ("the sum of dout / sqrt(var + eps)", lambda s: s.scale * s.dbeta),
        ("the sum of gamma * dout / sqrt(var + eps)", lambda s: s.gamma * s.scale * s.dbeta),
        ("the sum of dout * beta", lambda s: s.beta * s.dbeta),
        ("the number of elements m, as if dout were 1", lambda s: np.full_like(s.dbeta, s.m)),
        ("the sum of |dout|", lambda s: total(np.abs(s.dout))),
        ("the sum of dout * dout", lambda s: total(s.dout**2)),
        ("the sum of dout * out", lambda s: total(s.dout * s.out)),
        ("the sum of dout * x", lambda s: total(s.dout * s.x)),
    ):
        yield mistake(f"{{tensor}} is {words}.", "dbeta", giving("dbeta", of), step=10)
    for words, part in (
        ("the first sample alone", lambda a: a[:1]),
        ("the last sample alone: it is overwritten, not added to,", lambda a: a[-1:]),
        ("all samples but the first", lambda a: a[1:]),
        ("all samples but the last", lambda a: a[:-1]),
        ("the first half of the batch", lambda a: a[: len(a) // 2]),
        ("the second half of the batch", lambda a: a[len(a) // 2 :]),
        ("every other sample", lambda a: a[::2]),
    ):
        yield from in_each_mode(f"{{tensor}} is summed over {words}.", "dgamma dbeta", _summed(part))
    for words, part in (
        ("the first pixel of each sample alone", lambda a: a[:, :, :1]),
        ("the last pixel of each sample alone: it is overwritten, not added to,", lambda a: a[:, :, -1:]),
        ("all pixels but the last", lambda a: a[:, :, :-1]),
        ("all pixels but the first", lambda a: a[:, :, 1:]),
    ):
        yield from in_each_mode(f"{{tensor}} is summed over {words}.", "dgamma dbeta", _summed(part, images=True))


def _divided(count: Value) -> Change:
    def change(s: Stages) -> dict[str, Array] | None:
        found = count(s)
        return None if found is None else {"dgamma": s.dgamma / found, "dbeta": s.dbeta / found}

    return change


def _summed(part: Callable[[Array], Array], *, images: bool = False) -> Change:
    """The sums over a part of (N, C, P)."""

    def change(s: Stages) -> dict[str, Array] | None:
        if images and len(s.shape) == 2:
            return None
        return {"dgamma": total(part(s.dout * s.xhat)), "dbeta": total(part(s.dout))}

    return change


def _shapes() -> Iterator[Mistake]:
    """Sums over too few axes, or too many, in whatever shape that leaves."""

    def over(axes: Callable[[int], Sequence[int]], *, images: bool = False) -> Change:
        def change(s: Stages) -> dict[str, Array] | None:
            if images and len(s.shape) == 2:
                return None
            terms = {"dgamma": s.dout * s.xhat, "dbeta": s.dout}
            return {name: a.reshape(s.shape).sum(axis=tuple(axes(len(s.shape)))) for name, a in terms.items()}

        return change

    def in_every_channel(s: Stages) -> dict[str, Array]:
        sums = {"dgamma": s.dgamma, "dbeta": s.dbeta}
        return {name: np.full(s.channels, a.sum()) for name, a in sums.items()}

    def kept(s: Stages) -> dict[str, Array]:
        shape = (1, s.channels, *[1] * (len(s.shape) - 2))
        return {"dgamma": s.dgamma.reshape(shape), "dbeta": s.dbeta.reshape(shape)}

    for words, change in (
        ("is summed over the batch alone: it keeps the spatial axes", over(lambda rank: (0,))),
        ("is not summed at all", over(lambda rank: ())),
        ("is summed over the spatial axes alone, not over the batch", over(lambda rank: range(2, rank), images=True)),
        ("is summed over the channels too: it is one number for all of them", over(range)),
        ("is summed over the channels instead of over the batch", over(lambda rank: range(1, rank))),
        (
            "is summed over all axes but the last, as if the channels came last",
            over(lambda rank: range(rank - 1), images=True),
        ),
        ("keeps the axes that are summed, with a size of 1", kept),
        ("has the sum over all channels in every one of them", in_every_channel),
    ):
        yield mistake(f"{{tensor}} {words}.", "dgamma dbeta", change, shaped=False)


MISTAKES: tuple[Mistake, ...] = (
    *_gamma(),
    *_gamma_in_terms(),
    *_affine(),
    *_weights(),
    *_sums(),
    *_shapes(),
)
