"""The windows of a failing case, drawn: what the wrong entry has to do with which pixels and outputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from backproof.conformance.reporting.numbers import MINUS, typeset
from backproof.conformance.spec.case import Array
from backproof.conformance.spec.picture import Drawing, Picture, PicturedCase
from backproof.reference.pictures.windows import Axis, Position, Windows, windows

#: More cells along one axis are drawn without their numbers, and many more not at all.
MOST_NUMBERED = 16
MOST_DRAWN = 48
#: Slices of a volume that are drawn side by side.
MOST_SLICES = 6
#: Outputs or taps that are named in words.
MOST_NAMED = 6
#: A cell's width and height with its number and without, and the room for the numbers of rows and columns.
NUMBERED, PLAIN, MARGIN = (38, 28), (14, 14), 26
#: The corner that marks what is left over.
CORNER = 8
#: The longest number that fits into a cell.
LONGEST = 5
TITLE = "The windows"


#: What each mark means; of "tap" the picture says it.
LEGEND: Mapping[str, str] = {
    "wrong": "the wrong entry",
    "tap": "",
    "pixel": "pixel of x",
    "output": "output",
    "pad": "padding",
    "left": "left over behind the last window",
}
#: How the marks look, in the colours of the page.
STYLE = """
.grid { display: block; }
svg.swatch { display: inline-block; }
.grid text { font-size: 11px; text-anchor: middle; fill: var(--ink); }
.grid .index { fill: var(--quiet); font-size: 10.5px; }
.grid .row { text-anchor: end; }
.cell rect { fill: none; stroke: var(--rule); stroke-width: 1; }
.cell.pixel rect, .cell.output rect { fill: var(--raised); stroke: var(--quiet); }
.cell.pad rect { stroke: var(--quiet); stroke-dasharray: 2 3; }
.cell.pad text { fill: var(--quiet); }
.cell.tap rect { fill: var(--tint); stroke: var(--accent); stroke-width: 1.5; stroke-dasharray: none; }
.cell.tap text { fill: var(--ink); }
.cell.wrong rect { fill: var(--tint); stroke: var(--accent); stroke-width: 3.5; stroke-dasharray: none; }
.cell.wrong text { font-weight: 700; }
.cell path { fill: var(--quiet); }
@media (forced-colors: active) {
  .cell rect { stroke: CanvasText; fill: Canvas; }
  .cell text { fill: CanvasText; }
  .cell.tap rect, .cell.wrong rect { stroke: Highlight; }
}
"""


@dataclass(frozen=True)
class _Focus:
    """What is marked: positions of x and outputs, and which entry of which is the wrong one."""

    sentences: tuple[str, ...]
    meaning: str
    read: frozenset[Position]
    outputs: frozenset[Position]
    wrong_pixel: Position | None = None
    wrong_output: Position | None = None
    sample: int = 0
    channel: int = 0
    filter: int = 0


def picture(case: PicturedCase) -> Picture | None:
    """The windows around the first wrong entry of a tensor, or the first window where no entry is known.

    None where the case has no windows.
    """
    geometry = windows(case)
    if geometry is None:
        return None
    focus = _focus(geometry, case.tensor, case.first)
    if max(len(axis.positions) for axis in geometry.axes) > MOST_DRAWN:
        return Picture(TITLE, (*focus.sentences, "The image is too large to be drawn here."), ())
    depth = geometry.axes[0]
    shown = focus.read if focus.wrong_pixel is None else {*focus.read, focus.wrong_pixel}
    pixels = sorted({position[0] for position in shown})
    outputs = sorted({position[0] for position in focus.outputs} or {0})
    beside = "out" if case.tensor == "out" else "dout"
    values = case.expected if case.tensor == "out" else case.arrays.get("dout")
    padded = any(axis.low or axis.high for axis in geometry.axes)
    drawings, marks = list[Drawing](), set[str]()
    for k, at in enumerate(pixels[:MOST_SLICES]):
        caption = _caption("x", "with its padding" if padded else "", geometry, focus.sample, focus.channel, at)
        cells = _input(geometry, focus, case.arrays["x"], at)
        drawings.append(_grid(geometry, cells, caption, f"{case.identifier}-x{k}"))
        marks |= {mark for cell in cells for mark in cell.marks}
    for k, at in enumerate(outputs[:MOST_SLICES]):
        caption = _caption(beside, "", geometry, focus.sample, focus.filter, at)
        cells = _output(geometry, focus, values, at)
        drawings.append(_grid(geometry, cells, caption, f"{case.identifier}-o{k}"))
        marks |= {mark for cell in cells for mark in cell.marks}
    left = sum(map(len, (axis.left_over for axis in geometry.axes)))
    sentences = focus.sentences if not left else (*focus.sentences, _left_over(geometry.axes))
    if len(pixels) > MOST_SLICES or len(outputs) > MOST_SLICES:
        sentences = (*sentences, f"Of the slices along {depth.name} the first {MOST_SLICES} are drawn.")
    legend = [(_swatch(name), words or focus.meaning) for name, words in LEGEND.items() if name in marks]
    return Picture(TITLE, sentences, tuple(drawings), tuple(legend), STYLE)


def _focus(geometry: Windows, tensor: str, first: Sequence[int] | None) -> _Focus:
    rank = geometry.rank
    if first is not None and tensor == "dx" and len(first) == rank + 2:
        return _of_pixel(geometry, first)
    if first is not None and tensor == "dw" and len(first) == rank + 2:
        return _of_tap(geometry, first)
    known = first is not None and tensor == "out" and len(first) == rank + 2
    output = geometry.spatial(first) if known and first is not None else (0, 0, 0)
    known = known and all(k < n for k, n in zip(output, geometry.outputs, strict=True))
    read = frozenset(itertools.product(*(axis.taps(k) for axis, k in zip(geometry.axes, output, strict=True))))
    ranges = "; ".join(
        f"{axis.name} = {_listed(axis.taps(k))}" for axis, k in zip(geometry.axes, output, strict=True) if axis.name
    )
    named = (
        f"out{_at(first)}" if known and first is not None else f"The first window, that of output {_own(output, rank)},"
    )
    sentence = f"{named} reads x at {ranges}{_below(read)}."
    meaning = "this output and what it reads"
    if known and first is not None:
        filter_ = geometry.channel(first)
        group = geometry.first_channel(filter_)
        return _Focus((sentence,), meaning, read, frozenset({output}), None, output, first[0], group, filter_)
    return _Focus((sentence,), meaning, read, frozenset({output}))


def _of_pixel(geometry: Windows, first: Sequence[int]) -> _Focus:
    pixel, channel = geometry.spatial(first), geometry.channel(first)
    reaching = geometry.reaching(pixel)
    rank = geometry.rank
    if reaching:
        parts = [f"output {_own(output, rank)} by tap {_own(tap, rank)}" for output, tap, _ in reaching]
        terms = "one term" if len(reaching) == 1 else f"{len(reaching)} terms"
        sentence = f"x{_at(first)} is read for {_joined(parts)}, so dx{_at(first)} has {terms} a filter of its group."
    else:
        sentence = f"No window reads x{_at(first)}, so dx{_at(first)} must be 0."
    return _Focus(
        (sentence,),
        "where an output reads this pixel",
        frozenset(position for _, _, position in reaching),
        frozenset(output for output, _, _ in reaching),
        pixel,
        None,
        first[0],
        channel,
        geometry.first_filter(channel),
    )


def _of_tap(geometry: Windows, first: Sequence[int]) -> _Focus:
    tap = geometry.filter(first)
    outputs = list(itertools.product(*map(range, geometry.outputs)))
    read = frozenset(
        tuple(axis.taps(k)[t] for axis, k, t in zip(geometry.axes, output, tap, strict=True)) for output in outputs
    )
    pixels = "; ".join(
        f"{axis.name} = {_listed([axis.taps(k)[t] for k in range(axis.outputs)])}"
        for axis, t in zip(geometry.axes, tap, strict=True)
        if axis.name
    )
    terms = "one term" if len(outputs) == 1 else f"{len(outputs)} terms"
    sentence = (
        f"Tap {_own(tap, geometry.rank)} reads x at {pixels}{_below(read)}: dw{_at(first)} has {terms} in every sample."
    )
    channel = geometry.first_channel(first[0]) + first[1]
    return _Focus(
        (sentence,),
        "what this tap reads, and for which output",
        read,
        frozenset(outputs),
        channel=channel,
        filter=first[0],
    )


def _at(index: Sequence[int]) -> str:
    return f"[{', '.join(map(str, index))}]"


def _own(position: Sequence[int], rank: int) -> str:
    own = position[3 - rank :]
    return str(own[0]) if rank == 1 else f"({', '.join(map(str, own))})"


def _listed(values: Sequence[int]) -> str:
    if len(values) <= MOST_NAMED:
        return ", ".join(str(value).replace("-", MINUS) for value in values)
    return _listed([*values[:2]]) + f", … {values[-1]}"


def _below(read: Iterable[Position]) -> str:
    return " (below 0 is padding)" if any(k < 0 for position in read for k in position) else ""


def _joined(parts: Sequence[str]) -> str:
    if len(parts) > MOST_NAMED:
        return f"{', '.join(parts[:MOST_NAMED])} and {len(parts) - MOST_NAMED} more"
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _left_over(axes: Iterable[Axis]) -> str:
    parts = [f"{axis.name} = {_listed(list(axis.left_over))}" for axis in axes if len(axis.left_over)]
    return f"Behind the last window is left over: {'; '.join(parts)}."


def _caption(name: str, more: str, geometry: Windows, sample: int, channel: int, depth: int) -> str:
    parts = [f"n = {sample}", f"c = {channel}"] + ([f"d = {depth}"] if geometry.rank == 3 else [])
    return f"{name}{' ' * bool(more)}{more}, {', '.join(parts)}"


@dataclass(frozen=True)
class _Cell:
    """An entry of a slice: its row and column, its marks and its number, None where it is not known."""

    row: int
    column: int
    marks: frozenset[str]
    value: float | None


def _input(geometry: Windows, focus: _Focus, x: Array | None, depth: int) -> list[_Cell]:
    _, height, width = geometry.axes
    cells = []
    for i, j in itertools.product(height.positions, width.positions):
        at = (depth, i, j)
        shows = tuple(axis.pixels[k] for axis, k in zip(geometry.axes, at, strict=True))
        inside = all(0 <= k < axis.size for axis, k in zip(geometry.axes, at, strict=True))
        marks = {"pixel" if inside else "pad"}
        marks |= {"tap"} if at in focus.read else set()
        marks |= {"wrong"} if at == focus.wrong_pixel else set()
        if any(k in axis.left_over for axis, k in zip(geometry.axes, at, strict=True)):
            marks.add("left")
        value = 0.0 if None in shows else None
        if value is None and x is not None:
            value = float(x[geometry.image(focus.sample, focus.channel, tuple(k for k in shows if k is not None))])
        cells.append(_Cell(i, j, frozenset(marks), value))
    return cells


def _output(geometry: Windows, focus: _Focus, values: Array | None, depth: int) -> list[_Cell]:
    _, rows, columns = geometry.outputs
    cells = []
    for i, j in itertools.product(range(rows), range(columns)):
        at = (depth, i, j)
        marks = {"output"} | ({"tap"} if at in focus.outputs else set())
        marks |= {"wrong"} if at == focus.wrong_output else set()
        index = geometry.image(focus.sample, focus.filter, at)
        there = (
            values is not None
            and values.ndim == len(index)
            and all(k < n for k, n in zip(index, values.shape, strict=True))
        )
        cells.append(_Cell(i, j, frozenset(marks), float(values[index]) if there and values is not None else None))
    return cells


def _grid(geometry: Windows, cells: Sequence[_Cell], caption: str, identifier: str) -> Drawing:
    _, height, width = geometry.axes
    rows = range(cells[0].row, cells[-1].row + 1)
    columns = range(cells[0].column, cells[-1].column + 1)
    numbered = max(len(rows), len(columns)) <= MOST_NUMBERED
    wide, high = NUMBERED if numbered else PLAIN
    top = MARGIN if width.name else 4
    left = MARGIN if height.name else 4
    whole = (left + wide * len(columns) + 4, top + high * len(rows) + 4)
    svg = Element("svg", {
        "class": "grid", "role": "img", "viewBox": f"0 0 {whole[0]} {whole[1]}", "width": str(whole[0]),
        "height": str(whole[1]), "aria-labelledby": f"{identifier}-title {identifier}-desc",
    })  # fmt: skip
    SubElement(svg, "title", {"id": f"{identifier}-title"}).text = caption
    SubElement(svg, "desc", {"id": f"{identifier}-desc"}).text = _described(cells, height, width)
    step = 1 if numbered else 5
    for axis, span, size, start in ((width, columns, wide, left), (height, rows, high, top)):
        for k, at in enumerate(span if axis.name else ()):
            if at % step == 0:
                middle = start + size * k + size / 2
                x, y = (middle, top - 8) if axis is width else (left - 6, middle + 4)
                place = {"x": f"{x:g}", "y": f"{y:g}", "class": f"index {'column' if axis is width else 'row'}"}
                SubElement(svg, "text", place).text = str(at).replace("-", MINUS)
    # Marked cells last, so that their outlines lie above those of their neighbours.
    for cell in sorted(cells, key=lambda cell: ("tap" in cell.marks) + 2 * ("wrong" in cell.marks)):
        x, y = left + wide * (cell.column - columns.start), top + high * (cell.row - rows.start)
        group = _marked(svg, cell.marks, x, y, wide, high)
        text = None if cell.value is None else typeset(cell.value, 3)
        if numbered and text is not None and len(text) <= LONGEST:
            SubElement(group, "text", {"x": f"{x + wide / 2:g}", "y": f"{y + high / 2 + 4:g}"}).text = text
    return Drawing(tostring(svg, encoding="unicode"), caption)


def _marked(svg: Element, marks: Iterable[str], x: int, y: int, wide: int, high: int) -> Element:
    """A cell with its marks."""
    group = SubElement(svg, "g", {"class": " ".join(["cell", *sorted(marks)])})
    SubElement(group, "rect", {"x": f"{x}", "y": f"{y}", "width": f"{wide}", "height": f"{high}"})
    if "left" in marks:
        SubElement(group, "path", {"d": f"M{x} {y}h{CORNER}l-{CORNER} {CORNER}z"})
    return group


def _swatch(mark: str) -> str:
    """A cell for the legend."""
    svg = Element("svg", {
        "class": "grid swatch", "width": "18", "height": "14", "viewBox": "-2 -2 22 18", "aria-hidden": "true",
        "focusable": "false",
    })  # fmt: skip
    _marked(svg, [mark], 0, 0, 18, 14)
    return tostring(svg, encoding="unicode")


def _described(cells: Sequence[_Cell], height: Axis, width: Axis) -> str:
    marked = [cell for cell in cells if "tap" in cell.marks]
    wrong = [cell for cell in cells if "wrong" in cell.marks]

    def named(places: Sequence[_Cell]) -> str:
        names = [str(cell.column) if not height.name else f"({cell.row}, {cell.column})" for cell in places]
        return _joined(names) if names else "none"

    what = f"{width.name} position" if not height.name else "row and column"
    first = f" The wrong entry is at {named(wrong)}." if wrong else ""
    return f"{len(cells)} cells by {what}. Marked: {named(marked)}.{first}"
