"""Arrays as a reader takes them in: small ones whole, in labelled slices, large ones in words or as an excerpt.

A label is what NumPy calls that part: x[0, 0, :, 0] is a row of numbers, x[0, 1] one channel of an image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from backproof.conformance.reporting.styled import MARGIN, Line, Paragraph, Span
from backproof.conformance.spec.case import Array, first_where

#: Arrays of more elements are not shown whole.
MOST_SHOWN = 64
#: The lines that one array may take, all arrays of a case together, and two that are compared.
MOST_LINES = 8
MOST_LINES_OF_ALL = 14
MOST_LINES_COMPARED = 12
#: Arrays of more elements with one value alone are told in words.
MOST_CONSTANT = 8
#: So many entries that are not as the others are named one by one.
MOST_NAMED = 3
#: The rows and columns of an excerpt.
EXCERPT = (5, 8)
#: Digits that are tried, one after the other, until two numbers that differ look different.
DIGITS = (6, 9, 12, 17)
#: Integers up to this one are written out.
LARGEST = 10**9
#: Without a bound, so many roundings of the largest entry are no error.
ROUNDINGS = 16

Index = tuple[int | slice, ...]
#: What stands before the numbers of two arrays that are compared.
Columns = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Arrays:
    """The arrays of a case, one below the other, their shapes beside them."""

    arrays: Mapping[str, Array]

    def lines(self, width: int) -> Sequence[Line]:
        """All arrays; where they take too much room the longest are told in words."""
        shown = self._drawn(width - MARGIN, self.arrays)
        for name in sorted(shown, key=lambda name: -len(shown[name])):
            if len(shown[name]) > MOST_LINES or sum(map(len, shown.values())) > MOST_LINES_OF_ALL:
                shown[name] = []
        whole = [name for name, lines in shown.items() if lines]
        column = self._column(whole)
        shown |= self._drawn(width - MARGIN, whole)
        shapes = {name: f"shape {array.shape}" for name, array in self.arrays.items()}
        ends = [MARGIN + len(lines[0]) + 3 for lines in shown.values() if lines]
        beside = max((end for end in ends if end + max(map(len, shapes.values())) <= width), default=0)
        found: list[Line] = []
        for name, array in self.arrays.items():
            if not shown[name]:
                told = f"array of shape {array.shape}, {in_words(name, array)}"
                found += Paragraph(told, "", (f"{' ' * MARGIN}{name:<{column}} = ", ""), MARGIN + column + 3).lines(
                    width
                )
                continue
            first, *rest = [" " * MARGIN + line for line in shown[name]]
            shape: Span = (shapes[name], "quiet")
            found.append(((f"{first:<{beside}}", ""), shape) if len(first) + 3 <= beside else ((first, ""),))
            found += [((line, ""),) for line in rest]
        return found

    def _column(self, whole: Collection[str]) -> int:
        """How long the names and labels are of arrays of which these are shown whole."""
        first = {name: _label(name, _slices(self.arrays[name].shape)[0]) for name in whole if self.arrays[name].size}
        return max((len(first.get(name, name)) for name in self.arrays), default=0)

    def _drawn(self, width: int, whole: Collection[str]) -> dict[str, list[str]]:
        column = self._column(whole)
        return {name: _whole(name, self.arrays[name], column, width) for name in whole}


@dataclass(frozen=True, eq=False)
class Compared:
    """Two arrays that should be equal; entries that are not have a star. `wrong` is None where the shapes differ."""

    name: str
    expected: Array
    got: Array
    wrong: Array | None
    columns: Columns = ("expected", "got")

    def lines(self, width: int) -> Sequence[Line]:
        """The slices that differ, the two arrays below each other, or side by side where each has several rows."""
        if self.wrong is None:
            return self._apart(width)
        digits = _digits(self.expected, self.got, self.wrong)
        shown, told = self._parts(width, digits)
        lines: list[Line] = []
        for count, index in enumerate(shown):
            block = self._block(index, digits, width)
            if lines and len(lines) + len(block) > MOST_LINES_COMPARED:
                told = f"the first {count} of {len(shown)} slices that differ"
                break
            lines += block
        if self.got.size == 1:
            return lines
        head = f"{self.name}, shape {self.got.shape}, * where wrong{f'; {told}' if told else ''}:"
        return [*Paragraph(head, "quiet", (" " * MARGIN, ""), MARGIN + 2).lines(width), *lines]

    def _parts(self, width: int, digits: int) -> tuple[list[Index], str]:
        """The slices with wrong entries; of a large array an excerpt round the first of them."""
        assert self.wrong is not None
        numbers = [v for a in (self.expected, self.got) for v in a.ravel()[: 10 * MOST_SHOWN].tolist()]
        each = max((len(number(v, digits)) for v in numbers), default=1) + 2
        every = _slices(self.got.shape)
        taken = len(f"{_label(self.name, _excerpt(self.wrong, 1))}  ") + MARGIN + 3 + max(map(len, self.columns))
        room = max(1, (width - taken) // each)
        wrong = [index for index in every if self.wrong[index].any()]
        if self.got.size <= MOST_SHOWN and _rows(self.got, every[0]).shape[1] <= room:
            right = len(every) - len(wrong)
            return wrong, f"the {right} other slices are right" if right > 1 else ""
        return [_excerpt(self.wrong, room)], "an excerpt"

    def _block(self, index: Index, digits: int, width: int) -> list[Line]:
        """One part of both arrays."""
        assert self.wrong is not None
        wrong = _rows(self.wrong, index).tolist()
        tables = [[[number(v, digits) for v in row] for row in _rows(a, index)] for a in (self.expected, self.got)]
        wide = max(len(cell) for table in tables for row in table for cell in row)
        expected = [_marked(row, bad, wide, "right", " ") for row, bad in zip(tables[0], wrong, strict=True)]
        got = [_marked(row, bad, wide, "wrong", "*") for row, bad in zip(tables[1], wrong, strict=True)]
        label = f"{' ' * (MARGIN + 2 * (self.got.size > 1))}{_label(self.name, index)}  "
        one, two = self.columns
        beside = len(label) + len(one) + len(two) + 2 + 2 * len(expected[0]) * (wide + 2) + 1
        if len(expected) == 1 or beside > width:
            size = max(len(one), len(two))
            return _behind(label, f"{one:<{size}}", expected) + _behind(" " * len(label), f"{two:<{size}}", got)
        left = _behind(label, one, expected)
        return [(*line, *more) for line, more in zip(left, _behind("  ", two, got), strict=True)]

    def _apart(self, width: int) -> Sequence[Line]:
        """Each by itself."""
        found: list[Line] = []
        size = max(map(len, self.columns)) + 2
        for words, array in zip(self.columns, (self.expected, self.got), strict=True):
            label = _label(self.name, _slices(array.shape)[0]) if array.size else self.name
            lines = _whole(self.name, array, len(label), width - MARGIN - size)
            if not 0 < len(lines) <= MOST_LINES:
                lines = [f"{self.name} = {in_words(self.name, array)}"]
            shape = f"   shape {array.shape}"
            beside = MARGIN + size + len(lines[0]) + len(shape) <= width
            begin: Span = (f"{' ' * MARGIN}{words:<{size}}", "quiet")
            found.append((begin, (lines[0], ""), (shape if beside else "", "quiet")))
            found += [((" " * (MARGIN + size), ""), (line, "")) for line in lines[1:]]
        return found


def _behind(label: str, words: str, rows: Sequence[Sequence[Span]]) -> list[Line]:
    """The rows of a table, the label and the words before the first of them."""
    gap = " " * len(label), " " * len(words)
    return [
        ((label if k == 0 else gap[0], ""), (words if k == 0 else gap[1], "quiet"), *row) for k, row in enumerate(rows)
    ]


def _marked(cells: Sequence[str], wrong: Sequence[bool], width: int, style: str, mark: str) -> list[Span]:
    return [
        (f" {cell:>{width}}{mark if bad else ' '}", style if bad else "")
        for cell, bad in zip(cells, wrong, strict=True)
    ]


def in_words(name: str, array: Array) -> str:
    """An array in a few words: all 0 but x[0, 3] = 1."""
    if array.size == 0:
        return "empty"
    values, counts = np.unique(array, return_counts=True)
    usual = values[int(np.argmax(counts))]
    others = np.argwhere(array != usual)
    if len(others) <= MOST_NAMED:
        told = [f"{_label(name, tuple(map(int, k)))} = {number(array[tuple(k)])}" for k in others]
        return f"all {number(usual)}" + (f" but {', '.join(told)}" if told else "")
    finite = array[np.isfinite(array)]
    what = "integers" if bool((np.rint(array) == array).all()) else "numbers"
    return f"{what} from {number(finite.min())} to {number(finite.max())}" if finite.size else "no finite number in it"


def wrong_entries(expected: Array, got: Array, bound: Array | float | None, roundoff: float) -> Array | None:
    """Which entries are wrong: further off than the bound, or, without one, than rounding; None: the shapes differ."""
    if expected.shape != got.shape:
        return None
    if bound is None:
        bound = ROUNDINGS * roundoff * float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    with np.errstate(all="ignore"):
        differ: Array = (got != expected) & ~(np.isnan(got) & np.isnan(expected))
        far: Array = differ & ~(np.abs(got - expected) <= bound)
    return far if far.any() else differ


def number(value: float, digits: int = DIGITS[0]) -> str:
    """A number as a reader writes it: integers without decimals."""
    value = float(value)
    return f"{int(value)}" if value.is_integer() and abs(value) < LARGEST else f"{value:.{digits}g}"


def _whole(name: str, array: Array, column: int, width: int) -> list[str]:
    """A small array in its slices, as many side by side as there is room for; none where it is told in words."""
    if array.size == 0 or array.size > MOST_SHOWN:
        return []
    if array.size > MOST_CONSTANT and bool((array == array.flat[0]).all()):
        return []
    wide = max(len(number(v)) for v in array.flat)
    tables = []
    for index in _slices(array.shape):
        rows = ["".join(f"  {number(v):>{wide}}" for v in row)[1:] for row in _rows(array, index)]
        tables.append((_label(name, index), rows))
    size = max(len(label) + 2 + len(rows[0]) for label, rows in tables)
    # The first label of a line is filled up to the column, so that all arrays have their numbers below each other.
    filled = max(0, column - min(len(label) for label, _ in tables))
    beside = max(1, (width - filled + 4) // (size + 4))
    if size + filled > width:
        return []
    lines = []
    for k in range(0, len(tables), beside):
        for j in range(len(tables[0][1])):
            told = [f"{label} =" if j == 0 else " " * (len(label) + 2) for label, _ in tables[k : k + beside]]
            told[0] = f"{tables[k][0] if j == 0 else '':<{column}} {'=' if j == 0 else ' '}"
            parts = zip(told, tables[k : k + beside], strict=True)
            lines.append("    ".join(start + rows[j] for start, (_, rows) in parts))
    return lines


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


def _digits(expected: Array, got: Array, wrong: Array) -> int:
    """As few digits as show every wrong entry to be another number."""
    pairs = list(zip(expected[wrong].tolist(), got[wrong].tolist(), strict=True))[:MOST_SHOWN]
    return next((d for d in DIGITS if all(number(e, d) != number(g, d) for e, g in pairs)), DIGITS[-1])
