"""The report as annotations of a pull request, by the commands that GitHub reads from a workflow's output."""

import linecache
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backproof.conformance.adapter.load import Adapter
from backproof.conformance.adapter.signature import underlying_function
from backproof.conformance.reporting import sentences
from backproof.conformance.reporting.record import Failure, Item, Report
from backproof.conformance.reporting.sentences import Entry

#: GitHub shows no more errors of one step.
MOST_ERRORS = 10
#: Folders of installed packages, whose lines are not the candidate's.
INSTALLED = ("site-packages", "dist-packages")
_FRAME = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    file: Path
    line: int


def annotations(report: Report, adapter: Adapter, root: Path) -> list[str]:
    """A command for each failure that is reported by itself, at most ten; `root` is the folder of the checkout."""
    entries = [entry for entry in sentences.entries(report) if entry.item.outcome == "failed"]
    alone = entries if len(entries) <= MOST_ERRORS else entries[: MOST_ERRORS - 1]
    found = []
    for entry in alone:
        properties = _properties(_place(entry.item, entry.failure, adapter, root), root)
        properties["title"] = f"Backproof: {sentences.title(entry.item)}"
        found.append(command("error", properties, _message(entry)))
    if rest := [sentences.title(entry.item) for entry in entries[len(alone) :]]:
        title = f"Backproof: {len(rest)} more failures"
        properties = {**_properties(_of_adapter(adapter), root), "title": title}
        found.append(command("error", properties, f"{len(rest)} more failures: {', '.join(rest)}."))
    return found


def command(name: str, properties: Mapping[str, str], message: str) -> str:
    """A workflow command, escaped as GitHub's runner reads it."""

    def data(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    pairs = ",".join(
        f"{key}={data(value).replace(':', '%3A').replace(',', '%2C')}" for key, value in properties.items()
    )
    return f"::{name}{' ' * bool(pairs)}{pairs}::{data(message)}"


def _message(entry: Entry) -> str:
    item, failure, alike = entry
    options = sentences.unusual(failure)
    lines = [failure.message, *([f"With {', '.join(options)}."] if options else [])]
    # No labels: what explains it goes without that it is not known, and the step needs its name.
    for label, texts in sentences.facts(item, failure):
        if label in ("where", "step") or (label == "why" and failure.diagnosis):
            lines += [f"Step {text}" if label == "step" else text for text in texts]
    if script := sentences.script(failure):
        lines.append(f"Reproduce: {script}")
    return "\n".join([*lines, *(sentences.likewise(*other) for other in alike)])


def _place(item: Item, failure: Failure, adapter: Adapter, root: Path) -> Place | None:
    """The line where the candidate raised, else that of its function, else the adapter's."""
    places = [Place(Path(file), int(line)) for file, line in _FRAME.findall(failure.traceback or "")]
    places = [place for place in places if _inside(place, root)]
    if places:
        return places[-1]
    place = _of_function(item, failure, adapter)
    return place if place is not None and _inside(place, root) else _of_adapter(adapter)


def _inside(place: Place, root: Path) -> bool:
    """Whether it is a line of the checkout itself."""
    try:
        relative = place.file.resolve().relative_to(root.resolve())
    except (ValueError, OSError):
        return False
    return not any(part in INSTALLED for part in relative.parts)


def _of_function(item: Item, failure: Failure, adapter: Adapter) -> Place | None:
    """The first line of the forward or the backward, whichever gave the tensor."""
    implementation = adapter.implementations.get(item.layer)
    if implementation is None:
        return None
    gradient = (failure.tensor or item.check) in implementation.contract.gradients
    function = underlying_function(implementation.backward if gradient else implementation.forward)
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    return Place(Path(code.co_filename), _line_of_def(code.co_filename, code.co_firstlineno))


def _line_of_def(file: str, first: int) -> int:
    """The line of the def, behind its decorators."""
    linecache.checkcache(file)
    lines = linecache.getlines(file)
    for number, line in enumerate(lines[first - 1 :], first):
        if re.match(r"\s*(async\s+)?def\b", line):
            return number
        if number == first and not line.lstrip().startswith("@"):
            break
    return first


def _of_adapter(adapter: Adapter) -> Place | None:
    return None if adapter.path is None else Place(adapter.path, adapter.line or 1)


def _properties(place: Place | None, root: Path) -> dict[str, str]:
    """The file as seen from the checkout; nothing where it lies elsewhere."""
    if place is None or not _inside(place, root):
        return {}
    return {"file": place.file.resolve().relative_to(root.resolve()).as_posix(), "line": str(place.line)}
