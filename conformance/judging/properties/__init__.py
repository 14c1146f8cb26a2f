"""What every right implementation does, one property a file.

A property is a function of a case, the candidate and the reference. It calls the candidate, never raises for what it
finds, and returns what became of each item that it decides. Its docstring begins with the sentence that it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.properties.aliasing import aliasing
from backproof.conformance.judging.properties.identities import identities
from backproof.conformance.judging.properties.linearity import linearity
from backproof.conformance.judging.properties.memory_layout import memory_layout
from backproof.conformance.judging.properties.purity import purity
from backproof.conformance.judging.properties.rejection import rejection
from backproof.conformance.judging.properties.relations import relations
from backproof.conformance.judging.properties.repeatability import repeatability
from backproof.conformance.judging.properties.tensors import edges, stability, tensors
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Judgement

Property = Callable[[Case, Candidate, Reference], Judgement]

#: The items that are no tensor's, in the order of the report, each with its property.
OTHERS: Mapping[str, Property] = MappingProxyType(
    {
        "linearity": linearity,
        "identities": identities,
        "relations": relations,
        "memory_layout": memory_layout,
        "purity": purity,
        "aliasing": aliasing,
        "repeatability": repeatability,
        "stability": stability,
        "edges": edges,
        "rejection": rejection,
    }
)

#: Those that go through a fixed list of cases, and the method of a layer's page that gives it.
LISTED: Mapping[str, str] = MappingProxyType({"stability": "extremes", "edges": "edges", "rejection": "meaningless"})
#: Those that only some layers have: the ones whose pages have the method.
OF_SOME: Mapping[str, str] = MappingProxyType({"identities": "identities", "relations": "relations", **LISTED})
#: Those that compare the values of several calls.
COMPARING = ("linearity", "identities", "relations")
#: Those that judge single results, as the tensors do.
RESULTS = ("stability", "edges")

__all__ = ["COMPARING", "LISTED", "OF_SOME", "OTHERS", "RESULTS", "Property", "tensors"]
