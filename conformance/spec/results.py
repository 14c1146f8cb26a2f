"""What may become of an item in one case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from backproof.conformance.spec.case import Array

Kind = Literal[
    "value",
    "shape",
    "dtype",
    "nonfinite",
    "result",
    "refused",
    "mutation",
    "alias",
    "state",
    "crash",
    "timeout",
    "accepted",
]


@dataclass(frozen=True, eq=False)
class Discrepancy:
    """One thing that is off: of which kind, in which tensor, a sentence, and the two arrays that differ."""

    kind: Kind
    tensor: str | None
    message: str
    expected: Array | None = None
    got: Array | None = None
    traceback: str | None = None
    #: Which of a property's calls gave it, in the property's own words.
    way: str = ""


class Status(Enum):
    """What became of a check in one case, where nothing is off."""

    RIGHT = "right"
    #: The implementation raised NotImplementedError.
    UNSUPPORTED = "unsupported"
    #: Right code's own rounding could hide any fault.
    UNJUDGED = "not judged"
    #: A call that the check needs failed; that is another item's failure.
    LEFT_OUT = "left out"


#: The outcome of every check that a property makes, by the item's name.
Judgement = Mapping[str, Status | Discrepancy]


@dataclass(frozen=True)
class Problem:
    """What stands in a result's place where no array came back."""

    kind: Kind
    message: str
    traceback: str | None = None

    def of(self, tensor: str) -> Discrepancy:
        """The same as a discrepancy of this tensor."""
        return Discrepancy(self.kind, tensor, self.message, traceback=self.traceback)
