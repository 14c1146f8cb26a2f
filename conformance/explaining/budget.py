"""The seconds that a run spends on explaining its failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, thread_time

#: A step that has begun is finished, though its time be up: so much of an item's time is planned, and so many of the
#: run's seconds are left over for it.
PLANNED, LEFT = 0.85, 0.5
#: The share of the thread's own time. Where other processes have the machine, a second here takes four at most.
OWN = 0.75


def now() -> float:
    """Seconds: of work for the most part, so that a busy machine explains as much as an idle one, and of waiting."""
    return OWN * thread_time() + (1 - OWN) * monotonic()


@dataclass
class Budget:
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
        """When, by `now`, explaining one item ends; the time that it takes is taken off the run's."""
        start = now()
        try:
            yield start + PLANNED * min(self.item, self.run - self.spent - LEFT)
        finally:
            self.spent += now() - start
