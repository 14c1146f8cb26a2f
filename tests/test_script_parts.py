"""What scripts are written with: literals, sources of functions, memory layouts, sums."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from backproof.conformance.adapter.load import load
from backproof.conformance.reporting.scripts import literals, sums
from backproof.conformance.reporting.scripts.sources import bare, sources_of
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Space
from backproof.conformance.spec.memory_layouts import LAYOUTS, arranged
from backproof.reference import CONTRACTS
from tests.reproduced import LAYER

# Numbers, memory and sums, as they are written.

ARRAYS = [
    np.array([[1.0, -2.0], [0.1, 1 / 3]]),
    np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324, 1e300, 2.0**60]),
    np.array([0.1, 1 / 3, 1e-45, 16777216.0, 3.4e38], np.float32),
    np.array([0.1, 65504.0, 6e-8], np.float16),
    np.array([0.1, 3.0, 1e-39], ml_dtypes.bfloat16),
    np.zeros((0, 3)),
    np.full((5, 7), -1.5),
    np.full((5, 7), -0.0),
    np.arange(120.0).reshape(2, 3, 4, 5) / 7,
    np.arange(300, dtype=np.float32) / 3,
    np.array(2.5),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}")
def test_a_literal_gives_back_its_array(array: Array) -> None:
    text = literals.literal(array, 4)
    again = eval(text, {"np": np, "bfloat16": ml_dtypes.bfloat16})
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.tobytes() == array.tobytes()
    assert max(map(len, text.splitlines())) <= 120


def test_random_literals_give_back_their_arrays() -> None:
    generator = np.random.default_rng(0)
    for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16):
        bits = generator.integers(0, 256, (2000, np.dtype(dtype).itemsize), dtype=np.uint8)
        values = bits.reshape(-1).view(dtype)
        with np.errstate(invalid="ignore"):
            finite = np.isfinite(values.astype(np.float64))
        for array in values[finite].reshape(-1, 1):
            again = eval(literals.literal(array, 0), {"np": np, "bfloat16": ml_dtypes.bfloat16})
            assert again.tobytes() == array.tobytes()


def cases(layer: str, rank: int) -> Iterator[Case]:
    found = load("backproof.plugins.numpy_adapter", CONTRACTS).implementations[layer]
    space = Space(found.signature, found.settings, rank, "float64")
    page = LAYER[layer]
    for parameters in ({}, {"batch": 2, "channels": 2, "filters": 2, "size0": 3, "kernel0": 2, "size1": 2}):
        configuration = page.build({**page.base(space), **parameters}, space)
        assert configuration is not None
        yield from page.fills(configuration, space)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_rebuilt_as_it_was(layout: str) -> None:
    imports, texts = sources_of(LAYOUTS[layout])
    space: dict[str, Any] = {}
    exec("\n".join(["import numpy as np", *imports, *texts]), space)
    made = space[LAYOUTS[layout].__name__]
    tried = 0
    for case in cases("conv", 2):
        for name in ("x", "w", "dout"):
            arrays = arranged(case, {name: layout}, lambda trial: True)
            array = arrays.arrays[name]
            if not arrays.layouts or array is None:
                continue
            got, wanted = made(array), LAYOUTS[layout](array)
            assert np.array_equal(got, wanted)
            assert (got.strides, got.flags.writeable, got.dtype) == (
                wanted.strides,
                wanted.flags.writeable,
                wanted.dtype,
            )
            assert around(got) == around(wanted)
            tried += 1
    assert tried


def test_a_function_in_a_script_needs_numpy_alone() -> None:
    def names_what_a_script_lacks() -> object:
        return replace

    with pytest.raises(NameError, match="needs replace"):
        sources_of(names_what_a_script_lacks)


def test_a_function_in_a_script_has_no_annotations() -> None:
    lines = [
        "@staticmethod",
        "def f(a: Array, *, b: int = 2) -> Iterator[str]:",
        "    found: dict[str, Array] = {}  # type: ignore[x]",
        "    yield from found",
    ]
    assert bare("\n".join(lines)).splitlines() == ["def f(a, *, b=2):", "    found = {}", "    yield from found"]


def around(view: Array) -> bytes:
    """The whole memory that a view lies in."""
    base = view
    while isinstance(base.base, np.ndarray):
        base = base.base
    return base.tobytes()


def test_a_sum_is_found_by_what_it_makes_of_single_entries() -> None:
    x, dx = np.arange(6.0).reshape(2, 3), np.array([[2.0, 0.0, -1.0], [5.0, 1.0, 1.0]])
    shapes = {"dx": (2, 3), "db": (3,)}
    for function, text in (
        (lambda t: np.asarray((x * t["dx"]).sum()), "np.sum(x * {dx})"),
        (lambda t: t["dx"].sum(axis=0), "np.sum({dx}, axis=(0,))"),
        (lambda t: t["db"], "{db}"),
        (
            lambda t: np.asarray((x * t["dx"]).sum() - t["db"].sum()),
            "np.sum(x * {dx}) + np.sum(<weights_of_db> * {db})",
        ),
        (lambda t: np.cumsum(t["db"]), "<weights_of_db> @ {db}.ravel()"),
        (lambda t: np.full(3, 7.0), "<constant>"),
    ):
        found, constants = sums.side(function, shapes, {"x": x})
        assert found == text
        space = {"np": np, "x": x, "dx": dx, "db": np.array([3.0, -1.0, 4.0])} | constants
        got = eval(re.sub(r"[{}<>]", "", found), space)
        assert np.allclose(got, function({"dx": dx, "db": space["db"]}))


@pytest.mark.parametrize(
    ("join", "text"),
    [
        (lambda parts: np.concatenate(parts), "np.concatenate([one, other])"),
        (lambda parts: parts[0] + parts[1], "one + other"),
        (lambda parts: np.concatenate([parts[0][:, 1:], parts[1][:, :2]]), None),
        (lambda parts: parts[0][:, :1] + parts[0][:, 2:] + parts[1][:, 1:2], None),
    ],
)
def test_parts_are_put_together_as_the_page_does(join: object, text: str | None) -> None:
    parts = [np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]), np.array([[3.0, 9.0, 27.0], [81.0, 5.0, 25.0]])]
    found, constants, function = sums.joining(join, [(2, 3), (2, 3)], ["one", "other"])  # type: ignore[arg-type]
    assert text is None or found == text
    space: dict[str, object] = {"np": np, "one": parts[0], "other": parts[1], **constants}
    exec("\n".join(function), space)
    assert np.array_equal(eval(found, space), join(parts))  # type: ignore[operator]
