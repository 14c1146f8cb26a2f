"""Arrays in the terminal: small ones whole, in labelled slices, large ones in words or as an excerpt.

A label is what NumPy calls that part: x[0, 0, :, 0] is a row of numbers, x[0, 1] one channel of an image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product

import numpy as np
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from backproof.conformance.reporting.numbers import number, telling_digits
from backproof.conformance.reporting.record import Failure, Item
from backproof.conformance.reporting.styled import CONSOLE, MARGIN, QUIET, RIGHT, WRONG, paragraph, rendered
from backproof.conformance.spec.case import Array, first_where

#: Arrays of more elements are not shown whole.
MOST_SHOWN = 64
#: The lines that one array may take, all arrays of a case together, and two that are compared.
MOST_LINES = 8
MOST_LINES_OF_ALL = 14
MOST_LINES_COMPARED = 12
#: Larger arrays with one value alone are shown in words.
MOST_CONSTANT = 8
#: So many entries that are not as the others are named one by one.
MOST_NAMED = 3
#: The rows and columns of an excerpt.
EXCERPT = (5, 8)

Index = tuple[int | slice, ...]


def case_lines(arrays: Mapping[str, Array], width: int) -> list[Text]:
    """The arrays of a case, one below the other, their shapes beside them; the longest in words if there are many."""
    shown = _drawn(arrays, arrays, width)
    for name in sorted(shown, key=lambda name: -len(shown[name])):
        if len(shown[name]) > MOST_LINES or sum(map(len, shown.values())) > MOST_LINES_OF_ALL:
            shown[name] = []
    whole = [name for name, lines in shown.items() if lines]
    column = _column(arrays, whole)
    shown |= _drawn(arrays, whole, width)
    shapes = {name: f"shape {array.shape}" for name, array in arrays.items()}
    ends = [len(lines[0]) + 3 for lines in shown.values() if lines]
    beside = max((end for end in ends if end + max(map(len, shapes.values())) <= width), default=0)
    found: list[Text] = []
    for name, array in arrays.items():
        if not shown[name]:
            begin = Text(f"{' ' * MARGIN}{name:<{column}} = ")
            words = f"array of shape {array.shape}, {in_words(name, array)}"
            found += paragraph(words, width, first=begin, indent=len(begin))
            continue
        first, *rest = shown[name]
        shape = (shapes[name], QUIET) if len(first) + 3 <= beside else ""
        found += [Text.assemble(first.ljust(beside), shape), *map(Text, rest)]
    return found


def _column(arrays: Mapping[str, Array], whole: Collection[str]) -> int:
    """How long the names and labels are of arrays of which these are shown whole."""
    first = {name: _label(name, _slices(arrays[name].shape)[0]) for name in whole if arrays[name].size}
    return max((len(first.get(name, name)) for name in arrays), default=0)


def _drawn(arrays: Mapping[str, Array], whole: Collection[str], width: int) -> dict[str, list[str]]:
    column = _column(arrays, whole)
    return {name: _drawn_whole(name, arrays[name], column, width) for name in whole}


def _drawn_whole(name: str, array: Array, column: int, width: int) -> list[str]:
    """A small array in its slices, as many side by side as there is room for; none where words are better."""
    if array.size == 0 or array.size > MOST_SHOWN:
        return []
    if array.size > MOST_CONSTANT and bool((array == array.flat[0]).all()):
        return []
    wide = max(len(number(v)) for v in array.flat)
    slices = [
        (_label(name, index), ["".join(f"  {number(v):>{wide}}" for v in row)[1:] for row in _rows(array, index)])
        for index in _slices(array.shape)
    ]
    size = max(len(label) + 2 + len(rows[0]) for label, rows in slices)
    # The first label of a line is filled up to the column, so that all arrays have their numbers below each other.
    room = width - MARGIN - max(0, column - min(len(label) for label, _ in slices))
    if size > room:
        return []
    beside = max(1, (room + 4) // (size + 4))
    lines = []
    for k in range(0, len(slices), beside):
        parts: list[list[str]] = []
        for label, rows in slices[k : k + beside]:
            begin = f"{label:<{len(label) if parts else column}} ="
            parts.append([begin + rows[0], *(" " * len(begin) + row for row in rows[1:])])
        lines += [" " * MARGIN + "    ".join(row) for row in zip(*parts, strict=True)]
    return lines


def compared_lines(item: Item, failure: Failure, width: int) -> list[Text]:
    """The two arrays that should be equal, where they say more than the sentence; wrong entries have a star."""
    expected, got, wrong = failure.expected, failure.got, failure.wrong
    if not failure.compares or expected is None or got is None or expected.ndim == 0:
        return []
    name = failure.tensor or item.check
    if wrong is None:
        return _apart(name, expected, got, failure.columns, width)
    return _slice_by_slice(name, expected, got, wrong, failure.columns, width) if wrong.any() else []


def _slice_by_slice(
    name: str, expected: Array, got: Array, wrong: Array, columns: tuple[str, str], width: int
) -> list[Text]:
    """The slices that differ, as many as there is room for; of a large array an excerpt round the first of them."""
    digits = telling_digits(expected[wrong].tolist()[:MOST_SHOWN], got[wrong].tolist()[:MOST_SHOWN])
    numbers = [v for a in (expected, got) for v in a.ravel()[: 10 * MOST_SHOWN].tolist()]
    each = max((len(number(v, digits)) for v in numbers), default=1) + 2
    label = MARGIN * (2 if got.size > 1 else 1)
    taken = label + len(_label(name, _excerpt(wrong, 1))) + 4 + max(map(len, columns))
    room = max(1, (width - taken) // each)
    every = _slices(got.shape)
    parts = [index for index in every if wrong[index].any()]
    left_out = ""
    if got.size > MOST_SHOWN or _rows(got, every[0]).shape[1] > room:
        parts, left_out = [_excerpt(wrong, room)], "; an excerpt"
    elif len(every) - len(parts) > 1:
        left_out = f"; the {len(every) - len(parts)} other slices are right"
    lines: list[Text] = []
    for count, index in enumerate(parts):
        arrays = [(words, _rows(a, index)) for words, a in zip(columns, (expected, got), strict=True)]
        block = _side_by_side(_label(name, index), arrays, _rows(wrong, index), digits, width - label)
        if lines and len(lines) + len(block) > MOST_LINES_COMPARED:
            left_out = f"; the first {count} of {len(parts)} slices that differ"
            break
        lines += [Text.assemble(" " * label, line) for line in block]
    if got.size == 1:
        return lines
    head = f"{name}, shape {got.shape}, * where wrong{left_out}:"
    return [*paragraph(head, width, QUIET, Text(" " * MARGIN), MARGIN + 2), *lines]


def _side_by_side(label: str, arrays: Sequence[tuple[str, Array]], wrong: Array, digits: int, width: int) -> list[Text]:
    """A part of two arrays, side by side where they have several rows and there is room, else below each other."""
    wide = max(len(number(v, digits)) for _, rows in arrays for v in rows.flat)
    tables = []
    for (words, rows), style, mark in zip(arrays, (RIGHT, WRONG), " *", strict=True):
        cells = [
            Text(" ").join(
                Text(f"{number(v, digits):>{wide}}{mark if bad else ' '}", style if bad else "")
                for v, bad in zip(row, marks, strict=True)
            )
            for row, marks in zip(rows, wrong, strict=True)
        ]
        tables.append((Text(words, QUIET), Text("\n").join(cells)))
    beside, below = Table.grid(padding=(0, 1)), Table.grid(padding=(0, 1))
    (one, left), (two, right) = tables
    beside.add_row(Text(f"{label} "), one, left, Text(" ") + two, right)
    below.add_row(Text(f"{label} "), one, left)
    below.add_row("", two, right)
    fits = wrong.shape[0] > 1 and Measurement.get(CONSOLE, CONSOLE.options, beside).maximum <= width
    return rendered(beside if fits else below, max(width, Measurement.get(CONSOLE, CONSOLE.options, below).maximum))


def _apart(name: str, expected: Array, got: Array, columns: tuple[str, str], width: int) -> list[Text]:
    """Two arrays of different shapes, each by itself."""
    found: list[Text] = []
    size = max(map(len, columns)) + 2
    for words, array in zip(columns, (expected, got), strict=True):
        label = _label(name, _slices(array.shape)[0]) if array.size else name
        lines = [line[MARGIN:] for line in _drawn_whole(name, array, len(label), width - size)]
        if not 0 < len(lines) <= MOST_LINES:
            lines = [f"{name} = {in_words(name, array)}"]
        shape = f"   shape {array.shape}"
        beside = MARGIN + size + len(lines[0]) + len(shape) <= width
        begin = (f"{' ' * MARGIN}{words:<{size}}", QUIET)
        found.append(Text.assemble(begin, lines[0], (shape if beside else "", QUIET)))
        found += [Text(" " * (MARGIN + size) + line) for line in lines[1:]]
    return found


def in_words(name: str, array: Array) -> str:
    """An array in a few words: all 0 but x[0, 3] = 1."""
    if array.size == 0:
        return "empty"
    values, counts = np.unique(array, return_counts=True)
    usual = values[int(np.argmax(counts))]
    others = np.argwhere(array != usual)
    if len(others) <= MOST_NAMED:
        named = [f"{_label(name, tuple(map(int, k)))} = {number(array[tuple(k)])}" for k in others]
        return f"all {number(usual)}" + (f" but {', '.join(named)}" if named else "")
    finite = array[np.isfinite(array)]
    what = "integers" if bool((np.rint(array) == array).all()) else "numbers"
    return f"{what} from {number(finite.min())} to {number(finite.max())}" if finite.size else "no finite number in it"


def _slices(shape: Sequence[int]) -> list[Index]:
    """The parts in which an array is drawn: its last two axes of more than one entry are rows and columns."""
    drawn = [axis for axis, size in enumerate(shape) if size > 1][-2:]
    choices: list[Sequence[int | slice]] = [
        [slice(None)] if axis in drawn else range(size) for axis, size in enumerate(shape)
    ]
    return list(product(*choices))


def _rows(array: Array, index: Index) -> Array:
    """A part as a table."""
    return np.atleast_2d(array[index])


def _label(name: str, index: Index) -> str:
    """The name of a part, as in x[0, 1, 2:7]; whole axes at the end are left out."""
    words = [_part(k) for k in index]
    while words and words[-1] == ":":
        words.pop()
    return f"{name}[{', '.join(words)}]" if words else name


def _part(k: int | slice) -> str:
    if not isinstance(k, slice):
        return str(k)
    return ":" if k == slice(None) else f"{k.start}:{k.stop}"


def _excerpt(wrong: Array, columns: int) -> Index:
    """The part round the first wrong entry."""
    first = first_where(wrong)
    index: list[int | slice] = list(first)
    long = [axis for axis, size in enumerate(wrong.shape) if size > 1][-2:]
    for axis, most in zip(reversed(long), reversed(EXCERPT), strict=False):
        room = min(most, columns) if axis == long[-1] else most
        low = max(0, min(first[axis] - room // 2, wrong.shape[axis] - room))
        index[axis] = slice(low, min(low + room, wrong.shape[axis]))
    return tuple(index)
