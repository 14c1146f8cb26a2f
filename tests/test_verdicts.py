"""Whole verdicts on small adapters, written as users write them."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.explain import results
from backproof.conformance.explaining.item_result import ItemResult
from backproof.conformance.judging.session import Session
from backproof.conformance.reporting.build import item_record
from backproof.reference import CONTRACTS, LAYERS

LINEAR = """
import numpy as np

def linear_forward(x, w, b):
    return x @ w + b, (x, w)

def linear_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(0)
"""


def verdicts(text: str, folder: Path, profile: str = "quick") -> dict[str, ItemResult]:
    """Every item's verdict by its check; one part and one dtype only."""
    (folder / "adapter.py").write_text(text)
    session = Session(load(str(folder / "adapter.py"), CONTRACTS), LAYERS, PROFILES[profile], 0)
    return {result.item.check: result for result in results(session)}


def failing(text: str, folder: Path, profile: str = "quick") -> dict[str, str]:
    """The kind of each failing item."""
    found = verdicts(text, folder, profile)
    return {c: v.counterexamples[0].discrepancy.kind for c, v in found.items() if v.outcome == "failed"}


def test_a_second_backward_that_gives_nothing_is_no_repetition(tmp_path: Path) -> None:
    text = LINEAR.replace("(x, w)\n\ndef", "[x, w]\n\ndef").replace(
        "    x, w = cache\n", "    if not cache:\n        return {GIVES}\n    x, w = cache\n    cache.clear()\n"
    )
    for gives in ("None, None, None", "{}", "()"):
        assert failing(text.replace("{GIVES}", gives), tmp_path) == {"repeatability": "state"}
    raises = text.replace("return {GIVES}", "raise NotImplementedError")
    assert failing(raises, tmp_path) == {"repeatability": "state"}


def test_a_forward_that_can_be_called_only_once_before_its_backward_is_noticed(tmp_path: Path) -> None:
    text = LINEAR.replace(
        "    return x @ w + b, (x, w)",
        "    if busy:\n        raise RuntimeError('backward first')\n    busy.append(1)\n    return x @ w + b, (x, w)",
    ).replace("    x, w = cache\n", "    x, w = cache\n    busy.clear()\n")
    assert failing("busy = []\n" + text, tmp_path) == {"repeatability": "crash"}


def test_a_buffer_that_the_backward_reuses_is_not_the_forwards_fault(tmp_path: Path) -> None:
    text = LINEAR.replace("    return x @ w + b, (x, w)", "    out = x @ w + b\n    return out, (x, w, out)").replace(
        "    x, w = cache\n", "    x, w, scratch = cache\n    np.multiply(dout, 1.0, out=scratch)\n"
    )
    assert failing(text, tmp_path) == {}


BATCHNORM = """
import numpy as np
def batchnorm_forward(x, running_mean, running_var):
    mean, var, m = x.mean(0), x.var(0), len(x)
    std = np.sqrt(var + 1e-5)
    xhat = (x - mean) / std
    {FORWARD}
    return xhat, (xhat, std, running_mean, running_var, mean, var, m)

def batchnorm_backward(dout, cache):
    xhat, std, running_mean, running_var, mean, var, m = cache
    {BACKWARD}
    return ((dout - dout.mean(0) - xhat * (dout * xhat).mean(0)) / std,)
"""
UPDATE = "running_mean *= .9; running_mean += .1 * mean; running_var *= .9; running_var += .1 * var * m / max(m - 1, 1)"


def test_running_statistics_are_the_forwards_business(tmp_path: Path) -> None:
    right = BATCHNORM.replace("{FORWARD}", UPDATE).replace("{BACKWARD}", "")
    assert failing(right, tmp_path) == {}
    late = BATCHNORM.replace("{FORWARD}", "").replace("{BACKWARD}", UPDATE)
    assert failing(late, tmp_path) == {"running_mean": "value", "running_var": "value"}
    twice = BATCHNORM.replace("{FORWARD}", UPDATE).replace("{BACKWARD}", "running_mean += 1")
    assert failing(twice, tmp_path) == {"running_mean": "state"}


CONV = Path(__file__).parent.parent / "benchmarks" / "candidates" / "im2col.py"


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("dx[:, 16:] = 0", "dx"),
        ("dw[16:] = 0", "dw"),
        ("dx[7:] = 0", "dx"),
        ("dx[:, :, 32:] = 0", "dx"),
        ("dw[:] = dw * (1 + (groups >= 16))", "dw"),
    ],
)
def test_what_goes_wrong_behind_a_tiles_edge_is_found(dims: int, fault: str, check: str, tmp_path: Path) -> None:
    """With the full geometry, where drawing alone rarely gets there."""
    text = CONV.read_text().replace('"spatial_dims": (1, 2)', f'"spatial_dims": ({dims},)')
    text = text.replace('"dtypes": ("float64", "float32")', '"dtypes": ("float64",)')
    text = "".join(text.partition("def batchnorm_forward")[:1])
    last = "    return np.ascontiguousarray(dx), dw, dout.sum((0, *range(2, dout.ndim)))"
    assert last in text
    changed = last.replace("np.ascontiguousarray(dx)", "dx")
    text = text.replace(last, f"    dx = np.array(dx)\n    {fault}\n{changed}")
    assert set(failing(text, tmp_path)) >= {check}


def test_messages_speak_of_the_candidates_own_layout(tmp_path: Path) -> None:
    text = """
CONFORMANCE = {"linear": {"weight": "oi"}}
def linear_forward(x, w, b):
    return x @ w.T + b, (x, w)
def linear_backward(dout, cache):
    x, w = cache
    return dout @ w, x.T @ dout, dout.sum(0)
"""
    found = verdicts(text, tmp_path)["dw"].counterexamples
    shape = next(f for f in found if f.discrepancy.kind == "shape")
    outputs, inputs = (shape.case.configuration.parameters[n] for n in ("outputs", "inputs"))
    assert f"dw has shape ({inputs}, {outputs}), must be ({outputs}, {inputs})." in shape.discrepancy.message
    assert shape.discrepancy.expected is not None
    assert shape.discrepancy.expected.shape == (outputs, inputs)


def test_options_are_shown_as_they_were_written(tmp_path: Path) -> None:
    text = """
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
def conv_forward(x, w, b, stride: "int | tuple[int, int]"):
    s = (1, 1) if isinstance(stride, int) else stride
    windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, ::s[0], ::s[1]]
    return np.einsum("nchwij,ocij->nohw", windows, w) + b[:, None, None], None
def conv_backward(dout, cache):
    raise NotImplementedError
"""
    out = verdicts(text, tmp_path)["out"]
    layer = next(layer for layer in LAYERS if layer.name == "conv")
    settings = load(str(tmp_path / "adapter.py"), CONTRACTS).implementations["conv"].settings
    call = item_record(out, "id", layer, settings, again="again").failures[0].calls[0]
    stride = out.counterexamples[0].case.options["stride"]
    assert f"stride={stride[0]}" in call
    assert f"stride={stride}" not in call


def test_a_candidate_that_fails_now_and_then_is_told_so(tmp_path: Path) -> None:
    text = "import random\nR = random.Random(5)\n" + LINEAR.replace(
        "    return x @ w + b", "    if R.random() < 0.3:\n        raise ValueError('now')\n    return x @ w + b"
    )
    found = verdicts(text, tmp_path)["out"]
    assert found.outcome == "failed"
    assert found.counterexamples[0].discrepancy.message == "linear_forward raised ValueError: now."
    assert not found.counterexamples[0].proved


def test_an_exception_that_cannot_be_printed_is_a_crash_like_any_other(tmp_path: Path) -> None:
    text = LINEAR.replace("    return x @ w + b", "    raise E\n    return x @ w + b") + (
        "\nclass E(Exception):\n    def __str__(self):\n        raise RuntimeError\n"
    )
    assert failing(text, tmp_path) == {"out": "crash"}


@pytest.mark.parametrize("setting", ["jax_numpy_rank_promotion', 'raise", "jax_transfer_guard', 'disallow"])
def test_the_oracle_does_not_mind_what_the_adapter_configures_in_jax(setting: str, tmp_path: Path) -> None:
    text = f"import jax\njax.config.update('{setting}')\n" + LINEAR
    (tmp_path / "adapter.py").write_text(text)
    done = run(tmp_path, "adapter.py")
    assert done.returncode == 0, done.stdout


def test_a_file_called_jax_beside_the_adapter_is_not_taken_for_jax(tmp_path: Path) -> None:
    (tmp_path / "adapter.py").write_text(LINEAR)
    (tmp_path / "jax.py").write_text(LINEAR)
    for spec in ("adapter.py", "jax.py"):
        done = run(tmp_path, spec)
        assert done.returncode == 0, done.stdout


def run(folder: Path, spec: str) -> subprocess.CompletedProcess[str]:
    arguments = [f"--impl={spec}", "--impl-profile=quick", "--impl-examples=5", "-q", "backproof::linear::dx"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_drawing_is_as_quiet_as_the_candidates_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = type(next(layer for layer in LAYERS if layer.name == "linear"))
    fill = page.fill

    def careless(self, configuration, tape, space):
        warnings.warn("drawn", stacklevel=1)
        assert (np.full(1, 1e-300) * 1e-300).item() == 0
        return fill(self, configuration, tape, space)

    monkeypatch.setattr(page, "fill", careless)
    with np.errstate(all="raise"):
        assert failing(LINEAR, tmp_path) == {}
