"""Names for the axes of each tensor: words, to say which entries are wrong, and letters, for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from backproof.conformance.spec.case import Array, Case, Configuration

_SPATIAL = {
    0: (),
    1: ("column",),
    2: ("row", "column"),
    3: ("plane", "row", "column"),
}
_LETTERS: Mapping[int, tuple[str, ...]] = {0: (), 1: ("w",), 2: ("h", "w"), 3: ("d", "h", "w")}
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


def conv_axes(tensor: str, configuration: Configuration) -> tuple[str, ...]:
    """The letters of the literature: n, c, d, h and w of images, o and c of filters."""
    if tensor in ("b", "db"):
        return ("c",)
    return ("o" if tensor in ("w", "dw") else "n", "c", *_LETTERS[configuration.rank])


def batchnorm_axes(tensor: str, configuration: Configuration) -> tuple[str, ...]:
    """The letters of the literature: n, c, d, h and w."""
    return ("n", "c", *_LETTERS[configuration.rank]) if tensor in ("x", "dx", "out", "dout") else ("c",)


def _shape(tensor: str, case: Case) -> tuple[int, ...]:
    name = _TENSORS.get(tensor, tensor if tensor in case.arrays else tensor[1:])
    return case.configuration.shape(name)


def _along(names: Sequence[str], shape: Sequence[int]) -> dict[str, Array]:
    count = len(shape)
    return {
        name: np.arange(size).reshape([-1 if k == axis else 1 for k in range(count)])
        for axis, (name, size) in enumerate(zip(names, shape, strict=True))
    }
