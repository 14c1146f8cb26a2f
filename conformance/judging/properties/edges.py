"""Results of the smallest cases there are."""

from __future__ import annotations

from collections.abc import Iterator

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.properties.extreme_cases import ExtremeCases
from backproof.conformance.judging.properties.property import overrides
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer, Space


class Edges(ExtremeCases):
    """At the edges too: sums over nothing are zero, and one element a channel normalizes to beta."""

    name = "edges"

    def is_asked(self, candidate: Candidate) -> bool:
        """Whether the layer has such cases."""
        return overrides(candidate.layer, Layer.edges)

    def cases(self, layer: Layer, space: Space) -> Iterator[Case]:
        """The layer's smallest cases."""
        return layer.edges(space)
