"""Small arrays are shown whole, large ones in words, and what differs between two of them is marked."""

from __future__ import annotations

import re

import numpy as np
import pytest

from backproof.conformance.reporting.arrays import case_lines, compared_lines
from backproof.conformance.reporting.numbers import wrong_entries
from backproof.conformance.reporting.styled import plain
from tests import reports


def compared(expected: np.ndarray, got: np.ndarray) -> str:
    """Two results of the same shape, as a terminal of 100 columns has them."""
    found = reports.content(
        [reports.item("conv2d", "dx", failures=[reports.failure("dx", {}, {}, expected=expected, got=got)])]
    )
    return plain(compared_lines(found.items[0], found.items[0].failures[0], 100))


@pytest.mark.parametrize(
    "shape",
    [(), (1,), (7,), (2, 3), (1, 1, 3, 1), (2, 1, 1, 1), (1, 2, 3, 2), (2, 2, 2, 2), (2, 1, 2, 1, 3), (3, 1, 2)],
)
def test_a_label_is_what_numpy_calls_that_part(shape: tuple[int, ...]) -> None:
    x = np.arange(100, 100 + int(np.prod(shape)), dtype=float).reshape(shape)
    text = plain(case_lines({"x": x}, 200))
    parts = [eval(label, {"x": x}) for label in re.findall(r"(x(?:\[[^\]]*\])?) +=", text)]
    assert sorted(int(v) for part in parts for v in np.ravel(part)) == sorted(x.ravel().astype(int).tolist())
    assert sorted(map(int, re.findall(r"\b1\d\d\b", text))) == sorted(x.ravel().astype(int).tolist())
    assert [line for line in text.splitlines() if f"shape {shape}" in line]


def test_large_arrays_are_told_in_words() -> None:
    x, y = np.zeros((10, 10)), np.full((10, 10), 3.0)
    x[3, 4] = -1
    arrays = {"x": x, "y": y, "z": np.linspace(0, 1, 100), "e": np.zeros((0, 3))}
    assert plain(case_lines(arrays, 100)).splitlines() == [
        "  x = array of shape (10, 10), all 0 but x[3, 4] = -1",
        "  y = array of shape (10, 10), all 3",
        "  z = array of shape (100,), numbers from 0 to 1",
        "  e = array of shape (0, 3), empty",
    ]


def test_an_array_of_too_many_lines_is_told_in_words() -> None:
    arrays = {"x": np.arange(64.0).reshape(4, 4, 2, 2), "w": np.eye(3)}
    assert plain(case_lines(arrays, 70)).splitlines() == [
        "  x = array of shape (4, 4, 2, 2), integers from 0 to 63",
        "  w = 1  0  0   shape (3, 3)",
        "      0  1  0",
        "      0  0  1",
    ]


def test_no_array_takes_all_the_room() -> None:
    assert len(case_lines({"x": np.arange(16.0).reshape(8, 2)}, 80)) == 8
    assert len(case_lines({"x": np.arange(18.0).reshape(9, 2)}, 80)) == 1


def test_all_arrays_together_leave_room_for_the_rest() -> None:
    arrays = {name: np.arange(12.0).reshape(6, 2) + k for k, name in enumerate("abc")}
    lines = plain(case_lines(arrays, 80)).splitlines()
    assert len(lines) == 13
    assert sum("integers from" in line for line in lines) == 1


def test_an_excerpt_has_the_first_wrong_entry_in_it() -> None:
    for place in ((0, 0), (0, 39), (39, 0), (39, 39), (17, 23)):
        expected = np.zeros((40, 40))
        got = expected.copy()
        got[place] = 5
        text = compared(expected, got)
        (label,) = re.findall(r"dx\[\d+:\d+, \d+:\d+\]", text)
        assert eval(label, {"dx": got}).max() == 5
        assert text.count("5*") == 1


def test_of_many_slices_those_that_differ_are_shown() -> None:
    expected = np.zeros((3, 4, 2, 2))
    got = expected.copy()
    got[1, 2, 0, 0] = 7
    lines = compared(expected, got).splitlines()
    assert lines[0] == "  dx, shape (3, 4, 2, 2), * where wrong; the 11 other slices are right:"
    assert lines[1] == "    dx[1, 2]  expected 0  0   got 7* 0"
    everywhere = compared(expected, expected + 1).splitlines()
    assert everywhere[0].endswith("; the first 6 of 12 slices that differ:")
    assert len(everywhere) == 13


def test_an_entry_within_the_bound_is_not_marked() -> None:
    expected = np.array([1.0, 2.0, np.nan, 1.0])
    got = np.array([1.0 + 1e-9, 3.0, np.nan, np.inf])
    for bound in (1e-6, np.full(4, 1e-6)):
        assert wrong_entries(expected, got, bound, 1e-16).tolist() == [False, True, False, True]
    assert wrong_entries(expected, got, 1e-12, 1e-16).tolist() == [True, True, False, True]
    assert wrong_entries(expected[:1], got[:1], None, 1e-16).tolist() == [True]
    assert wrong_entries(expected, got[:2], 0.0, 1e-16) is None
