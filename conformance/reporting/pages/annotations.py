"""The report as annotations of a pull request, by the commands that GitHub reads from a workflow's output."""

import linecache
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backproof.conformance.adapter.load import Adapter
from backproof.conformance.adapter.signature import underlying_function
from backproof.conformance.reporting.pages import sentences

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


def annotations(content: Mapping[str, Any], adapter: Adapter, root: Path) -> list[str]:
    """A command for each failure that is told by itself, at most ten; `root` is the folder of the checkout."""
    told = [
        (item, failure, alike) for item, failure, alike in sentences.entries(content) if item["outcome"] == "failed"
    ]
    alone = told if len(told) <= MOST_ERRORS else told[: MOST_ERRORS - 1]
    found = []
    for item, failure, alike in alone:
        properties = _properties(_place(item, failure, adapter, root), root)
        properties["title"] = f"Backproof: {sentences.title(item)}"
        found.append(command("error", properties, _message(item, failure, alike)))
    if len(told) > len(alone):
        rest = [sentences.title(item) for item, _, _ in told[len(alone) :]]
        title = f"Backproof: {len(rest)} more failures"
        properties = {**_properties(_of_adapter(adapter), root), "title": title}
        found.append(command("error", properties, f"{len(rest)} more failures: {', '.join(rest)}."))
    return found


def command(name: str, properties: Mapping[str, str], message: str) -> str:
    """A workflow command, escaped as GitHub's runner reads it."""

    def data(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    told = ",".join(f"{key}={data(value).replace(':', '%3A').replace(',', '%2C')}" for key, value in properties.items())
    return f"::{name}{' ' * bool(told)}{told}::{data(message)}"


def _message(item: Mapping[str, Any], failure: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
    lines = [failure["message"]]
    options = sentences.unusual(failure)
    lines += [f"With {', '.join(options)}."] if options else []
    lines += [where] if (where := sentences.where(failure)) else []
    lines += failure["diagnosis"]
    lines += [failure["step"]] if failure.get("step") else []
    if script := sentences.script(failure):
        lines.append(f"Reproduce: {script}")
    if alike:
        others = ", ".join(sentences.title(other["item"]) for other in alike)
        lines.append(f"For the same reason {'fails' if len(alike) == 1 else 'fail'} {others}.")
    return "\n".join(lines)


def _place(item: Mapping[str, Any], failure: Mapping[str, Any], adapter: Adapter, root: Path) -> Place | None:
    """The line where the candidate raised, else that of its function, else the adapter's."""
    places = [Place(Path(file), int(line)) for file, line in _FRAME.findall(failure["traceback"] or "")]
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


def _of_function(item: Mapping[str, Any], failure: Mapping[str, Any], adapter: Adapter) -> Place | None:
    """The first line of the forward or the backward, whichever gave the tensor."""
    implementation = adapter.implementations.get(item["layer"])
    if implementation is None:
        return None
    gradient = (failure["tensor"] or item["check"]) in implementation.contract.gradients
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
