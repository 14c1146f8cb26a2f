"""A failure's script exits with 1 while the fault is there and with 0 when it is mended, and needs NumPy alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.explain import Explainer, counterexamples
from backproof.conformance.judging.item_cases import ItemCases
from backproof.conformance.judging.kept import Store
from backproof.conformance.judging.properties import property_of
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.reporting.scripts import Reproductions, literals, sums
from backproof.conformance.reporting.scripts.sources import bare, sources_of
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Space
from backproof.conformance.spec.memory_layouts import LAYOUTS, arranged
from backproof.plugins.gallery import FAULTS
from backproof.plugins.gallery.runner import runners
from backproof.reference import CONTRACTS, LAYERS

LAYER = {layer.name: layer for layer in LAYERS}
FAULT = {fault.name: fault for fault in FAULTS}
FEW = replace(PROFILES["quick"], examples=10, sweep=40, others=6)

#: Runs a script as if nothing but NumPy and the adapter were installed.
ALONE = """
import importlib.abc, runpy, sys
class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        if parts[0] in ("jax", "jaxlib", "hypothesis", "pytest", "torch") or parts[:2] in (
            ["backproof", "conformance"], ["backproof", "reference"]):
            raise ImportError(f"{name} is imported")
sys.meta_path.insert(0, Without())
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def started(script: Path, *arguments: str) -> subprocess.Popen[str]:
    """A script in a process of its own, in another folder than its own."""
    command = [sys.executable, "-I", "-c", ALONE, str(script), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, errors = process.communicate(timeout=120)
    return process.returncode, said + errors


def run(script: Path, *arguments: str) -> tuple[int, str]:
    return finished(started(script, *arguments))


def failures(runner: PartRunner, check: str) -> list[Counterexample]:
    """One counterexample for each kind, as it was met."""
    found = counterexamples(runner, check, known=True)
    assert found
    return found


def written(
    folder: Path, spec: str, check: str, dtype: str = "float64", layer: str = "linear", *, largest: bool = False
) -> list[Path]:
    """The scripts of a failing item of an adapter in this folder, of its smallest failing cases or the largest."""
    adapter = load(spec, CONTRACTS, folder)
    runner = next(h for h in runners(adapter, LAYER[layer], FEW, 0) if h.dtype == dtype)
    item = f"backproof::{runner.part.title}::{check}::{dtype}"
    found = failures(runner, check)
    if largest:
        case, reference, discrepancy = max(
            runner.item_cases(check).failed, key=lambda entry: entry[0].configuration.elements
        )
        found = [replace(found[0], case=case, reference=reference, discrepancy=discrepancy)]
    files = Reproductions(folder, spec).write(item, check, found, runner.candidate)
    return [file for file in files if file is not None]


# Every kind of item and of failure, on the gallery.

KINDS = [
    ("averages_the_bias_gradient", "db", "value"),
    ("squeezes_a_batch_of_one", "dx", "shape"),
    ("gathers_the_weight_gradient_in_float64", "dw", "dtype"),
    ("scales_uninitialised_memory_by_zero", "dx", "nonfinite"),
    ("returns_no_bias_gradient", "db", "result"),
    ("leaves_out_the_place_of_an_absent_bias", "dw", "result"),
    ("insists_that_the_stride_divides", "out", "crash"),
    ("cannot_go_back_through_a_flat_weight", "dx", "crash"),
    ("ignores_the_momentum", "running_var", "value"),
    ("updates_the_statistics_in_eval", "running_mean", "state"),
    ("updates_the_statistics_in_the_backward", "running_mean", "state"),
    ("never_zeroes_the_weight_gradient", "dw", "value"),
    ("keeps_the_first_weight_transposed", "dx", "value"),
    ("guesses_the_layout_from_the_shape", "running_mean", "value"),
    ("squares_in_bfloat16", "out", "value"),
    ("cannot_flatten_an_empty_batch", "edges", "crash"),
    ("fails_on_one_element", "edges", "crash"),
    ("leaves_dw_unwritten_without_samples", "edges", "nonfinite"),
    ("subtracts_the_square_of_the_mean", "stability", "value"),
    ("clips_what_is_far_below_zero", "linearity", "value"),
    ("divides_by_the_largest_of_dout", "linearity", "nonfinite"),
    ("takes_the_bias_gradient_of_one_sample", "identities", "value"),
    ("recomputes_the_deviation_with_the_usual_eps", "identities", "value"),
    ("forgets_to_transpose_the_weight", "dx", "value"),
    ("keeps_the_weight_gradient_of_the_last_sample", "relations", "value"),
    ("repeats_the_edge_in_reflect", "relations", "value"),
    ("gives_all_groups_the_first_dw", "relations", "value"),
    ("reads_the_rows_of_dout_from_its_buffer", "memory_layout", "value"),
    ("demands_the_strides_of_a_fresh_array", "memory_layout", "crash"),
    ("writes_dx_into_x", "purity", "mutation"),
    ("clears_what_lies_behind_dout", "purity", "mutation"),
    ("hands_out_the_only_row_of_dout", "aliasing", "alias"),
    ("keeps_one_buffer_for_dx", "aliasing", "alias"),
    ("accumulates_over_backwards", "repeatability", "state"),
    ("frees_what_the_cache_held", "repeatability", "crash"),
    ("sums_db_of_a_stale_dout", "repeatability", "state"),
    ("remembers_the_x_of_the_last_forward", "repeatability", "state"),
    ("keeps_the_stride_on_the_object", "repeatability", "state"),
    ("takes_a_dout_that_broadcasts", "rejection", "accepted"),
    ("takes_an_x_without_inputs", "rejection", "accepted"),
]


@pytest.mark.parametrize(("name", "check", "kind"), KINDS, ids=[f"{name}-{check}" for name, check, _ in KINDS])
def test_a_script_tells_the_fault_from_the_right_implementation(
    name: str, check: str, kind: str, tmp_path: Path
) -> None:
    fault = FAULT[name]
    for runner in runners(load(fault.spec, CONTRACTS), LAYER[fault.layer], PROFILES["quick"], 0):
        if check in runner.checks and runner.item_cases(check).failed:
            break
    found = [each for each in failures(runner, check) if each.discrepancy.kind == kind]
    (script,) = Reproductions(tmp_path, fault.spec).write(
        f"backproof::{runner.part.title}::{check}::{runner.dtype}", check, found, runner.candidate
    )
    assert script is not None
    wrong, right = started(script), started(script, fault.base_spec)
    assert finished(wrong)[0] == 1, wrong
    code, said = finished(right)
    assert code == 0, said


# The adapter: how it is found, what it takes and what it gives.

LINEAR = """
import numpy as np

def linear_forward(x, w, b):
    return x @ w + b, (x, w)

def linear_backward(dout, cache):
    x, w = cache
    return dout @ w.T, {factor} * x.T @ dout, dout.sum(axis=0)
"""
TENSORS = """
import numpy as np
CONFORMANCE = {{"dtypes": ("float64", "float32", "float16", "bfloat16")}}

class Tensor:
    def __init__(self, array): self.array = array

def from_numpy(a): return Tensor(a)
def to_numpy(t): return t.array

def linear_forward(x, w, *, b=None):
    x, w = x.array, w.array
    out = x.astype(np.float32 if x.itemsize == 2 else x.dtype) @ w.astype(np.float32 if x.itemsize == 2 else x.dtype)
    return [Tensor((out + (0 if b is None else b.array)).astype(x.dtype)), (x, w, b)]

def linear_backward(dout, cache):
    x, w, b = cache
    dout, wide = dout.array, np.float32 if x.itemsize == 2 else x.dtype
    found = {{"dx": dout.astype(wide) @ w.astype(wide).T, "dw": {factor} * (x.astype(wide).T @ dout.astype(wide))}}
    if b is not None:
        found["db"] = dout.astype(wide).sum(axis=0)
    return {{name: Tensor(a.astype(x.dtype)) for name, a in found.items()}}
"""
LAST = """
import numpy as np
from backproof.plugins.gallery.conv.bases import ChannelsLast

class Fused(ChannelsLast):
    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(dout, cache)
        return {{"dx": {factor} * dx, "dw": dw, "db": db}}
"""
TRANSPOSED = """
CONFORMANCE = {{"linear": {{"weight": "oi", "ranks": (3,)}}}}

class fused:
    def linear_forward(x, w): return x @ w.T, (x, w)
    def linear_backward(dout, cache):
        x, w = cache
        return dout @ w, {factor} * (dout.reshape(-1, dout.shape[-1]).T @ x.reshape(-1, x.shape[-1]))
    linear_forward, linear_backward = staticmethod(linear_forward), staticmethod(linear_backward)
    CONFORMANCE = CONFORMANCE
"""
LAZY = """
class Lazy:
    def __init__(self, array): self.array = array
    def __dlpack__(self, **more): return self.array.__dlpack__(**more)
    def __dlpack_device__(self): return self.array.__dlpack_device__()

def linear_forward(x, w): return Lazy(x @ w), (x, w)
def linear_backward(dout, cache):
    x, w = cache
    return Lazy(dout @ w.T), Lazy({factor} * x.T @ dout)
"""

ADAPTERS = [
    ("mine.py", "mine.py", LINEAR, "dw", "float64", "linear"),
    ("deep/down/mine.py", "deep/down/mine.py", LINEAR, "dw", "float64", "linear"),
    ("mypkg_of_a_test/adapter.py", "mypkg_of_a_test.adapter", LINEAR, "dw", "float64", "linear"),
    ("numbers.py", "numbers.py", LINEAR, "identities", "float64", "linear"),
    ("tensors.py", "tensors.py", TENSORS, "dw", "float64", "linear"),
    ("tensors.py", "tensors.py", TENSORS, "dw", "float32", "linear"),
    ("tensors.py", "tensors.py", TENSORS, "dw", "bfloat16", "linear"),
    ("tensors.py", "tensors.py", TENSORS, "identities", "float16", "linear"),
    ("last.py", "last.py:Fused", LAST, "dx", "float64", "conv"),
    ("last.py", "last.py:Fused", LAST, "identities", "float64", "conv"),
    ("transposed.py", "transposed.py:fused", TRANSPOSED, "dw", "float64", "linear"),
    ("transposed.py", "transposed.py:fused", TRANSPOSED, "identities", "float64", "linear"),
    ("lazy.py", "lazy.py", LAZY, "dw", "float64", "linear"),
]


@pytest.fixture(autouse=True)
def _clean_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loading an adapter makes its folder importable."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "mypkg_of_a_test" in name or name in ("mine", "tensors", "last", "transposed", "lazy"):
            del sys.modules[name]


def saved(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("name", "spec", "text", "check", "dtype", "layer"), ADAPTERS, ids=[f"{a[1]}-{a[3]}-{a[4]}" for a in ADAPTERS]
)
def test_a_script_calls_the_adapter_as_the_contract_does(
    name: str, spec: str, text: str, check: str, dtype: str, layer: str, tmp_path: Path
) -> None:
    adapter = saved(tmp_path, name, text.format(factor=2))
    (script,) = written(tmp_path, spec, check, dtype, layer, largest=True)
    code, said = run(script)
    assert code == 1, said
    assert "Traceback" not in said
    # Of another length: byte code of the same second is taken for that of the changed file.
    saved(tmp_path, name, text.format(factor="(1)"))
    code, said = run(script)
    assert code == 0, said
    adapter.unlink()
    code, said = run(script)
    assert code == 2, said
    assert f"The adapter {spec} cannot be loaded: " in said


def test_a_script_says_what_is_asked_expected_and_given(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    (script,) = written(tmp_path, "mine.py", "dw")
    text = script.read_text()
    assert script == tmp_path / ".backproof" / "reproduce" / script.parent.name / "backproof.linear.dw.float64.py"
    assert script.parent.name.startswith("mine.py-")
    assert "Backproof" not in re.sub(r"backproof::\S+|backproof\.linear\S+", "", text)
    said = run(script)[1]
    assert "x = float64 of shape (" in said
    assert re.search(r"dw: \d+ of \d+ entries are wrong, marked with !", said) or "dw: 1 of 1" in said
    assert re.search(r"expected:\n\[\[.*\]\]\ngot:\n\[\[.*!.*\]\]", said, re.DOTALL)
    assert said.strip().endswith("mine.py: the fault is there.")


def test_another_adapter_may_be_judged(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    right = saved(tmp_path, "other/right.py", LINEAR.format(factor=1))
    (script,) = written(tmp_path, "mine.py", "dw")
    assert run(script, str(right))[0] == 0
    assert run(script, "no_such_module_of_a_test")[0] == 2
    assert run(script, f"{right}:nothing")[0] == 2


def test_an_adapter_that_raises_as_it_is_imported_cannot_be_loaded(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    (script,) = written(tmp_path, "mine.py", "dw")
    for broken in ("raise RuntimeError('no licence')", "import sys; sys.exit(0)", "x = 1"):
        saved(tmp_path, "mine.py", broken)
        code, said = run(script)
        assert code == 2, said
        assert "Traceback" not in said


def test_an_exit_is_no_success(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    (script,) = written(tmp_path, "mine.py", "dw")
    ended = LINEAR.format(factor=1).replace("x, w = cache\n", "import sys; sys.exit(0)\n")
    saved(tmp_path, "mine.py", ended)
    assert run(script)[0] == 1


def test_a_case_that_is_refused_is_not_judged(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    (script,) = written(tmp_path, "mine.py", "dw")
    refusing = LINEAR.format(factor=1).replace("x, w = cache\n", "raise NotImplementedError('none')\n")
    saved(tmp_path, "mine.py", refusing)
    code, said = run(script)
    assert code == 0
    assert "The adapter refuses this case (NotImplementedError: none), so it is not judged." in said


def test_a_layer_that_refuses_everything_is_wrong_as_long_as_it_does(tmp_path: Path) -> None:
    from backproof.conformance.judging.session import Session

    refusing = LINEAR.format(factor=1).replace("x, w = cache\n", "raise NotImplementedError('none')\n")
    saved(tmp_path, "mine.py", refusing)
    session = Session(load("mine.py", CONTRACTS, tmp_path), LAYERS, FEW, 0)
    item = next(item for item in session.items if item.check == "dx")
    verdict = Explainer(session.profile).result(session.judge(item, session.items))
    assert verdict.counterexamples[0].discrepancy.kind == "refused"
    (script,) = Reproductions(tmp_path, "mine.py").write(
        "backproof::linear::dx::float64", "dx", verdict.counterexamples, session.runner(item).candidate
    )
    assert script is not None
    assert run(script)[0] == 1
    saved(tmp_path, "mine.py", LINEAR.format(factor=1))
    assert run(script)[0] == 0


def test_large_arrays_lie_beside_the_script(tmp_path: Path) -> None:
    text = LINEAR.format(factor="(2 if x.size > 1500 else 1)")
    saved(tmp_path, "mine.py", text)
    adapter = load("mine.py", CONTRACTS, tmp_path)
    (runner,) = runners(adapter, LAYER["linear"], PROFILES["quick"], 0)
    reference = runner.references[0]
    parameters = {**reference.layer.base(reference.space), "batch0": 40, "inputs": 40}
    configuration = reference.layer.build(parameters, reference.space)
    assert configuration is not None
    case = next(case for case in reference.layer.fills(configuration, reference.space) if np.ptp(case.array("x")))
    item_cases = ItemCases()
    from backproof.conformance.spec.results import Discrepancy

    judged = property_of("dw").judge(case, runner.candidate, reference)["dw"]
    if not isinstance(judged, Discrepancy):
        pytest.fail("the fault does not show")
    item_cases.add(case, reference, judged)
    found = Counterexample(judged, case, reference, False, 0, None, 1, 0, property_=property_of("dw"))
    reproductions = Reproductions(tmp_path, "mine.py")
    (script,) = reproductions.write("backproof::linear::dw::float64", "dw", [found], runner.candidate)
    assert script is not None
    beside = script.with_suffix(".npz")
    assert "x" in np.load(beside, allow_pickle=False)
    assert run(script)[0] == 1
    saved(tmp_path, "mine.py", LINEAR.format(factor=1))
    assert run(script)[0] == 0
    moved = beside.rename(beside.with_suffix(".gone"))
    assert run(script)[0] == 2
    moved.rename(beside)
    reproductions.remove("backproof::linear::dw::float64")
    assert list(script.parent.iterdir()) == []


def test_scripts_of_an_item_that_passes_are_gone_and_those_of_others_stay(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    (script,) = written(tmp_path, "mine.py", "dw")
    (other,) = written(tmp_path, "mine.py", "identities")
    stale = script.with_name("backproof.linear.dw.float64.2.py")
    stale.write_text("stale")
    (again,) = written(tmp_path, "mine.py", "dw")
    assert again == script
    assert not stale.exists()
    Reproductions(tmp_path, "mine.py").remove("backproof::linear::dw::float64")
    assert not script.exists()
    assert other.exists()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    (tmp_path / ".backproof").write_text("in the way")
    assert written(tmp_path, "mine.py", "dw") == []
    Reproductions(tmp_path, "mine.py").remove("backproof::linear::dw::float64")
    assert (tmp_path / ".backproof").read_text() == "in the way"


def test_scripts_lie_beside_the_report(tmp_path: Path) -> None:
    saved(tmp_path, "project/mine.py", LINEAR.format(factor=3))
    runner = next(iter(runners(load("mine.py", CONTRACTS, tmp_path / "project"), LAYER["linear"], FEW, 0)))
    place = Reproductions(tmp_path / "project", "mine.py", tmp_path / "reports" / "first.json")
    (script,) = place.write("backproof::linear::dw::float64", "dw", failures(runner, "dw"), runner.candidate)
    assert script == tmp_path / "reports" / "first.reproduce" / "backproof.linear.dw.float64.py"
    assert run(script)[0] == 1


def test_a_failure_that_comes_and_goes_is_asked_more_often(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    runner = next(iter(runners(load("mine.py", CONTRACTS, tmp_path), LAYER["linear"], FEW, 0)))
    found = [replace(each, steady=False) for each in failures(runner, "dw")]
    (script,) = Reproductions(tmp_path, "mine.py").write(
        "backproof::linear::dw::float64", "dw", found, runner.candidate
    )
    assert script is not None
    coming = "import itertools\nCOUNT = itertools.count()\n" + LINEAR.format(factor="(1 if next(COUNT) % 7 else 2)")
    saved(tmp_path, "mine.py", coming)
    assert run(script)[0] == 1
    saved(tmp_path, "mine.py", LINEAR.format(factor=1))
    assert run(script)[0] == 0


def test_text_that_would_end_a_docstring_does_not(tmp_path: Path) -> None:
    raising = LINEAR.format(factor=1).replace("x, w = cache\n", 'raise ValueError(\'"""\\n\\\\x {SPEC} \\\\"\')\n')
    saved(tmp_path, "mine.py", raising)
    (script,) = written(tmp_path, "mine.py", "dx")
    code, said = run(script)
    assert code == 1
    assert "ValueError" in said
    saved(tmp_path, "mine.py", LINEAR.format(factor=1))
    assert run(script)[0] == 0


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


# What is kept between runs.


def heard(
    folder: Path, spec: str, store: Store, check: str, dtype: str = "float64", layer: str = "linear"
) -> PartRunner:
    """A runner with the cases kept for one item."""
    runner = next(h for h in runners(load(spec, CONTRACTS, folder), LAYER[layer], FEW, 0) if h.dtype == dtype)
    if not property_of(check).is_listed:
        spaces = [reference.space for reference in runner.references]
        runner.kept = {check: list(store.read(identifier(runner, check), runner.layer, spaces))}
    return runner


def identifier(runner: PartRunner, check: str) -> str:
    return f"backproof::{runner.part.title}::{check}::{runner.dtype}"


def settled(folder: Path, spec: str, check: str, **more: str) -> tuple[str | None, PartRunner]:
    """What a run in this folder says of the cases kept for an item."""
    store = Store(folder, spec)
    runner = heard(folder, spec, store, check, **more)
    item_cases = runner.item_cases(check)
    failing = [each.case for each in counterexamples(runner, check, known=True)] if item_cases.failed else []
    found = store.settle(identifier(runner, check), item_cases, failing, listed=property_of(check).is_listed)
    return None if found is None else found.sentence, runner


KEPT = [
    ("averages_the_bias_gradient", "db", "float64"),
    ("keeps_the_bias_in_float64", "out", "float32"),
    ("counts_elements_in_float16", "running_var", "float16"),
    ("squares_in_bfloat16", "out", "bfloat16"),
    ("reads_the_rows_of_dout_from_its_buffer", "memory_layout", "float64"),
    ("cannot_flatten_an_empty_batch", "edges", "float64"),
    ("subtracts_the_square_of_the_mean", "stability", "float32"),
    ("takes_an_x_without_inputs", "rejection", "float64"),
]


@pytest.mark.parametrize(("name", "check", "dtype"), KEPT, ids=[each[0] for each in KEPT])
def test_a_kept_case_is_fixed_when_it_passes_and_not_before(
    name: str, check: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "FEW", PROFILES["quick"])
    fault = FAULT[name]
    text = "from backproof.plugins.gallery import {0} as made\n"
    more = {"dtype": dtype, "layer": fault.layer}
    saved(tmp_path, "mine.py", text.format(name))
    assert settled(tmp_path, "mine.py:made", check, **more)[0] is None
    (file, *_) = sorted((tmp_path / ".backproof" / "kept").rglob("*.json"))
    sentence, runner = settled(tmp_path, "mine.py:made", check, **more)
    assert sentence == "It failed in an earlier run too: the case kept from it still fails."
    assert property_of(check).is_listed or runner.item_cases(check).failed[0][0].origin == "kept"
    base = fault.base
    saved(tmp_path, "mine.py", f"from {base.__module__} import {base.__name__} as made\n")
    sentence, runner = settled(tmp_path, "mine.py:made", check, **more)
    assert sentence is not None
    assert re.fullmatch(
        f"FIXED: {identifier(runner, check)}: "
        r"(the case kept from an earlier run passes|the \d cases kept from earlier runs pass) now\.",
        sentence,
    )
    assert not file.exists()
    assert settled(tmp_path, "mine.py:made", check, **more)[0] is None


def test_a_kept_case_that_is_refused_now_stays(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    settled(tmp_path, "mine.py", "dw")
    files = sorted((tmp_path / ".backproof").rglob("*.json"))
    before = [file.read_text() for file in files]
    refusing = LINEAR.format(factor=1).replace("x, w = cache\n", "raise NotImplementedError\n")
    saved(tmp_path, "mine.py", refusing)
    assert settled(tmp_path, "mine.py", "dw")[0] is None
    assert [file.read_text() for file in files] == before


def test_a_file_of_another_version_is_no_case(tmp_path: Path) -> None:
    fault = FAULT["takes_an_x_without_inputs"]
    for check, spec in (("rejection", "mine.py:made"), ("dw", "other.py")):
        made = f"from backproof.plugins.gallery import {fault.name} as made\n"
        saved(tmp_path, spec.partition(":")[0], made if check == "rejection" else LINEAR.format(factor=3))
        settled(tmp_path, spec, check)
        for file in (tmp_path / ".backproof").rglob("*.json"):
            file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
        right = f"from {fault.base.__module__} import {fault.base.__name__} as made\n"
        saved(tmp_path, spec.partition(":")[0], right if check == "rejection" else LINEAR.format(factor=1))
        assert settled(tmp_path, spec, check)[0] is None


@pytest.mark.parametrize(("layer", "rank"), [("linear", 2), ("conv", 2), ("batchnorm", 1)])
def test_every_case_without_meaning_is_kept_as_itself(layer: str, rank: int, tmp_path: Path) -> None:
    found = load("backproof.plugins.numpy_adapter", CONTRACTS).implementations[layer]
    listed = list(LAYER[layer].invalid_cases(Space(found.signature, found.settings, rank, "float64")))
    Store(tmp_path, "mine.py").replace("backproof::of::rejection::float64", listed)
    assert len(list((tmp_path / ".backproof").rglob("*.json"))) == len(listed) > 1


def test_files_that_cannot_be_read_are_no_cases(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    settled(tmp_path, "mine.py", "dw")
    (file,) = (tmp_path / ".backproof").rglob("*.json")
    whole = file.read_text()
    for number, broken in enumerate(("{ half", "[]", '{"format": 99}', '{"format": 1}', whole.replace("batch0", "b"))):
        file.with_name(f"backproof.linear.dw.float64.{number + 3}.json").write_text(broken)
    file.with_name("backproof.linear.dw.float64.9.json").write_bytes(b"\xff\xfe")
    saved(tmp_path, "mine.py", LINEAR.format(factor=1))
    sentence, _ = settled(tmp_path, "mine.py", "dw")
    assert sentence == "FIXED: backproof::linear::dw::float64: the case kept from an earlier run passes now."
    assert list((tmp_path / ".backproof").rglob("*.json")) == []


@pytest.mark.skipif(os.name != "posix", reason="Files in the place of folders are told apart on POSIX.")
def test_nothing_is_kept_where_nothing_can_be_written(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    (tmp_path / ".backproof").write_text("in the way")
    assert [settled(tmp_path, "mine.py", "dw")[0] for _ in range(2)] == [None, None]


def test_all_cases_kept_for_an_item_must_pass(tmp_path: Path) -> None:
    saved(tmp_path, "mine.py", LINEAR.format(factor=3))
    store = Store(tmp_path, "mine.py")
    runner = heard(tmp_path, "mine.py", store, "dw")
    several: Sequence[Case] = [case for case, _, _ in runner.item_cases("dw").failed[:2]]
    store.replace(identifier(runner, "dw"), several)
    saved(tmp_path, "mine.py", LINEAR.format(factor=f"(1 if x.size == {several[0].array('x').size} else 3)"))
    kept = settled(tmp_path, "mine.py", "dw")[0]
    assert kept is None or not kept.startswith("FIXED")
    store = Store(tmp_path, "mine.py")
    store.replace(identifier(runner, "dw"), several)
    saved(tmp_path, "mine.py", LINEAR.format(factor=1))
    assert settled(tmp_path, "mine.py", "dw")[0] == (
        "FIXED: backproof::linear::dw::float64: the 2 cases kept from earlier runs pass now."
    )


def test_the_candidate_is_asked_nothing_where_a_script_is_not_tried(tmp_path: Path) -> None:
    """A module's state cannot be made anew, so its functions are left alone while the script is written."""
    counting = "CALLS = []\n" + LINEAR.format(factor=3).replace("x, w = cache\n", "x, w = cache; CALLS.append(1)\n")
    saved(tmp_path, "mine.py", counting)
    adapter = load("mine.py", CONTRACTS, tmp_path)
    (runner,) = runners(adapter, LAYER["linear"], FEW, 0)
    found = failures(runner, "dw")
    before = len(adapter.target.CALLS)
    (script,) = Reproductions(tmp_path, "mine.py").write(
        "backproof::linear::dw::float64",
        "dw",
        found,
        Candidate(adapter, adapter.implementations["linear"], runner.layer),
    )
    assert len(adapter.target.CALLS) == before
    assert script is not None
    assert "comes first: nothing of it may be left behind" in script.read_text()
