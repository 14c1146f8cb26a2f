"""Where it fails: the shortest condition on the configuration that separates what failed from what passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from backproof.conformance.case import Configuration
from backproof.conformance.layer import Layer

EVERYWHERE = "every case"


def cells_of(layer: Layer, configuration: Configuration) -> frozenset[str]:
    """The names of the layer's cells that this configuration lies in."""
    return frozenset(name for name, holds in layer.cells.items() if holds(configuration))


def region(
    layer: Layer,
    failed: Sequence[Configuration],
    passed: Sequence[Configuration],
    known: Mapping[Configuration, frozenset[str]],
) -> str | None:
    """One cell, or two together, that holds on all that failed and on none that passed; None if there is no such rule.

    `known` holds the cells of configurations where they have been worked out.
    """
    if not failed:
        return None
    if not passed:
        return EVERYWHERE
    bad = [known.get(c) or cells_of(layer, c) for c in failed]
    good = [known.get(c) or cells_of(layer, c) for c in passed]
    shared = frozenset.intersection(*bad)
    names = [name for name in layer.cells if name in shared]
    for length in (1, 2):
        for rule in combinations(names, length):
            if not any(cells.issuperset(rule) for cells in good):
                return " and ".join(rule)
    return None
