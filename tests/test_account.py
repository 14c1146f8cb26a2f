"""What a failure looks like in the terminal. Every text is kept in golden/account; to write them anew, and read them:

python -m tests.test_account && git diff tests/golden
"""

from __future__ import annotations

import io
import os
import re
import shlex
from pathlib import Path

import pytest
from _pytest._io import TerminalWriter

from backproof.conformance.reporting.styled import command, paragraph, plain
from backproof.conformance.reporting.terminal import in_colour
from tests.failures import STORIES, out_of_time, value

GOLDEN = Path(__file__).parent / "golden" / "account"
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


# What is kept


def written(name: str) -> str:
    return f"{STORIES[name]().shown()}\n"


@pytest.mark.parametrize("name", STORIES)
def test_a_failure_reads_as_it_is_kept(name: str) -> None:
    assert written(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_nothing_is_kept_of_a_failure_that_is_gone() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(STORIES)


# The width, and colours


def words_of(line: str) -> list[str]:
    """What a line could have been broken between, its label aside."""
    return re.sub(r"^  (\w+ +)?", "", line).removesuffix(" \\").split()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_longer_than_the_screen_is_wide(width: int) -> None:
    long = [
        line
        for make in STORIES.values()
        for line in make().shown(width).splitlines()
        if len(line) > width and len(words_of(line)) > 1
    ]
    assert long == []


def test_a_failure_takes_one_screen() -> None:
    count = {name: make().shown().count("\n") + 1 for name, make in STORIES.items()}
    assert {name for name, lines_of_it in count.items() if lines_of_it > 30} == {"two_kinds"}
    assert count["two_kinds"] <= 40
    assert all(count[name] <= 7 for name in ("same_cause", "after_a_wrong_forward", "consequence"))


@pytest.mark.parametrize("width", [60, 90])
def test_colours_change_no_letter(width: int) -> None:
    for name, make in STORIES.items():
        story = make()
        plain_text = story.shown(width)
        assert ESCAPES.sub("", story.shown(width, colour=True)) == plain_text, name
        assert not re.search(r" $", plain_text, re.MULTILINE), name


def test_what_matters_is_in_colour() -> None:
    text = value().shown(colour=True)
    first, *_ = text.splitlines()
    assert first.startswith("\x1b[1;31mconv2d dx (float64): ")
    assert "\x1b[1;31m1*\x1b[0m" in text
    assert "\x1b[32m1 \x1b[0m" in text
    assert "\x1b[1;35mdx puts the windows side by side" in text


def test_wrong_entries_are_marked_without_colours_too() -> None:
    rows = [line for line in value().shown().splitlines() if "*" in line and "where" not in line]
    assert [row.count("*") for row in rows] == [1, 2, 1]


class Screen(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown_on(stream: io.StringIO) -> str:
    """A failure as pytest writes it to this stream."""
    writer = TerminalWriter(stream)
    return value().shown(colour=in_colour(writer.hasmarkup, os.environ))


def test_only_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "BUILD_NUMBER", "NO_COLOR", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in shown_on(Screen())
    assert "\x1b[" not in shown_on(io.StringIO())
    for name in ("CI", "BUILD_NUMBER", "NO_COLOR"):
        with monkeypatch.context() as set_:
            set_.setenv(name, "1")
            assert "\x1b[" not in shown_on(Screen())


def test_colours_that_were_decided_upon_do_not_ask_the_environment_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = value().shown(colour=True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "20")
    assert value().shown(colour=True) == before


def test_a_terminal_is_not_filled_to_any_width() -> None:
    story = out_of_time()
    assert story.shown(400) == story.shown(120)


def test_a_command_can_be_copied_however_it_is_broken() -> None:
    text = "pytest '--impl=my folder/adapter.py:attribute' --impl-profile=quick backproof::conv2d::dx::float64"
    for width in (20, 40, 60, 80, 200):
        rows = plain(command("again", text, width)).splitlines()
        assert all(line.endswith(" \\") for line in rows[:-1])
        copied = "\n".join(rows).replace("  again     ", "").replace("\\\n", "")
        assert shlex.split(copied) == shlex.split(text)


def test_what_stands_in_short_brackets_is_not_torn() -> None:
    text = "dx[0, 0, 2, 0] is 1, with stride=(2, 1) and padding=((1, 0), (0, 0)), and (this is a much longer remark)."
    for width in range(32, 120):
        rows = plain(paragraph(text, width)).splitlines()
        assert " ".join(rows) == text
        assert max(map(len, rows)) <= width
        assert all(whole in "\n".join(rows) for whole in ("dx[0, 0, 2, 0]", "stride=(2, 1)", "((1, 0), (0, 0))"))


if __name__ == "__main__":
    for old in GOLDEN.iterdir():
        old.unlink()
    for name in STORIES:
        (GOLDEN / f"{name}.txt").write_text(written(name), encoding="utf-8")
