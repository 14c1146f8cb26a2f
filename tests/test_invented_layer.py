"""A layer of invented names is judged, made smaller, explained, reported and reproduced, and nothing is changed for it.

What it shows is that nothing in conformance/ or plugins/ knows an array, an option or a layer by name.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent


class Run(NamedTuple):
    """What a run printed, its status, and the folder in which its reports lie."""

    status: int
    output: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        """The JSON report."""
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return found

    def failures(self) -> dict[str, dict[str, Any]]:
        """The first failure of each item that fails."""
        return {item["check"]: item["failures"][0] for item in self.report["items"] if item["failures"]}


def judge(name: str, folder: Path) -> Run:
    """Runs the suite on one of the implementations, with every kind of report."""
    reports = [f"--impl-report={folder / 'report'}{suffix}" for suffix in (".json", ".html", ".md")]
    command = [sys.executable, "-m", "pytest", "-p", "tests.invented", f"--impl=tests.invented:{name}", *reports]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    process = subprocess.run(
        [*command, "--impl-profile=quick", "-p", "no:cacheprovider"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return Run(process.returncode, process.stdout + process.stderr, folder)


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return judge(request.param, tmp_path_factory.mktemp(request.param))


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("run", [name], indirect=True)


@of("Right")
def test_a_right_implementation_conforms(run: Run) -> None:
    assert run.status == 0, run.output
    assert run.report["conforms"] is True
    checks = {item["check"] for item in run.report["items"]}
    assert {"out", "dsignal", "dprofile", "dshift", "total", "linearity", "memory_layout", "purity"} <= checks
    assert run.report["cells"]["scaling"]["level > 1 and N > 1"] > 0
    assert "layers: scaling" in run.output


@of("ForgetsTheLevel")
def test_a_wrong_gradient_is_made_smaller_and_explained(run: Run) -> None:
    assert run.status == 1
    failure = run.failures()["dprofile"]
    assert failure["options"] == {"level": 2}
    # signal, profile, dout: what a reader has to take in, by the layer's own names; the state does not count.
    sizes = {name: shape for name, shape in failure["shapes"].items() if shape is not None}
    assert sizes == {"signal": [1, 1], "profile": [1], "total": [1], "dout": [1, 1]}
    assert failure["minimal"]["proved"] is True
    assert failure["region"] == "level > 1"
    assert failure["diagnosis"] == ["dprofile leaves out the level."]
    assert set(run.failures()) == {"dprofile"}


@of("WritesIntoTheSignal")
def test_what_is_said_of_memory_has_the_layers_names(run: Run) -> None:
    failure = run.failures()["purity"]
    assert failure["kind"] == "mutation"
    assert failure["tensor"] == "signal"
    assert any("signal" in sentence for sentence in failure["diagnosis"])


@of("ForgetsTheTotal")
def test_a_state_is_judged_by_its_own_name(run: Run) -> None:
    failure = run.failures()["total"]
    assert failure["shapes"]["signal"] == [2, 1]
    assert set(run.failures()) == {"total"}


@of("ForgetsTheLevel")
def test_it_is_reported_in_all_formats(run: Run) -> None:
    page = re.sub(r"<[^>]+>", "", (run.folder / "report.html").read_text())
    text = (run.folder / "report.md").read_text()
    assert "scaling_forward(signal, profile, shift=None, total=total, level=2)" in " ".join(run.output.split())
    for shown in (run.output, page, text):
        assert "level=2" in shown
        assert "leaves out the level" in shown
        assert "signal" in shown
        assert "Traceback" not in shown


@of("ForgetsTheLevel")
def test_its_script_fails_on_the_fault_and_passes_on_the_right_one(run: Run) -> None:
    script = run.failures()["dprofile"]["reproduce"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}

    def status(*arguments: str) -> int:
        command = [sys.executable, str(run.folder / script), *arguments]
        return subprocess.run(command, cwd=run.folder, env=environment, capture_output=True, check=False).returncode

    assert status() == 1
    assert status("tests.invented:Right") == 0
