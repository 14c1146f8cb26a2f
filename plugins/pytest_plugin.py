"""The door: `--impl` and its options. Every pytest run of the environment loads this module, so it imports pytest and
the standard library alone; all else is imported when `--impl` is given.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROFILES = ("quick", "default", "deep")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options of the suite."""
    group = parser.getgroup("backproof", "conformance of backprop implementations")
    group.addoption(
        "--impl",
        action="append",
        metavar="SPEC",
        help="judge this adapter: a module (mypkg.adapter) or a file (path.py), an attribute after a colon",
    )
    group.addoption(
        "--impl-profile",
        metavar="|".join(PROFILES),
        default=None,
        help="how much is drawn (default: default)",
    )
    group.addoption("--impl-examples", metavar="N", default=None, help="N drawn cases for each layer, rank and dtype")
    group.addoption("--impl-seed", metavar="N", default=None, help="the seed of the drawn cases")
    group.addoption(
        "--impl-xfails",
        metavar="FILE",
        default=None,
        help="known failures: an id or glob a line, # the reason",
    )
    group.addoption(
        "--impl-report",
        action="append",
        metavar="PATH",
        default=None,
        help="write a report: .json; may be repeated",
    )
    parser.addini("backproof_impl", "judge this adapter beside whatever pytest collects")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Turns the suite on where an adapter is named."""
    if not (config.getoption("--impl") or config.getini("backproof_impl")):
        given = config.args if config.args_source is config.ArgsSource.ARGS else []
        for name in given:
            if name.split("::")[0] == "backproof" and not Path(name).exists():
                raise pytest.UsageError(f"{name} is an item of the suite: name the adapter, --impl=SPEC.")
        used = [name for name in ("examples", "profile", "seed", "xfails", "report") if _given(config, name)]
        if used:
            raise pytest.UsageError(f"--impl-{used[0]} needs an adapter to judge: --impl=SPEC.")
        return
    with _no_rewriting():
        from backproof.plugins.run import register
    register(config)


@contextmanager
def _no_rewriting() -> Iterator[None]:
    """Imports as everybody else does, without pytest's rewriting of assertions.

    pytest rewrites every module of a distribution that brings a plugin, so all of Hypothesis and of Backproof. None of
    their assertions is a test's, and where the result can't be cached it costs a second of every run.
    """
    hooks = [finder for finder in sys.meta_path if type(finder).__name__ == "AssertionRewritingHook"]
    before = list(sys.meta_path)
    sys.meta_path[:] = [finder for finder in before if finder not in hooks]
    try:
        yield
    finally:
        sys.meta_path[:] = before


def _given(config: pytest.Config, name: str) -> bool:
    return config.getoption(f"--impl-{name}") is not None
