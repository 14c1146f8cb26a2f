"""A case is drawn from a few bytes: each byte picks one thing, byte 0 the plainest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Tape:
    """Reads a string of bytes from its start; past the end every byte is 0.

    Hypothesis supplies the bytes. Choices come before data and their number does not depend on what was chosen, so a
    simpler choice leaves all the others where they are.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def byte(self) -> int:
        """The next byte, 0 to 255."""
        position = self.position
        self.position = position + 1
        return self.data[position] if position < len(self.data) else 0

    def pick(self, choices: Sequence[T]) -> T:
        """One of at most 256 choices, the first for byte 0; repeated entries weigh more."""
        return choices[self.byte() % len(choices)]
