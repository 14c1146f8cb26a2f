"""Fixtures of several files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin_runs import FEW, OWN, RIGHT, Run, run, write


@pytest.fixture
def clean_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loading an adapter makes its folder importable."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "mypkg_of_a_test" in name or name in ("mine", "tensors", "last", "transposed", "lazy"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With everything on that could disturb: a test of the user's, errors for warnings, no cache."""
    folder = write(tmp_path_factory.mktemp("right"), {"right.py": RIGHT, "test_own.py": OWN})
    return run(
        folder,
        "--impl=right.py",
        *FEW,
        "-v",
        "-W",
        "error",
        "--strict-markers",
        "--strict-config",
        "-p",
        "no:cacheprovider",
        "--impl-report=report.json",
        "--impl-report=made/for/it.json",
        "--junitxml=right.xml",
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp("project"), {"right.py": RIGHT, "test_own.py": OWN})
    (folder / "with.ini").write_text("[pytest]\nbackproof_impl = right.py\n")
    (folder / "backproof").mkdir()  # a folder of this name is no item of the suite
    return folder
