"""Failures at the edges: numbers near the end of their format, texts that no encoding has, the order of a set."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from backproof.conformance.explaining.related import same_as
from backproof.conformance.judging.kept import write_whole
from tests.test_plugin import FEW, run, write

WRONG = """
    import numpy as np

    def linear_forward(x, w, b):
        return x @ w + b, (x, w)

    def linear_backward(dout, cache):
        x, w = cache
        dx, dw, db = dout @ w.T, x.T @ dout, dout.sum(0)
        {fault}
        return dx, dw, db
"""


def wrong(folder: Path, fault: str) -> Path:
    return write(folder, {"wrong.py": textwrap.dedent(WRONG).format(fault=fault)})


def test_a_page_is_written_of_numbers_near_the_end_of_the_format(tmp_path: Path) -> None:
    folder = wrong(tmp_path, "dx = dx * 0 + 1.5e308")
    found = run(folder, "--impl=wrong.py", *FEW, "--impl-report=report.html", "backproof::linear::dx")
    assert found.code == 1, found.text
    assert "Error" not in found.text
    assert "<html" in (folder / "report.html").read_text()


def test_what_no_encoding_has_is_written_all_the_same(tmp_path: Path) -> None:
    write_whole(tmp_path / "text", "bad \ud800")
    assert (tmp_path / "text").read_bytes() == b"bad \\ud800"


def test_a_backward_that_raises_is_told_though_the_forward_is_wrong_too(tmp_path: Path) -> None:
    folder = wrong(tmp_path, "assert len(x) < 2, 'no weights'")
    adapter = folder / "wrong.py"
    adapter.write_text(adapter.read_text().replace("x @ w + b", "x @ w + b + 0.5"))
    found = run(folder, "--impl=wrong.py", *FEW, "backproof::linear::out", "backproof::linear::dx")
    assert "linear_backward raised AssertionError: no weights" in found.text
    assert "mend out first" not in found.text


def test_items_are_the_same_only_if_all_their_failures_have_a_cause_of_the_earlier_one() -> None:
    items = [
        ("backproof::linear::dw::float64", "linear", [["dw is averaged."]]),
        ("backproof::linear::db::float64", "linear", [["db is averaged."], ["db is float32."]]),
        ("backproof::linear::db::float32", "linear", [["db is averaged."]]),
        ("backproof::linear::dx::float64", "linear", [[]]),
    ]
    assert same_as(items) == {"backproof::linear::db::float32": "backproof::linear::dw::float64"}


def test_a_script_finds_its_adapter_from_a_report_folder_with_two_dots(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    folder = wrong(inner, "dx = 2 * dx")
    found = run(folder, "--impl=wrong.py", *FEW, "--impl-report=../there/report.json", "backproof::linear::dx::float64")
    assert found.code == 1, found.text
    (script,) = (tmp_path / "there" / "report.reproduce").glob("*.dx.float64.py")
    again = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert again.returncode == 1, again.stdout + again.stderr


def test_which_tensor_is_told_does_not_hang_on_the_order_of_a_set(tmp_path: Path) -> None:
    folder = wrong(tmp_path, "dw, db = dw / len(x), db / len(x)")
    script = """
        from backproof.conformance.adapter.load import load
        from backproof.conformance.judging.runner import PartRunner
        from backproof.conformance.cases.profile import PROFILES
        from backproof.reference import CONTRACTS, LAYERS

        adapter = load("wrong.py", CONTRACTS)
        (part,) = LAYERS[0].parts(adapter.implementations["linear"].settings)
        runner = PartRunner(LAYERS[0], part, "float64", adapter, PROFILES["quick"], 0)
        print([found.message for _, _, found in runner.item_cases("relations").failed])
    """
    told = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(told) == 1
    assert "dw" in told.pop()
