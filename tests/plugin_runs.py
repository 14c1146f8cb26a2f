"""Runs of pytest in a folder of their own, for the tests of the plugin."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

jsonschema = pytest.importorskip("jsonschema")

FEW = ("--impl-profile=quick", "--impl-examples=5")
AS_SCRIPT = (sys.executable, "-P", "-m", "pytest")

RIGHT = """
CONFORMANCE = {"dtypes": ("float64", "float32")}

def linear_forward(x, w):
    return x @ w, (x, w)

def linear_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout
"""
WRONG = RIGHT.replace("return dout @ w.T", "return 2 * dout @ w.T")
OWN = "def test_own():\n    pass\n"
OUT, DX, DW = ([f"backproof::linear::{check}::{d}" for d in ("float64", "float32")] for check in ("out", "dx", "dw"))
#: What a wrong dx fails: dx itself, and what ties it to the other results.
WRONG_DX = [*DX, *(name.replace("::dx::", "::identities::") for name in DX)]


@dataclass(frozen=True)
class Run:
    """One run of pytest: its exit status, all that it printed, and the folder that it ran in."""

    code: int
    text: str
    folder: Path

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def report(self) -> Any:
        return json.loads((self.folder / "report.json").read_text())

    @property
    def outcomes(self) -> dict[str, str]:
        return {item["id"]: item["outcome"] for item in self.report["items"]}


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Writes files, and one that makes the folder pytest's root."""
    for name, text in {"pytest.ini": "[pytest]\n", **files}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return folder


def start(folder: Path, *arguments: str, command: Sequence[str] = AS_SCRIPT) -> subprocess.Popen[str]:
    """Starts pytest, without what the environment says of this very run."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHONWARNINGS", "COV_"))}
    return subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env={**environment, "COLUMNS": "150", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *arguments: str, command: Sequence[str] = AS_SCRIPT) -> Run:
    process = start(folder, *arguments, command=command)
    text, _ = process.communicate(timeout=240)
    return Run(process.returncode, text, folder)


def in_turn(folder: Path, *asked: Sequence[str]) -> list[Run]:
    """Runs that judge nothing, one after the other in one process, which is quicker."""
    once = "print('=== exit', int(pytest.main(arguments)), flush=True)"
    loop = f"import pytest\nfor arguments in {list(map(list, asked))}:\n    {once}"
    text = run(folder, "-c", loop, command=(sys.executable, "-P")).text
    *parts, rest = re.split(r"=== exit (\d+)\n", text)
    assert (len(parts), rest) == (2 * len(asked), ""), text
    return [Run(int(code), part, folder) for part, code in zip(parts[::2], parts[1::2], strict=True)]


def together(*calls: Callable[[], Run]) -> list[Run]:
    """Runs that do not wait for each other."""
    with ThreadPoolExecutor(2) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


# A right adapter


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".backproof" / "kept").rglob("*") if path.is_file())


# What is collected
