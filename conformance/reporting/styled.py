"""Lines of text in styles: broken to a width, and written plainly or in colour."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

#: A piece of text and the name of its style, "" for none.
Span = tuple[str, str]
Line = tuple[Span, ...]

#: What the styles look like in a terminal.
LOOKS = {
    "failure": "bold red",
    "label": "bold",
    "cause": "bold magenta",
    "code": "cyan",
    "wrong": "bold red",
    "right": "green",
    "quiet": "dim",
}
#: Where the texts behind labels begin.
MARGIN = 2
LABEL = 10
#: What stands in brackets is kept on one line up to this length.
MOST_KEPT = 32
_WORDS_OF_A_COMMAND = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")


class Block(Protocol):
    """A part of a text that is laid out by itself."""

    def lines(self, width: int) -> Sequence[Line]:
        """Its lines. Only what cannot be broken, a path or a number, is longer than the width."""


@dataclass(frozen=True)
class Paragraph:
    """A text that is broken between words. `first` begins its first line, and the others are indented by `rest`."""

    text: str
    style: str = ""
    first: Span = ("", "")
    rest: int = 0

    def lines(self, width: int) -> Sequence[Line]:
        """The text's lines."""
        joined = _unbroken(" ".join(self.text.split()))
        start = len(self.first[0])
        broken = textwrap.wrap(
            joined,
            max(width, self.rest + 1),
            initial_indent=" " * start,
            subsequent_indent=" " * self.rest,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [" " * start]
        begins = [self.first, *[(" " * self.rest, "")] * (len(broken) - 1)]
        return [
            (begin, (line[len(begin[0]) :].replace("\0", " "), self.style))
            for begin, line in zip(begins, broken, strict=True)
        ]


@dataclass(frozen=True)
class Command:
    """A command for the shell. Where it is broken it can still be copied."""

    text: str
    first: Span = ("", "")
    rest: int = 0

    def lines(self, width: int) -> Sequence[Line]:
        """The command's lines, all but the last of which end in a backslash."""
        rows: list[list[str]] = [[]]
        for word in _WORDS_OF_A_COMMAND.findall(self.text):
            start = len(self.first[0]) if len(rows) == 1 else self.rest
            # Two columns for the backslash.
            if rows[-1] and start + len(" ".join([*rows[-1], word])) > width - 2:
                rows.append([])
            rows[-1].append(word)
        begins = [self.first, *[(" " * self.rest, "")] * (len(rows) - 1)]
        ends = [*["\\"] * (len(rows) - 1), ""]
        return [
            (begin, (" ".join([*row, end]).rstrip(), "code"))
            for begin, row, end in zip(begins, rows, ends, strict=True)
        ]


@dataclass(frozen=True)
class Excerpt:
    """Lines of somebody else's text, each with its own indentation."""

    text: Sequence[str]
    style: str = "quiet"

    def lines(self, width: int) -> Sequence[Line]:
        """The lines as they were, broken where they are too long."""
        found: list[Line] = []
        for line in self.text:
            depth = MARGIN + len(line) - len(line.lstrip())
            if len(line) + MARGIN <= width:
                found.append(((" " * MARGIN + line.rstrip(), self.style),))
            else:
                found += Paragraph(line, self.style, (" " * depth, ""), depth + MARGIN).lines(width)
        return found


@dataclass(frozen=True)
class Gap:
    """An empty line."""

    def lines(self, width: int) -> Sequence[Line]:
        """One line, with nothing in it."""
        return [()]


def _unbroken(text: str) -> str:
    """The text with "\\0" for the spaces that stand in short brackets."""
    found, start = list(text), 0
    while (opened := next((k for k in range(start, len(text)) if text[k] in "(["), None)) is not None:
        start, depth = opened + 1, 0
        for k in range(opened, min(opened + MOST_KEPT, len(text))):
            depth += (text[k] in "([") - (text[k] in ")]")
            if depth == 0:
                found[opened:k] = text[opened:k].replace(" ", "\0")
                start = k
                break
    return "".join(found)


def labelled(label: str, text: str, style: str = "") -> Paragraph:
    """A text behind a label; "" for a further text behind the last one."""
    return Paragraph(text, style, _begun(label), MARGIN + LABEL)


def command(label: str, text: str) -> Command:
    """A command behind a label."""
    return Command(text, _begun(label), MARGIN + LABEL + 2)


def _begun(label: str) -> Span:
    return f"{' ' * MARGIN}{label:<{LABEL}}", "label"


def plain(lines: Iterable[Line]) -> str:
    """The lines without their styles."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def coloured(lines: Sequence[Line]) -> str:
    """The lines with the escape codes of a terminal; without them it is the plain text."""
    from rich.console import Console
    from rich.text import Text

    stream = io.StringIO()
    # Whether there is to be colour has been decided: neither the environment nor the stream is asked again.
    console = Console(file=stream, force_terminal=True, color_system="standard", no_color=False, _environ={})
    for line in lines:
        text = Text.assemble(*[(text, LOOKS.get(style, "")) for text, style in line], no_wrap=True, overflow="ignore")
        text.rstrip()
        console.print(text, soft_wrap=True, highlight=False)
    return stream.getvalue().removesuffix("\n")
