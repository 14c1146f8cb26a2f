"""Where it fails: the shortest condition that separates the cases that failed from those that passed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from backproof.conformance.case import Configuration
from backproof.conformance.layer import Layer

EVERYWHERE = "every case"


def cells_of(layer: Layer, configuration: Configuration) -> frozenset[str]:
    """The names of the layer's cells that this configuration lies in."""
    return frozenset(name for name, holds in layer.cells.items() if holds(configuration))


def region(order: Sequence[str], failed: Sequence[frozenset[str]], passed: Sequence[frozenset[str]]) -> str | None:
    """One cell, or two together, that holds on all that failed and on none that passed; None if there is no such rule.

    Of every case the cells that it lies in; `order` has the names of all, the plainest rule first.
    """
    if not failed:
        return None
    if not passed:
        return EVERYWHERE
    shared = frozenset.intersection(*failed)
    good = set(passed)
    names = [name for name in order if name in shared]
    for length in (1, 2):
        for rule in combinations(names, length):
            if not any(cells.issuperset(rule) for cells in good):
                return " and ".join(rule)
    return None
