"""Annotations on GitHub."""

from __future__ import annotations

import copy
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from backproof.conformance.adapter.load import Adapter, load
from backproof.conformance.reporting.pages.annotations import annotations, command
from backproof.reference import CONTRACTS
from tests import reports

# The annotations

ADAPTER = """
    import functools

    def decorated(function):
        @functools.wraps(function)
        def call(*arguments, **options):
            return function(*arguments, **options)
        return call

    @decorated
    def conv_forward(x, w, stride=1):
        raise ValueError

    def _backward(scale, dout, cache):
        return None

    conv_backward = functools.partial(_backward, 1)
"""


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    (tmp_path / "package").mkdir()
    file = tmp_path / "package" / "an adapter.py"
    file.write_text(textwrap.dedent(ADAPTER))
    return load(str(file), CONTRACTS, tmp_path)


def properties(line: str) -> dict[str, str]:
    found = re.fullmatch(r"::error ([^:]*)::.*", line)
    assert found is not None
    return dict(pair.split("=", 1) for pair in found[1].split(","))


def annotated(adapter: Adapter, root: Path, failure: dict[str, Any], check: str) -> dict[str, str]:
    (line,) = annotations(reports.content([reports.item("conv2d", check, failures=[failure])]), adapter, root)
    return properties(line)


def test_an_annotation_is_on_the_def_of_what_is_wrong(adapter: Adapter, tmp_path: Path) -> None:
    text = (tmp_path / "package" / "an adapter.py").read_text().splitlines()
    forward, backward = (1 + text.index(next(line for line in text if f"def {name}(" in line)) for name in
                         ("conv_forward", "_backward"))  # fmt: skip
    found = annotated(adapter, tmp_path, reports.strided_dx(), "dx")
    assert found == {
        "file": "package/an adapter.py",
        "line": str(backward),
        "title": "Backproof%3A conv2d dx float64",
    }
    assert annotated(adapter, tmp_path, {**reports.strided_dx(), "tensor": "out"}, "memory_layout")["line"] == str(
        forward
    )


def test_an_annotation_of_a_crash_is_on_the_line_that_raised(adapter: Adapter, tmp_path: Path) -> None:
    inside, outside = tmp_path / "kernels.py", tmp_path / "venv" / "site-packages" / "torch.py"
    crash = reports.crash(str(inside), 7)
    frames = f'  File "{inside}", line 7, in f\n    g()\n  File "{outside}", line 9, in g\n    raise\nValueError: a\n'
    own = tmp_path / "package" / "an adapter.py"
    crash["traceback"] = f'Traceback (most recent call last):\n  File "{own}", line 12, in conv_forward\n{frames}'
    found = annotated(adapter, tmp_path, crash, "out")
    assert (found["file"], found["line"]) == ("kernels.py", "7")


def test_an_annotation_has_no_file_where_it_is_not_in_the_checkout(adapter: Adapter, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    found = annotated(adapter, tmp_path / "elsewhere", reports.strided_dx(), "dx")
    assert list(found) == ["title"]


def test_a_command_is_escaped() -> None:
    line = command("error", {"file": "a,b:c%d", "title": "x\ny"}, "50%: a, b\r\nc")
    assert line == "::error file=a%2Cb%3Ac%25d,title=x%0Ay::50%25: a, b%0D%0Ac"
    assert command("notice", {}, "a") == "::notice::a"


def test_annotations_tell_what_to_do(adapter: Adapter, tmp_path: Path) -> None:
    lines = annotations(reports.everything(), adapter, tmp_path)
    assert len(lines) == 6  # a known failure is none
    assert all("\n" not in line for line in lines)
    (line,) = [line for line in lines if "%3A conv2d dx float64::dx[" in line]
    assert line.split("::", 2)[2].split("%0A") == [
        "dx[0, 1, 0, 2] is 3.5, must be 1 (off by 2.5). 3 of 60 entries are wrong.",
        "With stride=2, padding=((1, 0), (0, 1)).",
        "It fails like this where stride > 1 and remainder > 0: 61 of 61 cases; elsewhere 0 of 139.",
        "dx ignores the stride: its windows lie side by side.",
        "Reproduce: python '.backproof/reproduce conv2d.py'",
        "conv2d identities float64 fails for the same reason: dx is wrong.",
    ]


def test_no_more_annotations_than_are_shown(adapter: Adapter, tmp_path: Path) -> None:
    def lines(count: int) -> list[str]:
        failing = [reports.item("conv2d", f"check_{k}", failures=[reports.strided_dx()]) for k in range(count)]
        return annotations(reports.content(copy.deepcopy(failing)), adapter, tmp_path)

    assert len(lines(10)) == 10
    assert len(lines(13)) == 10
    assert lines(13)[-1].endswith(
        "::4 more failures: " + ", ".join(f"conv2d check_{k} float64" for k in range(9, 13)) + "."
    )


def test_an_annotation_is_on_the_adapter_where_its_functions_have_no_file(tmp_path: Path) -> None:
    file = tmp_path / "built.py"
    file.write_text("exec('def linear_forward(x, w): ...\\ndef linear_backward(dout, cache): ...')\n")
    adapter = load(str(file), CONTRACTS, tmp_path)
    found = reports.content([reports.item("linear", "dx", failures=[reports.batch_dx()])])
    assert properties(annotations(found, adapter, tmp_path)[0])["file"] == "built.py"
