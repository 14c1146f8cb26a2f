"""Cases and definitions that the textbook's tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backproof.reference import textbook

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
