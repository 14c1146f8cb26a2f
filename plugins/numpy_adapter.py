"""The textbook as an adapter: Backproof judges its own plainest loops.

    pytest --impl=backproof.plugins.numpy_adapter

Read it as the shortest example of an adapter that has every option: only the convolution needs a line of its
own, since its loops would take too long on the largest cases.
"""

from __future__ import annotations

from typing import Literal

from backproof.reference.textbook import (
    batchnorm_backward,
    batchnorm_forward,
    conv,
    conv_backward,
    linear_backward,
    linear_forward,
)
from backproof.reference.textbook.numerical import Array

__all__ = [
    "CONFORMANCE",
    "batchnorm_backward",
    "batchnorm_forward",
    "conv_backward",
    "conv_forward",
    "linear_backward",
    "linear_forward",
]

CONFORMANCE = {
    "dtypes": ("float64", "float32", "float16", "bfloat16"),
    "rejects": True,
    "linear": {"ranks": (2, 3)},
    "conv": {"spatial_dims": (1, 2, 3)},
    "batchnorm": {"spatial_dims": (0, 1, 2, 3), "empty_batch": True},
}

#: Some hundredths of a second on one core.
MOST_STEPS = 100_000


def conv_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"],
) -> tuple[Array, conv.ConvCache]:
    """The textbook's; raises NotImplementedError where the loops of its backward would take too long."""
    steps = conv.conv_steps(x.shape, w.shape, stride, padding, dilation, groups, padding_mode)
    if steps > MOST_STEPS:
        raise NotImplementedError(
            f"The loops for dx would take {steps:,} steps here; this adapter stops at {MOST_STEPS:,}."
        )
    return conv.conv_forward(x, w, b, stride, padding, dilation, groups, padding_mode)
