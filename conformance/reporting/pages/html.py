"""The report as one page: everything in it, nothing fetched, no script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from backproof.conformance.reporting.pages import sentences
from backproof.conformance.reporting.pages.arrays import Comparison, Plane, axes, compare, numeric, planes, shown
from backproof.conformance.reporting.pages.pictures import Scene, scene

#: An array of more numbers is told by its shape alone.
MOST_SHOWN = 400


@dataclass(frozen=True)
class Result:
    """One cell of the matrix: what became of an item. `mark` is for the eye, `words` are for everyone."""

    outcome: str
    mark: str
    words: str
    cases: int
    link: str | None


@dataclass(frozen=True)
class Figure:
    """An array of the case, in slices; `note` stands where it is not shown."""

    name: str
    shape: str
    planes: Sequence[Plane]
    note: str | None


@dataclass(frozen=True)
class Article:
    """One failure as the page tells it."""

    identifier: str
    title: str
    number: int
    part: str
    check: str
    dtype: str
    known: bool
    message: str
    diagnosis: Sequence[str]
    facts: Sequence[tuple[str, Sequence[str]]]
    options: Sequence[str]
    figures: Sequence[Figure]
    results: Sequence[Figure]
    comparison: Comparison | None
    scene: Scene | None
    alike: Sequence[tuple[str, str]]
    again: str
    script: str | None
    path: str | None
    traceback: str | None

    @property
    def label(self) -> str:
        """The item, and which of its failures this is, if not the first."""
        return self.title if self.number == 1 else f"{self.title}, failure {self.number}"

    @property
    def numbers(self) -> int:
        """How many numbers the arrays of the case show."""
        return sum(plane.values.size for figure in self.figures for plane in figure.planes)


#: How an outcome looks in the matrix, and what it is called there.
MARKS: Mapping[str, tuple[str, str]] = {
    "passed": ("✓", "passed"),
    "failed": ("✗", "fails"),
    "skipped": ("\N{EN DASH}", "skipped"),
    "xfailed": ("✗", "fails, known"),
    "xpassed": ("!", "passed, known to fail"),
    "error": ("!", "error"),
}


def html(content: Mapping[str, Any]) -> str:
    """The page of a run, made of the content of its JSON report."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = shown
    environment.filters["picture"] = Markup
    told = sentences.entries(content)
    links = _links(told)
    parts = list(dict.fromkeys(map(sentences.part, content["items"])))
    return environment.get_template("page.html.jinja").render(
        impl=content["impl"],
        conforms=content["conforms"],
        verdict=sentences.verdict(content),
        reasons=sentences.reasons(content),
        settings=sentences.settings(content),
        articles=[_article(content, item, failure, alike, links[id(failure)]) for item, failure, alike in told],
        parts=[(part, _dtypes(content, part)) for part in parts],
        rows=_rows(content, parts, told, links),
        skipped=[
            (sentences.title(item), item.get("reason") or "no case was judged")
            for item in content["items"]
            if item["outcome"] == "skipped"
        ],
        cells=[(part, *_coverage(counts)) for part, counts in content["cells"].items()],
    )


def _links(told: Sequence[tuple[Mapping[str, Any], Mapping[str, Any], Any]]) -> dict[int, str]:
    """The id of each failure's article."""
    found: dict[int, str] = {}
    for item, failure, _ in told:
        stem = re.sub("[^a-z0-9]+", "-", sentences.title(item).lower()).strip("-")
        name, more = stem, 1
        while name in found.values():
            more += 1
            name = f"{stem}-{more}"
        found[id(failure)] = name
    return found


def _dtypes(content: Mapping[str, Any], part: str) -> list[str]:
    return list(dict.fromkeys(item["dtype"] for item in content["items"] if sentences.part(item) == part))


def _rows(
    content: Mapping[str, Any], parts: Sequence[str], told: Sequence[Any], links: Mapping[int, str]
) -> list[tuple[str, list[Result | None]]]:
    """A row for each check, with a cell for each part and dtype, None where there is no such item."""
    link = {id(item): links[id(failure)] for item, failure, _ in reversed(told)}
    for _, failure, alike in told:
        link |= {id(other["item"]): links[id(failure)] for other in alike if id(other["item"]) not in link}
    results = {
        (item["check"], sentences.part(item), item["dtype"]): Result(
            item["outcome"], *MARKS[item["outcome"]], item["examples"], link.get(id(item))
        )
        for item in content["items"]
    }
    columns = [(part, dtype) for part in parts for dtype in _dtypes(content, part)]
    checks = _checks(content["items"])
    return [(check, [results.get((check, *column)) for column in columns]) for check in checks]


def _checks(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every check; what only one part has stands before the next that it shares with another."""
    merged: list[str] = []
    for part in dict.fromkeys(map(sentences.part, items)):
        before = len(merged)
        for check in reversed(dict.fromkeys(item["check"] for item in items if sentences.part(item) == part)):
            if check not in merged:
                merged.insert(before, check)
            before = merged.index(check)
    return merged


Counts = list[tuple[str, int]]


def _coverage(counts: Mapping[str, int]) -> tuple[Counts, list[tuple[str, Counts]], int, int, list[str]]:
    """A part's conditions, the layouts in memory of each array, how many were met of how many, and the others."""
    conditions = [(name, count) for name, count in counts.items() if ": " not in name]
    layouts: dict[str, Counts] = {}
    for name, count in counts.items():
        array, colon, layout = name.partition(": ")
        if colon:
            layouts.setdefault(array, []).append((layout, count))
    never = [name for name, count in counts.items() if not count]
    return conditions, list(layouts.items()), len(counts) - len(never), len(counts), never


def _article(
    content: Mapping[str, Any],
    item: Mapping[str, Any],
    failure: Mapping[str, Any],
    alike: Sequence[Mapping[str, Any]],
    identifier: str,
) -> Article:
    tensor = failure["tensor"] or item["check"]
    comparison = None
    if failure["kind"] not in sentences.WITHOUT_VALUES:
        comparison = compare(failure, tensor, item["dtype"])
    results = []
    if comparison is None and failure["kind"] not in sentences.WITHOUT_VALUES:
        for word in ("expected", "got"):
            if failure[word] is not None:
                results.append(_figure(f"{tensor} {word}", failure[word], None, tensor, failure))
    facts = [
        ("Where", [sentence] if (sentence := sentences.where(failure)) else []),
        ("Step", [step] if (step := failure.get("step")) else []),
        ("The error", list(failure.get("site") or [])),
        ("How small", [sentences.minimality(failure)]),
    ]
    return Article(
        identifier,
        sentences.title(item),
        1 + [id(each) for each in item["failures"]].index(id(failure)),
        sentences.part(item),
        item["check"],
        item["dtype"],
        item["outcome"] == "xfailed",
        failure["message"],
        failure["diagnosis"],
        [(name, told) for name, told in facts if told],
        sentences.unusual(failure),
        [_figure(name, array, failure["shapes"].get(name), name, failure) for name, array in failure["arrays"].items()],
        results,
        comparison,
        scene(failure, tensor, comparison.first if comparison else None, identifier),
        [(sentences.title(other["item"]), other["message"]) for other in alike],
        sentences.again(content, item),
        sentences.script(failure),
        failure["reproduce"],
        failure["traceback"],
    )


def _figure(name: str, nested: Any, shape: Any, tensor: str, failure: Mapping[str, Any]) -> Figure:
    array = numeric(nested)
    if array is None:
        note = "None" if shape is None else "too large to be shown; the reproduction has its numbers"
        return Figure(name, "" if shape is None else _shape(shape), (), note)
    told = _shape(shape if shape is not None else array.shape)
    if not array.size:
        return Figure(name, told, (), "empty")
    if array.size > MOST_SHOWN:
        return Figure(name, told, (), "too large to be shown here; the JSON report has its numbers")
    return Figure(name, told, planes(array, axes(tensor, array.ndim, failure)), None)


def _shape(shape: Sequence[int]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape)) if len(shape) else "a number"
