"""Fixtures of several files."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def clean_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loading an adapter makes its folder importable."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "mypkg_of_a_test" in name or name in ("mine", "tensors", "last", "transposed", "lazy"):
            del sys.modules[name]
