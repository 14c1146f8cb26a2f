"""What layers draw of their failures: the windows of a convolution."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backproof.conformance.spec.picture import PicturedCase
from backproof.reference.pictures import picture_of_windows
from backproof.reference.pictures.windows import Windows, windows
from backproof.reference.textbook import conv_forward
from tests import reports


def case_of(failure: dict[str, Any], tensor: str = "dx", first: tuple[int, ...] | None = None) -> PicturedCase:
    """What the layer is given to draw of it."""
    found = reports.typed(failure)
    return PicturedCase(
        tensor, first, found.options, found.shapes, found.arrays, found.expected, found.orders, identifier="a"
    )


def cases() -> Iterator[tuple[PicturedCase, Windows]]:
    """Geometries of every sort."""
    random = np.random.default_rng(0)
    for k in range(60):
        rank, mode = 1 + k % 3, ("zeros", "reflect", "replicate", "circular")[k % 4]
        size, kernel, stride, dilation, low, high = random.integers(1, (6, 4, 4, 3, 4, 4), (rank, 6)).T.tolist()
        padding = [[a - 1, b - 1] for a, b in zip(low, high, strict=True)]
        groups, last = 1 + k % 2, bool(k % 5 == 0)
        options = reports.conv_options(
            rank, stride=stride, dilation=dilation, padding=padding, groups=groups, padding_mode=mode
        )
        shape = [1, *size, 2 * groups] if last else [1, 2 * groups, *size]
        arrays = {"x": np.zeros(shape), "w": np.ones((groups, 2, *kernel))}
        orders = {"x": [0, *range(2, rank + 2), 1]} if last else {}
        case = case_of(reports.failure("dx", arrays, options, orders=orders))
        if (geometry := windows(case)) is not None:
            yield case, geometry


def test_the_windows_reach_what_a_convolution_reaches() -> None:
    judged = list(cases())
    assert len(judged) > 20
    assert {geometry.rank for _, geometry in judged} == {1, 2, 3}
    assert {geometry.axes[2].mode for _, geometry in judged} == {"zeros", "reflect", "replicate", "circular"}
    for case, geometry in judged:
        x, w = (np.asarray(case.arrays[name]) for name in ("x", "w"))
        x = np.moveaxis(x, -1, 1) if geometry.last else x
        for pixel in itertools.product(*(range(axis.size) for axis in geometry.axes)):
            lit = np.zeros_like(x)
            lit[(0, 0, *pixel[3 - geometry.rank :])] = 1
            out, _ = conv_forward(lit, w, **case.options)
            counts = Counter(output[3 - geometry.rank :] for output, _, _ in geometry.reaching(pixel))
            assert {at: int(out[(0, 0, *at)]) for at in np.ndindex(out.shape[2:]) if out[(0, 0, *at)]} == counts
        assert out.shape[2:] == geometry.outputs[3 - geometry.rank :]


def test_what_is_left_over_is_what_no_window_spans() -> None:
    for _, geometry in cases():
        for axis in geometry.axes:
            reached = axis.taps(axis.outputs - 1)[-1]
            assert list(axis.left_over) == [at for at in axis.positions if at > reached]


@pytest.mark.parametrize(
    ("change", "value"),
    [("stride", [0, 1]), ("padding", [[-1, 0], [0, 0]]), ("padding", [[0, 0], [0, 0]]), ("groups", 2)],
)
def test_a_case_without_meaning_has_no_picture(change: str, value: Any) -> None:
    arrays = {"x": np.ones((1, 1, 1, 2)), "w": np.ones((1, 1, 2, 2)), "dout": np.ones((1, 1, 1, 1))}
    failure = reports.failure("out", arrays, reports.conv_options(padding=[[1, 0], [0, 0]]))
    assert windows(case_of(failure)) is not None
    failure["options"][change] = value
    if change == "groups":
        failure["shapes"]["x"][1] = 2
    assert windows(case_of(failure)) is None
    assert picture_of_windows(case_of(failure, "out")) is None


def marks(failure: dict[str, Any], tensor: str, first: tuple[int, ...] | None, *having: str) -> list[int]:
    """How many cells with all these marks each picture has."""
    found = picture_of_windows(case_of(failure, tensor, first))
    assert found is not None
    drawn = [ElementTree.fromstring(drawing.svg) for drawing in found.drawings]
    cells = [[cell.get("class", "").split() for cell in svg.iter("g")] for svg in drawn]
    return [sum(set(having) <= set(cell) for cell in svg) for svg in cells]


def test_the_windows_are_drawn() -> None:
    failure = reports.strided_dx()
    # x has 5 x 6 positions, 4 x 5 of which are pixels; out has 2 x 3.
    assert marks(failure, "dx", (0, 1, 0, 2), "pixel") == [20, 0]
    assert marks(failure, "dx", (0, 1, 0, 2), "pad") == [10, 0]
    assert marks(failure, "dx", (0, 1, 0, 2), "left") == [6, 0]
    assert marks(failure, "dx", (0, 1, 0, 2), "wrong") == [1, 0]
    assert marks(failure, "dx", (0, 1, 0, 2), "output", "tap") == [0, 1]
    assert marks(failure, "dx", (0, 1, 3, 2), "tap") == [0, 0]
    assert marks(failure, "out", (0, 1, 1, 1), "tap") == [4, 1]
    assert marks(failure, "out", (0, 1, 1, 1), "wrong") == [0, 1]
    assert marks(failure, "dw", (0, 1, 1, 1), "tap") == [6, 6]
    assert marks(failure, "db", (0,), "tap") == [4, 1]
    assert marks(failure, "out", None, "tap") == [4, 1]
    assert marks(reports.volume_out(), "out", (0, 0, 1, 0, 1), "tap") == [4, 4, 1]
    assert marks(reports.wide_dx(), "dx", (0, 0, 7), "output", "tap") == [0, 2]


def test_what_is_left_over_has_a_corner() -> None:
    found = picture_of_windows(case_of(reports.strided_dx(), "dx", (0, 1, 0, 2)))
    assert found is not None
    assert [len(list(ElementTree.fromstring(drawing.svg).iter("path"))) for drawing in found.drawings] == [6, 0]


def test_the_windows_are_told_in_words() -> None:
    def said(tensor: str, first: tuple[int, ...]) -> list[str]:
        found = picture_of_windows(case_of(reports.strided_dx(), tensor, first))
        assert found is not None
        return list(found.sentences)

    left = "Behind the last window is left over: h = 3."
    reached = (
        "x[0, 1, 0, 2] is read for output (0, 1) by tap (1, 0), so dx[0, 1, 0, 2] has one term a filter of its group."
    )
    assert said("dx", (0, 1, 0, 2)) == [reached, left]
    assert said("dx", (0, 1, 3, 2))[0] == "No window reads x[0, 1, 3, 2], so dx[0, 1, 3, 2] must be 0."
    below = "\N{MINUS SIGN}1, 0; w = 2, 3 (below 0 is padding)."
    assert said("out", (0, 1, 0, 1))[0] == f"out[0, 1, 0, 1] reads x at h = {below}"


def test_a_large_image_is_not_drawn() -> None:
    arrays = {"x": np.ones((1, 1, 1, 60)), "w": np.ones((1, 1, 1, 1)), "dout": np.ones((1, 1, 1, 60))}
    found = picture_of_windows(case_of(reports.failure("dx", arrays, reports.conv_options())))
    assert found is not None
    assert found.drawings == ()
    assert found.sentences[-1] == "The image is too large to be drawn here."
