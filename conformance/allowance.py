"""The seconds that a run spends on explaining its failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backproof.conformance.clock import now

#: A step that has begun is finished, though its time be up: so much of an item's time is planned, and so many of the
#: run's seconds are left over for it.
PLANNED, LEFT = 0.85, 0.5


@dataclass
class Allowance:
    """So many seconds for each failing item, and for all of them together."""

    item: float
    run: float
    spent: float = 0.0

    @property
    def used_up(self) -> bool:
        """Whether nothing is left for another item."""
        return self.run - self.spent <= 2 * LEFT

    @contextmanager
    def deadline(self) -> Iterator[float]:
        """When, by `clock.now`, explaining one item ends; the time that it takes is taken off the run's."""
        start = now()
        try:
            yield start + PLANNED * min(self.item, self.run - self.spent - LEFT)
        finally:
            self.spent += now() - start
