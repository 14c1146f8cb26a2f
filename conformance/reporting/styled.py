"""Lines of text in styles, broken to a width; without its colours a line has no trailing spaces."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType
from rich.text import Text

#: What the styles look like in a terminal.
FAILURE, LABEL, CAUSE, CODE, QUIET, WRONG, RIGHT = (
    "bold red",
    "bold",
    "bold magenta",
    "cyan",
    "dim",
    "bold red",
    "green",
)
#: Where the texts behind labels begin.
MARGIN = 2
BEHIND = 12
#: What stands in brackets is kept on one line up to this length.
MOST_KEPT = 32
#: Lays out without looking at the environment.
CONSOLE = Console(width=100, color_system=None, _environ={})
_WORDS_OF_A_COMMAND = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")


def paragraph(text: str, width: int, style: str = "", first: Text | None = None, indent: int = 0) -> list[Text]:
    """A text broken between words: only what cannot be broken, a path or a number, is longer than the width.

    `first` begins its first line, the others are indented.
    """
    begin = first or Text()
    lines = textwrap.wrap(
        _unbroken(" ".join(text.split())),
        max(width, indent + 1),
        initial_indent=" " * len(begin),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [" " * len(begin)]
    starts = [begin, *[Text(" " * indent)] * (len(lines) - 1)]
    return [
        Text.assemble(start, (line[len(start) :].replace("\xa0", " "), style))
        for start, line in zip(starts, lines, strict=True)
    ]


def labelled(label: str, text: str, width: int, style: str = "") -> list[Text]:
    """A text behind a label; "" for a further text behind the last one."""
    return paragraph(text, width, style, _begun(label), BEHIND)


def command(label: str, text: str, width: int) -> list[Text]:
    """A command behind a label; where it is broken, by backslashes, it can still be copied."""
    rows: list[list[str]] = [[]]
    for word in _WORDS_OF_A_COMMAND.findall(text):
        start = BEHIND if len(rows) == 1 else BEHIND + MARGIN
        # Two columns for the backslash.
        if rows[-1] and start + len(" ".join([*rows[-1], word])) > width - 2:
            rows.append([])
        rows[-1].append(word)
    starts = [_begun(label), *[Text(" " * (BEHIND + MARGIN))] * (len(rows) - 1)]
    ends = [*[" \\"] * (len(rows) - 1), ""]
    return [
        Text.assemble(start, (" ".join(row) + end, CODE)) for start, row, end in zip(starts, rows, ends, strict=True)
    ]


def excerpt(lines: Sequence[str], width: int) -> list[Text]:
    """Lines of somebody else's text as they were, broken where they are too long."""
    found: list[Text] = []
    for line in lines:
        depth = MARGIN + len(line) - len(line.lstrip())
        if MARGIN + len(line) <= width:
            found.append(Text(" " * MARGIN + line.rstrip(), QUIET))
        else:
            found += paragraph(line, width, QUIET, Text(" " * depth), depth + MARGIN)
    return found


def rendered(renderable: RenderableType, width: int) -> list[Text]:
    """The lines of anything that rich can lay out."""
    lines = CONSOLE.render_lines(renderable, CONSOLE.options.update(width=width), pad=False)
    return [Text.assemble(*((part.text, part.style or "") for part in line)) for line in lines]


def plain(lines: Iterable[Text]) -> str:
    """The lines without their styles."""
    return "\n".join(line.plain.rstrip() for line in lines)


def coloured(lines: Iterable[Text]) -> str:
    """The lines with the escape codes of a terminal."""
    stream = io.StringIO()
    # Whether there is to be colour has been decided: neither the environment nor the stream is asked again.
    console = Console(file=stream, force_terminal=True, color_system="standard", no_color=False, _environ={})
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True, highlight=False)
    return stream.getvalue().removesuffix("\n")


def _unbroken(text: str) -> str:
    """The text with no-break spaces in short brackets."""
    found, start = list(text), 0
    while (opened := next((k for k in range(start, len(text)) if text[k] in "(["), None)) is not None:
        start, depth = opened + 1, 0
        for k in range(opened, min(opened + MOST_KEPT, len(text))):
            depth += (text[k] in "([") - (text[k] in ")]")
            if depth == 0:
                found[opened:k] = text[opened:k].replace(" ", "\xa0")
                start = k
                break
    return "".join(found)


def _begun(label: str) -> Text:
    return Text.assemble((f"{' ' * MARGIN}{label}".ljust(BEHIND), LABEL))
