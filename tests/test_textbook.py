"""The textbook, held against what was derived elsewhere: central differences, JAX, lax and torch.

Data of small integers makes every sum exact, so most comparisons here are for equality.
"""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from backproof.plugins import numpy_adapter
from backproof.reference import textbook
from backproof.reference.textbook import conv, numerical
from tests.textbook_cases import Array, conv_cases, integers, jax_pullback, plain

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
