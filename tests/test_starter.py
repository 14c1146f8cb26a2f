"""For every condition that real bugs needed, the suite finds a candidate that it alone reveals, whatever the seed.

The condition is then switched off in what is drawn, and nothing fails: it was that condition and no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

import pytest

from backproof.conformance.adapter import load
from backproof.conformance.case import Case
from backproof.conformance.hearing import Hearing
from backproof.conformance.law import Law
from backproof.conformance.profile import PROFILES
from backproof.conformance.properties import LISTED, OTHERS
from backproof.reference import CONTRACTS, LAYERS

from .starter import ROWS, TAGS, Condition, Row, specification

ROOT = Path(__file__).parent.parent
TWINS = sorted({(row.layer, specification(row.twin)) for row in ROWS})

on_each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.tag)


def everything(case: Case) -> bool:
    return True


class Limited(Hearing):
    """Asks only some of the cases that the right twin is asked; both share them, and what is right in them."""

    def __init__(self, spec: str, twin: Hearing, admitted: Condition, stages: tuple[str, ...]) -> None:
        adapter = load(spec, CONTRACTS, ROOT)
        super().__init__(twin.layer, twin.part, twin.dtype, adapter, twin.profile, twin.seed, lambda *_: None)
        assert [law.space for law in self.laws] == [law.space for law in twin.laws]
        self.laws, self.twin, self.admitted, self.stages = twin.laws, twin, admitted, stages

    def admits(self, case: Case) -> bool:
        return self.admitted(case)

    @cached_property
    def swept(self) -> tuple[tuple[Law, tuple[Case, ...]], ...]:
        return self.of_stage("swept")

    @cached_property
    def drawn(self) -> tuple[tuple[Law, tuple[Case, ...]], ...]:
        return self.of_stage("drawn")

    def of_stage(self, stage: str) -> tuple[tuple[Law, tuple[Case, ...]], ...]:
        if stage not in self.stages:
            return tuple((law, ()) for law in self.laws)
        return tuple((law, tuple(filter(self.admits, cases))) for law, cases in getattr(self.twin, stage))


@cache
def of_twin(layer_name: str, spec: str, seed: int) -> tuple[Hearing, ...]:
    """The hearings of a right implementation on the default profile, one for each part and dtype."""
    adapter = load(spec, CONTRACTS, ROOT)
    layer = next(layer for layer in LAYERS if layer.name == layer_name)
    return tuple(
        Hearing(layer, part, dtype, adapter, PROFILES["default"], seed, lambda *_: None)
        for part in layer.parts(adapter.implementations[layer_name].settings)
        for dtype in adapter.settings["dtypes"]
    )


def hearings(
    row: Row, admitted: Condition, seed: int = 0, stages: tuple[str, ...] = ("swept", "drawn")
) -> Iterator[Hearing]:
    """The hearings of a row's candidate, on the admitted cases."""
    for twin in of_twin(row.layer, specification(row.twin), seed):
        yield Limited(row.spec, twin, admitted, stages)


def found(row: Row, seed: int, *stages: str) -> set[str]:
    """The tensors that fail where the condition holds, and those of the other items that must fail."""
    failed = set()
    others = row.caught_by & OTHERS.keys()
    for hearing in hearings(row, everything if others else row.revealing, seed, stages):
        # The tensors are judged on plain arrays alone: of a condition on the memory they have nothing to say.
        tensors = () if "memory_layout" in others else (check for check in hearing.checks if check not in OTHERS)
        failed |= {check for check in (*others, *tensors) if hearing.tally(check).failed}
    return failed


def test_the_table_is_whole() -> None:
    assert sorted(row.tag for row in ROWS) == sorted(TAGS.split())


@on_each_row
def test_the_candidate_is_found(row: Row) -> None:
    # The sweep is the same for every seed: what it finds is found at all of them. How arrays lie in memory is not.
    swept = set() if "memory_layout" in row.caught_by else found(row, 0, "swept")
    stages = ("swept", "drawn") if row.caught_by & OTHERS.keys() else ("drawn",)
    runs = [swept]
    if not row.caught_by <= swept:
        runs = [swept | found(row, seed, *stages) for seed in range(5)]
    assert runs == [row.caught_by] * len(runs)


@on_each_row
def test_nothing_fails_without_the_condition(row: Row) -> None:
    judged = Counter[str]()
    for hearing in hearings(row, lambda case: not row.revealing(case)):
        if any(cases for _, cases in hearing.swept):
            assert not [check for check in hearing.checks if hearing.tally(check).failed]
            judged.update({check: hearing.tally(check).judged for check in row.caught_by})
    assert all(judged[check] for check in row.caught_by - LISTED.keys())


@pytest.mark.parametrize(("layer", "spec"), TWINS, ids=lambda value: value)
def test_a_right_twin_passes(layer: str, spec: str) -> None:
    for hearing in of_twin(layer, spec, 0):
        assert not [check for check in hearing.checks if hearing.tally(check).failed]
        assert all(hearing.tally(check).judged for check in hearing.checks)
