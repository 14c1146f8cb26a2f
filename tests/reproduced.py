"""Candidates and failures that are written as scripts, for the tests of these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.explain import counterexamples
from backproof.conformance.judging.runner import PartRunner
from backproof.plugins.gallery import FAULTS
from backproof.reference import LAYERS

LAYER = {layer.name: layer for layer in LAYERS}
FAULT = {fault.name: fault for fault in FAULTS}
FEW = replace(PROFILES["quick"], examples=10, sweep=40, others=6)


def failures(runner: PartRunner, check: str) -> list[Counterexample]:
    """One counterexample for each kind, as it was met."""
    found = counterexamples(runner, check, known=True)
    assert found
    return found


# The adapter: how it is found, what it takes and what it gives.

LINEAR = """
import numpy as np

def linear_forward(x, w, b):
    return x @ w + b, (x, w)

def linear_backward(dout, cache):
    x, w = cache
    return dout @ w.T, {factor} * x.T @ dout, dout.sum(axis=0)
"""


def saved(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file
