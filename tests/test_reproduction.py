"""A failure's script exits with 1 while the fault is there and with 0 when it is mended, and needs NumPy alone."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.explain import Explainer
from backproof.conformance.judging.item_cases import ItemCases
from backproof.conformance.judging.properties import property_of
from backproof.conformance.reporting.scripts import Reproductions
from backproof.plugins.gallery.runner import runners
from backproof.reference import CONTRACTS, LAYERS
from tests.reproduced import FAULT, FEW, LAYER, LINEAR, failures, saved

pytestmark = pytest.mark.usefixtures("clean_path")

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
