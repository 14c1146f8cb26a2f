"""The references against each other and against what others wrote: the textbook, JAX's own operators, torch."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from backproof.conformance.judging import oracle
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.reference import Reference, ReferencesDisagree
from backproof.conformance.spec.case import Case
from backproof.plugins import numpy_adapter
from backproof.reference.axis import NUMPY_MODES
from tests.spaces import LAYER, PLACES, cases, space

COUNT = 400


def differences(case: Case, reference: Reference, tensors: dict) -> list[str]:
    """What is off, in words: each tensor against the NumPy reference, within the bound of right code."""
    right = reference.expected(case)
    found = []
    for name, got in tensors.items():
        bound = right.tolerances.get(name)
        if bound is not None and name in right.tensors:
            wrong = compare(name, np.asarray(got), right.tensors[name], bound, np.asarray(got).dtype)
            found += [wrong.message] if wrong else []
    return found


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_numpy_and_jax_agree_on_drawn_cases(layer: str, rank: int) -> None:
    reference = Reference(LAYER[layer], space(layer, rank))
    for _, case in cases(layer, rank, COUNT):
        reference.confirm(case)


@pytest.mark.parametrize(("layer", "rank"), [("linear", 2), ("conv", 2), ("batchnorm", 2)])
def test_a_disagreement_is_noticed(layer: str, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Reference(LAYER[layer], space(layer, rank))
    page = type(reference.layer)
    evaluate = page.evaluate

    def shifted(self: object, case: Case) -> dict:
        tensors = evaluate(self, case)
        return {**tensors, "dx": tensors["dx"] + 1}

    monkeypatch.setattr(page, "evaluate", shifted)
    case = next(case for _, case in cases(layer, rank, 20) if reference.expected(case).tolerances["dx"] is not None)
    with pytest.raises(ReferencesDisagree, match="two references disagree"):
        reference.confirm(case)


def test_the_oracle_of_a_whole_profile_compiles_a_few_programs() -> None:
    for layer, ranks in (("linear", (2, 3)), ("conv", (1, 2, 3)), ("batchnorm", (0, 1, 2, 3))):
        classes = {LAYER[layer].program(case).size_class for r in ranks for _, case in cases(layer, r, COUNT)}
        assert classes <= set(LAYER[layer].size_classes)


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_the_textbook_agrees_on_drawn_cases(layer: str, rank: int) -> None:
    reference = Reference(LAYER[layer], space(layer, rank))
    judged = 0
    for _, case in cases(layer, rank, 150):
        if not reference.layer.has_meaning(case):
            continue
        try:
            tensors = textbook(layer, case)
        except NotImplementedError:
            continue
        judged += 1
        assert differences(case, reference, tensors) == []
    assert judged >= 100


def textbook(layer: str, case: Case) -> dict:
    """All tensors of the case from the loops of the literature."""
    arrays = {name: None if a is None else a.copy() for name, a in case.arrays.items()}
    dout = arrays.pop("dout")
    if layer == "linear":
        out, cache = numpy_adapter.linear_forward(*arrays.values())
        return {"out": out} | named("linear", numpy_adapter.linear_backward(dout, cache))
    if layer == "conv":
        out, cache = numpy_adapter.conv_forward(*arrays.values(), **case.options)
        return {"out": out} | named("conv", numpy_adapter.conv_backward(dout, cache))
    options = {name: case.options[name] for name in ("eps", "training", "momentum")}
    out, cache, mean, var = numpy_adapter.batchnorm_forward(**arrays, **options)
    state = {"running_mean": mean, "running_var": var}
    return {"out": out, **state} | named("batchnorm", numpy_adapter.batchnorm_backward(dout, cache))


def named(layer: str, gradients: tuple) -> dict:
    return {name: g for name, g in zip(LAYER[layer].contract.gradients, gradients, strict=True) if g is not None}


def lax_conv(case: Case) -> dict:
    """out and the gradients from lax.conv_general_dilated, padding modes by jnp.pad."""
    options, x, w, b = case.options, case.array("x"), case.array("w"), case.wide["b"]
    dims = x.ndim - 2

    def forward(x, w, b):
        x = jnp.pad(x, ((0, 0), (0, 0), *options["padding"]), mode=NUMPY_MODES[options["padding_mode"]])
        out = lax.conv_general_dilated(
            x,
            w,
            options["stride"],
            [(0, 0)] * dims,
            rhs_dilation=options["dilation"],
            feature_group_count=options["groups"],
        )
        return out + b.reshape(-1, *[1] * dims)

    with jax.enable_x64(True):
        bias = jnp.zeros(len(w)) if b is None else b
        out, pullback = jax.vjp(forward, x, w, bias)
        dx, dw, db = pullback(jnp.asarray(case.array("dout")))
        tensors = {"out": out, "dx": dx, "dw": dw}
        return {k: np.asarray(v) for k, v in (tensors if b is None else {**tensors, "db": db}).items()}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_agrees_with_lax(rank: int) -> None:
    reference = Reference(LAYER["conv"], space("conv", rank))
    for _, case in cases("conv", rank, 4, seed=rank):
        assert differences(case, reference, lax_conv(case)) == []


def test_the_comparison_with_lax_notices_a_stride_that_is_dropped() -> None:
    reference = Reference(LAYER["conv"], space("conv", 2))
    base = LAYER["conv"].base(reference.space) | {"size0": 4, "stride0": 2, "kernel0": 2}
    case = next(iter(LAYER["conv"].fills(LAYER["conv"].build(base, reference.space), reference.space)))
    assert differences(case, reference, lax_conv(case)) == []
    options = {**case.options, "stride": (3, 1)}
    other = replace(case, configuration=replace(case.configuration, options=options))
    dout = case.array("dout")[:, :, : oracle_out(other)]
    other = other.with_arrays({**case.arrays, "dout": dout})
    assert differences(case, reference, lax_conv(other)) != []


def oracle_out(case: Case) -> int:
    size, kernel = case.array("x").shape[2], case.array("w").shape[2]
    return (size - kernel) // case.options["stride"][0] + 1


@pytest.mark.parametrize("layer", ["linear", "batchnorm"])
def test_linear_and_batchnorm_agree_with_jax_grad_of_a_loss(layer: str) -> None:
    reference = Reference(LAYER[layer], space(layer, 2))
    for _, case in cases(layer, 2, 4, seed=3):
        x, dout = case.array("x"), case.array("dout")
        first, second = (case.wide.get(n) for n in (("w", "b") if layer == "linear" else ("gamma", "beta")))

        def loss(x, first, second, case=case, dout=dout):
            if layer == "linear":
                out = x @ first + (0 if second is None else second)
            else:
                axes, shape = (0, 2, 3), (1, -1, 1, 1)
                mean, var = x.mean(axes), x.var(axes)
                if not case.options["training"]:
                    mean, var = case.array("running_mean"), case.array("running_var")
                out = (x - mean.reshape(shape)) * lax.rsqrt(var + case.options["eps"]).reshape(shape)
                out = out * (1 if first is None else first.reshape(shape))
                out = out + (0 if second is None else second.reshape(shape))
            return (out * dout).sum()

        present = [k for k, a in enumerate((x, first, second)) if a is not None]
        with jax.enable_x64(True):
            arguments = [None if a is None else jnp.asarray(a) for a in (x, first, second)]
            gradients = jax.grad(loss, argnums=present)(*arguments)
        names = [LAYER[layer].contract.gradients[k] for k in present]
        assert differences(case, reference, dict(zip(names, map(np.asarray, gradients), strict=True))) == []


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_torch_agrees_on_drawn_cases(layer: str, rank: int) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.set_num_threads(1)
    from backproof.conformance.adapter.candidate import Candidate, Refused
    from backproof.conformance.adapter.load import load
    from backproof.conformance.judging.properties import TENSORS
    from backproof.conformance.spec.results import Status
    from backproof.reference import CONTRACTS

    adapter = load("backproof.plugins.torch_adapter", CONTRACTS)
    candidate = Candidate(adapter, adapter.implementations[layer], LAYER[layer])
    for dtype in ("float64", "float32"):
        reference = Reference(LAYER[layer], space(layer, rank, dtype))
        for _, case in cases(layer, rank, COUNT // 2, dtype, seed=5):
            try:
                judged = TENSORS.judge(case, candidate, reference)
            except Refused:
                continue
            wrong = [found.message for found in judged.values() if not isinstance(found, Status)]
            assert wrong == []


def test_the_oracle_leaves_jax_as_it_finds_it() -> None:
    before = jax.config.jax_enable_x64, jnp.zeros(1).dtype
    _, case = next(cases("linear", 2, 1))
    assert oracle.tensors(LAYER["linear"], case)["out"].dtype == np.float64
    assert (jax.config.jax_enable_x64, jnp.zeros(1).dtype) == before == (False, jnp.float32)
