"""The gallery of faults: each is found by the items named for it and by no other, where it is said to show.

What the smallest case is that shows a fault is decided by benchmarks/brute_force.py, which tries all smaller ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import brute_force
import pytest

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.explain import counterexamples
from backproof.conformance.judging.properties import PROPERTIES
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.spec.case import Case
from backproof.plugins import gallery
from backproof.plugins.gallery import EQUIVALENTS, FAULTS, NEEDS, OUT_OF_SCOPE, Fault
from backproof.plugins.gallery.conditions import ALWAYS
from backproof.plugins.gallery.fault import measured
from backproof.plugins.gallery.runner import GalleryRunner, everything, runners
from backproof.reference import CONTRACTS, LAYERS

LAYER = {layer.name: layer for layer in LAYERS}
BASES = sorted({(fault.layer, fault.base_spec) for fault in FAULTS})

#: The conditions of the survey that the contract can express, and the pairs of them that real bugs needed together.
CONDITIONS = """
    S ND CL G LEFT DIL EVAL HW LP NCD TILE BIG RS ONE EPS EXP NB N0 NCW K1 OFF AFF P PA CIO NCX ZV SK KE PK MX OVER N1
    LEFT+S G+S HW+S P+S G+HW DIL+S G+LEFT G+TILE G+ND HW+ND ND+S S+SK CL+ONE
"""
#: The entries of the survey: 74 mistakes that people make by hand, and every other one of 207 published bugs.
ENTRIES = [f"M{number:02}" for number in range(1, 75)] + [f"H{number:02}" for number in range(1, 208, 2)]
#: Where more smaller configurations than this are to be tried, so many of them are, evenly spread.
MOST_TRIED = 200

on_each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.layer}-{fault.name}")


@cache
def of_base(layer: str, spec: str, seed: int = 0) -> tuple[PartRunner, ...]:
    """The runners of a right implementation, one for each part and dtype."""
    return runners(load(spec, CONTRACTS), LAYER[layer], PROFILES["quick"], seed)


def gallery_runners(fault: Fault, seed: int = 0, admitted: Any = everything) -> Iterator[GalleryRunner]:
    adapter = load(fault.spec, CONTRACTS)
    for base in of_base(fault.layer, fault.base_spec, seed):
        yield GalleryRunner(adapter, base, admitted)


def verdicts(fault: Fault, seed: int = 0, admitted: Any = everything) -> tuple[dict[str, list[Any]], int]:
    """What fails, by item, and how many verdicts the items gave that are named for it."""
    failed: dict[str, list[Any]] = {}
    judged = 0
    for runner in gallery_runners(fault, seed, admitted):
        for check in runner.checks:
            item_cases = runner.item_cases(check)
            judged += item_cases.judged if check in fault.caught_by else 0
            if item_cases.failed:
                failed.setdefault(check, []).extend(item_cases.failed)
    return failed, judged


def complaints(fault: Fault, seed: int = 0) -> list[str]:
    """What is not as the gallery says."""
    failed, _ = verdicts(fault, seed)
    said = [f"escapes {check}" for check in fault.caught_by if check not in failed]
    said += [f"also fails {check}" for check in failed if check not in (*fault.caught_by, *fault.sometimes)]
    kinds = {discrepancy.kind for cases in failed.values() for *_, discrepancy in cases}
    said += [f"fails as {' '.join(sorted(kinds))}"] if kinds != fault.kinds else []
    elsewhere = [case for cases in failed.values() for case, *_ in cases if not fault.trigger(case)]
    return said + [f"fails without the trigger: {case.options}" for case in elsewhere[:1]]


@on_each_fault
def test_a_fault_is_found_by_its_items_alone(fault: Fault) -> None:
    assert complaints(fault, seed=1) == []


def test_a_fault_passes_away_from_its_trigger() -> None:
    # Of all faults, benchmarks/gallery.py matrix shows it; here of a few.
    for fault in FAULTS[:: len(FAULTS) // 20]:
        if fault.trigger.holds is not ALWAYS.holds:
            failed, judged = verdicts(fault, admitted=lambda case, fault=fault: not fault.trigger(case))
            assert failed == {}
            assert judged


def test_few_faults_show_in_every_case() -> None:
    # Nothing is proved by keeping away from these. The others show by how a case is asked, say in a second backward.
    everywhere = [fault for fault in FAULTS if fault.trigger is ALWAYS]
    assert len(everywhere) <= len(FAULTS) // 15
    asked = [fault for fault in FAULTS if fault.trigger.holds is ALWAYS.holds and fault.trigger is not ALWAYS]
    assert len(asked) <= len(FAULTS) // 12


@pytest.mark.parametrize(("layer", "spec"), BASES, ids=lambda value: value)
def test_a_right_base_passes(layer: str, spec: str) -> None:
    for runner in of_base(layer, spec):
        assert not [check for check in runner.checks if runner.item_cases(check).failed]
        assert all(runner.item_cases(check).judged for check in runner.checks)


def test_what_is_named_wrongly_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = gallery.FAULTS[0]
    assert complaints(fault) == []
    assert "escapes db" in complaints(replace(fault, caught_by=(*fault.caught_by, "db")))
    assert f"also fails {fault.caught_by[0]}" in complaints(replace(fault, caught_by=fault.caught_by[1:]))
    assert "without the trigger" in str(complaints(replace(fault, trigger=~fault.trigger)))
    monkeypatch.setitem(measured(), fault.name, replace(fault.measured, kinds=frozenset({"crash"})))
    assert "fails as" in str(complaints(fault))


def is_enumerable(fault: Fault) -> bool:
    """Whether a smallest case is claimed, and can be tried against all smaller ones in little time.

    A convolution with every option on two axes has hundreds of thousands of configurations of few elements; those are
    left to benchmarks/gallery.py.
    """
    if fault.smallest is None or fault.caught_by[0] not in brute_force.DECIDED or not brute_force.is_decidable(fault):
        return False
    options = [name in brute_force.written(fault) for name in ("stride", "padding", "dilation")]
    elements = prod(fault.smallest["x"]) + prod(fault.smallest.get("w", ()))
    return fault.layer != "conv" or (elements <= (6, 6, 4, 2)[sum(options)] and len(fault.smallest["x"]) < 5)


#: Every second one: the others take as long again, and benchmarks/gallery.py tries them all.
SHOWN = [fault for fault in FAULTS if is_enumerable(fault)][::2]

on_each_smallest = pytest.mark.parametrize("fault", SHOWN, ids=lambda fault: f"{fault.layer}-{fault.name}")


@cache
def smaller(base: type, rank: int, elements: int) -> list[brute_force.Question]:
    """All configurations of at most so many elements that the faults of one base are asked."""
    fault = next(fault for fault in FAULTS if fault.base is base)
    return sorted(brute_force.questions(fault, rank, elements), key=lambda question: question.size)


def test_everything_small_is_tried() -> None:
    fault = next(fault for fault in FAULTS if fault.base.__name__ == "Plain" and fault.layer == "conv")
    asked = {(q.shapes["x"], q.shapes["w"]) for q in brute_force.questions(fault, 2, 10)}
    ones = (1, 1, 1, 1)
    assert {((2, 1, 1, 1), ones), ((1, 2, 1, 1), (1, 2, 1, 1)), ((1, 1, 1, 1), (2, 1, 1, 1))} <= asked
    sizes = [q.size[0] for q in brute_force.questions(fault, 2, 10)]
    assert max(sizes) == 10
    assert len(sizes) == 46


@on_each_smallest
def test_the_counterexample_is_the_smallest_case_that_fails(fault: Fault) -> None:
    judge, item = brute_force.Judge(fault), fault.caught_by[0]

    def fails(question: brute_force.Question) -> bool:
        arrays = brute_force.fills(question, fault.layer)
        return any(item == failed for numbers in arrays for failed, _ in judge.failures(question, numbers))

    own = min(filter(fails, brute_force.smallest(fault)), key=lambda question: question.size)
    rank = len(own.shapes["x"]) - (0 if fault.layer == "linear" else 2)
    asked = [question for question in smaller(fault.base, rank, own.size[0]) if question.size < own.size]
    assert not [question for question in asked[:: max(1, len(asked) // MOST_TRIED)] if fails(question)]

    reported = [
        found.case.configuration.size
        for runner in runners(load(fault.spec, CONTRACTS), LAYER[fault.layer], PROFILES["quick"], 0)
        if item in runner.checks
        for found in counterexamples(runner, item, causes=False)
    ]
    assert min(reported) == own.size


# --- the equivalents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("equivalent", EQUIVALENTS, ids=lambda equivalent: equivalent.name)
def test_what_looks_wrong_and_is_right_passes(equivalent: gallery.Equivalent) -> None:
    profile = replace(PROFILES["quick"], sweep=30, others=10, examples=40)
    adapter = load(equivalent.spec, CONTRACTS)
    for layer in equivalent.layers:
        for runner in runners(adapter, LAYER[layer], profile, 1):
            said = {check: runner.item_cases(check).failed for check in runner.checks}
            assert {check: cases[0][2].message for check, cases in said.items() if cases} == {}
            assert runner.item_cases("out").judged >= 20


# --- the collection ------------------------------------------------------------------------------------------


def test_the_gallery_is_large() -> None:
    assert len(FAULTS) >= 150
    assert len(EQUIVALENTS) >= 25
    assert {fault.layer for fault in FAULTS} == set(LAYER)


def test_the_figures_in_the_texts_are_those_of_the_gallery_and_the_comparison() -> None:
    root = Path(__file__).parent.parent
    readme, changes, comparison = (
        " ".join((root / name).read_text().split()) for name in ("README.md", "CHANGELOG.md", "docs/comparison.md")
    )
    assert f"{len(FAULTS)} faulty implementations and {len(EQUIVALENTS)} that look wrong" in changes
    assert f"accuses one of {len(EQUIVALENTS)} implementations" in readme
    compared = re.search(r"Of (\d+) faults the 5 other checkers", comparison)
    assert compared is not None
    told = re.findall(rf"these together \| (\w+) \|[^%]*? of {compared[1]}, (\d+ %)", comparison)
    assert [setting for setting, _ in told] == ["course", "careful"]
    said = readme[readme.index(f"Of [{compared[1]} faults]") :].split("implementations that look wrong")[0]
    assert re.findall(r"\d+ %", said) == [percent for _, percent in told]


@on_each_fault
def test_a_fault_is_described(fault: Fault) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", fault.name)
    assert fault.cause.endswith(".")
    assert set(fault.needs) <= set(NEEDS)
    assert fault.caught_by
    assert re.match(r"(H\d+|M\d+) \S|own\b", fault.source)
    assert getattr(gallery, fault.name) is fault.adapter


def test_every_condition_has_a_fault_that_needs_it_alone() -> None:
    needed = {frozenset(fault.needs) for fault in FAULTS}
    assert [words for words in CONDITIONS.split() if frozenset(words.split("+")) not in needed] == []


def test_every_entry_of_the_survey_is_there_or_told_why_not() -> None:
    modelled = {entry for fault in FAULTS for entry in re.findall(r"\b[HM]\d+\b", fault.source)}
    modelled |= {entry for equivalent in EQUIVALENTS for entry in re.findall(r"\b[HM]\d+\b", equivalent.source)}
    assert [entry for entry in ENTRIES if entry not in modelled and entry not in OUT_OF_SCOPE] == []
    assert sorted(modelled & OUT_OF_SCOPE.keys()) == []


def test_every_fault_is_measured() -> None:
    # benchmarks/gallery.py measure NAME --write adds the line of a new one, and drops those of faults that are gone.
    assert list(measured()) == sorted(fault.name for fault in FAULTS)


def test_a_name_is_given_once() -> None:
    names = [entry.name for entry in (*FAULTS, *EQUIVALENTS)]
    assert len(names) == len(set(names))


def test_listed_items_are_no_drawn_ones() -> None:
    # What the sweep decides for every seed is told apart by this in benchmarks/gallery.py.
    assert {name for name, each in PROPERTIES.items() if each.is_listed} == {"stability", "edges", "rejection"}


def case_of(fault: Fault) -> Case:
    """A case on which it fails."""
    failed, _ = verdicts(fault)
    found: Case = failed[fault.caught_by[0]][0][0]
    return found


def test_conditions_combine() -> None:
    fault = FAULTS[0]
    case = case_of(fault)
    assert fault.trigger(case)
    assert not (~fault.trigger)(case)
    assert (~fault.trigger | fault.trigger)(case)
    assert not (~fault.trigger & fault.trigger)(case)
