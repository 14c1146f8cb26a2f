"""Failing cases that are kept between runs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.explain import counterexamples
from backproof.conformance.judging.kept import Store
from backproof.conformance.judging.properties import property_of
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.reporting.scripts import Reproductions
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Space
from backproof.plugins.gallery.runner import runners
from backproof.reference import CONTRACTS
from tests.reproduced import FAULT, FEW, LAYER, LINEAR, failures, saved

pytestmark = pytest.mark.usefixtures("clean_path")

# What is kept between runs.


def heard(
    folder: Path, spec: str, store: Store, check: str, dtype: str = "float64", layer: str = "linear"
) -> PartRunner:
    """A runner with the cases kept for one item."""
    runner = next(h for h in runners(load(spec, CONTRACTS, folder), LAYER[layer], FEW, 0) if h.dtype == dtype)
    if not property_of(check).is_listed:
        spaces = [reference.space for reference in runner.references]
        runner.kept = {check: list(store.read(identifier(runner, check), runner.layer, spaces))}
    return runner


def identifier(runner: PartRunner, check: str) -> str:
    return f"backproof::{runner.part.title}::{check}::{runner.dtype}"


def settled(folder: Path, spec: str, check: str, **more: str) -> tuple[str | None, PartRunner]:
    """What a run in this folder says of the cases kept for an item."""
    store = Store(folder, spec)
    runner = heard(folder, spec, store, check, **more)
    item_cases = runner.item_cases(check)
    failing = [each.case for each in counterexamples(runner, check, known=True)] if item_cases.failed else []
    found = store.settle(identifier(runner, check), item_cases, failing, listed=property_of(check).is_listed)
    return None if found is None else found.sentence, runner


KEPT = [
    ("averages_the_bias_gradient", "db", "float64"),
    ("keeps_the_bias_in_float64", "out", "float32"),
    ("counts_elements_in_float16", "running_var", "float16"),
    ("squares_in_bfloat16", "out", "bfloat16"),
    ("reads_the_rows_of_dout_from_its_buffer", "memory_layout", "float64"),
    ("cannot_flatten_an_empty_batch", "edges", "float64"),
    ("subtracts_the_square_of_the_mean", "stability", "float32"),
    ("takes_an_x_without_inputs", "rejection", "float64"),
]


@pytest.mark.parametrize(("name", "check", "dtype"), KEPT, ids=[each[0] for each in KEPT])
def test_a_kept_case_is_fixed_when_it_passes_and_not_before(
    name: str, check: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "FEW", PROFILES["quick"])
    fault = FAULT[name]
    text = "from backproof.plugins.gallery import {0} as made\n"
    more = {"dtype": dtype, "layer": fault.layer}
    saved(tmp_path, "mine.py", text.format(name))
    assert settled(tmp_path, "mine.py:made", check, **more)[0] is None
    (file, *_) = sorted((tmp_path / ".backproof" / "kept").rglob("*.json"))
    sentence, runner = settled(tmp_path, "mine.py:made", check, **more)
    assert sentence == "It failed in an earlier run too: the case kept from it still fails."
    assert property_of(check).is_listed or runner.item_cases(check).failed[0][0].origin == "kept"
    base = fault.base
    saved(tmp_path, "mine.py", f"from {base.__module__} import {base.__name__} as made\n")
    sentence, runner = settled(tmp_path, "mine.py:made", check, **more)
    assert sentence is not None
    assert re.fullmatch(
        f"FIXED: {identifier(runner, check)}: "
        r"(the case kept from an earlier run passes|the \d cases kept from earlier runs pass) now\.",
        sentence,
    )
    assert not file.exists()
    assert settled(tmp_path, "mine.py:made", check, **more)[0] is None


def test_a_kept_case_that_is_refused_now_stays(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    settled(tmp_path, "mine.py", "dw")
    files = sorted((tmp_path / ".backproof").rglob("*.json"))
    before = [file.read_text() for file in files]
    refusing = LINEAR.format(factor=1).replace("x, w = cache\n", "raise NotImplementedError\n")
    saved(tmp_path, "mine.py", refusing)
    assert settled(tmp_path, "mine.py", "dw")[0] is None
    assert [file.read_text() for file in files] == before


def test_a_file_of_another_version_is_no_case(tmp_path: Path) -> None:
    fault = FAULT["takes_an_x_without_inputs"]
    for check, spec in (("rejection", "mine.py:made"), ("dw", "other.py")):
        made = f"from backproof.plugins.gallery import {fault.name} as made\n"
        saved(tmp_path, spec.partition(":")[0], made if check == "rejection" else LINEAR.format(factor=3))
        settled(tmp_path, spec, check)
        for file in (tmp_path / ".backproof").rglob("*.json"):
            file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
        right = f"from {fault.base.__module__} import {fault.base.__name__} as made\n"
        saved(tmp_path, spec.partition(":")[0], right if check == "rejection" else LINEAR.format(factor=1))
        assert settled(tmp_path, spec, check)[0] is None


@pytest.mark.parametrize(("layer", "rank"), [("linear", 2), ("conv", 2), ("batchnorm", 1)])
def test_every_case_without_meaning_is_kept_as_itself(layer: str, rank: int, tmp_path: Path) -> None:
    found = load("backproof.plugins.numpy_adapter", CONTRACTS).implementations[layer]
    listed = list(LAYER[layer].invalid_cases(Space(found.signature, found.settings, rank, "float64")))
    Store(tmp_path, "mine.py").replace("backproof::of::rejection::float64", listed)
    assert len(list((tmp_path / ".backproof").rglob("*.json"))) == len(listed) > 1


def test_files_that_cannot_be_read_are_no_cases(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    settled(tmp_path, "mine.py", "dw")
    (file,) = (tmp_path / ".backproof").rglob("*.json")
    whole = file.read_text()
    for number, broken in enumerate(("{ half", "[]", '{"format": 99}', '{"format": 1}', whole.replace("batch0", "b"))):
        file.with_name(f"backproof.linear.dw.float64.{number + 3}.json").write_text(broken)
    file.with_name("backproof.linear.dw.float64.9.json").write_bytes(b"\xff\xfe")
    saved(tmp_path, "mine.py", LINEAR.format(factor=1))
    sentence, _ = settled(tmp_path, "mine.py", "dw")
    assert sentence == "FIXED: backproof::linear::dw::float64: the case kept from an earlier run passes now."
    assert list((tmp_path / ".backproof").rglob("*.json")) == []


@pytest.mark.skipif(os.name != "posix", reason="Files in the place of folders are told apart on POSIX.")
def test_nothing_is_kept_where_nothing_can_be_written(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    (tmp_path / ".backproof").write_text("in the way")
    assert [settled(tmp_path, "mine.py", "dw")[0] for _ in range(2)] == [None, None]


def test_all_cases_kept_for_an_item_must_pass(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    store = Store(tmp_path, "mine.py")
    runner = heard(tmp_path, "mine.py", store, "dw")
    several: Sequence[Case] = [case for case, _, _ in runner.item_cases("dw").failed[:2]]
    store.replace(identifier(runner, "dw"), several)
    saved(tmp_path, "mine.py", LINEAR.format(factor=f"(1 if x.size == {several[0].array('x').size} else 3)"))
    kept = settled(tmp_path, "mine.py", "dw")[0]
    assert kept is None or not kept.startswith("FIXED")
    store = Store(tmp_path, "mine.py")
    store.replace(identifier(runner, "dw"), several)
    saved(tmp_path, "mine.py", LINEAR.format(factor=1))
    assert settled(tmp_path, "mine.py", "dw")[0] == (
        "FIXED: backproof::linear::dw::float64: the 2 cases kept from earlier runs pass now."
    )


def test_the_candidate_is_asked_nothing_where_a_script_is_not_tried(tmp_path: Path) -> None:
    """A module's state cannot be made anew, so its functions are left alone while the script is written."""
    counting = "CALLS = []\n" + LINEAR.format(factor=3).replace("x, w = cache\n", "x, w = cache; CALLS.append(1)\n")
    saved(tmp_path, "mine.py", counting)
    adapter = load("mine.py", CONTRACTS, tmp_path)
    (runner,) = runners(adapter, LAYER["linear"], FEW, 0)
    found = failures(runner, "dw")
    before = len(adapter.target.CALLS)
    (script,) = Reproductions(tmp_path, "mine.py").write(
        "backproof::linear::dw::float64",
        "dw",
        found,
        Candidate(adapter, adapter.implementations["linear"], runner.layer),
    )
    assert len(adapter.target.CALLS) == before
    assert script is not None
    assert "comes first: nothing of it may be left behind" in script.read_text()
