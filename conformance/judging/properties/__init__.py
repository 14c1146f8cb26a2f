"""What every right implementation does, one property a file.

A new property is a file here and its entry in the tuple below.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from backproof.conformance.judging.properties.aliasing import Aliasing
from backproof.conformance.judging.properties.edges import Edges
from backproof.conformance.judging.properties.identities import Identities
from backproof.conformance.judging.properties.linearity import Linearity
from backproof.conformance.judging.properties.memory_layout import MemoryLayout
from backproof.conformance.judging.properties.property import Property
from backproof.conformance.judging.properties.purity import Purity
from backproof.conformance.judging.properties.rejection import Rejection
from backproof.conformance.judging.properties.relations import Relations
from backproof.conformance.judging.properties.repeatability import Repeatability
from backproof.conformance.judging.properties.stability import Stability
from backproof.conformance.judging.properties.tensors import TENSORS

#: The properties whose items are no tensor's, in the order of the report.
_ALL: tuple[Property, ...] = (
    Linearity(),
    Identities(),
    Relations(),
    MemoryLayout(),
    Purity(),
    Aliasing(),
    Repeatability(),
    Stability(),
    Edges(),
    Rejection(),
)
#: The same by the name of their item.
PROPERTIES: Mapping[str, Property] = MappingProxyType({each.name: each for each in _ALL})


def property_of(item: str) -> Property:
    """The property that decides an item."""
    return PROPERTIES.get(item, TENSORS)


__all__ = ["PROPERTIES", "TENSORS", "Property", "property_of"]
