"""Which named conditions the cases must hit, and how often they did."""

from __future__ import annotations

from backproof.conformance.spec.case import Configuration
from backproof.conformance.spec.layer import Layer


def cells_of(layer: Layer, configuration: Configuration) -> frozenset[str]:
    """The names of the layer's cells that this configuration lies in."""
    return frozenset(name for name, holds in layer.cells.items() if holds(configuration))
