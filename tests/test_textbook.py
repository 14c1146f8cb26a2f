"""The textbook, held against what was derived elsewhere: central differences, JAX, lax and torch.

Data of small integers makes every sum exact, so most comparisons here are for equality.
"""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from backproof.plugins import numpy_adapter
from backproof.reference import textbook
from backproof.reference.axis import NUMPY_MODES
from backproof.reference.textbook import conv, numerical

Array = np.ndarray[Any, Any]
MODES = ("zeros", "reflect", "replicate", "circular")


def integers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(-4, 5, shape).astype(np.float64)


def plain(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def jax_pullback(f: Callable[..., Any], arrays: list[Array], dout: Array) -> tuple[Array, list[Array]]:
    """f's value and gradients by JAX, in float64."""
    with jax.enable_x64(True):
        out, pull = jax.vjp(f, *map(jnp.asarray, arrays))
        return np.asarray(out), [np.asarray(gradient) for gradient in pull(jnp.asarray(dout))]


# --- linear -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(1,), (4,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_jax_grad_of_its_definition(leading: tuple[int, ...], bias: bool) -> None:
    rng = np.random.default_rng(1)
    arrays = [integers(rng, (*leading, 5)), integers(rng, (5, 3)), *([integers(rng, (3,))] if bias else [])]
    dout = integers(rng, (*leading, 3))
    out, cache = textbook.linear_forward(*arrays)
    gradients = textbook.linear_backward(dout, cache)

    def definition(x: Any, w: Any, b: Any = 0) -> Any:
        return x @ w + b

    expected_out, expected = jax_pullback(definition, arrays, dout)
    np.testing.assert_array_equal(out, expected_out)
    for gradient, right in zip(gradients, expected, strict=False):
        np.testing.assert_array_equal(gradient, right)
    assert (gradients[2] is None) == (not bias)


def test_linear_against_central_differences() -> None:
    rng = np.random.default_rng(2)
    for _ in range(30):
        batch, inputs, outputs = rng.integers(1, 5, 3)
        arrays = [plain(rng, shape) for shape in [(batch, inputs), (inputs, outputs), (outputs,)]]
        dout = plain(rng, (batch, outputs))
        error = textbook.gradient_check(textbook.linear_forward, textbook.linear_backward, arrays, dout)
        assert error < 1e-9


@pytest.mark.parametrize("leading", [(0,), (0, 3), (3, 0)])
def test_linear_over_an_empty_batch(leading: tuple[int, ...]) -> None:
    out, cache = textbook.linear_forward(np.zeros((*leading, 2)), np.ones((2, 4)), np.ones(4))
    dx, dw, db = textbook.linear_backward(np.zeros((*leading, 4)), cache)
    assert out.shape == (*leading, 4)
    assert dx.shape == (*leading, 2)
    np.testing.assert_array_equal(dw, np.zeros((2, 4)))
    np.testing.assert_array_equal(db, np.zeros(4))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2,), (2, 3)], "x must be"),
        ([(4, 2), (2, 3, 1)], "x must be"),
        ([(4, 3), (2, 3)], "have 3 entries, but w takes 2"),
        ([(4, 2), (2, 3), (2,)], "b must have shape"),
        ([(4, 0), (0, 3)], "at least one input"),
        ([(4, 2), (2, 0)], "at least one input and one output"),
        ([(4, 1), (2, 3)], "have 1 entries, but w takes 2"),
        ([(4, 2), (1, 3)], "have 2 entries, but w takes 1"),
        ([(4, 2), (2, 3), (1,)], "b must have shape"),
        ([(4, 2), (2, 3), (1, 3)], "b must have shape"),
    ],
)
def test_linear_shapes_without_meaning(shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        textbook.linear_forward(*map(np.zeros, shapes))


# --- convolution --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConvCase:
    """Arrays of small integers, and options."""

    x: Array
    w: Array
    b: Array | None
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    mode: str

    @property
    def options(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "padding_mode": self.mode,
        }


def conv_cases(seed: int, count: int, most_steps: int = 6000) -> Iterator[ConvCase]:
    """Drawn cases with meaning, in turn with 1, 2 and 3 axes and in each mode."""
    rng = np.random.default_rng(seed)
    drawn = 0
    while drawn < count:
        axes, mode = 1 + drawn % 3, MODES[drawn // 3 % 4]
        size = {1: 10, 2: 7, 3: 5}[axes]
        groups = int(rng.integers(1, 4))
        group_channels, group_filters = (int(n) for n in rng.integers(1, 3, 2))
        x_shape = (int(rng.integers(1, 4)), groups * group_channels, *rng.integers(1, size, axes).tolist())
        w_shape = (groups * group_filters, group_channels, *rng.integers(1, 4, axes).tolist())
        options = {
            "stride": tuple(rng.integers(1, 4, axes).tolist()),
            "padding": tuple(map(tuple, rng.integers(0, 4, (axes, 2)).tolist())),
            "dilation": tuple(rng.integers(1, 4, axes).tolist()),
            "groups": groups,
            "padding_mode": mode,
        }
        try:
            if textbook.conv_steps(x_shape, w_shape, **options) > most_steps:
                continue
        except ValueError:
            continue
        drawn += 1
        b = integers(rng, w_shape[:1]) if rng.integers(2) else None
        yield ConvCase(
            integers(rng, x_shape),
            integers(rng, w_shape),
            b,
            options["stride"],
            options["padding"],
            options["dilation"],
            groups,
            mode,
        )


def test_drawn_cases_reach_what_matters() -> None:
    cases = list(conv_cases(seed=10, count=360))
    reached = {
        "stride": sum(max(case.stride) > 1 for case in cases),
        "dilation": sum(max(case.dilation) > 1 and max(case.w.shape[2:]) > 1 for case in cases),
        "groups": sum(case.groups > 1 for case in cases),
        "depthwise": sum(1 < case.groups == case.x.shape[1] for case in cases),
        "asymmetric": sum(any(low != high for low, high in case.padding) for case in cases),
        "circular": sum(case.mode == "circular" and np.any(case.padding) for case in cases),
        "reflect": sum(case.mode == "reflect" and np.any(case.padding) for case in cases),
    }
    assert min(reached.values()) >= 30, reached


def test_conv_is_torchs_on_drawn_cases() -> None:
    torch = pytest.importorskip("torch", reason="torch is a second opinion, not a dependency")
    torch.set_num_threads(1)
    rng = np.random.default_rng(11)
    for case in conv_cases(seed=10, count=360):
        out, cache = textbook.conv_forward(case.x, case.w, case.b, **case.options)
        dout = integers(rng, out.shape)
        gradients = textbook.conv_backward(dout, cache)

        arrays = (case.x, case.w, case.b)
        leaves = [None if array is None else torch.tensor(array, requires_grad=True) for array in arrays]
        x, w, b = leaves
        sides = [side for pair in reversed(case.padding) for side in pair]
        padded = torch.nn.functional.pad(x, sides, mode="constant" if case.mode == "zeros" else case.mode)
        convolve = getattr(torch.nn.functional, f"conv{x.ndim - 2}d")
        expected = convolve(padded, w, b, stride=case.stride, dilation=case.dilation, groups=case.groups)
        expected.backward(torch.tensor(dout))
        np.testing.assert_array_equal(out, expected.detach().numpy(), err_msg=str(case))
        for gradient, leaf in zip(gradients, leaves, strict=True):
            if leaf is None:
                assert gradient is None
            else:
                np.testing.assert_array_equal(gradient, leaf.grad.numpy(), err_msg=str(case))


def test_conv_against_central_differences() -> None:
    """A convolution is linear in each of its arrays: with a step of 1 and integers, differences are exact."""
    rng = np.random.default_rng(12)
    for case in conv_cases(seed=13, count=240, most_steps=2500):
        arrays = [case.x, case.w, case.b]
        out, cache = textbook.conv_forward(case.x, case.w, case.b, **case.options)
        dout = integers(rng, out.shape)
        gradients = textbook.conv_backward(dout, cache)
        for place, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
            if array is None or gradient is None:
                assert array is gradient
                continue

            def f(changed: Array, place: int = place, case: ConvCase = case) -> Array:
                given = [case.x, case.w, case.b]
                given[place] = changed
                return textbook.conv_forward(*given, **case.options)[0]

            entries = [tuple(rng.integers(0, array.shape).tolist()) for _ in range(4)]
            expected = textbook.numerical_gradient(f, array, dout, step=1.0, entries=entries)
            for entry in entries:
                assert gradient[entry] == expected[entry], case


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride", "padding", "dilation", "groups", "mode"),
    [
        ((2, 4, 9), (4, 2, 3), (2,), ((1, 3),), (2,), 2, "zeros"),
        ((2, 2, 7), (3, 2, 2), (3,), ((2, 1),), (1,), 1, "circular"),
        ((2, 4, 5, 6), (6, 2, 3, 2), (2, 1), ((0, 2), (1, 0)), (1, 3), 2, "zeros"),
        ((1, 3, 6, 5), (3, 1, 2, 3), (3, 2), ((1, 2), (2, 0)), (2, 1), 3, "reflect"),
        ((1, 2, 4, 5), (2, 2, 1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1, "zeros"),
        ((1, 2, 4, 3, 5), (2, 1, 2, 1, 3), (1, 2, 2), ((1, 0), (0, 1), (2, 2)), (2, 1, 1), 2, "zeros"),
        ((1, 2, 3, 3, 4), (2, 2, 2, 2, 2), (2, 1, 1), ((2, 1), (1, 0), (0, 3)), (1, 2, 1), 1, "replicate"),
    ],
)
def test_conv_is_laxs(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
    mode: str,
) -> None:
    rng = np.random.default_rng(14)
    x, w, b = integers(rng, x_shape), integers(rng, w_shape), integers(rng, w_shape[:1])
    out, cache = textbook.conv_forward(x, w, b, stride, padding, dilation, groups, mode)
    dout = integers(rng, out.shape)

    def definition(x: Any, w: Any, b: Any) -> Any:
        if mode != "zeros":
            x = jnp.pad(x, [(0, 0), (0, 0), *padding], mode=NUMPY_MODES[mode])
        sides = padding if mode == "zeros" else [(0, 0)] * len(stride)
        y = lax.conv_general_dilated(x, w, stride, sides, rhs_dilation=dilation, feature_group_count=groups)
        return y + b.reshape(-1, *[1] * len(stride))

    expected_out, expected = jax_pullback(definition, [x, w, b], dout)
    np.testing.assert_array_equal(out, expected_out)
    for gradient, right in zip(textbook.conv_backward(dout, cache), expected, strict=True):
        np.testing.assert_array_equal(gradient, right)


@pytest.mark.parametrize(
    ("mode", "padding", "padded", "copies"),
    [
        ("zeros", 1, [0, 1, 2, 3, 0], [1, 1, 1]),
        ("reflect", 2, [3, 2, 1, 2, 3, 2, 1], [2, 3, 2]),
        ("replicate", 2, [1, 1, 1, 2, 3, 3, 3], [3, 1, 3]),
        ("circular", 3, [1, 2, 3, 1, 2, 3, 1, 2, 3], [3, 3, 3]),
    ],
)
def test_padding_on_paper(mode: str, padding: int, padded: list[int], copies: list[int]) -> None:
    """At the most that each mode allows; a kernel of one 1 shows the padded input."""
    out, cache = textbook.conv_forward(
        np.array([[[1.0, 2.0, 3.0]]]), np.ones((1, 1, 1)), padding=padding, padding_mode=mode
    )
    assert out.tolist() == [[padded]]
    assert textbook.conv_backward(np.ones_like(out), cache)[0].tolist() == [[copies]]


def test_conv_options_may_be_one_int_one_for_each_axis_or_pairs() -> None:
    rng = np.random.default_rng(15)
    x, w = integers(rng, (1, 2, 5, 6)), integers(rng, (2, 2, 2, 2))
    forward = partial(textbook.conv_forward, x, w)
    right = forward(stride=(2, 2), padding=((1, 1), (1, 1)), dilation=(2, 2))[0]
    np.testing.assert_array_equal(forward(stride=2, padding=1, dilation=2)[0], right)
    np.testing.assert_array_equal(forward(stride=[2, 2], padding=[1, 1], dilation=[2, 2])[0], right)
    right = forward(padding=((1, 1), (2, 2)))[0]
    np.testing.assert_array_equal(forward(padding=(1, 2))[0], right)
    np.testing.assert_array_equal(forward(padding=(1, (2, 2)))[0], right)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(5,), (4, 5), (3, 4, 3)])
def test_conv_over_an_empty_batch(mode: str, size: tuple[int, ...]) -> None:
    w, b = np.ones((2, 3, *[2] * len(size))), np.ones(2)
    out, cache = textbook.conv_forward(np.zeros((0, 3, *size)), w, b, padding=1, padding_mode=mode)
    dx, dw, db = textbook.conv_backward(np.zeros(out.shape), cache)
    assert out.shape == (0, 2, *[n + 1 for n in size])
    assert dx.shape == (0, 3, *size)
    np.testing.assert_array_equal(dw, np.zeros(w.shape))
    np.testing.assert_array_equal(db, np.zeros(2))


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options", "message"),
    [
        ((1, 2), (1, 2), {}, "spatial axes"),
        ((1, 1, 4, 4), (1, 1, 2), {}, "spatial axes"),
        ((1, 0, 4), (1, 0, 2), {}, "Only the batch may be empty"),
        ((1, 2, 4), (0, 2, 2), {}, "Only the batch may be empty"),
        ((1, 1, 0), (1, 1, 1), {"padding": 1}, "Only the batch may be empty"),
        ((1, 1, 4), (1, 1, 0), {}, "Only the batch may be empty"),
        ((1, 3, 4), (2, 1, 2), {"groups": 2}, "groups must divide 3 channels"),
        ((1, 3, 4), (3, 1, 2), {"groups": 2}, "groups must divide 3 channels and 3 filters"),
        ((1, 2, 4), (2, 2, 2), {"groups": -1}, "groups must divide"),
        ((1, 2, 4), (2, 1, 2), {}, "w must take 2 channels a group, but it takes 1"),
        ((1, 2, 4), (2, 1, 2), {"groups": 0}, "groups must divide"),
        ((1, 2, 4), (3, 1, 2), {"groups": 2}, "3 filters"),
        ((1, 4, 4), (2, 4, 2), {"groups": 2}, "w must take 2 channels a group, but it takes 4"),
        ((1, 1, 4), (1, 1, 2), {"stride": 0}, "must be 1 or more"),
        ((1, 1, 4), (1, 1, 2), {"dilation": (0,)}, "must be 1 or more"),
        ((1, 1, 4), (1, 1, 2), {"stride": (1, 1)}, "stride must be one int or 1"),
        ((1, 1, 4), (1, 1, 2), {"padding": (1, 1)}, "padding must be"),
        ((1, 1, 4), (1, 1, 2), {"padding": ((1, 1, 1),)}, "each side of padding"),
        ((1, 1, 4), (1, 1, 2), {"padding": ((2, -1),)}, "must not be negative"),
        ((1, 1, 4), (1, 1, 2), {"padding_mode": "same"}, "zeros, reflect, replicate, circular"),
        ((1, 1, 4), (1, 1, 2), {"padding": 4, "padding_mode": "reflect"}, "less than the size 4"),
        ((1, 1, 4), (1, 1, 2), {"padding": 5, "padding_mode": "circular"}, "at most the size 4"),
        ((1, 1, 4), (1, 1, 3), {"dilation": 2}, "spans 5, but the padded input only 4"),
        ((1, 1, 2), (1, 1, 5), {"padding": 1}, "spans 5, but the padded input only 4"),
        ((1, 1, 4), (1, 1, 2), {"padding": ((0, 4),), "padding_mode": "reflect"}, "less than the size 4"),
        ((1, 1, 1), (1, 1, 1), {"padding": ((1, 0),), "padding_mode": "reflect"}, "less than the size 1"),
        ((1, 1, 4), (1, 1, 2), {"padding": ((-1, 0),), "padding_mode": "replicate"}, "must not be negative"),
    ],
)
def test_conv_cases_without_meaning(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        textbook.conv_forward(np.zeros(x_shape), np.zeros(w_shape), **options)


def test_conv_bias_of_another_shape_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="b must have shape"):
        textbook.conv_forward(np.zeros((1, 1, 3)), np.zeros((2, 1, 2)), np.zeros(1))


# --- batch normalisation ------------------------------------------------------------------------------------


def batchnorm_definition(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean = x.mean(axes, keepdims=True)
    var = ((x - mean) ** 2).mean(axes, keepdims=True)
    return gamma.reshape(shape) * (x - mean) / jnp.sqrt(var + eps) + beta.reshape(shape)


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3), (2, 3, 2, 4), (3, 2, 1, 2, 2)])
def test_batchnorm_is_jax_grad_of_its_definition(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(20)
    arrays = [plain(rng, shape), plain(rng, shape[1:2]), plain(rng, shape[1:2])]
    dout = plain(rng, shape)
    out, cache = textbook.batchnorm_forward(*arrays)
    expected_out, expected = jax_pullback(batchnorm_definition, arrays, dout)
    np.testing.assert_allclose(out, expected_out, rtol=1e-12, atol=1e-13)
    for gradient, right in zip(textbook.batchnorm_backward(dout, cache), expected, strict=True):
        np.testing.assert_allclose(gradient, right, rtol=1e-11, atol=1e-12)


def test_batchnorm_is_jax_grad_of_its_loss() -> None:
    """The same by jax.grad of a scalar, with a loss whose gradient at `out` is not constant."""
    rng = np.random.default_rng(21)
    x, gamma, beta = plain(rng, (6, 2)), plain(rng, (2,)), plain(rng, (2,))

    def loss(*arrays: Any) -> Any:
        return (batchnorm_definition(*arrays) ** 3).sum()

    with jax.enable_x64(True):
        expected = jax.grad(loss, argnums=(0, 1, 2))(*map(jnp.asarray, (x, gamma, beta)))
    out, cache = textbook.batchnorm_forward(x, gamma, beta)
    for gradient, right in zip(textbook.batchnorm_backward(3 * out**2, cache), expected, strict=True):
        np.testing.assert_allclose(gradient, right, rtol=1e-10, atol=1e-12)


def batchnorm_draws(seed: int, count: int) -> Iterator[tuple[np.random.Generator, tuple[int, ...], float]]:
    rng = np.random.default_rng(seed)
    for draw in range(count):
        shape = (int(rng.integers(2, 5)), int(rng.integers(1, 4)), *rng.integers(1, 4, draw % 4).tolist())
        yield rng, shape, float(10.0 ** rng.integers(-5, 1))


def test_batchnorm_against_central_differences() -> None:
    for rng, shape, eps in batchnorm_draws(seed=22, count=60):
        apart = 10.0 * rng.permutation(shape[0])  # far from the sharp bend at a variance of 0
        x = plain(rng, shape) + apart.reshape(-1, *[1] * (len(shape) - 1))
        gamma, beta = (plain(rng, shape[1:2]) if rng.integers(3) else None for _ in range(2))
        forward = partial(textbook.batchnorm_forward, eps=eps)
        error = textbook.gradient_check(forward, textbook.batchnorm_backward, [x, gamma, beta], plain(rng, shape))
        assert error < 1e-8, (shape, eps)


def test_batchnorm_evaluation_against_central_differences() -> None:
    for rng, shape, eps in batchnorm_draws(seed=23, count=40):
        mean, var = plain(rng, shape[1:2]), rng.random(shape[1:2]) + 0.1
        forward = partial(textbook.batchnorm_forward, eps=eps, training=False, running_mean=mean, running_var=var)
        arrays = [plain(rng, shape), plain(rng, shape[1:2]), plain(rng, shape[1:2])]
        error = textbook.gradient_check(forward, textbook.batchnorm_backward, arrays, plain(rng, shape))
        assert error < 1e-8, (shape, eps)


def test_batchnorm_is_torchs_on_drawn_cases() -> None:
    torch = pytest.importorskip("torch", reason="torch is a second opinion, not a dependency")
    torch.set_num_threads(1)
    for draw, (rng, shape, eps) in enumerate(batchnorm_draws(seed=24, count=200)):
        training, momentum = draw % 3 > 0, float(rng.integers(0, 5)) / 4
        x, dout = integers(rng, shape) + plain(rng, shape), plain(rng, shape)
        gamma, beta, mean = (plain(rng, shape[1:2]) for _ in range(3))
        var = rng.random(shape[1:2])
        out, cache, *running = textbook.batchnorm_forward(
            x, gamma, beta, eps, training, running_mean=mean, running_var=var, momentum=momentum
        )
        leaves = [torch.tensor(array, requires_grad=True) for array in (x, gamma, beta)]
        kept = [torch.tensor(array) for array in (mean, var)]
        expected = torch.nn.functional.batch_norm(
            leaves[0], *kept, *leaves[1:], training=training, momentum=momentum, eps=eps
        )
        expected.backward(torch.tensor(dout))
        close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9 / eps, err_msg=f"{shape} {eps}")
        close(out, expected.detach().numpy())
        for ours, theirs in zip(running, kept, strict=True):
            close(ours, theirs.numpy())
        for gradient, leaf in zip(textbook.batchnorm_backward(dout, cache), leaves, strict=True):
            close(gradient, leaf.grad.numpy())


def test_batchnorm_running_statistics_on_paper() -> None:
    x = np.array([[0.0], [2.0], [4.0]])  # mean 2, variance 8/3, unbiased 4
    mean, var = np.array([10.0]), np.array([8.0])
    _, _, new_mean, new_var = textbook.batchnorm_forward(x, running_mean=mean, running_var=var, momentum=0.25)
    assert new_mean.tolist() == [0.75 * 10 + 0.25 * 2]
    assert new_var.tolist() == [0.75 * 8 + 0.25 * 4]
    assert (mean.tolist(), var.tolist()) == ([10.0], [8.0])


def test_batchnorm_evaluation_on_paper() -> None:
    x, dout = np.array([[5.0, 1.0], [1.0, 1.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    mean, var = np.array([1.0, 0.0]), np.array([3.0, 0.0])
    out, cache, same_mean, same_var = textbook.batchnorm_forward(
        x, np.array([3.0, 2.0]), None, eps=1.0, training=False, running_mean=mean, running_var=var
    )
    dx, dgamma, dbeta = textbook.batchnorm_backward(dout, cache)
    assert out.tolist() == [[6.0, 2.0], [0.0, 2.0]]
    assert dx.tolist() == [[1.5, 4.0], [4.5, 8.0]]
    assert dgamma is not None
    assert dgamma.tolist() == [2.0, 6.0]
    assert dbeta is None
    assert (same_mean.tolist(), same_var.tolist()) == (mean.tolist(), var.tolist())
    assert not np.shares_memory(same_mean, mean)


@pytest.mark.parametrize("size", [(), (3,), (2, 2), (1, 2, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_batchnorm_over_an_empty_batch(size: tuple[int, ...], training: bool) -> None:
    x, mean, var = np.zeros((0, 2, *size)), np.array([1.0, 2.0]), np.array([3.0, 4.0])
    out, cache, new_mean, new_var = textbook.batchnorm_forward(
        x, np.ones(2), np.ones(2), training=training, running_mean=mean, running_var=var
    )
    dx, dgamma, dbeta = textbook.batchnorm_backward(x, cache)
    assert out.shape == dx.shape == x.shape
    assert not any(np.isnan(kept).any() for kept in cache)
    for array, right in [(dgamma, [0, 0]), (dbeta, [0, 0]), (new_mean, mean), (new_var, var)]:
        np.testing.assert_array_equal(array, right)


def test_batchnorm_over_one_element() -> None:
    x, ones, beta = np.array([[7.0, -1.0]]), np.ones(2), np.array([0.5, -2.0])
    out, cache, mean, var = textbook.batchnorm_forward(x, ones, beta, running_mean=ones, running_var=ones, momentum=0.5)
    dx, dgamma, dbeta = textbook.batchnorm_backward(np.array([[2.0, 3.0]]), cache)
    assert out.tolist() == [[0.5, -2.0]]
    assert dx.tolist() == [[0.0, 0.0]]
    np.testing.assert_array_equal([dgamma, dbeta], [[0.0, 0.0], [2.0, 3.0]])
    assert (mean.tolist(), var.tolist()) == ([4.0, 0.0], [0.5, 0.5])  # a variance of 0, not of 0 / 0


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4,), {}, "x must be"),
        ((4, 0), {}, "Only the batch may be empty"),
        ((4, 2, 0), {}, "Only the batch may be empty"),
        ((4, 2), {"gamma": np.ones(4)}, "gamma must have shape"),
        ((4, 2), {"beta": np.ones((2, 1))}, "beta must have shape"),
        ((4, 2), {"running_mean": np.ones(3), "running_var": np.ones(2)}, "running_mean must have shape"),
        ((4, 2), {"running_mean": np.ones(2)}, "come together"),
        ((4, 2), {"running_mean": np.ones(2), "running_var": -np.ones(2)}, "negative variance"),
        ((4, 2), {"training": False}, "Evaluation needs"),
        ((4, 2), {"eps": 0.0}, "eps must be above 0"),
        ((4, 2), {"eps": -1e-5}, "eps must be above 0"),
        ((4, 2), {"eps": float("nan")}, "eps must be above 0"),
        ((4, 2), {"gamma": np.ones(1)}, "gamma must have shape"),
        ((4, 2), {"beta": np.ones(1)}, "beta must have shape"),
        ((4, 2), {"running_mean": np.ones(2), "running_var": np.ones(1)}, "running_var must have shape"),
        ((4, 2, 0, 3), {"training": False}, "Only the batch may be empty"),
    ],
)
def test_batchnorm_cases_without_meaning(shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        textbook.batchnorm_forward(np.zeros(shape), **options)


# --- what holds for every layer -----------------------------------------------------------------------------


def every_layer(dtype: Any) -> Iterator[tuple[Any, Any, list[Array], dict[str, Any]]]:
    """Forward, backward, arrays and options of one case for each layer, in the dtype."""
    rng = np.random.default_rng(30)

    def arrays(*shapes: tuple[int, ...]) -> list[Array]:
        return [plain(rng, shape).astype(dtype) for shape in shapes]

    yield textbook.linear_forward, textbook.linear_backward, arrays((3, 4), (4, 2), (2,)), {}
    options: dict[str, Any] = {"stride": 2, "padding": 1, "groups": 2, "padding_mode": "reflect"}
    conv_arrays = arrays((2, 2, 4, 5), (2, 1, 2, 3), (2,))
    yield textbook.conv_forward, textbook.conv_backward, conv_arrays, options
    for training in (True, False):
        statistics = {"running_mean": arrays((3,))[0], "running_var": abs(arrays((3,))[0])}
        kept = {"training": training, "eps": 1e-3, **statistics}
        yield textbook.batchnorm_forward, textbook.batchnorm_backward, arrays((4, 3, 2), (3,), (3,)), kept


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_results_have_the_dtype_and_the_float32_sums_rounded_to_it(dtype: Any) -> None:
    for forward, backward, arrays, options in every_layer(dtype):
        out, cache, *running = forward(*arrays, **options)
        dout = np.linspace(-1, 1, out.size).reshape(out.shape).astype(dtype)
        results = [out, *running, *backward(dout, cache)]
        assert all(result.dtype == np.dtype(dtype) for result in results)
        if np.dtype(dtype).itemsize > 2:
            continue
        wide = {k: v.astype(np.float32) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        out, cache, *running = forward(*[array.astype(np.float32) for array in arrays], **wide)
        expected = [out, *running, *backward(dout.astype(np.float32), cache)]
        for result, right in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, right.astype(dtype))


@pytest.mark.parametrize(("dtype", "large"), [(np.float16, 2048.0), (ml_dtypes.bfloat16, 256.0)])
def test_sums_of_16_bits_are_kept_in_float32(dtype: Any, large: float) -> None:
    # After `large` the format counts in twos: one after the other, the ones behind it would all be lost.
    terms, ones = np.array([large, 1, 1, 1, 1], dtype), np.ones(5, dtype)
    right = large + 4
    out, cache = textbook.linear_forward(terms[None], ones[:, None])
    assert float(out[0, 0]) == right
    assert float(textbook.linear_backward(ones[:1, None], cache)[1][0, 0]) == large
    out, cache = textbook.linear_forward(ones[:, None], ones[:1, None], ones[:1])
    assert [float(gradient.ravel()[0]) for gradient in textbook.linear_backward(terms[:, None], cache)[1:]] == [
        right
    ] * 2
    out, cache = textbook.conv_forward(terms[None, None], ones[None, None])
    assert float(out[0, 0, 0]) == right
    out, cache = textbook.conv_forward(ones[None, None], ones[:1, None, None], ones[:1])
    assert [float(gradient.ravel()[0]) for gradient in textbook.conv_backward(terms[None, None], cache)[1:]] == [
        right
    ] * 2
    out, cache = textbook.batchnorm_forward(ones[:, None], ones[:1], ones[:1])
    assert float(textbook.batchnorm_backward(terms[:, None], cache)[2][0]) == right
    # Half of the mean of five: rounded once, at the end.
    zero, one = np.zeros(1, dtype), ones[:1]
    *_, mean, _ = textbook.batchnorm_forward(terms[:, None], running_mean=zero, running_var=one, momentum=0.5)
    assert mean[0] == np.float32(right / 10).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_float32_parameters_under_16_bits(dtype: Any, training: bool) -> None:
    rng = np.random.default_rng(33)
    x, dout = (plain(rng, (6, 3)).astype(dtype) for _ in range(2))
    gamma, beta, mean, var = (np.float32(abs(plain(rng, (3,)))) for _ in range(4))
    given = {"eps": 1e-3, "training": training, "running_mean": mean, "running_var": var}
    results, expected = [], []
    for found, wide in ((results, False), (expected, True)):
        arrays = [a.astype(np.float32) if wide else a for a in (x, dout)]
        out, cache, *running = textbook.batchnorm_forward(arrays[0], gamma, beta, **given)
        found += [out, *running, *textbook.batchnorm_backward(arrays[1], cache)]
    for name, result, right in zip(("out", "mean", "var", "dx", "dgamma", "dbeta"), results, expected, strict=True):
        assert result.dtype == (dtype if name in ("out", "dx") else np.float32)
        np.testing.assert_array_equal(result, right.astype(result.dtype))


def test_what_holds_no_floating_point_numbers_has_no_gradients() -> None:
    for dtype in (np.dtype("V2"), np.dtype([("a", np.float32)]), np.dtype(bool), np.dtype(np.complex64)):
        with pytest.raises(TypeError, match="Backprop needs floating point arrays"):
            numerical.precision(np.zeros((2, 2)), np.zeros((2, 2), dtype))


def test_gradients_have_the_dtypes_of_their_arrays() -> None:
    x, gamma = np.ones((3, 2), np.float16), np.ones(2, np.float32)
    out, cache, mean, _ = textbook.batchnorm_forward(x, gamma, gamma, running_mean=gamma, running_var=gamma)
    dtypes = [array.dtype for array in (out, mean, *textbook.batchnorm_backward(x, cache))]
    assert dtypes == [np.float16, np.float32, np.float16, np.float32, np.float32]


def test_nothing_that_is_passed_changes_or_comes_back() -> None:
    for forward, backward, arrays, options in every_layer(np.float64):
        dout = np.ones_like(forward(*arrays, **options)[0])
        given = [*arrays, dout, *(v for v in options.values() if isinstance(v, np.ndarray))]
        before = [array.copy() for array in given]
        for array in given:
            array.flags.writeable = False
        out, cache, *running = forward(*arrays, **options)
        first, second = backward(dout, cache), backward(dout, cache)
        for array, copy in zip(given, before, strict=True):
            np.testing.assert_array_equal(array, copy)
            assert not any(np.shares_memory(array, result) for result in [out, *running, *first, *second])
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)
            assert not np.shares_memory(one, other)


def backwards(array: Array) -> Array:
    """The same array on negative strides."""
    turned: Array = array[::-1].copy()[::-1]
    return turned


@pytest.mark.parametrize("arrange", [np.asfortranarray, backwards])
def test_strides_do_not_matter(arrange: Callable[[Array], Array]) -> None:
    for forward, backward, arrays, options in every_layer(np.float64):
        out, cache, *_ = forward(*arrays, **options)
        other, other_cache, *_ = forward(*map(arrange, arrays), **options)
        np.testing.assert_array_equal(other, out)
        dout = plain(np.random.default_rng(31), out.shape)
        for gradient, right in zip(backward(arrange(dout), other_cache), backward(dout, cache), strict=True):
            np.testing.assert_array_equal(gradient, right)


def test_dout_of_another_shape_has_no_meaning() -> None:
    for forward, backward, arrays, options in every_layer(np.float64):
        out, cache, *_ = forward(*arrays, **options)
        ones = np.ones((1,) * out.ndim)
        for wrong in (out[:1], out[..., :1], out[:, :1], out[None], out[0], out[:0], ones, np.ones(1), np.ones(())):
            with pytest.raises(ValueError, match="dout must have shape"):
                backward(wrong, cache)


def test_integers_have_no_gradients() -> None:
    for forward, _, arrays, options in every_layer(np.float64):
        with pytest.raises(TypeError, match="holds int64"):
            forward(arrays[0].astype(np.int64), *arrays[1:], **options)


def test_overflow_gives_infinities_and_no_warning() -> None:
    huge = np.full((1, 1), 60000, np.float16)
    out, cache = textbook.linear_forward(huge, huge)
    assert np.isinf(out).all()
    assert np.isinf(textbook.linear_backward(huge, cache)[0]).all()
    out, cache = textbook.batchnorm_forward(np.array([[1e30], [-1e30]], np.float32))
    textbook.batchnorm_backward(np.ones_like(out), cache)


# --- the comparisons notice mistakes ------------------------------------------------------------------------


def test_central_differences_notice_a_stride_dropped_in_the_backward() -> None:
    rng = np.random.default_rng(40)
    arrays = [plain(rng, (1, 1, 5, 5)), plain(rng, (1, 1, 2, 2)), None]
    forward = partial(textbook.conv_forward, stride=2)
    dout = plain(rng, (1, 1, 2, 2))

    def mistaken(dout: Array, cache: conv.ConvCache) -> Any:
        return textbook.conv_backward(dout, cache._replace(geometry=cache.geometry._replace(stride=(1, 1, 1))))

    assert textbook.gradient_check(forward, textbook.conv_backward, arrays, dout) < 1e-9
    assert textbook.gradient_check(forward, mistaken, arrays, dout) > 1e-2


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_central_differences_notice_padding_that_keeps_its_gradient(mode: str) -> None:
    rng = np.random.default_rng(41)
    arrays = [plain(rng, (1, 1, 4)), plain(rng, (1, 1, 3)), None]
    forward = partial(textbook.conv_forward, padding=1, padding_mode=mode)
    dout = plain(rng, (1, 1, 4))

    def mistaken(dout: Array, cache: conv.ConvCache) -> Any:
        zeros = cache._replace(geometry=cache.geometry._replace(padding_mode="zeros"))
        dx = textbook.conv_backward(dout, zeros)[0]
        return dx, *textbook.conv_backward(dout, cache)[1:]

    assert textbook.gradient_check(forward, textbook.conv_backward, arrays, dout) < 1e-9
    assert textbook.gradient_check(forward, mistaken, arrays, dout) > 1e-2


def test_central_differences_notice_the_path_through_the_mean_left_out() -> None:
    rng = np.random.default_rng(42)
    arrays = [plain(rng, (5, 2)), plain(rng, (2,)), plain(rng, (2,))]
    dout = plain(rng, (5, 2))

    def mistaken(dout: Array, cache: Any) -> Any:
        dx, dgamma, dbeta = textbook.batchnorm_backward(dout, cache)
        return dx + np.mean(dout, axis=0) * cache.scale * cache.inverse, dgamma, dbeta

    check = partial(textbook.gradient_check, textbook.batchnorm_forward, arrays=arrays, dout=dout)
    assert check(textbook.batchnorm_backward) < 1e-8
    assert check(mistaken) > 1e-2


def test_gradient_check_notices_shapes_nans_and_missing_gradients() -> None:
    def forward(x: Array) -> tuple[Array, Array]:
        return 2 * x, x

    for wrong in (np.full(2, np.nan), np.ones((2, 1)), None):
        assert textbook.gradient_check(forward, lambda _, __, w=wrong: [w], [np.ones(2)], np.ones(2)) == np.inf
    with pytest.raises(ValueError, match="zip"):
        textbook.gradient_check(forward, lambda dout, _: [dout, dout], [np.ones(2)], np.ones(2))


# --- central differences ------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [conv, numerical])
def test_examples_of_the_page(module: Any) -> None:
    failed, attempted = doctest.testmod(module)
    assert failed == 0
    assert attempted > 0


def test_numerical_gradient_of_a_known_function() -> None:
    x = np.array([[0.5, -2.0], [300.0, 1e-3]])
    dout = np.array([[1.0, -3.0], [2.0, 0.5]])
    gradient = textbook.numerical_gradient(np.sin, x, dout)
    np.testing.assert_allclose(gradient, dout * np.cos(x), rtol=1e-6)
    only = textbook.numerical_gradient(np.sin, x, dout, entries=[(0, 1)])
    assert only[0, 1] == gradient[0, 1]
    assert np.isnan(only).sum() == 3
    assert np.isnan(textbook.numerical_gradient(np.sin, x, dout, entries=[])).all()


def test_numerical_gradient_leaves_its_argument_and_checks_the_shapes() -> None:
    x = np.arange(3.0)
    x.flags.writeable = False

    def greedy(array: Array) -> Array:
        array *= 2
        return array

    assert textbook.numerical_gradient(greedy, x, np.ones(3), step=1.0).tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="f gives an array of shape"):
        textbook.numerical_gradient(np.sum, x, np.ones(3))


# --- the adapter --------------------------------------------------------------------------------------------


def test_adapter_refuses_what_would_take_too_long() -> None:
    options = {"dilation": (1, 1), "groups": 1, "padding_mode": "zeros"}
    forward = partial(numpy_adapter.conv_forward, np.zeros((2, 2, 12, 12)), np.zeros((2, 2, 3, 3)), **options)
    with pytest.raises(NotImplementedError, match=r"take 2,032,128 steps"):
        forward(stride=(1, 1), padding=((1, 1), (1, 1)))
    out, cache = forward(stride=(4, 4), padding=((0, 0), (0, 0)))
    assert out.shape == (2, 2, 3, 3)
    assert numpy_adapter.conv_backward(out, cache)[0].shape == (2, 2, 12, 12)


def test_adapter_rejects_before_it_refuses() -> None:
    with pytest.raises(ValueError, match="groups must divide"):
        numpy_adapter.conv_forward(
            np.zeros((8, 3, 32, 32)),
            np.zeros((8, 1, 5, 5)),
            stride=(1, 1),
            padding=((0, 0), (0, 0)),
            dilation=(1, 1),
            groups=2,
            padding_mode="zeros",
        )


def test_conv_steps_counts_the_innermost_loop() -> None:
    asked = 0

    class Counted(int):
        def __eq__(self, other: object) -> bool:
            nonlocal asked
            asked += 1
            return int(self) == other

        __hash__ = int.__hash__

    def counting_range(*tolerances: int) -> Iterator[int]:
        return map(Counted, range(*tolerances))

    for case in conv_cases(seed=50, count=24, most_steps=800):
        asked = 0
        out, cache = textbook.conv_forward(case.x, case.w, case.b, **case.options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conv, "range", counting_range, raising=False)
            textbook.conv_backward(out, cache)
        steps = textbook.conv_steps(case.x.shape, case.w.shape, **case.options)
        # The row is asked about at every step, the column only where the rows meet: with one axis, always.
        assert steps < asked <= 2 * steps
        assert asked == 2 * steps or case.x.ndim > 3


def test_textbook_and_adapter_import_numpy_alone() -> None:
    program = (
        "import sys, backproof.reference.textbook, backproof.plugins.numpy_adapter;"
        "print(*{'jax', 'hypothesis', 'torch', 'pytest', 'ml_dtypes', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["numpy"]
