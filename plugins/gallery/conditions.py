"""Conditions on a case, in words and as a predicate: where a fault shows.

A case has `configuration` (with `shapes`, `rank` and `options`), `options`, `arrays`, `dtype` and `layouts`, as in
backproof.conformance.spec.case; shapes are those of the references, channels first and w as (inputs, outputs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from backproof.conformance.spec.case import Case


@dataclass(frozen=True)
class Condition:
    """A predicate on a case and the words for it; `&`, `|` and `~` combine them."""

    words: str
    holds: Callable[[Case], Any]

    def __call__(self, case: Case) -> bool:
        return bool(self.holds(case))

    def __and__(self, other: Condition) -> Condition:
        return Condition(f"{self.words} and {other.words}", lambda case: self(case) and other(case))

    def __or__(self, other: Condition) -> Condition:
        return Condition(f"{self.words} or {other.words}", lambda case: self(case) or other(case))

    def __invert__(self) -> Condition:
        return Condition(f"not {self.words}", lambda case: not self(case))


def when(words: str) -> Callable[[Callable[[Case], Any]], Condition]:
    """Makes a predicate a condition: that of the function below, or that in the parentheses behind it."""
    return lambda holds: Condition(words, holds)


#: Of faults that no case hides.
ALWAYS = Condition("every case", lambda case: True)


def asked_as(words: str) -> Condition:
    """Every case, where it is asked in this way: "a second backward on one cache".

    What is asked elsewhere passes for that reason alone; no choice of cases keeps the generator away.
    """
    return Condition(words, ALWAYS.holds)


second_backward = asked_as("a second backward on one cache")


class Axis(NamedTuple):
    """One spatial axis of a convolution."""

    size: int
    kernel: int
    stride: int
    dilation: int
    low: int
    high: int

    @property
    def reach(self) -> int:
        """The pixels from the kernel's first tap to its last."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def padded(self) -> int:
        """The size with its padding."""
        return self.size + self.low + self.high

    @property
    def remainder(self) -> int:
        """The pixels behind the last window."""
        return (self.padded - self.reach) % self.stride

    @property
    def out(self) -> int:
        """The number of windows."""
        return (self.padded - self.reach) // self.stride + 1


def shape(case: Case, array: str) -> tuple[int, ...]:
    """The shape of an array that is there."""
    return case.configuration.shape(array)


def axes(case: Case) -> list[Axis]:
    """The spatial axes of a convolution."""
    options = case.options
    lows, highs = zip(*options["padding"], strict=True)
    numbers = zip(
        shape(case, "x")[2:], shape(case, "w")[2:], options["stride"], options["dilation"], lows, highs, strict=True
    )
    return [Axis(*axis) for axis in numbers]


def some_axis(words: str, holds: Callable[[Axis], bool]) -> Condition:
    """Whether it holds for at least one spatial axis."""
    return Condition(words, lambda case: any(map(holds, axes(case))))


def every_axis(words: str, holds: Callable[[Axis], bool]) -> Condition:
    """Whether it holds for all spatial axes."""
    return Condition(words, lambda case: all(map(holds, axes(case))))


strided = some_axis("stride > 1", lambda axis: axis.stride > 1)
left_over = some_axis("remainder > 0", lambda axis: axis.remainder > 0)
dilated = some_axis("dilation > 1", lambda axis: axis.dilation > 1 and axis.kernel > 1)
padded = some_axis("padding > 0", lambda axis: axis.low + axis.high > 0)
unpadded = some_axis("an axis without padding", lambda axis: axis.low + axis.high == 0)
asymmetric = some_axis("padding differs between the sides", lambda axis: axis.low != axis.high)
overpadded = some_axis("padding > dilated kernel - 1", lambda axis: axis.low > axis.reach - 1)
gaps = some_axis("stride > kernel", lambda axis: axis.stride > axis.kernel)
overlap = some_axis("dilated kernel > stride", lambda axis: axis.reach > axis.stride)
several_taps = some_axis("kernel > 1", lambda axis: axis.kernel > 1)
pointwise = every_axis("1x1 kernel", lambda axis: axis.kernel == 1)
even_kernel = some_axis("even kernel", lambda axis: axis.kernel % 2 == 0)


def differs(words: str, of: Callable[[Axis], Any]) -> Condition:
    """Whether something is not the same on all spatial axes."""
    return Condition(words, lambda case: len(set(map(of, axes(case)))) > 1)


stride_differs = differs("stride differs between the axes", lambda axis: axis.stride)
dilation_differs = differs("dilation differs between the axes", lambda axis: axis.dilation)
kernel_differs = differs("kernel differs between the axes", lambda axis: axis.kernel)
non_square = differs("height != width", lambda axis: axis.size) | differs(
    "padded height != padded width", lambda axis: axis.padded
)


grouped = when("groups > 1")(lambda case: case.options["groups"] > 1)
partly_grouped = when("1 < groups < channels")(lambda case: 1 < case.options["groups"] < shape(case, "x")[1])
depthwise = when("depthwise")(lambda case: 1 < case.options["groups"] == shape(case, "x")[1])


def mode(*names: str) -> Condition:
    """Whether the padding mode is one of these and there is padding."""
    words = f"padding_mode {' or '.join(names)}"
    return Condition(words, lambda case: case.options["padding_mode"] in names) & padded


def spatial(rank: int) -> Condition:
    """Whether there are so many spatial axes."""
    words = {1: "one spatial axis", 2: "two spatial axes", 3: "three spatial axes"}[rank]
    return Condition(words, lambda case: case.configuration.rank == rank)


def size(array: str, axis: int, words: str, holds: Callable[[int], bool]) -> Condition:
    """Whether it holds for the size of an array along an axis."""
    return Condition(words, lambda case: holds(shape(case, array)[axis]))


several_samples = size("x", 0, "batch > 1", lambda n: n > 1)
several_channels = size("x", 1, "several channels", lambda n: n > 1)
several_filters = size("w", 0, "several filters", lambda n: n > 1)
empty_batch = size("x", 0, "an empty batch", lambda n: n == 0)
several_pixels = when("several outputs a filter")(lambda case: prod(axis.out for axis in axes(case)) > 1)
stacked = when("more than one leading axis")(lambda case: case.configuration.rank > 2)


@when("several rows")
def several_rows(case: Case) -> bool:
    """Of a linear layer's x, over all its leading axes."""
    return prod(shape(case, "x")[:-1]) > 1


def elements_a_channel(case: Case) -> int:
    """The m of batch norm."""
    batch, _, *pixels = shape(case, "x")
    return batch * prod(pixels)


single = when("one element a channel")(lambda case: elements_a_channel(case) == 1)


@when("images")
def images(case: Case) -> bool:
    """Batch norm's x has pixels, more than one."""
    return prod(shape(case, "x")[2:]) > 1


evaluating = when("eval")(lambda case: not case.options["training"])
training = when("training")(lambda case: case.options["training"])


def missing(array: str) -> Condition:
    """Whether None is passed for an array."""
    return Condition(f"no {array}", lambda case: case.arrays[array] is None)


def lies(array: str, *layouts: str, words: str = "") -> Condition:
    """Whether an array lies in memory in one of these layouts."""
    return Condition(words or f"{array}: {' or '.join(layouts)}", lambda case: case.layouts.get(array) in layouts)


#: The layouts that are no plain array's, and no expanded one's.
SCATTERED = (
    "Fortran",
    "channels last",
    "transposed",
    "batch transposed",
    "step slice",
    "offset slice",
    "negative stride",
    "negative stride, last axis",
)
#: Those with a stride of 0.
EXPANDED = (
    "zero stride",
    "zero stride, writable",
    "zero stride, last axis",
    "expanded over pixels",
    "expanded",
    "expanded, writable",
)


def scattered(array: str) -> Condition:
    """Whether an array is not contiguous and not expanded."""
    return lies(array, *SCATTERED, words=f"{array} is not contiguous")


def expanded(array: str) -> Condition:
    """Whether an array has a stride of 0."""
    return lies(array, *EXPANDED, words=f"{array} is expanded")


def of_dtype(*dtypes: str) -> Condition:
    """Whether x has one of these dtypes."""
    return Condition(" or ".join(dtypes), lambda case: case.dtype in dtypes)


def channel_axes(case: Case) -> tuple[int, ...]:
    """All axes of batch norm's x but that of the channels."""
    return (0, *range(2, len(shape(case, "x"))))


@when("a channel without variance")
def constant(case: Case) -> bool:
    if case.options["training"]:
        return bool((np.ptp(case.array("x"), axis=channel_axes(case)) == 0).any())
    return bool((case.array("running_var") == 0).any())


@when("|mean| > 10 std")
def off_centre(case: Case) -> bool:
    x, rest = case.array("x"), channel_axes(case)
    return bool((np.abs(x.mean(axis=rest)) > 10 * x.std(axis=rest)).any())


no_scale = when("a gamma of 0")(lambda case: (case.array("gamma") == 0).any())


@when("a gamma other than 1")
def scaled(case: Case) -> bool:
    return case.arrays["gamma"] is not None and bool((case.array("gamma") != 1).any())
