"""The seconds that a run spends on explaining its failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backproof.conformance.clock import now


@dataclass
class Allowance:
    """So many seconds for each failing item, and for all of them together."""

    item: float
    run: float
    spent: float = 0.0

    @property
    def used_up(self) -> bool:
        """Whether nothing is left for another item."""
        return self.spent >= self.run

    @contextmanager
    def deadline(self) -> Iterator[float]:
        """When, by `clock.now`, explaining one item ends; the time that it takes is taken off the run's."""
        start = now()
        try:
            yield start + min(self.item, self.run - self.spent)
        finally:
            self.spent += now() - start
