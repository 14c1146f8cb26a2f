"""The textbook's convolution, against JAX, torch and central differences."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from backproof.reference import textbook
from backproof.reference.axis import NUMPY_MODES
from tests.textbook_cases import MODES, Array, ConvCase, conv_cases, integers, jax_pullback


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
