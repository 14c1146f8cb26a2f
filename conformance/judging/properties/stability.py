"""Results of numbers that are hard to compute with."""

from __future__ import annotations

from collections.abc import Iterator

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.properties.extreme_cases import ExtremeCases
from backproof.conformance.judging.properties.property import overrides
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer, Space


class Stability(ExtremeCases):
    """A mean far larger than the standard deviation, or no variance at all, costs no more accuracy than it must."""

    name = "stability"

    def is_asked(self, candidate: Candidate) -> bool:
        """Whether the layer has such cases."""
        return overrides(candidate.layer, Layer.extremes)

    def cases(self, layer: Layer, space: Space) -> Iterator[Case]:
        """The layer's hard numbers."""
        return layer.extremes(space)
