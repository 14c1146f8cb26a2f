"""PyTorch's layers as an adapter: torch.nn.functional forward, torch.autograd backward. Any torch 2.

    pytest --impl=backproof.plugins.torch_adapter

On the CPU. `on("cuda")` is the same adapter on another device; name it in a module of your own to judge it:

    from backproof.plugins.torch_adapter import on
    cuda = on("cuda")          # pytest --impl=mymodule.py:cuda
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


class TorchAdapter:
    """The forward/backward pairs on one device."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        "dtypes": ("float64", "float32", "float16", "bfloat16"),
        "linear": {"ranks": (2, 3)},
        "conv": {"spatial_dims": (1, 2, 3)},
        "batchnorm": {"spatial_dims": (0, 1, 2, 3)},
    }

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)

    def from_numpy(self, a: NDArray[Any]) -> torch.Tensor:
        """The array as a tensor on the adapter's device; on the CPU it shares the array's memory and its strides.

        torch warns of a read-only array and shares it all the same; it raises ValueError for negative strides.
        """
        if a.dtype.name == "bfloat16":  # which torch takes from NumPy as integers of the same size alone
            return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16).to(self.device)
        return torch.from_numpy(a).to(self.device)

    def to_numpy(self, tensor: torch.Tensor) -> NDArray[Any]:
        """The tensor as an array."""
        tensor = tensor.detach().cpu()
        if tensor.dtype is torch.bfloat16:
            import ml_dtypes

            return np.asarray(tensor.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
        return np.asarray(tensor.numpy())

    def linear_forward(self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> Any:
        """torch.nn.functional.linear; w is (D, C), so it goes in transposed."""
        leaves = _leaves(x, w, b)
        out = functional.linear(leaves[0], leaves[1].T, leaves[2])
        return out.detach(), (out, leaves)

    def linear_backward(self, dout: torch.Tensor, cache: Any) -> Any:
        """torch.autograd."""
        return _pulled_back(dout, cache)

    def conv_forward(
        self,
        x: torch.Tensor,
        w: torch.Tensor,
        b: torch.Tensor | None = None,
        stride: tuple[int, ...] = (1,),
        padding: tuple[tuple[int, int], ...] = ((0, 0),),
        dilation: tuple[int, ...] = (1,),
        groups: int = 1,
        padding_mode: str = "zeros",
    ) -> Any:
        """torch.nn.functional.conv1d, conv2d, conv3d; padding that differs between sides goes through pad.

        Raises NotImplementedError in 16 bits on the CPU, where torch keeps sums in the format itself and, with oneDNN,
        leaves memory unwritten: docs/findings.md.
        """
        if x.element_size() < 4 and x.device.type == "cpu":
            raise NotImplementedError("torch's convolutions in 16 bits are wrong on the CPU")
        leaves = _leaves(x, w, b)
        source, same = leaves[0], [low for low, _ in padding]
        if padding_mode != "zeros" or any(low != high for low, high in padding):
            sides = [side for pair in reversed(padding) for side in pair]
            source, same = _padded(source, sides, padding_mode), [0] * len(padding)
        # Some of torch's backwards on the CPU raise for a w that is not contiguous ("grad_weight must be contiguous").
        out = _CONV[len(stride)](source, leaves[1].contiguous(), leaves[2], stride, same, dilation, groups)
        return out.detach(), (out, leaves)

    def conv_backward(self, dout: torch.Tensor, cache: Any) -> Any:
        """torch.autograd."""
        return _pulled_back(dout, cache)

    def batchnorm_forward(
        self,
        x: torch.Tensor,
        gamma: torch.Tensor | None = None,
        beta: torch.Tensor | None = None,
        eps: float = 1e-5,
        training: bool = True,
        running_mean: torch.Tensor | None = None,
        running_var: torch.Tensor | None = None,
        momentum: float = 0.1,
    ) -> Any:
        """torch.nn.functional.batch_norm, which updates the running statistics in place.

        Raises NotImplementedError for one element a channel in training, which torch refuses, and for strided running
        statistics in eval, which torch's backward on the CPU reads as if they were contiguous.
        """
        if training and x.numel() == x.shape[1]:
            raise NotImplementedError("torch wants more than one element a channel in training")
        if not training and not all(t is None or t.is_contiguous() for t in (running_mean, running_var)):
            raise NotImplementedError("torch reads running statistics as contiguous in eval")
        leaves = _leaves(x, gamma, beta)
        # Torch 2.13 on the CPU reads a gamma or beta that is not contiguous as if it were (dx in its backward, in
        # bfloat16 out as well): without this the item `memory_layout` fails.
        gamma, beta = (None if leaf is None else leaf.contiguous() for leaf in leaves[1:])
        # A sample whose odd strides pass for channels last (NumPy's order "F") gets wrong gradients
        # there, and so does such a dout.
        source = leaves[0].contiguous() if len(x) == 1 else leaves[0]
        out = functional.batch_norm(source, running_mean, running_var, gamma, beta, training, momentum, eps)
        return out.detach(), (out, leaves), running_mean, running_var

    def batchnorm_backward(self, dout: torch.Tensor, cache: Any) -> Any:
        """torch.autograd."""
        return _pulled_back(dout.contiguous() if len(dout) == 1 else dout, cache)


def on(device: str) -> TorchAdapter:
    """The adapter on another device, such as "cuda"."""
    return TorchAdapter(device)


def _leaves(*tensors: torch.Tensor | None) -> list[Any]:
    return [None if t is None else t.detach().requires_grad_() for t in tensors]


def _pulled_back(dout: torch.Tensor, cache: Any) -> list[torch.Tensor | None]:
    out, leaves = cache
    present = [leaf for leaf in leaves if leaf is not None]
    # The graph is kept, so that a cache may serve several backwards.
    gradients = iter(torch.autograd.grad(out, present, dout, retain_graph=True))
    return [None if leaf is None else next(gradients) for leaf in leaves]


def _padded(x: torch.Tensor, sides: list[int], mode: str) -> torch.Tensor:
    if mode == "zeros":
        return functional.pad(x, sides)
    return functional.pad(x, sides, mode=mode)


_CPU = TorchAdapter()
CONFORMANCE = TorchAdapter.CONFORMANCE
from_numpy, to_numpy = _CPU.from_numpy, _CPU.to_numpy
linear_forward, linear_backward = _CPU.linear_forward, _CPU.linear_backward
conv_forward, conv_backward = _CPU.conv_forward, _CPU.conv_backward
batchnorm_forward, batchnorm_backward = _CPU.batchnorm_forward, _CPU.batchnorm_backward
