"""Relations to the right result: in another order, with another sign or factor, missing in places."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.batchnorm_stages import Change, Stages, giving, in_each_mode, mistake, tracking

GRADIENTS = "dx dgamma dbeta"
RUNNING = "running_mean running_var"

#: What becomes of a right result.
Relation = Callable[[Stages, Array], Array]


def _right(s: Stages) -> dict[str, Array]:
    running = s.tracked() if s.training else {"running_mean": s.running_mean, "running_var": s.running_var}
    return {"out": s.out, "dx": s.dx, "dgamma": s.dgamma, "dbeta": s.dbeta, **running}


def _related(relation: Relation) -> Change:
    """Every result so related to the right one; `mistake` keeps to those that it speaks of."""
    return lambda s: {name: relation(s, right) for name, right in _right(s).items()}


def _times(factor: float) -> Relation:
    return lambda s, right: factor * right


def _plus(value: float) -> Relation:
    return lambda s, right: right + value


def _only(kept: slice, axis: int) -> Relation:
    """Right there, and 0 elsewhere."""

    def relation(s: Stages, right: Array) -> Array:
        found = np.zeros_like(right)
        where = (slice(None),) * axis + (kept,)
        found[where] = right[where]
        return found

    return relation


def _order() -> Iterator[Mistake]:
    channels: tuple[tuple[str, Relation], ...] = (
        ("has its channels in reverse order", lambda s, right: right[:, ::-1]),
        ("has each channel in the place of the next", lambda s, right: np.roll(right, 1, axis=1)),
        ("has each channel in the place of the one before", lambda s, right: np.roll(right, -1, axis=1)),
        ("has the first channel's numbers in all", lambda s, right: np.repeat(right[:, :1], s.channels, axis=1)),
    )
    for words, relation in channels:
        yield mistake(f"{{tensor}} {words}.", f"out {GRADIENTS} {RUNNING}", _related(relation))
    places: tuple[tuple[str, Relation], ...] = (
        ("has its samples in reverse order", lambda s, right: right[::-1]),
        ("has each sample in the place of the next", lambda s, right: np.roll(right, 1, axis=0)),
        ("has each sample in the place of the one before", lambda s, right: np.roll(right, -1, axis=0)),
        ("has the first sample's numbers in all samples", lambda s, right: np.repeat(right[:1], s.samples, axis=0)),
        ("has its pixels in reverse order", lambda s, right: right[:, :, ::-1]),
        ("is right in the first sample and 0 in the others", _only(slice(1), 0)),
        ("is right in the last sample and 0 in the others", _only(slice(-1, None), 0)),
        ("is 0 in the last sample", _only(slice(-1), 0)),
        ("is 0 in the first sample", _only(slice(1, None), 0)),
        ("is 0 in the last pixel of each sample", _only(slice(-1), 2)),
    )
    for words, relation in places:
        yield mistake(f"{{tensor}} {words}.", "out dx", _related(relation))
    for words, kept in (
        ("is right in the first channel and 0 in the others", slice(1)),
        ("is 0 in the last channel", slice(-1)),
        ("is 0 in the first channel", slice(1, None)),
    ):
        yield mistake(f"{{tensor}} {words}.", f"out {GRADIENTS}", _related(_only(kept, 1)))


def _factors() -> Iterator[Mistake]:
    factors: tuple[tuple[str, Relation], ...] = (
        ("has the wrong sign", _times(-1.0)),
        ("is twice the right one", _times(2.0)),
        ("is half of the right one", _times(0.5)),
        ("is 0 everywhere", _times(0.0)),
        ("is m times the right one", lambda s, right: s.m * right),
    )
    for words, relation in factors:
        yield from in_each_mode(f"{{tensor}} {words}.", f"out {GRADIENTS}", _related(relation))
    for words, relation in factors[:3]:
        yield mistake(f"{{tensor}} {words} after the update.", RUNNING, _related(relation), mode="training")
    yield mistake(
        "{tensor} is divided by m in training.", "dx", _related(lambda s, right: right / s.m), mode="training"
    )
    yield mistake(
        "{tensor} is divided by N in training.",
        "dx",
        giving("dx", lambda s: s.dx / s.samples if len(s.shape) > 2 else None),
        mode="training",
    )
    for value in (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8):
        yield mistake(
            f"{{tensor}} is {value:g} too large everywhere: a constant is added, or a sum does not begin at 0.",
            f"out {GRADIENTS}",
            _related(_plus(value)),
        )
    yield mistake("{tensor} has eps added to it.", GRADIENTS, _related(lambda s, right: right + s.eps))


def _others() -> Iterator[Mistake]:
    """dx that is another array of the layer, or made of dout alone."""
    for words, change in (
        ("is dout itself", giving("dx", lambda s: s.dout)),
        ("is gamma * dout", giving("dx", lambda s: s.gamma * s.dout)),
        ("is out", giving("dx", lambda s: s.out)),
        ("is dout / sqrt(var + eps)", giving("dx", lambda s: s.scale * s.dout)),
    ):
        yield mistake(f"{{tensor}} {words}.", "dx", change)
        yield mistake(f"In training alone, {{tensor}} {words}.", "dx", tracking(change), mode="training")
    yield mistake("{tensor} is a copy of x.", "dx", giving("dx", lambda s: s.x))


MISTAKES: tuple[Mistake, ...] = (*_factors(), *_others(), *_order())
