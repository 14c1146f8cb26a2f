"""Memory layouts: what each of them is, that all come up, and what happens where they cannot be held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.explain import counterexamples
from backproof.conformance.explaining.refusals import refusals
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.memory_layouts import (
    LAYOUTS,
    WRITABLE,
    Decks,
    arranged,
    choices,
    is_effective,
    laid_out,
)
from backproof.conformance.spec.results import Status
from backproof.reference import CONTRACTS, LAYERS
from tests.spaces import LAYER, space

ZEROS = tuple(layout for layout in LAYOUTS if layout.startswith(("zero stride", "expanded")))


def values(layout: str, shape: tuple[int, ...] = (2, 3, 4)) -> np.ndarray:
    a = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    return np.broadcast_to(a[:1], shape).copy() if layout in ZEROS else a


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_changes_no_number(layout: str, dtype: str) -> None:
    import ml_dtypes

    a = values(layout).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    view = laid_out(a, layout)
    assert view.dtype == a.dtype
    assert view.shape == a.shape
    assert np.array_equal(view.astype(np.float64), a.astype(np.float64))
    assert not np.shares_memory(view, a)


def strides(layout: str, shape: tuple[int, ...] = (2, 3, 4)) -> tuple[int, ...]:
    return tuple(stride // 8 for stride in laid_out(values(layout, shape), layout).strides)


def test_layouts_are_what_they_are_called() -> None:
    assert strides("Fortran") == (1, 2, 6)
    assert strides("channels last") == (12, 1, 3)
    assert strides("transposed") == (12, 1, 3)
    assert strides("transposed", (2, 2, 3, 4)) == (24, 12, 1, 3)
    assert strides("channels last", (2, 2, 3, 4)) == (24, 1, 8, 2)
    assert strides("step slice") == (24, 8, 2)
    assert strides("offset slice") == (30, 6, 1)
    assert strides("negative stride") == (-12, -4, -1)
    assert strides("zero stride") == (0, 4, 1)
    assert laid_out(np.ones((2, 3)), "expanded").strides == (0, 0)
    assert strides("read-only") == (12, 4, 1)
    assert laid_out(np.ones((2, 1)), "odd strides of size 1").strides == (8, 32)
    writable = {layout for layout in LAYOUTS if laid_out(values(layout), layout).flags.writeable}
    assert strides("batch transposed") == (4, 8, 1)
    assert strides("negative stride, last axis") == (12, 4, -1)
    last = np.broadcast_to(np.arange(6.0).reshape(2, 3, 1), (2, 3, 4))
    assert laid_out(last, "zero stride, last axis").strides == (24, 8, 0)
    pixels = np.broadcast_to(np.arange(6.0).reshape(2, 3, 1, 1), (2, 3, 4, 5))
    assert laid_out(pixels, "expanded over pixels").strides == (24, 8, 0, 0)
    fixed = {"zero stride", "zero stride, last axis", "expanded over pixels", "expanded", "read-only"}
    assert set(LAYOUTS) - writable == fixed
    held = laid_out(values("expanded, writable", (2, 3)) * 0, "expanded, writable")
    held[0, 0] = 5
    assert (held == 5).all()


def test_what_is_updated_in_place_has_a_place_for_each_entry() -> None:
    for layout in WRITABLE:
        a = laid_out(np.arange(6.0), layout)
        a += 1
        assert a.tolist() == [1, 2, 3, 4, 5, 6]
    assert choices("running_mean", 1, ("running_mean",)) == WRITABLE


def test_a_layout_without_effect_is_not_counted() -> None:
    column = np.ones((3, 1))
    assert not is_effective(column, "Fortran")
    assert is_effective(np.ones((3, 2)), "Fortran")
    assert is_effective(column, "odd strides of size 1")
    assert not is_effective(np.ones((3, 2)), "odd strides of size 1")
    assert not is_effective(np.ones((0, 2)), "offset slice")


def case_of(layer: str, rank: int, **sizes: int) -> Case:
    where = space(layer, rank)
    page = LAYER[layer]
    configuration = page.build(page.base(where) | sizes, where)
    assert configuration is not None
    return next(page.fills(configuration, where))


def test_zero_strides_change_the_numbers_to_what_they_can_hold() -> None:
    case = case_of("linear", 2, batch0=2, inputs=3, outputs=2)
    changed = arranged(case, {"x": "zero stride", "dout": "expanded"}, lambda _: True)
    assert changed.layouts == {"x": "zero stride", "dout": "expanded"}
    x, dout = changed.arrays["x"], changed.arrays["dout"]
    assert (x[0] == x[1]).all()
    assert len(np.unique(x)) > 1
    assert len(np.unique(dout)) == 1
    # Batch norm over samples that are all alike has no variance: the channels are made alike instead.
    page, where = LAYER["batchnorm"], space("batchnorm", 0)
    case = case_of("batchnorm", 0, batch=3, channels=2)
    changed = arranged(case, {"x": "zero stride"}, page.has_meaning)
    assert laid_out(changed.arrays["x"], "zero stride").strides == (8, 0)
    assert not arranged(case_of("batchnorm", 0, batch=3, channels=1), {"x": "expanded"}, page.has_meaning).layouts
    assert where.rank == 0


@pytest.mark.parametrize(("layer", "rank"), [("linear", 2), ("conv", 2), ("batchnorm", 2)])
def test_every_layout_of_every_array_comes_up_in_few_cases(layer: str, rank: int) -> None:
    page = LAYER[layer]
    state = page.contract.state
    decks = Decks(state, page.has_meaning, np.random.Generator(np.random.PCG64(0)))
    sizes = {"linear": {"batch0": 2, "inputs": 3, "outputs": 2}, "batchnorm": {"channels": 3, "size0": 2, "size1": 2}}
    more = {"batch": 2, "channels": 2, "filters": 2, "size0": 3, "size1": 3, "kernel0": 2, "kernel1": 2}
    cases = [case_of(layer, rank, **sizes.get(layer, more)), case_of(layer, rank)]
    seen = {pair for k in range(80) for pair in decks.arrange(cases[k % 2]).layouts.items()}
    wanted = {(name, layout) for name, a in cases[0].arrays.items() for layout in choices(name, np.ndim(a), state)}
    impossible = {("x", "expanded"), ("x", "expanded, writable")} if layer == "batchnorm" else set()
    assert wanted - seen <= impossible


ADAPTER = """
import numpy as np

def linear_forward(x, w, b):
    return np.asarray(x) @ np.asarray(w) + np.asarray(b), (np.asarray(x), np.asarray(w))

def linear_backward(dout, cache):
    x, w = cache
    dout = np.asarray(dout)
    return dout @ w.T, x.T @ dout, dout.sum(0)
"""
NO_NEGATIVE = """
def from_numpy(a):
    if any(stride < 0 for stride in a.strides):
        raise ValueError("no negative strides")
    return a
"""
NO_PLAIN = """
def from_numpy(a):
    if a.flags.c_contiguous and a.flags.writeable:
        raise ValueError("no plain arrays")
    return a
"""
REFUSES = """
right = linear_backward

def linear_backward(dout, cache):
    if not dout.flags.c_contiguous:
        raise NotImplementedError("only contiguous")
    return right(dout, cache)
"""


def runner(tmp_path: Path, text: str) -> PartRunner:
    file = tmp_path / "adapter.py"
    file.write_text(ADAPTER + text)
    adapter = load(str(file), CONTRACTS, tmp_path)
    layer = LAYERS[0]
    (part,) = layer.parts(adapter.implementations["linear"].settings)
    return PartRunner(layer, part, "float64", adapter, PROFILES["quick"], 0)


def test_a_layout_that_from_numpy_does_not_take_is_unsupported(tmp_path: Path) -> None:
    heard = runner(tmp_path, NO_NEGATIVE)
    item_cases = heard.item_cases("memory_layout")
    assert not item_cases.failed
    assert item_cases.judged > 20
    count = item_cases.counts[Status.UNSUPPORTED]
    assert count > 0
    told = []
    for layout in ("negative stride", "negative stride, last axis"):
        names = [name for name, other in heard.layouts_refused if other == layout]
        total = sum(heard.layouts_refused[name, layout] for name in names)
        told.append(f"{layout} ({', '.join(names)}), {total} of {total}")
    assert refusals(heard, "memory_layout") in (f"from_numpy does not take {'; '.join(told[::k])}" for k in (1, -1))
    assert not heard.item_cases("out").failed
    assert refusals(heard, "out") is None
    assert "dout: negative stride" not in heard.layouts()
    assert heard.layouts()["dout: step slice"] > 0


def test_a_plain_array_that_from_numpy_does_not_take_is_a_failure(tmp_path: Path) -> None:
    heard = runner(tmp_path, NO_PLAIN)
    assert {discrepancy.kind for *_, discrepancy in heard.item_cases("out").failed} == {"crash"}


def test_a_refused_layout_is_unsupported_and_told(tmp_path: Path) -> None:
    heard = runner(tmp_path, REFUSES)
    item_cases = heard.item_cases("memory_layout")
    assert not item_cases.failed
    assert item_cases.counts[Status.UNSUPPORTED] > 0
    told = refusals(heard, "memory_layout")
    assert told is not None
    assert told.startswith("refused where dout is not contiguous")


def test_a_fault_in_one_layout_is_reported_in_that_alone() -> None:
    adapter = load("backproof.plugins.gallery:reads_the_rows_of_w_from_its_buffer", CONTRACTS)
    layer = LAYERS[0]
    (part,) = layer.parts(adapter.implementations["linear"].settings)
    heard = PartRunner(layer, part, "float64", adapter, PROFILES["quick"], 0)
    (found,) = counterexamples(heard, "memory_layout")
    assert list(found.case.layouts) == ["w"]
    assert found.proved
    assert "w in the layout" in found.discrepancy.message
    # The same case on plain arrays is right.
    plain = replace(found.case, layouts={})
    assert heard.item_cases("out").failed == []
    assert all(a is None or a.flags.c_contiguous for a in plain.arrays.values())


@pytest.mark.parametrize("profile", ["quick", "default"])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_every_layout_of_every_array_is_judged(layer, profile: str) -> None:
    adapter = load("backproof.plugins.numpy_adapter", CONTRACTS)
    for part in layer.parts(adapter.implementations[layer.name].settings):
        heard = PartRunner(layer, part, "float64", adapter, PROFILES[profile], 0)
        heard.item_cases("memory_layout")
        counts = heard.layouts()
        assert [cell for cell, count in counts.items() if not count] == []
        wanted = {"linear": 4 * 9, "conv": 3 * 10, "batchnorm": 48}[layer.name]
        assert len(counts) >= wanted
