"""The suite as users meet it: pytest in a process of its own, on small adapters that have a linear layer alone."""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backproof.conformance.reporting.record import schema
from tests.plugin_runs import (
    DW,
    DX,
    FEW,
    OUT,
    RIGHT,
    WRONG,
    WRONG_DX,
    Run,
    in_turn,
    jsonschema,
    kept,
    run,
    together,
    write,
)

DX_TOLD = "dx[0, 0] is 2, must be 1 (off by 1)."
TIED = "<x, dx> is 2, must equal <out, dout> = 1 (off by 1)."


def without_durations(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_durations(item) for name, item in value.items() if name != "duration_s"}
    return [without_durations(item) for item in value] if isinstance(value, list) else value


def test_a_right_adapter_conforms(right: Run) -> None:
    assert right.code == 0, right.text
    report = right.report
    assert (report["schema"], report["impl"]) == (1, "right.py")
    assert (report["conforms"], report["complete"]) == (True, True)
    assert set(right.outcomes.values()) == {"passed"}
    assert all(item["examples"] > 0 and item["failures"] == [] for item in report["items"])
    assert report["cells"]["linear"]["N > 2"] > 0


def test_with_no_path_only_the_suite_is_collected(right: Run) -> None:
    assert "test_own" not in right.text
    assert "only the suite is collected" in right.text


def test_ids_read_layer_check_dtype(right: Run) -> None:
    ids = list(right.outcomes)
    assert ids[:6] == [*OUT, *DX, *DW]
    assert all(re.fullmatch(r"backproof::linear::[a-z_]+::float(64|32)", name) for name in ids)
    assert {"dw", "purity", "repeatability", "edges"} <= {name.split("::")[2] for name in ids}
    assert all(f"{name} PASSED" in right.text for name in ids)


def test_the_header_says_what_is_judged_and_how(right: Run) -> None:
    start = next(k for k, line in enumerate(right.lines) if line.startswith("backproof "))
    first, second, third = right.lines[start : start + 3]
    assert first.endswith(f"judging right.py ({right.folder / 'right.py'})")
    assert second == "  layers: linear; not found, not checked: conv, batchnorm"
    assert "float64, float32" in third
    assert "profile quick, 5 drawn cases" in third
    assert "seed 0" in third


def test_the_summary_has_one_line_a_layer_and_names_the_reports(right: Run) -> None:
    (line,) = [line for line in right.lines if line.startswith("linear: ")]
    assert re.match(r"linear: (\d+) of \1 items passed · \d+ judgements$", line)
    assert f"report: {right.folder / 'report.json'}" in right.lines
    assert f"report: {right.folder / 'made/for/it.json'}" in right.lines


def test_a_right_run_leaves_only_what_was_asked_for(right: Run) -> None:
    left = {path.name for path in right.folder.iterdir()} - {"__pycache__"}
    assert left == {"right.py", "test_own.py", "pytest.ini", "report.json", "made", "right.xml"}
    assert [path.name for path in (right.folder / "made/for").iterdir()] == ["it.json"]


def test_junit_lists_the_items(right: Run) -> None:
    cases = list(ElementTree.parse(right.folder / "right.xml").iter("testcase"))
    ids = ["::".join([*case.attrib["classname"].split("."), case.attrib["name"]]) for case in cases]
    assert ids == list(right.outcomes)
    assert not [child for case in cases for child in case]


# A wrong adapter, three times: judged, judged again by --lf, and judged when it is mended


@dataclass(frozen=True)
class Story:
    """Three runs in one folder, the first one's report, and which cases were kept after each."""

    wrong: Run
    report: Any
    again: Run
    mended: Run
    kept: Sequence[Sequence[str]]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = write(tmp_path_factory.mktemp("wrong"), {"wrong.py": WRONG})
    wrong = run(folder, "--impl=wrong.py", *FEW, "--impl-report=report.json", "--junitxml=wrong.xml")
    report, after = wrong.report, [kept(folder)]
    (store,) = (folder / ".backproof" / "kept").iterdir()
    (store / "backproof.linear.dw.float64.0.json").write_text("{ half of a fi")
    (store / "backproof.linear.dx.float32.7.json").write_text('{"format": 99}')
    again = run(folder, "--impl=wrong.py", *FEW, "--impl-report=report.json", "--lf")
    after.append(kept(folder))
    write(folder, {"wrong.py": RIGHT})
    mended = run(folder, "--impl=wrong.py", *FEW)
    after.append(kept(folder))
    return Story(wrong, report, again, mended, after)


def test_a_wrong_adapter_fails_in_the_items_that_are_wrong(story: Story) -> None:
    assert story.wrong.code == 1, story.wrong.text
    assert (story.report["conforms"], story.report["complete"]) == (False, True)
    assert [item["id"] for item in story.report["items"] if item["outcome"] != "passed"] == WRONG_DX


def test_a_failure_is_told_in_full(story: Story) -> None:
    text = story.wrong.text
    assert "linear dx (float64): dx[0, 0] is 2, must be 1 (off by 1)." in text
    assert "  x[0, 0]    = 0" in text
    assert "dx[0, 0]  expected 1" in text
    assert "There is no smaller configuration" in text
    again = f"again     pytest --impl=wrong.py --impl-profile=quick --impl-examples=5 {DX[0]}"
    assert again in text.replace(" \\\n             ", "")
    assert f"FAILED {DX[0]} - dx[0, 0] is 2, must be 1 (off by 1)." in text
    assert "linear: does not conform: 4 of " in text
    assert "items failed (linear dx, linear identities)" in text
    assert "Traceback" not in text
    assert "kept from an earlier run" not in text


def test_a_failure_is_reported_in_full(story: Story) -> None:
    (item,) = [item for item in story.report["items"] if item["id"] == DX[0]]
    (failure,) = item["failures"]
    assert failure["kind"] == "value"
    assert failure["tensor"] == "dx"
    assert failure["message"] == "dx[0, 0] is 2, must be 1 (off by 1)."
    assert failure["shapes"] == {"x": [1, 1], "w": [1, 1], "dout": [1, 1]}
    assert failure["arrays"] == {"x": [[0.0]], "w": [[1.0]], "dout": [[1.0]]}
    assert (failure["expected"], failure["got"]) == ([[1.0]], [[2.0]])
    assert failure["minimal"]["proved"] is True
    assert failure["traceback"] is None


def test_junit_gives_the_failure_in_one_line(story: Story) -> None:
    tree = ElementTree.parse(story.wrong.folder / "wrong.xml")
    messages = [failure.attrib["message"] for failure in tree.iter("failure")]
    assert messages == [DX_TOLD] * 2 + [TIED] * 2


def test_a_failing_case_is_kept_and_judged_first_until_it_passes(story: Story) -> None:
    files = [f"{name.replace('::', '.')}.0.json" for name in sorted(WRONG_DX)]
    assert story.kept[0] == files
    # A broken file is no error, and gone when its item has been judged.
    assert story.kept[1] == sorted([*files, "backproof.linear.dw.float64.0.json"])
    assert story.again.text.count("It failed in an earlier run too: the case kept from it still fails.") == 4
    assert story.mended.code == 0, story.mended.text
    assert story.kept[2] == []


def test_last_failed_runs_the_failures_alone(story: Story) -> None:
    assert story.again.code == 1
    assert list(story.again.outcomes) == WRONG_DX
    assert (story.again.report["conforms"], story.again.report["complete"]) == (False, False)


def test_xdist_gives_the_same_report(story: Story, tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    folder = write(tmp_path, {"wrong.py": WRONG})
    spread = run(folder, "--impl=wrong.py", *FEW, "--impl-report=report.json", "--junitxml=wrong.xml", "-n", "2")
    assert spread.code == 1, spread.text
    assert without_durations(spread.report) == without_durations(story.report)
    assert kept(folder) == story.kept[0]
    assert f"FAILED {DX[0]} - dx[0, 0] is 2, must be 1 (off by 1)." in spread.text
    messages = [failure.attrib["message"] for failure in ElementTree.parse(folder / "wrong.xml").iter("failure")]
    assert sorted(messages) == sorted([DX_TOLD, TIED] * 2)


# The schema


def test_reports_are_as_the_schema_says(right: Run, story: Story) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    for report in (right.report, story.report, story.again.report):
        jsonschema.validate(report, schema(), jsonschema.Draft202012Validator)


def failing(report: Any) -> Any:
    return next(item for item in report["items"] if item["failures"])


def passing(report: Any) -> Any:
    return next(item for item in report["items"] if not item["failures"])


BREAKS: Mapping[str, Callable[[Any], object]] = {
    "another schema": lambda r: r.update(schema=2),
    "no items": lambda r: r.pop("items"),
    "no cells": lambda r: r.pop("cells"),
    "conforms in words": lambda r: r.update(conforms="no"),
    "conforms though not complete": lambda r: r.update(conforms=True, complete=False),
    "undecided though complete": lambda r: r.update(conforms=None, complete=True),
    "negative duration": lambda r: r.update(duration_s=-1),
    "brackets in an id": lambda r: passing(r).update(id="backproof::linear::out[float64]"),
    "options in words": lambda r: failing(r)["failures"][0].update(options="stride=2"),
    "unknown dtype": lambda r: passing(r).update(dtype="float8"),
    "unknown outcome": lambda r: passing(r).update(outcome="fine"),
    "failed without a failure": lambda r: failing(r).update(failures=[]),
    "passed with a failure": lambda r: failing(r).update(outcome="passed"),
    "fractional examples": lambda r: passing(r).update(examples=1.5),
    "no unsupported": lambda r: passing(r).pop("unsupported"),
    "unknown kind": lambda r: failing(r)["failures"][0].update(kind="odd"),
    "empty message": lambda r: failing(r)["failures"][0].update(message=""),
    "no region": lambda r: failing(r)["failures"][0].pop("region"),
    "NaN misspelt": lambda r: failing(r)["failures"][0].update(got=[["nan"]]),
    "negative size": lambda r: failing(r)["failures"][0].update(shapes={"x": [-1]}),
    "proof in words": lambda r: failing(r)["failures"][0]["minimal"].update(proved="yes"),
    "diagnosis as one string": lambda r: failing(r)["failures"][0].update(diagnosis="a mistake"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_schema_notices_a_broken_report(name: str, story: Story) -> None:
    report = copy.deepcopy(story.report)
    BREAKS[name](report)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, schema(), jsonschema.Draft202012Validator)


def test_the_schema_allows_keys_to_be_added(story: Story) -> None:
    report = copy.deepcopy(story.report)
    report["more"] = failing(report)["more"] = failing(report)["failures"][0]["more"] = 1
    jsonschema.validate(report, schema(), jsonschema.Draft202012Validator)


def test_what_is_refused_is_told_and_never_passed(tmp_path: Path) -> None:
    refusing = """
        def linear_forward(x, w):
            if len(x) > 2:
                raise NotImplementedError
            return x @ w, (x, w)

        def linear_backward(dout, cache):
            x, w = cache
            return dout @ w.T, x.T @ dout

        def batchnorm_forward(x, gamma):
            raise NotImplementedError("Perhaps next year.")

        def batchnorm_backward(dout, cache): ...
    """
    found = run(
        write(tmp_path, {"refusing.py": refusing}), "--impl=refusing.py", *FEW, "--impl-report=report.json", "-rs"
    )
    assert found.code == 1, found.text
    items = {item["id"]: item for item in found.report["items"]}
    partly = items["backproof::linear::out::float64"]
    assert partly["outcome"] == "passed"
    assert partly["unsupported"] > 0
    count = partly["unsupported"]
    assert f"linear refused where N > 2: {count} of {count}" in found.text
    out = items["backproof::batchnorm::out::float64"]
    assert out["outcome"] == "failed"
    (failure,) = out["failures"]
    assert failure["kind"] == "refused"
    assert failure["message"].startswith(f"batchnorm_forward refused all {out['unsupported']} cases")
    assert "smaller" not in found.text
    purity = items["backproof::batchnorm::purity::float64"]
    assert purity["outcome"] == "skipped"
    assert purity["reason"] == f"refused {purity['unsupported']} of {purity['unsupported']} cases"
    assert re.search(rf"SKIPPED .*: {re.escape(purity['reason'])}$", found.text, re.MULTILINE)
    jsonschema.validate(found.report, schema(), jsonschema.Draft202012Validator)


def test_warnings_and_the_error_state_never_decide(tmp_path: Path) -> None:
    noisy = """
        import warnings
        import numpy as np

        np.seterr(all="raise")
        warnings.warn("Importing is not free.")
        warnings.simplefilter("error")

        def linear_forward(x, w):
            warnings.warn("An old spelling.", DeprecationWarning)
            return x @ w, (x, w)

        def linear_backward(dout, cache):
            x, w = cache
            assert np.log(np.zeros(1)) < 0
            return dout @ w.T, x.T @ dout
    """
    found = run(write(tmp_path, {"noisy.py": noisy}), "--impl=noisy.py", *FEW, "-W", "error")
    assert found.code == 0, found.text
    assert "  the adapter's import warned: UserWarning: Importing is not free." in found.lines
    (line,) = [line for line in found.lines if "An old spelling." in line]
    assert re.fullmatch(r"the candidate warned \d{2,} times: DeprecationWarning: An old spelling\.", line)


def test_a_crash_shows_the_lines_of_the_adapter_alone_and_a_long_run_shows_how_far_it_is(tmp_path: Path) -> None:
    crash = """
        def linear_forward(x, w):
            return inner(x), None

        def inner(x):
            return x.reshape(7, 11, 13)

        def linear_backward(dout, cache): ...
    """
    soon = "from backproof.plugins import run\nrun.PROGRESS_SECONDS = 0.0\n"
    folder = write(tmp_path, {"crash.py": crash, "conftest.py": soon})
    found = run(folder, "--impl=crash.py", *FEW, "--impl-report=report.json")
    assert found.code == 1, found.text
    assert "linear out (float64): linear_forward raised ValueError: cannot reshape array of size 1 " in found.text
    traceback = next(item for item in found.report["items"] if item["failures"])["failures"][0]["traceback"]
    assert re.findall(r'File "(.*)", line (\d+)', traceback) == [
        (str(folder / "crash.py"), "3"),
        (str(folder / "crash.py"), "6"),
    ]
    assert "return x.reshape(7, 11, 13)" in found.text
    assert not re.findall(r'File ".*/conformance/', found.text)
    assert [line for line in found.lines if re.fullmatch(r" *linear::float64: \d+ of \d+ cases judged \(\d+ s\)", line)]


# Seeds


def test_deep_draws_a_seed_and_prints_it(project: Path) -> None:
    deep = ["--impl=right.py", "--impl-profile=deep", "--collect-only"]
    runs = in_turn(project, deep, deep, [*deep, "--impl-seed=7"])
    seeds = [re.findall(r"seed (\d+)", found.text) for found in runs]
    assert [len(found) for found in seeds] == [1, 1, 1]
    assert seeds[0] != seeds[1]
    assert seeds[2] == ["7"]


def test_a_seed_is_the_same_cases_on_every_run(tmp_path: Path) -> None:
    recorder = """
        import atexit, hashlib, pathlib

        asked = hashlib.sha256()
        atexit.register(lambda: pathlib.Path("asked").write_text(asked.hexdigest()))

        def linear_forward(x, w):
            asked.update(repr((x.tolist(), w.tolist())).encode())
            return x @ w, (x, w)

        def linear_backward(dout, cache):
            asked.update(repr(dout.tolist()).encode())
            x, w = cache
            return dout @ w.T, x.T @ dout
    """
    folders = [write(tmp_path / name, {"recorder.py": recorder}) for name in ("none", "zero", "one")]
    seeds: list[list[str]] = [[], ["--impl-seed=0"], ["--impl-seed=1"]]
    calls = [
        lambda folder=folder, seed=seed: run(folder, "--impl=recorder.py", *FEW, *seed)
        for folder, seed in zip(folders, seeds, strict=True)
    ]
    assert [found.code for found in together(*calls)] == [0, 0, 0]
    none, zero, one = [(folder / "asked").read_text() for folder in folders]
    assert none == zero
    assert none != one


def test_the_workers_of_a_distributed_run_get_the_drawn_seed(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    own = """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_own(pytestconfig, number):
            seed = pytestconfig.pluginmanager.getplugin("backproof-conformance").seed
            open(f"seed{number}", "w").write(str(seed))
    """
    folder = write(tmp_path, {"right.py": RIGHT, "test_own.py": own})
    arguments = ("test_own.py", "-m", "not backproof", "-n", "2")
    found = run(folder, "--impl=right.py", "--impl-profile=deep", *arguments)
    assert found.code == 0, found.text
    (seed,) = re.findall(r"seed (\d+)", found.text)
    assert [(folder / f"seed{number}").read_text() for number in range(4)] == [seed] * 4


def test_the_plugin_can_be_hashed_as_pytest_8_0_does_with_every_plugin() -> None:
    from backproof.plugins.run import Conformance

    assert Conformance.__hash__ is object.__hash__
