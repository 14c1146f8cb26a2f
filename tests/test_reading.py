"""The reports in docs/reading-a-failure.md say what the suite says of these implementations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.explain import counterexamples
from backproof.conformance.judging.runner import PartRunner
from backproof.reference import CONTRACTS, LAYERS

PAGE = Path(__file__).parent.parent / "docs" / "reading-a-failure.md"
SHOWN = re.findall(r"```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def flat(text: str) -> str:
    """The text in one line: where it is broken says nothing."""
    return " ".join(text.split())


def test_the_page_shows_five_failures_and_two_that_are_told_in_short() -> None:
    assert len(SHOWN) == 6
    assert sum("  why       " in block for block in SHOWN) == 4


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.split(":")[0].replace(" ", "-"))
def test_a_report_on_the_page_is_what_is_said(block: str) -> None:
    (name,) = set(re.findall(r"--impl=backproof.plugins.gallery:(\w+)", block))
    (title, check, dtype), *_ = re.findall(r"backproof::(\w+)::(\w+)::(\w+)\n*$", block)
    adapter = load(f"backproof.plugins.gallery:{name}", CONTRACTS)
    (layer,) = [layer for layer in LAYERS if layer.name in adapter.implementations]
    (part,) = [p for p in layer.parts(adapter.implementations[layer.name].settings) if p.title == title]
    runner = PartRunner(layer, part, dtype, adapter, PROFILES["quick"], 0)
    (found, *_) = counterexamples(runner, check)
    told = flat(block)
    if "wrong too" not in told:
        assert flat(found.discrepancy.message) in told
    for sentence in found.diagnosis:
        assert flat(sentence) in told
    if found.step:
        assert flat(found.step.removeprefix("step ")) in told
    assert ("No known mistake" in told) == (not found.diagnosis and "wrong too" not in told)
