"""Tolerances, from both sides: right code stays far inside, the smallest harmful fault falls outside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backproof.conformance.case import Case
from backproof.conformance.law import Law
from backproof.conformance.verdict import compare
from tests.conventions import vectorised
from tests.spaces import LAYER, PLACES, cases, space

ARRAYS = {"linear": ("x", "w", "b"), "conv": ("x", "w", "b"), "batchnorm": ("x", "gamma", "beta")}


def computed(layer: str, case: Case) -> dict[str, np.ndarray]:
    """Right code's results, in the case's own precision."""
    dtype = case.array("dout").dtype if case.dtype == "float64" else case.precision.dtype
    arrays = {n: None if a is None else np.asarray(a) for n, a in case.arrays.items()}
    x, dout = arrays["x"], arrays["dout"]
    width = x.shape[1] if layer == "batchnorm" else dout.shape[-1 if layer == "linear" else 1]
    b = np.zeros(width, dtype) if arrays[ARRAYS[layer][2]] is None else arrays[ARRAYS[layer][2]]
    if layer == "linear":
        rows, up = x.reshape(-1, x.shape[-1]), dout.reshape(-1, width)
        out, cache = vectorised.linear_forward(rows, arrays["w"], b)
        dx, dw, db = vectorised.linear_backward(up, cache)
        return {"out": out.reshape(dout.shape), "dx": dx.reshape(x.shape), "dw": dw, "db": db}
    if layer == "conv":
        o = case.options
        out, cache = vectorised.conv_forward(x, arrays["w"], b, o["stride"], o["padding"], o["dilation"], o["groups"])
        return {"out": out, **dict(zip(("dx", "dw", "db"), vectorised.conv_backward(dout, cache), strict=True))}
    gamma = np.ones(width, dtype) if arrays["gamma"] is None else arrays["gamma"]
    o = case.options
    state = arrays["running_mean"], arrays["running_var"]
    out, cache, mean, var = vectorised.batchnorm_forward(x, gamma, b, o["eps"], o["training"], *state, o["momentum"])
    gradients = dict(zip(("dx", "dgamma", "dbeta"), vectorised.batchnorm_backward(dout, cache), strict=True))
    return {"out": out, **gradients, "running_mean": mean, "running_var": var}


def without_modes(layer: str, rank: int, dtype: str):
    """The space without padding modes, which the vectorised implementation lacks."""
    full = space(layer, rank, dtype)
    options = tuple(option for option in full.signature.options if option != "padding_mode")
    return replace(full, signature=replace(full.signature, options=options))


def asked(layer: str, rank: int, dtype: str, count: int) -> list[tuple[Law, Case]]:
    where = without_modes(layer, rank, dtype)
    law = Law(LAYER[layer], where)
    found = (case for _, case in cases(layer, rank, count, dtype, seed=9))
    return [(law, c) for c in found if c.options.get("padding_mode", "zeros") == "zeros"]


@pytest.mark.parametrize(("layer", "rank"), PLACES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_right_code_stays_below_half_of_the_bound(layer: str, rank: int, dtype: str) -> None:
    worst: dict[str, float] = {}
    for law, case in asked(layer, rank, dtype, 300):
        right = law.right(case)
        results = computed(layer, case)
        for tensor, expected in right.tensors.items():
            bound = right.bounds[tensor]
            if bound is None:
                continue
            assert compare(tensor, results[tensor], expected, bound, case.precision.dtype) is None
            error = np.abs(results[tensor].astype(np.float64) - expected)
            inside = np.asarray(np.broadcast_to(bound, error.shape))
            ratio = np.divide(error, inside, out=np.zeros_like(error), where=inside > 0)
            worst[tensor] = max(worst.get(tensor, 0.0), float(ratio.max(initial=0.0)))
    assert worst
    assert {tensor: ratio for tensor, ratio in worst.items() if ratio >= 0.5} == {}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sums_one_after_the_other_stay_inside_in_eval_too(dtype: str) -> None:
    law = Law(LAYER["batchnorm"], without_modes("batchnorm", 2, dtype))
    base = law.layer.base(law.space) | {"batch": 33, "size0": 16, "training": 0}
    generator, worst = np.random.default_rng(2), 0.0
    for _ in range(20):
        configuration = law.layer.build(base, law.space)
        assert configuration is not None
        # Equal terms round alike: the errors of a long sum add up rather than cancel.
        values = {name: generator.uniform(0.1, 2) for name in configuration.shapes}
        arrays = {n: np.full(s, values[n], dtype) for n, s in configuration.shapes.items() if s}
        case = Case(configuration, dtype, arrays)
        right, results = law.right(case), computed("batchnorm", case)
        scale = 1 / np.sqrt(arrays["running_var"] + np.dtype(dtype).type(case.options["eps"]))
        xhat = (arrays["x"] - arrays["running_mean"]) * scale
        results["dgamma"] = np.cumsum(arrays["dout"] * xhat, dtype=dtype)[-1:]
        results["dbeta"] = np.cumsum(arrays["dout"], dtype=dtype)[-1:]
        for tensor in ("dgamma", "dbeta"):
            error = np.abs(results[tensor].astype(float) - right.tensors[tensor])
            worst = max(worst, float((error / right.bounds[tensor]).max()))
    # More than what eight roundings give, which is all that eval has outside of its sums.
    assert 8 / (33 * 16 + 8) < worst < 0.5


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_zeros_never_pass_for_something(layer: str, rank: int) -> None:
    seen: dict[str, list[bool]] = {}
    for law, case in asked(layer, rank, "float32", 200):
        right = law.right(case)
        for tensor, expected in right.tensors.items():
            bound = right.bounds[tensor]
            if bound is None or not (np.abs(expected) > 1e-3 * np.abs(case.array("dout")).max()).any():
                continue
            found = compare(tensor, np.zeros_like(expected), expected, bound, np.dtype(np.float64))
            seen.setdefault(tensor, []).append(found is not None)
    assert set(seen) == set(LAYER[layer].tensors(space(layer, rank).signature))
    assert {tensor: np.mean(noticed) for tensor, noticed in seen.items() if np.mean(noticed) < 0.98} == {}


def test_small_integers_are_judged_exactly_and_only_they() -> None:
    for layer, rank in (("linear", 2), ("conv", 2)):
        for law, case in asked(layer, rank, "float32", 100):
            bounds = law.right(case).bounds.values()
            assert all(isinstance(bound, float) for bound in bounds) == case.integral
        loose = Law(LAYER[layer], replace(without_modes(layer, rank, "float32"), exact=False))
        for _, case in asked(layer, rank, "float32", 30):
            right = loose.right(case)
            assert all(np.min(right.bounds[t]) > 0 for t in ("out", "dx", "dw") if np.any(right.tensors[t]))


def linear_case(inputs: int, dtype: str) -> tuple[Law, Case]:
    law = Law(LAYER["linear"], space("linear", 2, dtype))
    base = law.layer.base(law.space) | {"inputs": inputs, "batch0": 1}
    configuration = law.layer.build(base, law.space)
    assert configuration is not None
    generator = np.random.default_rng(0)
    arrays = {
        name: None if shape is None else generator.standard_normal(shape).astype(case_dtype(dtype))
        for name, shape in configuration.shapes.items()
    }
    return law, Case(configuration, dtype, arrays)


def case_dtype(dtype: str):
    return space("linear", 2, dtype).precision.dtype


@pytest.mark.parametrize(("dtype", "terms"), [("float64", 2048), ("float32", 2048), ("float16", 64), ("bfloat16", 64)])
def test_one_term_of_average_size_left_out_of_a_sum_shows(dtype: str, terms: int) -> None:
    law, case = linear_case(terms, dtype)
    right = law.right(case)
    products = case.array("x")[0] * case.array("w")[:, 0]
    average = products[np.argmin(np.abs(np.abs(products) - np.abs(products).mean()))]
    short = right.tensors["out"] - average
    assert compare("out", short, right.tensors["out"], right.bounds["out"], np.dtype(float)) is not None


def batchnorm_case(m: int, eps: int, dtype: str) -> tuple[Law, Case]:
    law = Law(LAYER["batchnorm"], space("batchnorm", 0, dtype))
    base = law.layer.base(law.space) | {"batch": m, "channels": 2, "eps": eps}
    configuration = law.layer.build(base, law.space)
    assert configuration is not None
    generator = np.random.default_rng(1)
    arrays = {
        name: None if shape is None else np.abs(generator.standard_normal(shape) + (name != "x"))
        for name, shape in configuration.shapes.items()
    }
    arrays["x"] = generator.standard_normal(configuration.shape("x"))
    arrays = {n: None if a is None else a.astype(case_dtype(dtype)) for n, a in arrays.items()}
    return law, Case(configuration, dtype, arrays)


@pytest.mark.parametrize(("dtype", "m"), [("float64", 64), ("float32", 64)])
def test_the_unbiased_variance_shows(dtype: str, m: int) -> None:
    law, case = batchnorm_case(m, 0, dtype)
    right = law.right(case)
    for tensor in ("out", "dx", "dgamma"):
        expected = right.tensors[tensor]
        beta = case.array("beta") if tensor == "out" else 0.0
        wrong = (expected - beta) * np.sqrt((m - 1) / m) + beta
        assert compare(tensor, wrong, expected, right.bounds[tensor], np.dtype(float)) is not None


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_eps_outside_the_root_shows_at_a_tenth(dtype: str) -> None:
    law, case = batchnorm_case(5, 1, dtype)
    law, case = batchnorm_case(5, next(k for k in range(11) if eps_of(k, dtype) == 0.1), dtype)
    x, gamma, beta = case.array("x"), case.array("gamma"), case.array("beta")
    right = law.right(case)
    wrong = gamma * (x - x.mean(0)) / (x.std(0) + 0.1) + beta
    assert compare("out", wrong, right.tensors["out"], right.bounds["out"], np.dtype(float)) is not None


def eps_of(index: int, dtype: str) -> float:
    law = Law(LAYER["batchnorm"], space("batchnorm", 0, dtype))
    configuration = law.layer.build(law.layer.base(law.space) | {"eps": index}, law.space)
    return 0.0 if configuration is None else configuration.options["eps"]
