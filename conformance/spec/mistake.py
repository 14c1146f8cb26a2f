"""A known mistake and what it computes; it is reported where the implementation returns the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backproof.conformance.spec.case import Array, Case

#: Tensors by name, in float64 and in the reference's layout.
Results = Mapping[str, Array]


@dataclass(frozen=True)
class Mistake:
    """One mistake: a small change of the reference, or of the right result.

    `sentence` is what is reported; "{tensor}" in it stands for the tensor that is wrong. `gives` takes a case and its
    right results and returns the tensors that this mistake changes, which may have another shape; tensors that it
    leaves out are right, and so is every tensor where it returns None. `step` names the numbered step of the textbook,
    or two of them, whose gradient is wrong.
    """

    sentence: str
    tensors: tuple[str, ...]
    gives: Callable[[Case, Results], Results | None]
    step: str | None = None
