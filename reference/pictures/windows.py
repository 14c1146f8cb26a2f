"""Which pixels each window reads: the geometry of a failing case whose options have strides and padding."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from backproof.conformance.spec.picture import PicturedCase

MODES: Mapping[str, Literal["reflect", "edge", "wrap"]] = {
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}
Position = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """One spatial axis. Positions are counted from the first pixel, so that those of the padding before it are below 0.

    `name` is h, w or d; "" for an axis that the case does not have.
    """

    name: str
    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    low: int = 0
    high: int = 0
    mode: str = "zeros"

    @property
    def extent(self) -> int:
        """How many pixels a window spans."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def outputs(self) -> int:
        """How many windows fit."""
        return (self.size + self.low + self.high - self.extent) // self.stride + 1

    @property
    def positions(self) -> range:
        """Every position, the padding's too."""
        return range(-self.low, self.size + self.high)

    @property
    def left_over(self) -> range:
        """The positions behind the last window."""
        return range((self.outputs - 1) * self.stride + self.extent - self.low, self.size + self.high)

    @cached_property
    def pixels(self) -> Mapping[int, int | None]:
        """The pixel that stands at each position; None where a zero does."""
        inside: list[int | None]
        if self.mode == "zeros":
            inside = [None] * self.low + list(range(self.size)) + [None] * self.high
        else:
            inside = np.pad(np.arange(self.size), (self.low, self.high), mode=MODES[self.mode]).tolist()
        return dict(zip(self.positions, inside, strict=True))

    def taps(self, output: int) -> list[int]:
        """The positions that the taps of a window read."""
        return [output * self.stride + k * self.dilation - self.low for k in range(self.kernel)]

    def reaching(self, pixel: int) -> list[tuple[int, int, int]]:
        """Each output that reads a pixel, the tap that does, and the position where it does."""
        return [
            (output, tap, position)
            for output in range(self.outputs)
            for tap, position in enumerate(self.taps(output))
            if self.pixels[position] == pixel
        ]


@dataclass(frozen=True)
class Windows:
    """A case's axes: always three, the first ones of size 1 where there are fewer."""

    axes: tuple[Axis, Axis, Axis]
    rank: int
    groups: int
    channels: int
    filters: int
    last: bool

    @property
    def outputs(self) -> tuple[int, int, int]:
        """How many windows there are along each axis."""
        depth, height, width = self.axes
        return depth.outputs, height.outputs, width.outputs

    def spatial(self, index: Sequence[int]) -> Position:
        """The position of an entry of an image, on three axes."""
        own = index[1:-1] if self.last else index[2:]
        return (0,) * (3 - self.rank) + tuple(own)

    def channel(self, index: Sequence[int]) -> int:
        """The channel of an entry of an image."""
        return index[-1] if self.last else index[1]

    def image(self, sample: int, channel: int, position: Position) -> Position:
        """The index in an image of a position on three axes."""
        own = position[3 - self.rank :]
        return (sample, *own, channel) if self.last else (sample, channel, *own)

    def filter(self, index: Sequence[int]) -> Position:
        """The taps of an entry of the filters, on three axes."""
        return (0,) * (3 - self.rank) + tuple(index[2:])

    def first_channel(self, output: int) -> int:
        """The first channel that an output channel is made of."""
        return output // (self.filters // self.groups) * (self.channels // self.groups)

    def first_filter(self, channel: int) -> int:
        """The first output channel that a channel goes into."""
        return channel // (self.channels // self.groups) * (self.filters // self.groups)

    def reaching(self, pixel: Position) -> list[tuple[Position, Position, Position]]:
        """Each output that reads a pixel, the tap that does, and the position where it does."""
        each = itertools.product(*(axis.reaching(at) for axis, at in zip(self.axes, pixel, strict=True)))
        return [tuple(zip(*one, strict=True)) for one in each]  # type: ignore[misc]


def windows(case: PicturedCase) -> Windows | None:
    """The geometry of a failing case; None where its shapes or options have no meaning."""
    options, x, w = case.options, case.shapes.get("x"), case.shapes.get("w")
    if x is None or w is None or len(x) != len(w) or not all((*x, *w)):
        return None
    last, rank, groups = "x" in case.orders, len(x) - 2, options["groups"]
    sizes, channels = (x[1:-1], x[-1]) if last else (x[2:], x[1])
    if channels != w[1] * groups or w[0] % groups:
        return None
    mode = options["padding_mode"]
    own = [
        Axis(
            name,
            sizes[k],
            w[2 + k],
            options["stride"][k],
            options["dilation"][k],
            options["padding"][k][0],
            options["padding"][k][1],
            mode,
        )
        for k, name in enumerate("dhw"[3 - rank :])
    ]
    for axis in own:
        pads = max(axis.low, axis.high)
        too_much = pads >= axis.size if mode == "reflect" else pads > axis.size if mode == "circular" else False
        if min(axis.low, axis.high) < 0 or axis.stride < 1 or axis.dilation < 1 or axis.outputs < 1 or too_much:
            return None
    depth, height, width = [Axis("", 1, 1)] * (3 - rank) + own
    return Windows((depth, height, width), rank, groups, channels, w[0], last)
