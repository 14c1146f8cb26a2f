"""Facts about a case of a convolution, most of them true of some axis or of every axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from math import prod
from types import MappingProxyType

import numpy as np

from backproof.conformance.spec.case import Case, Configuration
from backproof.conformance.spec.traits import Facts, Traits, compared, numbers_of, of_dout
from backproof.reference.axis import Axis, axes_from
from backproof.reference.contracts import PADDING_MODES

#: Conditions on one axis, the plainest first.
OF_AN_AXIS: Mapping[str, Callable[[Axis], bool]] = MappingProxyType(
    {
        "stride > 1": lambda a: a.stride > 1,
        "remainder > 0": lambda a: a.remainder > 0,
        "kernel > 1": lambda a: a.kernel > 1,
        "padding > 0": lambda a: a.low + a.high > 0,
        "several windows": lambda a: a.out > 1,
        "dilation > 1": lambda a: a.dilation > 1 and a.kernel > 1,
        "dilation option > 1": lambda a: a.dilation > 1,
        "low padding > 0": lambda a: a.low > 0,
        "high padding > 0": lambda a: a.high > 0,
        "low padding != high padding": lambda a: a.low != a.high,
        "low padding > high padding": lambda a: a.low > a.high,
        "low padding < high padding": lambda a: a.low < a.high,
        "padding = 0": lambda a: a.low == a.high == 0,
        "even kernel": lambda a: a.kernel % 2 == 0,
        "stride > kernel": lambda a: a.stride > a.kernel,
        "stride > dilated kernel": lambda a: a.stride > a.reach,
        "dilated kernel > stride": lambda a: a.reach > a.stride,
        "low padding > dilated kernel - 1": lambda a: a.low >= a.reach,
        "high padding > dilated kernel - 1": lambda a: a.high >= a.reach,
        "low padding < dilated kernel": lambda a: a.low < a.reach,
        "high padding < dilated kernel": lambda a: a.high < a.reach,
        "padding > dilated kernel - 1": lambda a: max(a.low, a.high) >= a.reach,
        "stride != dilation": lambda a: a.stride != a.dilation,
        "stride > 2": lambda a: a.stride > 2,
        "kernel > 2": lambda a: a.kernel > 2,
        "kernel != 3": lambda a: a.kernel != 3,
        "padding > 1": lambda a: max(a.low, a.high) > 1,
        "remainder > 1": lambda a: a.remainder > 1,
        "remainder = 0": lambda a: a.remainder == 0,
        "remainder >= dilation": lambda a: a.remainder >= a.dilation,
        "several pixels": lambda a: a.size > 1,
        "padding > size": lambda a: max(a.low, a.high) > a.size,
        "padding = size": lambda a: max(a.low, a.high) == a.size,
        "a tap between the strides": lambda a: any(k * a.dilation % a.stride for k in range(a.kernel)),
        "stride of no divisor of the padding": lambda a: a.low % a.stride > 0,
        "more windows by the padding": lambda a: a.out > _windows(a, a.size),
        "more windows by the high padding": lambda a: a.out > _windows(a, a.size + a.low),
        "more windows by the low padding": lambda a: a.out > _windows(a, a.size + a.high),
        "more windows with the low padding on both sides": lambda a: a.out < _windows(a, a.size + 2 * a.low),
        "other windows with the low padding on both sides": lambda a: a.out != _windows(a, a.size + 2 * a.low),
        "fewer windows by the dilation": lambda a: a.out < (a.padded - a.kernel) // a.stride + 1,
        "low padding != half the padding": lambda a: a.low != (a.low + a.high) // 2,
        "one window": lambda a: a.out == 1,
        "one pixel": lambda a: a.size == 1,
        "kernel larger than the padded axis": lambda a: a.room < 0,
        "negative padding": lambda a: min(a.low, a.high) < 0,
    }
)
#: The lengths of an axis, in words before its name.
LENGTHS: Mapping[str, Callable[[Axis], int]] = MappingProxyType(
    {
        "size": lambda a: a.size,
        "kernel": lambda a: a.kernel,
        "stride": lambda a: a.stride,
        "dilation": lambda a: a.dilation,
        "low padding": lambda a: a.low,
        "high padding": lambda a: a.high,
        "windows": lambda a: a.out,
        "padded size": lambda a: a.padded,
        "remainder": lambda a: a.remainder,
    }
)
AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_CONDITIONS = tuple(OF_AN_AXIS.values())
_ONES, _OTHERS = np.triu_indices(len(OF_AN_AXIS), 1)


def _windows(axis: Axis, padded: int) -> int:
    return (padded - axis.reach) // axis.stride + 1


@cache
def _of_one_axis(axis: Axis) -> tuple[bool, ...]:
    return tuple([condition(axis) for condition in _CONDITIONS])


@cache
def _names(rank: int) -> tuple[str, ...]:
    """The names of the facts about all axes: true of some axis, of every axis, or two true of one axis."""
    some = tuple(OF_AN_AXIS)
    if rank == 1:
        return some
    every = [f"{words} on every axis" for words in some]
    pairs = [f"{one} and {other} on one axis" for one, other in combinations(some, 2)]
    return (*some, *every, *pairs)


def _of_all_axes(axes: Sequence[Axis]) -> Iterator[tuple[str, bool]]:
    truth = np.array([_of_one_axis(axis) for axis in axes])
    columns = [truth.any(axis=0)]
    if len(axes) > 1:
        columns += [truth.all(axis=0), (truth[:, _ONES] & truth[:, _OTHERS]).any(axis=0)]
    return zip(_names(len(axes)), np.concatenate(columns).tolist(), strict=True)


def _axes(configuration: Configuration) -> list[Axis]:
    return axes_from(configuration.shape("x")[2:], configuration.shape("w")[2:], configuration.options)


def _of_configuration(configuration: Configuration) -> Facts:
    (batch, channels, *pixels), (filters, own, *taps) = configuration.shape("x"), configuration.shape("w")
    axes, groups = _axes(configuration), configuration.options["groups"]
    mode, padded = (
        configuration.options["padding_mode"],
        any(low + high for low, high in configuration.options["padding"]),
    )
    names = AXES[len(axes)]
    sizes = {"batch": batch, "channels": channels, "filters": filters, "groups": groups}
    facts: dict[str, bool | int | float] = {**sizes}
    facts |= {"channels of a group": own, "filters of a group": filters // max(1, groups)}
    facts["1x1 kernel"] = prod(taps) == 1
    facts["kernel of several taps"] = prod(taps) > 1
    facts |= {f"padding_mode {name}": mode == name for name in PADDING_MODES}
    facts |= {f"padding_mode {name} and padding > 0": mode == name and padded for name in PADDING_MODES[1:]}
    facts["padding_mode other than zeros and padding > 0"] = mode != "zeros" and padded
    facts |= _of_all_axes(axes)
    facts |= {"outputs of a filter": prod(configuration.shape("dout")[2:]), "pixels": prod(pixels)}
    facts["samples and outputs of a filter"] = batch * prod(configuration.shape("dout")[2:])
    if len(axes) > 1:
        for words, length in LENGTHS.items():
            lengths = [length(axis) for axis in axes]
            facts[f"{words} differs between the axes"] = len(set(lengths)) > 1
            facts |= {f"{words} of the {name}": n for name, n in zip(names, lengths, strict=True)}
            if len(axes) > 2:
                facts |= {
                    f"{words} of {one} and {other} differ": first != second
                    for (one, first), (other, second) in combinations(zip(names, lengths, strict=True), 2)
                }
    facts["depthwise with several filters a channel"] = 1 < groups == channels < filters
    facts["channels of a group != filters of a group"] = own * groups != filters
    facts |= compared(sizes, ("batch", "channels", "filters"))
    facts |= {
        "entries of x": batch * channels * prod(pixels),
        "entries of the padded x": batch * channels * prod([a.padded for a in axes]),
        "taps": prod(taps),
        "entries of w": filters * own * prod(taps),
    }
    facts["w has the shape of x"] = configuration.shapes["x"] == configuration.shapes["w"]
    facts["w has another shape than x"] = not facts["w has the shape of x"]
    facts |= of_dout(configuration.shape("dout"), (batch, filters, *[axis.out for axis in axes]))
    facts["out has an axis of 1"] = 1 in configuration.shape("dout")
    facts["x has an axis of 1"] = 1 in configuration.shape("x")
    facts["w with other channels than a group of x"] = own * groups != channels
    facts["groups that do not divide the filters"] = groups > 0 and filters % groups > 0
    facts["groups that do not divide the channels"] = groups > 0 and channels % groups > 0
    return facts


def _of_numbers(case: Case) -> Facts:
    facts: dict[str, bool | int | float] = dict(numbers_of(case.wide))
    facts["a fraction anywhere"] = not case.integral
    facts["a fraction in x or dout"] = bool(facts.get("a fraction in x") or facts.get("a fraction in dout"))
    return facts


TRAITS = Traits(_of_configuration, _of_numbers)
