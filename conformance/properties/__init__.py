"""What every right implementation does, one property a file.

A property is a function of a case, the candidate and the law. It calls the candidate, never raises for what it finds,
and returns what became of each item that it decides.
"""

from __future__ import annotations

from collections.abc import Callable

from backproof.conformance.candidate import Candidate
from backproof.conformance.case import Case
from backproof.conformance.law import Law
from backproof.conformance.properties.purity import purity
from backproof.conformance.properties.repeatability import repeatability
from backproof.conformance.properties.tensors import edges, tensors
from backproof.conformance.verdict import Judgement

Property = Callable[[Case, Candidate, Law], Judgement]

#: The items that are no tensor's, in the order of the report, each with its property.
OTHERS: dict[str, Property] = {"purity": purity, "repeatability": repeatability, "edges": edges}

__all__ = ["OTHERS", "Property", "edges", "purity", "repeatability", "tensors"]
