"""What is asked of a layer where nothing is drawn: the shapes of a course, and a careful author's list.

"course": one configuration a layer, with the shapes and numbers of the notebooks of CS231n. "careful": about ten a
layer, as a diligent author writes them down. An option that a layer does not have stays plain, so that some of the ten
fall together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from backproof.conformance.adapter.load import Adapter
from backproof.conformance.spec.case import Array, Case, Configuration, rounded
from backproof.conformance.spec.layer import Layer, Space
from backproof.reference.axis import Axis

SETTINGS = ("course", "careful")


class Rows(NamedTuple):
    """A linear layer: rows along the last leading axis, inputs, outputs."""

    rows: int
    inputs: int
    outputs: int
    bias: int = 1


class Windows(NamedTuple):
    """A convolution: channels and filters are those of one group, `axes` the first two."""

    batch: int
    channels: int
    filters: int
    axes: tuple[Axis, Axis]
    groups: int = 1
    mode: str = "zeros"
    bias: int = 1


class Norm(NamedTuple):
    """A batch norm."""

    batch: int
    channels: int
    training: int = 1
    eps: float = 1e-5
    momentum: float = 0.1
    gamma: int = 1
    beta: int = 1


LINEAR = (
    Rows(10, 6, 5),
    Rows(1, 4, 3),
    Rows(3, 1, 2),
    Rows(5, 7, 1),
    Rows(8, 8, 8),
    Rows(17, 9, 4),
    Rows(4, 33, 2),
    Rows(2, 3, 17),
    Rows(65, 2, 2),
    Rows(4, 3, 2, bias=0),
)


def _axes(size: tuple[int, int], kernel: tuple[int, int] = (3, 3), **more: tuple[int, int]) -> tuple[Axis, Axis]:
    """Two axes of these sizes; `stride`, `dilation`, `low`, `high` and `pad` (both sides) hold a number for each."""
    plain = {"stride": (1, 1), "dilation": (1, 1), "low": (0, 0), "high": (0, 0)}
    if "pad" in more:
        more["low"] = more["high"] = more.pop("pad")
    every = {"size": size, "kernel": kernel, **plain, **more}
    return Axis(**{name: pair[0] for name, pair in every.items()}), Axis(**{n: pair[1] for n, pair in every.items()})


CONV = (
    Windows(4, 3, 2, _axes((5, 5), pad=(1, 1))),
    Windows(2, 2, 3, _axes((5, 6), (3, 2))),
    Windows(2, 2, 2, _axes((5, 6), stride=(2, 2), pad=(1, 1))),
    Windows(1, 2, 3, _axes((7, 5), stride=(2, 1), pad=(1, 0))),
    Windows(2, 1, 2, _axes((7, 6), (3, 2), dilation=(2, 2))),
    Windows(2, 2, 2, _axes((4, 5), pad=(1, 1)), groups=2),
    Windows(3, 1, 1, _axes((4, 4), pad=(1, 1)), groups=3),
    Windows(2, 3, 2, _axes((4, 5), (1, 1), stride=(2, 2))),
    Windows(2, 2, 1, _axes((4, 5), (2, 3), low=(1, 0), high=(0, 2))),
    Windows(3, 1, 2, _axes((7, 8), (3, 2), stride=(2, 3), dilation=(2, 1), pad=(1, 2)), groups=2),
    Windows(2, 1, 2, _axes((17, 3), (2, 2))),
    Windows(2, 2, 2, _axes((4, 4)), bias=0),
    *(Windows(1, 2, 2, _axes((4, 5), pad=(1, 2)), mode=mode) for mode in ("reflect", "replicate", "circular")),
)

BATCHNORM = (
    Norm(4, 5),
    Norm(3, 3),
    Norm(7, 1),
    Norm(33, 3),
    Norm(3, 17),
    Norm(5, 4, eps=1e-3),
    Norm(5, 4, momentum=0.9),
    Norm(4, 5, training=0),
    Norm(6, 3, training=0, eps=1e-3),
    Norm(4, 3, gamma=0, beta=0),
    Norm(4, 3, beta=0),
)
#: The spatial axes of batch norm's images, and how many there are at most.
IMAGE, MOST_IMAGES = (3, 4, 2), 5


def _linear(row: Rows, space: Space, layer: Layer) -> Configuration | None:
    lead = (*[2] * (space.rank - 2), row.rows) if space.rank > 1 else ()
    sizes = {f"batch{k}": size for k, size in enumerate(lead)}
    return layer.build({**sizes, **row._asdict(), "bias": _presence("b", row.bias, space)}, space)


def _presence(array: str, wanted: int, space: Space) -> int:
    """Whether an array is passed: not where it is not taken, always where None is not allowed."""
    return int(space.takes(array) and (bool(wanted) or array not in space.signature.nullable))


def _conv(row: Windows, space: Space, layer: Layer) -> Configuration | None:
    axes = [*row.axes, _third(row.axes[1])][: space.rank]
    for option in ("stride", "dilation"):
        if not space.takes(option):
            axes = [axis._replace(**{option: 1}) for axis in axes]
    if not space.takes("padding"):
        axes = [axis._replace(low=0, high=0) for axis in axes]
    spellings = {}
    for option, fields in (("stride", ("stride",)), ("dilation", ("dilation",)), ("padding", ("low", "high"))):
        spellings[f"{option}_form"], axes = _written(axes, fields, space.spellings(option))
    groups = row.groups if space.takes("groups") else 1
    # Without groups as many channels and filters, in one.
    channels, filters = (size * row.groups // groups for size in (row.channels, row.filters))
    modes = space.spellings("padding_mode") if space.takes("padding_mode") else ("zeros",)
    parameters = {
        "batch": row.batch,
        "groups": groups,
        "channels": channels,
        "filters": filters,
        "bias": _presence("b", row.bias, space),
        "mode": modes.index(row.mode) if row.mode in modes else 0,
        **spellings,
    }
    for k, axis in enumerate(axes):
        parameters |= axis.parameters(k)
    return layer.build(parameters, space)


def _third(axis: Axis) -> Axis:
    """The last axis of a volume: the second one's options on as few pixels as they allow."""
    return axis._replace(size=max(2, axis.low + 1, axis.high + 1), kernel=min(2, axis.kernel), dilation=1)


def _written(axes: list[Axis], fields: Sequence[str], spellings: Sequence[str]) -> tuple[int, list[Axis]]:
    """The plainest form that can say what the axes have, else the richest, with the axes as far as it can say them."""
    for k, spelling in enumerate(spellings):
        said = axes
        if spelling == "int":
            said = [axis._replace(**dict.fromkeys(fields, getattr(axes[0], fields[0]))) for axis in axes]
        elif spelling == "axes":
            said = [axis._replace(**dict.fromkeys(fields, getattr(axis, fields[0]))) for axis in axes]
        if said == axes or k == len(spellings) - 1:
            break
    return k, said


def _batchnorm(row: Norm, space: Space, layer: Layer) -> Configuration | None:
    parameters = {
        "batch": min(row.batch, MOST_IMAGES) if space.rank else row.batch,
        "channels": row.channels,
        **{f"size{k}": size for k, size in enumerate(IMAGE[: space.rank])},
        "eps": 0,
        "momentum": 0,
        "training": row.training if space.takes("training") and space.signature.state else 1,
        "gamma": _presence("gamma", row.gamma, space),
        "beta": _presence("beta", row.beta, space),
    }
    found = layer.build(parameters, space)
    if found is None:
        return None
    asked = {option: getattr(row, option) for option in ("eps", "momentum") if space.takes(option)}
    return replace(found, options={**found.options, **asked})


WRITTEN: Mapping[str, tuple[Sequence[Any], Callable[[Any, Space, Layer], Configuration | None]]] = {
    "linear": (LINEAR, _linear),
    "conv": (CONV, _conv),
    "batchnorm": (BATCHNORM, _batchnorm),
}


Key = tuple[Any, ...]


def questions(adapter: Adapter, layer: Layer, setting: str, dtypes: Sequence[str]) -> Iterator[tuple[Key, Space, Case]]:
    """What a candidate is asked: in the course one configuration, else the list, for every rank that it declares.

    The key of a case is the same for every candidate that is asked it.
    """
    implementation = adapter.implementations[layer.name]
    rows, build = WRITTEN[layer.name]
    ranks = [rank for part in layer.parts(implementation.settings) for rank in part.ranks]
    if setting == "course":
        rows, ranks = rows[:1], [2 if layer.name == "conv" and 2 in ranks else ranks[0]]
    for dtype in dtypes:
        seen = set()
        for rank in ranks:
            space = Space(implementation.signature, implementation.settings, rank, dtype)
            for number, row in enumerate(rows):
                found = build(row, space, layer)
                if found is None:
                    continue
                key = (dtype, rank, str(found.shapes), str(found.options), str(found.spellings))
                if key not in seen:
                    seen.add(key)
                    yield key, space, Case(found, dtype, rounded(_numbers(found, number), layer.dtypes(space)))


def _numbers(configuration: Configuration, number: int) -> dict[str, Array | None]:
    """Normal ones; in the course's batch norm x has mean 12 and standard deviation 5, as there, else 1 and 2."""
    generator = np.random.default_rng(number)
    arrays = {
        name: None if shape is None else generator.standard_normal(shape)
        for name, shape in configuration.shapes.items()
    }
    if "momentum" in configuration.parameters:
        mean, deviation = (1, 2) if number else (12, 5)
        moved = {"x": lambda a: mean + deviation * a, "running_mean": lambda a: mean + a}
        moved["running_var"] = lambda a: deviation**2 * np.exp(a / 4)
        arrays |= {name: move(arrays[name]) for name, move in moved.items() if name in arrays}
    return arrays
