"""Every convention of the contract: right code passes where it is declared, and fails where another is."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.explain import results
from backproof.conformance.judging.session import Session
from backproof.reference import CONTRACTS, LAYERS
from tests.conventions import RIGHT, WRONG


def failing(adapter: type, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], int]:
    """The checks that fail on the quick profile, and the number of outputs that were judged."""
    monkeypatch.setitem(sys.modules, "under_test", SimpleNamespace(adapter=adapter()))
    session = Session(load("under_test:adapter", CONTRACTS), LAYERS, PROFILES["quick"], 0)
    verdicts = results(session, known=True)
    wrong = {v.item.check: v.counterexamples[0].discrepancy.message for v in verdicts if v.outcome == "failed"}
    return set(wrong), sum(v.judged for v in verdicts if v.item.check == "out")


@pytest.mark.parametrize("adapter", RIGHT, ids=lambda adapter: adapter.__name__)
def test_right_code_passes(adapter: type, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, judged = failing(adapter, monkeypatch)
    assert wrong == set()
    assert judged > 60


@pytest.mark.parametrize("name", WRONG)
def test_a_convention_that_is_not_kept_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, check = WRONG[name]
    assert check in failing(adapter, monkeypatch)[0]
