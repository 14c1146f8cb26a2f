"""What is picked and collected, bad options, interrupted runs, and known failures."""

from __future__ import annotations

import re
import signal
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from backproof.conformance.reporting.record import schema
from tests.plugin_runs import (
    DW,
    DX,
    FEW,
    OUT,
    OWN,
    RIGHT,
    WRONG,
    WRONG_DX,
    Run,
    in_turn,
    jsonschema,
    kept,
    run,
    start,
    together,
    write,
)

#: As `python -m pytest` starts it, and as the script `pytest` does: without the current directory on sys.path.
AS_MODULE = (sys.executable, "-m", "pytest")


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
