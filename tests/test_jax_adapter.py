"""A JAX implementation as the candidate: the oracle changes nothing for it, whatever it has configured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ADAPTER = """
import jax
from jax import numpy as jnp

jax.config.update("jax_enable_x64", {x64})
CONFORMANCE = {{"dtypes": ("float32", "float64")}}


def linear_forward(x, w, b):
    return jax.vjp(lambda x, w, b: x @ w + b, x, w, b)


def linear_backward(dout, pullback):
    return pullback(jnp.asarray(dout))
"""


@pytest.mark.parametrize("x64", [True, False])
def test_the_verdicts_are_the_adapters_own_with_and_without_x64(x64: bool, tmp_path: Path) -> None:
    (tmp_path / "adapter.py").write_text(ADAPTER.format(x64=x64))
    arguments = ["--impl=adapter.py", "--impl-profile=quick", "--impl-examples=5", "--impl-report=report.json"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "-k", "out or dx or dw or db"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    items = json.loads((tmp_path / "report.json").read_text())["items"]
    kinds = {(item["dtype"], failure["kind"]) for item in items for failure in item["failures"]}
    # Without x64 JAX rounds everything to float32, and the suite says so, before and after the oracle's first call.
    assert kinds == (set() if x64 else {("float64", "dtype")}), done.stdout
    assert done.returncode == (0 if x64 else 1)
    wrong = {item["check"] for item in items if item["outcome"] == "failed"}
    assert wrong == (set() if x64 else {"out", "dx", "dw", "db"})
