"""The report as a step summary of CI: short, with the details folded away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backproof.conformance.reporting.pages import sentences
from backproof.conformance.reporting.pages.arrays import aligned, numeric

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


def markdown(content: Mapping[str, Any], most_bytes: int = MOST_BYTES) -> str:
    """The summary of a run, made of the content of its JSON report, in at most so many bytes."""
    head = "\n\n".join(_head(content)) + "\n"
    told = sentences.entries(content)
    failures = ["\n" + "\n\n".join(_failure(content, *entry)) + "\n" for entry in told]
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
    short = f"## {escaped(content['impl'])[:200]} {sentences.verdict(content)}\n\n{sentences.reasons(content)[0]}\n"
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


def _head(content: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {escaped(content['impl'])} {sentences.verdict(content)}"
    yield " ".join(map(escaped, sentences.reasons(content)))
    if content["items"]:
        yield "\n".join(_matrix(content["items"]))
    yield f"<sub>{escaped(sentences.settings(content))}</sub>"


def _matrix(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A row for each check, a column for each part and dtype; the checks that passed everywhere are one row."""
    columns = list(dict.fromkeys((sentences.part(item), item["dtype"]) for item in items))
    several = len({dtype for _, dtype in columns}) > 1
    cells = {(item["check"], sentences.part(item), item["dtype"]): item["outcome"] for item in items}
    checks = list(dict.fromkeys(item["check"] for item in items))
    fine = [check for check in checks if all(cells.get((check, *column), "passed") == "passed" for column in columns)]
    heads = [f"{part} {dtype}" if several else part for part, dtype in columns]
    yield "| check | " + " | ".join(map(escaped, heads)) + " |"
    yield "|---|" + "---|" * len(columns)
    for check in checks:
        if check not in fine:
            row = [MARKS.get(cells.get((check, *column), ""), "") for column in columns]
            yield f"| {escaped(check)} | " + " | ".join(row) + " |"
    if fine:
        row = [MARKS["passed"] if any((check, *column) in cells for check in fine) else "" for column in columns]
        others = ", ".join(map(escaped, fine)) if len(fine) <= 4 or len(fine) == len(checks) else f"{len(fine)} others"
        yield f"| {others} | " + " | ".join(row) + " |"


def _failure(
    content: Mapping[str, Any],
    item: Mapping[str, Any],
    failure: Mapping[str, Any],
    alike: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    known = " (a known failure)" if item["outcome"] == "xfailed" else ""
    yield f"### {escaped(sentences.title(item))}{known}"
    yield escaped(failure["message"])
    options = ", ".join(map(code, sentences.unusual(failure)))
    several = len(failure["diagnosis"]) > 1
    lines = [("Options", options)] if options else []
    if where := sentences.where(failure):
        lines.append(("Where", escaped(where)))
    lines += [("It may be that" if several else "Cause", escaped(cause)) for cause in failure["diagnosis"]]
    lines += [("Step", escaped(failure["step"]))] if failure.get("step") else []
    lines += [("The error", escaped(told)) for told in failure.get("site") or []]
    lines.append(("Reproduce", code(sentences.script(failure) or sentences.again(content, item))))
    lines += [("Likewise", f"{escaped(sentences.title(f['item']))}: {escaped(f['message'])}") for f in alike]
    yield "\n".join(f"- {name}: {told}" for name, told in lines)
    yield "<details><summary>The case</summary>"
    yield escaped(sentences.minimality(failure))
    yield block("\n".join(_arrays(failure, item["check"])))
    if failure["traceback"]:
        traceback = failure["traceback"]
        yield block(traceback if len(traceback) <= MOST_TRACEBACK else f"…\n{traceback[-MOST_TRACEBACK:]}")
    yield "</details>"


def _arrays(failure: Mapping[str, Any], check: str) -> Iterator[str]:
    tensor = failure["tensor"] or check
    shown = [(name, array, failure["shapes"].get(name)) for name, array in failure["arrays"].items()]
    if failure["kind"] not in sentences.WITHOUT_VALUES and failure["expected"] is not None:
        shown += [(f"{tensor} {word}", failure[word], None) for word in ("expected", "got")]
    width = max((len(name) for name, _, _ in shown), default=0)
    for name, nested, shape in shown:
        array = numeric(nested)
        if array is not None:
            first, *rest = aligned(array)
        else:
            first, rest = "None" if shape is None else f"array of shape {tuple(shape)}", []
        yield f"{name:<{width}} = {first}"
        yield from (" " * (width + 3) + line for line in rest)


def _left_out(count: int) -> str:
    if not count:
        return ""
    told = "One failure more is" if count == 1 else f"{count} failures more are"
    return f"\n{told} left out here, to keep the summary within its limit; the JSON report has them all.\n"


def _size(text: str) -> int:
    return len(text.encode())
