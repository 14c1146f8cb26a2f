"""The textbook's batch norm, against JAX, torch and central differences."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backproof.reference import textbook
from tests.textbook_cases import integers, jax_pullback, plain

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
