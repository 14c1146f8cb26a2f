"""The suite as users meet it: pytest in a process of its own, on small adapters that have a linear layer alone."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backproof.conformance.reporting.record import schema

jsonschema = pytest.importorskip("jsonschema")

FEW = ("--impl-profile=quick", "--impl-examples=5")
#: As `python -m pytest` starts it, and as the script `pytest` does: without the current directory on sys.path.
AS_MODULE = (sys.executable, "-m", "pytest")
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
DX_TOLD = "dx[0, 0] is 2, must be 1 (off by 1)."
TIED = "<x, dx> is 2, must equal <out, dout> = 1 (off by 1)."


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


def without_durations(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_durations(item) for name, item in value.items() if name != "duration_s"}
    return [without_durations(item) for item in value] if isinstance(value, list) else value


# A right adapter


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


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".backproof" / "kept").rglob("*") if path.is_file())


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


# What is collected


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp("project"), {"right.py": RIGHT, "test_own.py": OWN})
    (folder / "with.ini").write_text("[pytest]\nbackproof_impl = right.py\n")
    (folder / "backproof").mkdir()  # a folder of this name is no item of the suite
    return folder


def collected(folder: Path, *asked: Sequence[str]) -> list[list[str]]:
    """What is collected for each list of arguments."""
    found = in_turn(folder, *[[*arguments, "--collect-only", "-q"] for arguments in asked])
    assert [each.code for each in found] == [0] * len(asked), [each.text for each in found]
    return [[line for line in each.lines if "::" in line] for each in found]


def test_what_is_picked_is_collected(project: Path) -> None:
    every, *others = collected(
        project,
        ["--impl=right.py", "--impl-report=none.json"],
        ["--impl=right.py", "test_own.py"],
        ["--impl=right.py", "backproof::linear"],
        ["--impl=right.py", "backproof::linear::dx", DW[0]],
        ["--impl=right.py", "test_own.py", DW[1]],
        ["--impl=right.py", "-k", "dx and not float32"],
        ["--impl=right.py", "test_own.py", "-m", "backproof"],
        ["--impl=right.py", "test_own.py", "-m", "not backproof"],
    )
    assert every[:6] == [*OUT, *DX, *DW]
    own = ["test_own.py::test_own"]
    assert others == [own + every, every, [*DX, DW[0]], [*own, DW[1]], DX[:1], every, own]
    assert not (project / "none.json").exists()


def test_an_adapter_of_the_ini_file_is_added_to_whatever_is_collected(project: Path) -> None:
    plain, path, pick = collected(
        project, ["-c", "with.ini"], ["-c", "with.ini", "test_own.py"], ["-c", "with.ini", "backproof::linear::dx"]
    )
    assert plain[:7] == ["test_own.py::test_own", *OUT, *DX, *DW]
    assert path == plain
    assert pick == DX


def test_a_repository_may_have_its_own_plugins_and_reference(tmp_path: Path) -> None:
    adapter = RIGHT.replace("CONFORMANCE", "from reference.numbers import ONE\nCONFORMANCE", 1)
    adapter = adapter.replace("return x @ w,", "return x @ w * ONE,")
    own = """
        import plugins.adapter, reference.numbers

        def test_own():
            assert plugins.adapter.ONE == 1
            assert "own" in plugins.__doc__ and "own" in reference.__doc__
    """
    folder = write(
        tmp_path,
        {
            "plugins/__init__.py": '"""My own."""',
            "plugins/adapter.py": adapter,
            "reference/__init__.py": '"""My own."""',
            "reference/numbers.py": "ONE = 1",
            "test_own.py": own,
        },
    )
    both = run(folder, "--impl=plugins.adapter", "test_own.py", *FEW, "-v", command=AS_MODULE)
    assert both.code == 0, both.text
    assert "test_own.py::test_own PASSED" in both.text
    assert f"{DX[0]} PASSED" in both.text
    assert "only the suite is collected" not in both.text


# What is wrong before the first case


BAD: Mapping[str, tuple[Sequence[str], str]] = {
    "no file": (["--impl=gone.py"], "gone.py does not exist"),
    "no module": (["--impl=gone.adapter"], "there is no module 'gone'"),
    "raises": (["--impl=raises.py"], "ZeroDivisionError: division by zero"),
    "no Python": (["--impl=syntax.py"], "syntax.py, line 1"),
    "no layer": (["--impl=test_own.py"], "there is no linear_forward, conv_forward or batchnorm_forward"),
    "no backward": (["--impl=alone.py"], "linear_forward has no linear_backward beside it"),
    "misspelt": (["--impl=misspelt.py"], "the nearest is linear_forward"),
    "parameter": (["--impl=parameter.py"], "bias"),
    "constant": (["--impl=constant.py"], "CONFORMANCE: dtypes is ('float46',)"),
    "attribute": (["--impl=right.py:rigth"], "there is no attribute 'rigth'"),
    "twice": (["--impl=right.py", "--impl=right.py"], "--impl is given once, found 2"),
    "profile": (["--impl=right.py", "--impl-profile=fast"], "must be one of quick, default, deep"),
    "examples": (["--impl=right.py", "--impl-examples=0"], "must be a whole number, 1 or more"),
    "seed": (["--impl=right.py", "--impl-seed=x"], "--impl-seed=x: must be a whole number"),
    "known failures": (["--impl=right.py", "--impl-xfails=gone.txt"], "cannot be read"),
    "report's suffix": (["--impl=right.py", "--impl-report=report.txt"], "must end in "),
    "report's folder": (["--impl=right.py", "--impl-report=folder.json"], "is a folder, must be a file"),
    "id": (["--impl=right.py", "backproof::linear::dy"], "The nearest is backproof::linear::dx."),
    "id, distributed": (["--impl=right.py", "backproof::lienar", "-n2"], "The nearest is backproof::linear."),
    "id without an adapter": (["backproof::linear"], "name the adapter, --impl=SPEC"),
    "option without an adapter": (["--impl-seed=1"], "--impl-seed needs an adapter"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = write(
        tmp_path_factory.mktemp("bad"),
        {
            "right.py": RIGHT,
            "test_own.py": OWN,
            "raises.py": "1 / 0",
            "syntax.py": "def :",
            "alone.py": "def linear_forward(x, w): ...",
            "misspelt.py": RIGHT.replace("linear_forward", "linaer_forward"),
            "parameter.py": RIGHT.replace("forward(x, w)", "forward(x, w, bias)"),
            "constant.py": RIGHT.replace('("float64", "float32")', '("float46",)'),
        },
    )
    (folder / "folder.json").mkdir()
    found = in_turn(folder, *[arguments for arguments, _ in BAD.values()])
    alone = "raises", "id, distributed"
    return {**dict(zip(BAD, found, strict=True)), **{name: run(folder, *BAD[name][0]) for name in alone}}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_adapter_or_option_is_one_sentence(name: str, bad: Mapping[str, Run]) -> None:
    found = bad[name]
    assert found.code == 4, found.text
    (line,) = filter(None, found.lines)
    assert line.startswith("ERROR: ")
    assert line.endswith(".")
    assert BAD[name][1] in line


# Stops


def test_a_run_that_stops_early_is_not_complete(tmp_path: Path) -> None:
    """And where nothing can be written it runs all the same."""
    folder = write(tmp_path, {"wrong.py": WRONG})
    (folder / ".backproof").write_text("in the way")
    reports = ("--impl-report=report.json", "--impl-report=wrong.py/report.json")
    stopped = run(folder, "--impl=wrong.py", *FEW, "-x", *reports)
    assert stopped.code == 1, stopped.text
    assert list(stopped.outcomes.values()) == ["passed", "passed", "failed"]
    assert (stopped.report["conforms"], stopped.report["complete"]) == (False, False)
    assert (folder / ".backproof").read_text() == "in the way"
    (line,) = [line for line in stopped.lines if "could not be written" in line]
    assert line.startswith(f"--impl-report={folder / 'wrong.py/report.json'}")
    assert "Traceback" not in stopped.text


def test_an_interrupted_run_writes_a_whole_report(tmp_path: Path) -> None:
    slow = """
        import pathlib, time

        def linear_forward(x, w):
            pathlib.Path("begun").touch()
            time.sleep(0.1)
            raise NotImplementedError

        linear_backward = lambda dout, cache: None
    """
    folder = write(tmp_path, {"slow.py": slow})
    # A job in the background ignores the signal, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start(folder, "--impl=slow.py", *FEW, "--impl-report=report.json", "-p", "no:cacheprovider")
    signal.signal(signal.SIGINT, before)
    until = time.monotonic() + 60
    while not (folder / "begun").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    report = Run(process.returncode, text, folder).report
    assert process.returncode == 2, text
    assert (report["conforms"], report["complete"]) == (None, False)
    jsonschema.validate(report, schema(), jsonschema.Draft202012Validator)
    assert {path.suffix for path in folder.iterdir() if path.is_file()} == {"", ".py", ".ini", ".json"}


# Known failures


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    met = write(tmp_path_factory.mktemp("met"), {"wrong.py": WRONG})
    (met / "known.txt").write_text(
        "# What we know.\n\nbackproof::linear::dx::*  # twice too large\nbackproof::linear::identities::*\n"
    )
    unmet = write(tmp_path_factory.mktemp("unmet"), {"wrong.py": WRONG})
    (unmet / "known.txt").write_text(
        f"backproof::linear::dx::*\n{DW[0]}\nbackproof::linear::o*  # all of them\nbackproof::conv2d::*\n"
    )
    part = write(tmp_path_factory.mktemp("part"), {"right.py": RIGHT})
    (part / "known.txt").write_text("backproof::conv2d::*\n")
    options = (*FEW, "--impl-xfails=known.txt", "--impl-report=report.json", "-rx")
    return together(
        lambda: run(met, "--impl=wrong.py", *options),
        lambda: run(unmet, "--impl=wrong.py", *options),
        lambda: run(part, "--impl=right.py", *options, "-k", "dw"),
    )


def test_a_known_failure_does_not_fail_the_run(known: Sequence[Run]) -> None:
    met = known[0]
    assert met.code == 0, met.text
    assert [met.outcomes[name] for name in DX] == ["xfailed"] * 2
    assert (met.report["conforms"], met.report["complete"]) == (False, True)
    assert all(item["failures"] for item in met.report["items"] if item["outcome"] == "xfailed")
    assert met.text.count("twice too large") == 2
    assert re.search(r"^linear: 4 of \d+ items failed as known", met.text, re.MULTILINE)
    assert "known.txt: " not in met.text
    jsonschema.validate(met.report, schema(), jsonschema.Draft202012Validator)


def test_a_line_that_does_not_come_true_fails_the_run(known: Sequence[Run]) -> None:
    unmet = known[1]
    assert unmet.code == 1, unmet.text
    assert [name for name, outcome in unmet.outcomes.items() if outcome == "xpassed"] == [
        *OUT,
        DW[0],
    ]
    assert unmet.report["conforms"] is False
    told = [line for line in unmet.lines if line.startswith("known.txt: ")]
    assert told == [
        f"known.txt: line 2, {DW[0]}: expected to fail, but did not: {DW[0]}. Remove the line.",
        "known.txt: line 3, backproof::linear::o*: expected to fail, but did not: all 2 items that it matches. "
        "Remove the line.",
        "known.txt: line 4, backproof::conv2d::*: matches no item. Correct the id or remove the line.",
    ]
    jsonschema.validate(unmet.report, schema(), jsonschema.Draft202012Validator)


def test_a_line_that_matches_nothing_is_let_be_in_part_of_a_run(known: Sequence[Run]) -> None:
    part = known[2]
    assert part.code == 0, part.text
    assert list(part.outcomes) == DW
    assert (part.report["conforms"], part.report["complete"]) == (None, False)
    assert "known.txt: " not in part.text


# Candidates of all kinds


def test_two_candidates_in_one_file_are_judged_apart(tmp_path: Path) -> None:
    pair = f"{RIGHT}\n" + textwrap.dedent(
        """
        def twice(dout, cache):
            dx, dw = linear_backward(dout, cache)
            return 2 * dx, dw

        class a:
            linear_forward = staticmethod(linear_forward)
            linear_backward = staticmethod(linear_backward)

        class b:
            linear_forward = staticmethod(linear_forward)
            linear_backward = staticmethod(twice)
        """
    )
    folder = write(tmp_path, {"adapter.py": pair})
    wrong = run(folder, "--impl=adapter.py:b", *FEW, "--impl-report=report.json")
    assert wrong.code == 1, wrong.text
    assert [name for name, outcome in wrong.outcomes.items() if outcome == "failed"] == WRONG_DX[::2]
    right = run(folder, "--impl=adapter.py:a", *FEW, "--impl-report=report.json")
    assert right.code == 0, right.text
    assert right.report["impl"] == "adapter.py:a"
    assert len(kept(folder)) == 2  # those of b


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
