"""A known way to be wrong, as what it makes of a case: it is named where the candidate has the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backproof.conformance.spec.case import Array, Case

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
