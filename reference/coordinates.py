"""Names for the axes of each tensor, to say which entries are wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backproof.conformance.spec.case import Array, Case

_SPATIAL = {
    0: (),
    1: ("column",),
    2: ("row", "column"),
    3: ("plane", "row", "column"),
}
_TENSORS = {"out": "dout", "dx": "x", "dw": "w"}


def linear(tensor: str, case: Case) -> dict[str, Array]:
    """Rows, inputs and outputs; of more than one leading axis each by its number."""
    shape = _shape(tensor, case)
    lead = ["sample"] if case.configuration.rank == 2 else [f"index of axis {k}" for k in range(len(shape) - 1)]
    names = {"out": [*lead, "output"], "dx": [*lead, "input"], "dw": ["input", "output"], "db": ["output"]}
    return _along(names[tensor], shape)


def conv(tensor: str, case: Case) -> dict[str, Array]:
    """Samples, channels, filters, groups, rows and columns of pixels and of taps."""
    shape, groups = _shape(tensor, case), case.options["groups"]
    spatial = _SPATIAL[case.configuration.rank]
    names: dict[str, Sequence[str]] = {
        "out": ["sample", "filter", *spatial],
        "dx": ["sample", "channel", *spatial],
        "dw": ["filter", "channel of a group", *(f"{name} of taps" for name in spatial)],
        "db": ["filter"],
    }
    found = _along(names[tensor], shape)
    for name in ("filter", "channel"):
        if name in found and groups > 1:
            at = found[name]
            found["group"] = at // (at.size // groups)
    return found


def batchnorm(tensor: str, case: Case) -> dict[str, Array]:
    """Samples, channels, rows and columns of pixels."""
    shape = _shape(tensor, case)
    if len(shape) == 1:
        return _along(["channel"], shape)
    return _along(["sample", "channel", *_SPATIAL[len(shape) - 2]], shape)


def _shape(tensor: str, case: Case) -> tuple[int, ...]:
    name = _TENSORS.get(tensor, tensor if tensor in case.arrays else tensor[1:])
    return case.configuration.shape(name)


def _along(names: Sequence[str], shape: Sequence[int]) -> dict[str, Array]:
    count = len(shape)
    return {
        name: np.arange(size).reshape([-1 if k == axis else 1 for k in range(count)])
        for axis, (name, size) in enumerate(zip(names, shape, strict=True))
    }
