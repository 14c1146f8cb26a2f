"""What can be behind a failure: known mistakes, and how each would show.

A `Mistake` says what an implementation that commits it has for a tensor, in any case; it is named where the candidate
has the same. A `Suspicion` is a predicate on one failure, for what is no tensor's value: memory, calls, shapes, errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backproof.conformance.case import Array, Case

if TYPE_CHECKING:
    from backproof.conformance.candidate import Candidate
    from backproof.conformance.law import Law
    from backproof.conformance.verdict import Discrepancy

#: Tensors by name, in float64 and in the references' layout.
Results = Mapping[str, Array]


@dataclass(frozen=True)
class Mistake:
    """One way to be wrong: a small change of the reference, or a relation to the right result.

    `sentence` says it of one tensor, which stands in it as "{tensor}". `gives` has, of a case and its right results,
    what this mistake makes of the tensors that it changes, right or wrong in their shapes too; a tensor that is left
    out is right, and so is every one where it returns None. `step` is the numbered step of the textbook whose gradient
    is at fault, or two of them.
    """

    sentence: str
    tensors: tuple[str, ...]
    gives: Callable[[Case, Results], Results | None]
    step: str | None = None


@dataclass(frozen=True, eq=False)
class Incident:
    """One failing case of one item, and what was found there."""

    check: str
    case: Case
    law: Law
    candidate: Candidate
    found: Discrepancy


@dataclass(frozen=True)
class Suspicion:
    """One way to fail that shows in the failure itself, or in further calls of the candidate.

    `sentence` may have "{tensor}" in it, the discrepancy's. `checks` are the items that it can explain, empty: any.
    `holds` must be true of every failing case for the suspicion to be told, and be false wherever something else is
    the cause. `of_accuracy`: the tensor is right, but for its rounding; what holds results against each other fails by
    it too.
    """

    sentence: str
    checks: tuple[str, ...]
    holds: Callable[[Incident], bool]
    of_accuracy: bool = False
