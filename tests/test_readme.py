"""README shows what the terminal really prints."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_counterexample_on_the_first_screen_is_what_the_command_prints(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    block = (ROOT / "README.md").read_text().split("```")[1].strip().splitlines()
    command, *shown = block
    arguments = command.removeprefix("$ pytest ").split()
    run = [sys.executable, "-m", "pytest", *arguments]
    printed = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert printed.returncode == 1
    assert without_counts(shown) in without_counts(printed.stdout.splitlines())
    assert len(shown) > 10


def without_counts(lines: Sequence[str]) -> str:
    """The text but for the region, which is held against as many cases as there is time for."""
    return re.sub(r"(?ms)^  where     .*?(?=^  why)", "", "\n".join(lines))
