"""The torch adapter's conversions: every memory layout that torch has, in every dtype, and no copy on the way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from backproof.conformance.adapter.load import load  # noqa: E402  after torch is known to be there
from backproof.conformance.cases.profile import PROFILES  # noqa: E402
from backproof.conformance.explaining.explain import results  # noqa: E402
from backproof.conformance.judging.session import Session  # noqa: E402
from backproof.plugins import torch_adapter  # noqa: E402
from backproof.reference import CONTRACTS, LAYERS  # noqa: E402

Array = np.ndarray[Any, Any]
DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
NAMES = ("float64", "float32", "float16", "bfloat16")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def numbers(shape: tuple[int, ...], dtype: Any) -> Array:
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape).astype(dtype)


def odd(array: Array) -> Array:
    """The array with an axis of size 1 before it, at a stride that no C-contiguous array has."""
    return np.lib.stride_tricks.as_strided(array, (1, *array.shape), (5 * array.itemsize, *array.strides))


#: Arrays of three axes that are no fresh C-contiguous ones.
LAYOUTS: dict[str, Callable[[Any], Array]] = {
    "transposed": lambda dtype: numbers((4, 3, 2), dtype).T,
    "channels last": lambda dtype: np.moveaxis(numbers((2, 4, 3), dtype), -1, 1),
    "every other": lambda dtype: numbers((4, 6, 8), dtype)[::2, ::2, ::2],
    "inner part": lambda dtype: numbers((4, 5, 6), dtype)[1:3, 1:4, 1:5],
    "expanded": lambda dtype: np.broadcast_to(numbers((2, 1, 4), dtype), (2, 3, 4)),
    "one number": lambda dtype: np.broadcast_to(numbers((1,), dtype), (2, 3, 4)),
    "odd stride of a size of 1": lambda dtype: odd(numbers((3, 4), dtype)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_carried_over_and_the_memory_shared(layout: str, dtype: Any) -> None:
    array = LAYOUTS[layout](dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # np.broadcast_to's arrays are read-only
        tensor = torch_adapter.from_numpy(array)
    assert tuple(tensor.shape) == array.shape
    assert tuple(tensor.stride()) == tuple(stride // array.itemsize for stride in array.strides)
    assert tensor.data_ptr() == array.__array_interface__["data"][0]
    back = torch_adapter.to_numpy(tensor)
    assert back.dtype == array.dtype
    assert back.strides == array.strides
    assert np.shares_memory(back, array)
    np.testing.assert_array_equal(back.astype(np.float64), array.astype(np.float64))


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 4), (1,), (2, 3)])
def test_empty_and_plain_arrays(shape: tuple[int, ...], dtype: Any) -> None:
    array = numbers(shape, dtype)
    back = torch_adapter.to_numpy(torch_adapter.from_numpy(array))
    assert back.shape == shape
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back.astype(np.float64), array.astype(np.float64))


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
def test_negative_strides_are_not_supported(dtype: Any) -> None:
    with pytest.raises(ValueError, match="negative"):
        torch_adapter.from_numpy(numbers((2, 3), dtype)[::-1])


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
def test_a_read_only_array_is_shared_so_that_a_write_would_show(dtype: Any) -> None:
    array = numbers((2, 3), dtype)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = torch_adapter.from_numpy(array)
    tensor[0, 0] = 7
    assert float(array[0, 0]) == 7


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
def test_running_statistics_change_in_the_arrays_that_were_passed(dtype: Any) -> None:
    x, mean, var = numbers((4, 2), dtype), np.zeros(2, dtype), np.ones(2, dtype)
    convert = torch_adapter.from_numpy
    *_, new_mean, new_var = torch_adapter.batchnorm_forward(
        convert(x), running_mean=convert(mean), running_var=convert(var), momentum=0.5
    )
    for array, tensor, right in ((mean, new_mean, [1.5, 2.0]), (var, new_var, [0.5 + 10 / 3, 0.5 + 10 / 3])):
        np.testing.assert_array_equal(torch_adapter.to_numpy(tensor), array)
        np.testing.assert_allclose(array.astype(np.float64), right, rtol=1e-2)


def test_expanded_gradients_come_back() -> None:
    # db of a sum's dout: torch keeps such tensors at a stride of 0.
    for dtype in (torch.float32, torch.bfloat16):
        back = torch_adapter.to_numpy(torch.ones(1, dtype=dtype).expand(3))
        assert back.shape == (3,)
        assert back.strides == (0,)


def test_convolutions_in_16_bits_which_torch_gets_wrong_on_the_cpu_are_refused() -> None:
    geometry: dict[str, Any] = {"padding": ((0, 0),), "dilation": (1,), "groups": 1, "stride": (1,)}
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x, w = torch.ones(1, 1, 3, dtype=dtype), torch.ones(1, 1, 1, dtype=dtype)
        if dtype.itemsize == 2:
            with pytest.raises(NotImplementedError, match="in 16 bits are wrong on the CPU"):
                torch_adapter.conv_forward(x, w, **geometry)
        else:
            torch_adapter.conv_forward(x, w, **geometry)


def test_strided_statistics_that_torch_misreads_in_eval_are_refused() -> None:
    x, strided = torch.ones(3, 2, dtype=torch.float64), torch.ones(4, dtype=torch.float64)[::2]
    for training in (True, False):
        given = {"training": training, "running_mean": strided.clone(), "running_var": strided.clone()}
        torch_adapter.batchnorm_forward(x, **given)
    torch_adapter.batchnorm_forward(x, training=True, running_mean=strided, running_var=strided.clone())
    with pytest.raises(NotImplementedError, match="reads running statistics as contiguous"):
        torch_adapter.batchnorm_forward(x, training=False, running_mean=strided, running_var=strided.clone())


def test_batch_norm_of_one_sample_in_the_order_of_fortran() -> None:
    # Here torch's own backward gives a dgamma of zero.
    x = np.tile([0.0, 2.0], (1, 2, 1, 3))
    for given in map(torch_adapter.from_numpy, (x, np.asfortranarray(x))):
        _, cache, *_ = torch_adapter.batchnorm_forward(given, torch.ones(2, dtype=torch.float64), eps=1.0)
        dgamma = torch_adapter.batchnorm_backward(torch_adapter.from_numpy(x), cache)[1]
        assert dgamma.tolist() == pytest.approx([6 / 2**0.5] * 2)


def test_a_kernel_in_another_layout_beside_channels_last() -> None:
    # Here torch's own backward raises "slow_conv2d: grad_weight must be contiguous".
    x = torch.ones(2, 3, 5, 4, dtype=torch.float64).to(memory_format=torch.channels_last)
    w = torch_adapter.from_numpy(np.asfortranarray(np.ones((1, 3, 2, 1))))
    geometry = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}
    out, cache = torch_adapter.conv_forward(x, w, **geometry)
    dx, dw, db = torch_adapter.conv_backward(torch.ones_like(out), cache)
    assert dx.shape == x.shape
    assert dw.tolist() == torch.full((1, 3, 2, 1), 32.0).tolist()
    assert db is None


def test_it_conforms_in_every_dtype() -> None:
    profile = replace(PROFILES["quick"], examples=10, sweep=15, others=8, tile_edges=(9,))
    session = Session(load("backproof.plugins.torch_adapter", CONTRACTS), LAYERS, profile, 0)
    verdicts = results(session, known=True)
    wrong = {v.item.path: v.counterexamples[0].discrepancy.message for v in verdicts if v.outcome == "failed"}
    assert wrong == {}
    assert {v.item.dtype for v in verdicts if v.judged} == set(NAMES)
