"""Forty faulty implementations, written by somebody who had not seen the suite's catalogue of mistakes.

UNSEEN holds them. A fault changes one thing in a right implementation, its base; both are adapters, named as
"unseen_conv:ClassName" from this folder. What the suite says of them is how much it can say of a fault that nobody had
in mind when the catalogue was written.
"""

from __future__ import annotations

from dataclasses import dataclass

import unseen_batchnorm
import unseen_conv
import unseen_linear

from backproof.plugins.gallery.conditions import Condition


@dataclass(frozen=True)
class Unseen:
    """One faulty implementation.

    `trigger` holds on every case in which it can show; `caught_by` are the items that fail, the most telling first;
    `cause` is the mistake in one sentence.
    """

    name: str
    layer: str
    adapter: type
    base: type
    trigger: Condition
    caught_by: tuple[str, ...]
    cause: str
    #: Items that fail now and then: none is known.
    sometimes: frozenset[str] = frozenset()

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes in which it is judged."""
        return tuple(getattr(self.adapter, "CONFORMANCE", {}).get("dtypes", ("float64",)))

    @property
    def spec(self) -> str:
        """What names it as an adapter, from this folder."""
        return f"{self.adapter.__module__}:{self.name}"

    @property
    def base_spec(self) -> str:
        """What names the right implementation as an adapter, from this folder."""
        return f"{self.base.__module__}:{self.base.__name__}"


UNSEEN: tuple[Unseen, ...] = tuple(
    Unseen(
        name=adapter.__name__,
        layer=layer,
        adapter=adapter,
        base=base,
        trigger=trigger,
        caught_by=tuple(items.split()),
        cause=" ".join((adapter.__doc__ or "").split()),
    )
    for layer, rows in (
        ("linear", unseen_linear.ROWS),
        ("conv", unseen_conv.ROWS),
        ("batchnorm", unseen_batchnorm.ROWS),
    )
    for adapter, base, trigger, items in rows
)
