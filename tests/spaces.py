"""Spaces for the tests of the pages: everything that a candidate may declare."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from backproof.conformance.adapter.load import Implementation, load
from backproof.conformance.cases.draw import CONFIGURATION, NUMBERS, case_from
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer, Space
from backproof.reference import CONTRACTS, LAYERS

LAYER = {layer.name: layer for layer in LAYERS}
#: Layer and rank of everything that the textbook's adapter offers.
PLACES = [
    ("linear", 2),
    ("linear", 3),
    ("conv", 1),
    ("conv", 2),
    ("conv", 3),
    ("batchnorm", 0),
    ("batchnorm", 1),
    ("batchnorm", 2),
    ("batchnorm", 3),
]


@cache
def implementation(layer: str) -> Implementation:
    """The textbook's: it takes every array and option."""
    return load("backproof.plugins.numpy_adapter", CONTRACTS).implementations[layer]


def space(layer: str, rank: int, dtype: str = "float64") -> Space:
    """The space of all cases of a layer."""
    found = implementation(layer)
    return Space(found.signature, found.settings, rank, dtype)


def cases(layer: str, rank: int, count: int, dtype: str = "float64", seed: int = 0) -> Iterator[tuple[Layer, Case]]:
    """So many cases, drawn from random bytes."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        data = generator.bytes(CONFIGURATION), generator.bytes(NUMBERS)
        yield LAYER[layer], case_from(LAYER[layer], space(layer, rank, dtype), *data)
