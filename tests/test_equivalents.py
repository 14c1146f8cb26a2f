"""What was once reported as a bug and is none: right code passes, and its wrong sibling does not."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backproof.conformance.adapter import load
from backproof.conformance.candidate import Candidate
from backproof.conformance.case import Case
from backproof.conformance.hearing import quiet
from backproof.conformance.law import Law
from backproof.conformance.layer import Layer, Space
from backproof.conformance.profile import PROFILES
from backproof.conformance.properties import tensors
from backproof.conformance.session import Session
from backproof.conformance.verdict import Discrepancy, Status
from backproof.reference import CONTRACTS, LAYERS
from tests import equivalents
from tests.equivalents import RIGHT, WRONG

#: The sweep's shapes are the same for all of these; fewer of them leave the time to the drawn cases.
PROFILE = replace(PROFILES["quick"], sweep=30, others=10, examples=40)


def failing(adapter: type, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], int]:
    """The checks that fail, with what they say, and the number of outputs that were judged."""
    monkeypatch.setitem(sys.modules, "under_test", SimpleNamespace(adapter=adapter()))
    session = Session(load("under_test:adapter", CONTRACTS), LAYERS, PROFILE, 0)
    verdicts = [session.verdict(item, session.items, explain=False) for item in session.items]
    wrong = {v.item.check: v.counterexamples[0].discrepancy.message for v in verdicts if v.outcome == "failed"}
    return wrong, sum(v.judged for v in verdicts if v.item.check == "out")


@pytest.mark.parametrize("adapter", RIGHT, ids=lambda adapter: adapter.__name__)
def test_right_code_passes(adapter: type, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, judged = failing(adapter, monkeypatch)
    assert wrong == {}
    assert judged >= 60


@pytest.mark.parametrize("adapter", WRONG, ids=lambda adapter: adapter.__name__)
def test_its_wrong_sibling_does_not(adapter: type, monkeypatch: pytest.MonkeyPatch) -> None:
    assert WRONG[adapter] in failing(adapter, monkeypatch)[0]


def place(adapter: type, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Candidate, Law, Layer]:
    """One layer of an adapter, and the law for it."""
    monkeypatch.setitem(sys.modules, "under_test", SimpleNamespace(adapter=adapter()))
    loaded = load("under_test:adapter", CONTRACTS)
    layer = next(layer for layer in LAYERS if layer.name == name)
    implementation = loaded.implementations[name]
    rank = 2 if name == "linear" else 0
    space = Space(implementation.signature, implementation.settings, rank, dtype)
    return Candidate(loaded, implementation, layer), Law(layer, space), layer


def asked(layer: Layer, law: Law, parameters: dict[str, int], arrays: dict[str, Any]) -> Case:
    """A case of these parameters and numbers."""
    configuration = layer.build({**layer.base(law.space), **parameters}, law.space)
    assert configuration is not None
    case = next(iter(layer.fills(configuration, law.space)))
    dtype = np.dtype(law.space.dtype)
    return case.with_arrays({**case.arrays, **{name: array.astype(dtype) for name, array in arrays.items()}})


def judged(candidate: Candidate, law: Law, case: Case) -> Any:
    law.confirm(case)
    with quiet(Counter()):
        return tensors(case, candidate, law)


class Noisy(equivalents.WithoutVanishingTerm):
    """A dx that is off by a thousandth of dout: visible only against a tolerance that is not relative to dx."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx + dout * dout.dtype.type(1e-3), dgamma, dbeta


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_gradient_of_a_plain_sum_is_noise_around_zero(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # loss = sum(out): dout is one everywhere, and dx is zero but for the rounding.
    rng = np.random.default_rng(3)
    arrays = {"x": rng.standard_normal((16, 3)), "dout": np.ones((16, 3)), "beta": np.zeros(3)}
    for adapter, right in ((equivalents.WithVanishingTerm, True), (Noisy, False)):
        candidate, law, layer = place(adapter, "batchnorm", dtype, monkeypatch)
        found = judged(candidate, law, asked(layer, law, {"batch": 16, "channels": 3}, arrays))
        assert isinstance(found["dx"], Discrepancy) != right


@pytest.mark.parametrize("adapter", [equivalents.OneAfterTheOther, equivalents.FromTheEnd, equivalents.InBlocks])
def test_float32_rounding_of_large_sums_is_no_fault(adapter: type, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    arrays = {"x": 100 * rng.standard_normal((3, 33)), "w": 100 * rng.standard_normal((33, 3))}
    largest = 0.0
    for wrong in (False, True):
        candidate, law, layer = place(
            equivalents.WithoutTheRest if wrong else adapter, "linear", "float32", monkeypatch
        )
        case = asked(layer, law, {"batch0": 3, "inputs": 33, "outputs": 3}, arrays)
        assert (judged(candidate, law, case)["out"] is Status.RIGHT) != wrong
        if not wrong:
            out = candidate.forward(case).results["out"]
            largest = float(np.max(abs(out - layer.evaluate(case)["out"])))  # type: ignore[operator]
    # The error is far above any absolute tolerance in use.
    assert largest > 1e-3


def test_sums_of_16_bits_are_kept_in_more(monkeypatch: pytest.MonkeyPatch) -> None:
    # After 2048 a one more is lost in float16, after which 32 of them are.
    arrays = {"x": np.array([[2048.0, *[1.0] * 32]]), "w": np.ones((33, 1)), "b": np.zeros(1)}
    for adapter, right in ((equivalents.Accumulated, True), (equivalents.RoundedAtEveryStep, False)):
        candidate, law, layer = place(adapter, "linear", "float16", monkeypatch)
        case = asked(layer, law, {"batch0": 1, "inputs": 33, "outputs": 1}, arrays)
        assert (judged(candidate, law, case)["out"] is Status.RIGHT) == right
