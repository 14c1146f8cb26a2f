"""The report as a step summary of CI: short, with the details folded away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backproof.conformance.reporting import sentences
from backproof.conformance.reporting.pages.arrays import aligned
from backproof.conformance.reporting.record import Failure, Item, Report
from backproof.conformance.reporting.sentences import Entry
from backproof.conformance.spec.case import Array

#: What GitHub shows of a step's summary, in bytes, with some room for what else the step writes.
MOST_BYTES = 1_000_000
#: A longer traceback is cut at its beginning.
MOST_TRACEBACK = 20_000
MARKS: Mapping[str, str] = {
    "passed": "✓",
    "failed": "**✗ fails**",
    "skipped": "skipped",
    "xfailed": "fails, known",
    "xpassed": "**passed, known to fail**",
    "error": "**error**",
}


def markdown(report: Report, most_bytes: int = MOST_BYTES) -> str:
    """The summary of a run, in at most so many bytes."""
    head = "\n\n".join(_head(report)) + "\n"
    failures = ["\n" + "\n\n".join(_failure(entry)) + "\n" for entry in sentences.entries(report)]
    text, shown = head, 0
    for failure in failures:
        rest = _left_out(len(failures) - shown - 1)
        if _size(text) + _size(failure) + _size(rest) > most_bytes:
            break
        text, shown = text + failure, shown + 1
    if shown < len(failures):
        text += _left_out(len(failures) - shown)
    if _size(text) <= most_bytes:
        return text
    short = f"## {escaped(report.impl)[:200]} {sentences.verdict(report)}\n\n{sentences.reasons(report)[0]}\n"
    return short + "\nThe summary was too long for this place and is left out; the JSON report has all of it.\n"


def escaped(text: Any) -> str:
    """Text as one line that Markdown and HTML leave as it is."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    line = re.sub(r"([\\`*_{}\[\]|~#$])", r"\\\1", line)
    return re.sub(r"^([-+=]|\d+(?=[.)]))", lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", line)


def code(text: Any) -> str:
    """Text as a code span, whatever backticks it has."""
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def block(text: str) -> str:
    """Text as a code block, whatever backticks it has."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def _head(report: Report) -> Iterator[str]:
    yield f"## {escaped(report.impl)} {sentences.verdict(report)}"
    yield " ".join(map(escaped, sentences.reasons(report)))
    if report.items:
        yield "\n".join(_matrix(report.items))
    yield f"<sub>{escaped(sentences.settings(report))}</sub>"


def _matrix(items: Sequence[Item]) -> Iterator[str]:
    """A row for each check, a column for each part and dtype; the checks that passed everywhere are one row."""
    columns = list(dict.fromkeys((item.part, item.dtype) for item in items))
    several = len({dtype for _, dtype in columns}) > 1
    cells = {(item.check, item.part, item.dtype): item.outcome for item in items}
    checks = list(dict.fromkeys(item.check for item in items))
    fine = [check for check in checks if all(cells.get((check, *column), "passed") == "passed" for column in columns)]
    heads = [f"{part} {dtype}" if several else part for part, dtype in columns]
    yield "| check | " + " | ".join(map(escaped, heads)) + " |"
    yield "|---|" + "---|" * len(columns)
    for check in checks:
        if check not in fine:
            row = [MARKS[cells[check, *column]] if (check, *column) in cells else "" for column in columns]
            yield f"| {escaped(check)} | " + " | ".join(row) + " |"
    if fine:
        row = [MARKS["passed"] if any((check, *column) in cells for check in fine) else "" for column in columns]
        others = ", ".join(map(escaped, fine)) if len(fine) <= 4 or len(fine) == len(checks) else f"{len(fine)} others"
        yield f"| {others} | " + " | ".join(row) + " |"


def _failure(entry: Entry) -> Iterator[str]:
    item, failure, alike = entry
    known = " (a known failure)" if item.outcome == "xfailed" else ""
    yield f"### {escaped(sentences.title(item))}{known}"
    yield escaped(failure.message)
    options = ", ".join(map(code, sentences.unusual(failure)))
    facts = [(label, texts) for label, texts in sentences.facts(item, failure) if label != "smallest"]
    lines = [("Options", options)] if options else []
    lines += [(label.capitalize(), escaped(text)) for label, texts in facts for text in texts]
    lines.append(("Reproduce", code(sentences.script(failure) or item.again)))
    lines += [("Likewise", escaped(sentences.likewise(*other))) for other in alike]
    yield "\n".join(f"- {name}: {text}" for name, text in lines)
    yield "<details><summary>The case</summary>"
    yield escaped(sentences.smallest(failure))
    yield block("\n".join(_arrays(item, failure)))
    if failure.traceback:
        traceback = failure.traceback
        yield block(traceback if len(traceback) <= MOST_TRACEBACK else f"…\n{traceback[-MOST_TRACEBACK:]}")
    yield "</details>"


def _arrays(item: Item, failure: Failure) -> Iterator[str]:
    shown: list[tuple[str, Array | None]] = [(n, a) for n, a in failure.arrays.items() if n not in failure.unread]
    if failure.compares:
        pair = zip(failure.columns, (failure.expected, failure.got), strict=True)
        shown += [(f"{failure.tensor or item.check} {word}", array) for word, array in pair]
    width = max((len(name) for name, _ in shown), default=0)
    for name, array in shown:
        shape = failure.shapes.get(name)
        first, *rest = aligned(array) if array is not None else [f"array of shape {shape}" if shape else "None"]
        yield f"{name:<{width}} = {first}"
        yield from (" " * (width + 3) + line for line in rest)


def _left_out(count: int) -> str:
    if not count:
        return ""
    failures = "One failure more is" if count == 1 else f"{count} failures more are"
    return f"\n{failures} left out here, to keep the summary within its limit; the JSON report has them all.\n"


def _size(text: str) -> int:
    return len(text.encode())
