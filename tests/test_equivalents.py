"""Reports of faults that were none, on their own numbers: right code passes, and wrong code does not."""

from __future__ import annotations

import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import load
from backproof.conformance.judging.properties import TENSORS
from backproof.conformance.judging.reference import Reference
from backproof.conformance.judging.runner import quiet
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer, Space
from backproof.conformance.spec.results import Discrepancy, Status
from backproof.plugins import gallery
from backproof.reference import CONTRACTS, LAYERS


def place(adapter: type, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Candidate, Reference, Layer]:
    """One layer of an adapter, and the reference for it."""
    monkeypatch.setitem(sys.modules, "under_test", SimpleNamespace(adapter=adapter()))
    loaded = load("under_test:adapter", CONTRACTS)
    layer = next(layer for layer in LAYERS if layer.name == name)
    implementation = loaded.implementations[name]
    rank = 2 if name == "linear" else 0
    space = Space(implementation.signature, implementation.settings, rank, dtype)
    return Candidate(loaded, implementation, layer), Reference(layer, space), layer


def asked(layer: Layer, reference: Reference, parameters: dict[str, int], arrays: dict[str, Any]) -> Case:
    """A case of these parameters and numbers."""
    configuration = layer.build({**layer.base(reference.space), **parameters}, reference.space)
    assert configuration is not None
    case = next(iter(layer.fills(configuration, reference.space)))
    dtype = np.dtype(reference.space.dtype)
    return case.with_arrays({**case.arrays, **{name: array.astype(dtype) for name, array in arrays.items()}})


def judged(candidate: Candidate, reference: Reference, case: Case) -> Any:
    reference.confirm(case)
    with quiet(Counter()):
        return TENSORS.judge(case, candidate, reference)


class Noisy(gallery.leaves_out_the_vanishing_term):  # type: ignore[name-defined]
    """A dx that is off by a thousandth of dout: visible only against a tolerance that is not relative to dx."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        return dx + dout * dout.dtype.type(1e-3), dgamma, dbeta


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_gradient_of_a_plain_sum_is_noise_around_zero(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # loss = sum(out): dout is one everywhere, and dx is zero but for the rounding.
    rng = np.random.default_rng(3)
    arrays = {"x": rng.standard_normal((16, 3)), "dout": np.ones((16, 3)), "beta": np.zeros(3)}
    for adapter, right in ((gallery.adds_the_vanishing_term, True), (Noisy, False)):
        candidate, reference, layer = place(adapter, "batchnorm", dtype, monkeypatch)
        found = judged(candidate, reference, asked(layer, reference, {"batch": 16, "channels": 3}, arrays))
        assert isinstance(found["dx"], Discrepancy) != right


@pytest.mark.parametrize("adapter", ["sums_one_after_the_other", "sums_from_the_end", "sums_in_blocks"])
def test_float32_rounding_of_large_sums_is_no_fault(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    arrays = {"x": 100 * rng.standard_normal((3, 33)), "w": 100 * rng.standard_normal((33, 3))}
    largest = 0.0
    for wrong in (False, True):
        name = "forgets_what_is_behind_the_last_block" if wrong else adapter
        candidate, reference, layer = place(getattr(gallery, name), "linear", "float32", monkeypatch)
        case = asked(layer, reference, {"batch0": 3, "inputs": 33, "outputs": 3}, arrays)
        assert (judged(candidate, reference, case)["out"] is Status.RIGHT) != wrong
        if not wrong:
            out = candidate.forward(case).results["out"]
            largest = float(np.max(abs(out - layer.evaluate(case)["out"])))  # type: ignore[operator]
    # The error is far above any absolute tolerance in use.
    assert largest > 1e-3


class RoundedAtEveryStep(gallery.rounds_only_the_result):  # type: ignore[name-defined]
    """The partial sums rounded to 16 bits as well."""

    CONFORMANCE = {"dtypes": ("float16",)}

    def total(self, terms):
        total = np.zeros(terms.shape[1:], np.float16)
        for term in terms.astype(np.float16):
            total = total + term
        return total.astype(np.float32)


def test_sums_of_16_bits_are_kept_in_more(monkeypatch: pytest.MonkeyPatch) -> None:
    # After 2048 a one more is lost in float16, after which 32 of them are.
    arrays = {"x": np.array([[2048.0, *[1.0] * 32]]), "w": np.ones((33, 1)), "b": np.zeros(1)}
    for adapter, right in ((gallery.rounds_only_the_result, True), (RoundedAtEveryStep, False)):
        candidate, reference, layer = place(adapter, "linear", "float16", monkeypatch)
        case = asked(layer, reference, {"batch0": 1, "inputs": 33, "outputs": 1}, arrays)
        assert (judged(candidate, reference, case)["out"] is Status.RIGHT) == right
