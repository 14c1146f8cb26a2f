"""Every cell of what is declared, and every pair that real bugs needed, is among the cases that a profile judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest

from backproof.conformance.cases.coverage import cells_of
from backproof.conformance.cases.draw import CONFIGURATION, drawn
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.cases.sweep import swept
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.layer import Layer, Space
from backproof.conformance.spec.tape import Tape
from backproof.reference.conv import Conv
from tests.spaces import LAYER, PLACES, cases, space

#: The parts of everything that the textbook's adapter offers, with their ranks.
PARTS = {
    "linear": ("linear", (2, 3)),
    "conv1d": ("conv", (1,)),
    "conv2d": ("conv", (2,)),
    "conv3d": ("conv", (3,)),
    "batchnorm": ("batchnorm", (0, 1, 2, 3)),
}
#: What one axis alone cannot show, and an eps that formats of 16 bits are not asked.
INEXPRESSIBLE = {
    ("conv1d", "float64"): {"options differ between axes", "non-square"},
    ("conv1d", "bfloat16"): {"options differ between axes", "non-square"},
    ("batchnorm", "bfloat16"): {"eps < 1e-5"},
}
MANY = 2000


def cells_and_pairs(page: Layer) -> list[tuple[str, ...]]:
    return [*((cell,) for cell in page.cells), *page.cell_pairs]


def expressible(part: str, page: Layer, dtype: str) -> set[tuple[str, ...]]:
    never = INEXPRESSIBLE.get((part, dtype), set())
    return {cells for cells in cells_and_pairs(page) if never.isdisjoint(cells)}


def judged(page: Layer, spaces: list[Space], profile: str) -> Counter[tuple[str, ...]]:
    """In how many swept and drawn cases, with out judged, each cell and each pair is hit."""
    counts: Counter[tuple[str, ...]] = Counter()
    found: dict[object, frozenset[str]] = {}
    for own in spaces:
        reference = Reference(page, own)
        for case in (*swept(page, own, PROFILES[profile]), *drawn(page, own, PROFILES[profile].examples, 0)):
            if reference.expected(case).tolerances["out"] is not None:
                configuration = case.configuration
                if configuration not in found:
                    found[configuration] = cells_of(page, configuration)
                counts.update(cells for cells in cells_and_pairs(page) if found[configuration].issuperset(cells))
    return counts


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("profile", ["quick", "default"])
def test_every_cell_and_every_pair_is_judged(part: str, dtype: str, profile: str) -> None:
    layer, ranks = PARTS[part]
    page = LAYER[layer]
    counts = judged(page, [space(layer, rank, dtype) for rank in ranks], profile)
    assert sorted(expressible(part, page, dtype) - set(counts)) == []
    assert set(counts) <= expressible(part, page, dtype)


class NeverStrides(Conv):
    """A page that forgets what it declares."""

    def draw(self, tape: Tape, space: Space):
        parameters = super().draw(tape, space).parameters
        return self.build({**parameters, **{f"stride{k}": 1 for k in range(space.rank)}}, space)

    def features(self, space: Space) -> list[dict[str, int]]:
        return [f for f in super().features(space) if not any(name.startswith("stride") for name in f)]


def test_a_page_that_never_strides_has_cells_that_nothing_hits() -> None:
    counts = judged(NeverStrides(), [space("conv", 2)], "quick")
    unhit = expressible("conv2d", NeverStrides(), "float64") - set(counts)
    assert unhit >= {("stride > 1",), ("remainder > 0",), ("stride > kernel",), ("1x1 kernel with stride",)}
    assert all("stride" in " ".join(cells) or "remainder" in " ".join(cells) for cells in unhit)
    assert len(unhit) == 4 + sum("stride" in one + other or "remainder" in one for one, other in Conv.cell_pairs)


@cache
def drawn_cells(layer: str, rank: int) -> Mapping[tuple[str, ...], int]:
    """In how many of many drawn cases each cell and each pair is hit."""
    counts: Counter[tuple[str, ...]] = Counter()
    for page, case in cases(layer, rank, MANY):
        own = cells_of(page, case.configuration)
        counts.update(cells for cells in cells_and_pairs(page) if own.issuperset(cells))
    return counts


def test_no_pair_that_real_bugs_needed_is_a_rarity() -> None:
    counts = drawn_cells("conv", 2)
    # A stride above the kernel is one above 1: the cell is the pair.
    needed = [*Conv.cell_pairs, ("stride > kernel",)]
    assert len(needed) >= 9
    assert {cells: counts[cells] for cells in needed if counts[cells] < 0.05 * MANY} == {}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_half_of_the_strided_cases_leave_something_over(rank: int) -> None:
    counts = drawn_cells("conv", rank)
    assert counts["stride > 1", "remainder > 0"] >= 0.5 * counts["stride > 1",]


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_every_axis_is_drawn_around_every_edge_of_a_tile(layer: str, rank: int) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    generator = np.random.default_rng(3)
    for _ in range(2 * MANY):
        seen.update(LAYER[layer].draw(Tape(generator.bytes(CONFIGURATION)), space(layer, rank)).parameters.items())
    names = [name for name in next(iter(LAYER[layer].large(space(layer, rank), (33,)))) if is_size(name)]
    assert len(names) == {"linear": rank + 1, "conv": 4 + rank, "batchnorm": 2 + rank}[layer]
    for name in names:
        for edge in (8, 16, 32, 64):
            assert sum(seen[name, size] for size in (edge - 1, edge, edge + 1)) >= 5, (name, edge)


def is_size(name: str) -> bool:
    """Whether this parameter counts elements along an axis."""
    return name.startswith(("batch", "size")) or name in ("inputs", "outputs", "channels", "filters", "groups")


@pytest.mark.parametrize(("layer", "rank"), [*PLACES, ("linear", 4), ("linear", 5)])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_no_drawn_case_lies_behind_the_last_of_the_oracles_size_classes(layer: str, rank: int, dtype: str) -> None:
    page = LAYER[layer]
    used = Counter(page.program(case).size_class for _, case in cases(layer, rank, MANY, dtype, seed=7))
    assert set(used) <= set(page.size_classes)
    # Most are in the first, which costs least.
    assert used[page.size_classes[0]] > 0.8 * MANY
