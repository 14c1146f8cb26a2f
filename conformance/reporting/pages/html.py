"""The report as one page: everything in it, nothing fetched, no script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from backproof.conformance.reporting import sentences
from backproof.conformance.reporting.numbers import typeset
from backproof.conformance.reporting.pages.arrays import Comparison, Plane, compare, planes
from backproof.conformance.reporting.record import Failure, Item, Report
from backproof.conformance.reporting.sentences import Entry
from backproof.conformance.spec.case import Array
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.picture import Picture, PicturedCase

#: An array of more numbers is shown by its shape alone.
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
    """One failure as the page shows it."""

    identifier: str
    entry: Entry
    figures: Sequence[Figure]
    results: Sequence[Figure]
    comparison: Comparison | None
    picture: Picture | None

    @property
    def item(self) -> Item:
        """The item that fails."""
        return self.entry.item

    @property
    def failure(self) -> Failure:
        """How it fails."""
        return self.entry.failure

    @property
    def number(self) -> int:
        """Which of the item's failures it is."""
        return 1 + self.item.failures.index(self.failure)

    @property
    def label(self) -> str:
        """The item, and which of its failures this is, if not the first."""
        title = sentences.title(self.item)
        return title if self.number == 1 else f"{title}, failure {self.number}"

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


def html(report: Report, layers: Sequence[Layer]) -> str:
    """The page of a run; `layers` draw what they know of their failures."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = typeset
    environment.filters["picture"] = Markup
    entries = sentences.entries(report)
    links = _links(entries)
    parts = list(dict.fromkeys(item.part for item in report.items))
    articles = [_article(entry, links[entry.failure], layers) for entry in entries]
    return environment.get_template("page.html.jinja").render(
        report=report,
        sentences=sentences,
        articles=articles,
        styles=dict.fromkeys(article.picture.style for article in articles if article.picture is not None),
        parts=[(part, _dtypes(report, part)) for part in parts],
        rows=_rows(report, parts, entries, links),
        skipped=[
            (sentences.title(item), item.reason or "no case was judged")
            for item in report.items
            if item.outcome == "skipped"
        ],
        cells=[(part, *_coverage(counts)) for part, counts in report.cells.items()],
    )


def _links(entries: Sequence[Entry]) -> dict[Failure, str]:
    """The id of each failure's article."""
    found: dict[Failure, str] = {}
    for item, failure, _ in entries:
        stem = re.sub("[^a-z0-9]+", "-", sentences.title(item).lower()).strip("-")
        name, more = stem, 1
        while name in found.values():
            more += 1
            name = f"{stem}-{more}"
        found[failure] = name
    return found


def _dtypes(report: Report, part: str) -> list[str]:
    return list(dict.fromkeys(item.dtype for item in report.items if item.part == part))


def _rows(
    report: Report, parts: Sequence[str], entries: Sequence[Entry], links: Mapping[Failure, str]
) -> list[tuple[str, list[Result | None]]]:
    """A row for each check, with a cell for each part and dtype, None where there is no such item."""
    link = {item: links[failure] for item, failure, _ in reversed(entries)}
    for _, failure, alike in entries:
        link |= {item: links[failure] for item, _ in alike if item not in link}
    results = {
        (item.check, item.part, item.dtype): Result(item.outcome, *MARKS[item.outcome], item.examples, link.get(item))
        for item in report.items
    }
    columns = [(part, dtype) for part in parts for dtype in _dtypes(report, part)]
    return [(check, [results.get((check, *column)) for column in columns]) for check in _checks(report.items)]


def _checks(items: Sequence[Item]) -> list[str]:
    """Every check; what only one part has stands before the next that it shares with another."""
    merged: list[str] = []
    for part in dict.fromkeys(item.part for item in items):
        before = len(merged)
        for check in reversed(dict.fromkeys(item.check for item in items if item.part == part)):
            if check not in merged:
                merged.insert(before, check)
            before = merged.index(check)
    return merged


Counts = list[tuple[str, int]]


def _coverage(counts: Mapping[str, int]) -> tuple[Counts, list[tuple[str, Counts]], str]:
    """A part's conditions, the layouts in memory of each array, and all in a sentence."""
    conditions = [(name, count) for name, count in counts.items() if ": " not in name]
    layouts: dict[str, Counts] = {}
    for name, count in counts.items():
        array, colon, layout = name.partition(": ")
        if colon:
            layouts.setdefault(array, []).append((layout, count))
    return conditions, list(layouts.items()), sentences.conditions_met(counts)


def _article(entry: Entry, identifier: str, layers: Sequence[Layer]) -> Article:
    item, failure = entry.item, entry.failure
    tensor = failure.tensor or item.check
    comparison = compare(failure, tensor)
    pair = zip(failure.columns, (failure.expected, failure.got), strict=True)
    results = (
        []
        if comparison or not failure.compares
        else [_figure(f"{tensor} {word}", array, None, tensor, failure) for word, array in pair]
    )
    figures = [
        _figure(name, array, failure.shapes[name], name, failure)
        for name, array in failure.arrays.items()
        if name not in failure.unread
    ]
    return Article(identifier, entry, figures, results, comparison, _picture(entry, identifier, comparison, layers))


def _picture(entry: Entry, identifier: str, comparison: Comparison | None, layers: Sequence[Layer]) -> Picture | None:
    """What the layer draws, if it is here."""
    item, failure = entry.item, entry.failure
    case = PicturedCase(
        failure.tensor or item.check,
        comparison.first if comparison else None,
        failure.options,
        failure.shapes,
        failure.arrays,
        failure.expected,
        failure.orders,
        identifier,
    )
    return next((layer.picture(case) for layer in layers if layer.name == item.layer), None)


def _figure(name: str, array: Array | None, shape: Sequence[int] | None, tensor: str, failure: Failure) -> Figure:
    if array is None:
        note = "None" if shape is None else "too large to be shown; the reproduction has its numbers"
        return Figure(name, "" if shape is None else _shape(shape), (), note)
    if not array.size:
        return Figure(name, _shape(array.shape), (), "empty")
    if array.size > MOST_SHOWN:
        return Figure(name, _shape(array.shape), (), "too large to be shown here; the JSON report has its numbers")
    return Figure(name, _shape(array.shape), planes(array, tensor, failure), None)


def _shape(shape: Sequence[int]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape)) if len(shape) else "a number"
