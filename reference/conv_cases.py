"""Which convolutions are asked: options, shapes and numbers, and the conditions that they must hit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, count, cycle, product
from typing import Any, NamedTuple

from backproof.conformance.cases.profile import TILE_EDGES
from backproof.conformance.spec.case import Case, Configuration
from backproof.conformance.spec.layer import Layer, Part, Space
from backproof.conformance.spec.tape import Tape
from backproof.reference import bilinear, coordinates, pictures
from backproof.reference.axis import Axis, axes_of
from backproof.reference.bilinear import bias_choices
from backproof.reference.contracts import CONV
from backproof.reference.windows import (
    EDGE_ROOM,
    ROOMS,
    Kind,
    affordable,
    axis_choices,
    shapes_by_elements,
    spread,
)


class Sizes(NamedTuple):
    """The sizes that are no axis': samples, groups, input channels and filters of a group."""

    batch: int
    groups: int
    channels: int
    filters: int


def _some(condition: Callable[[Axis], bool]) -> Callable[[Configuration], bool]:
    return lambda c: any(condition(axis) for axis in axes_of(c.parameters, c.rank))


def _every(condition: Callable[[Axis], bool]) -> Callable[[Configuration], bool]:
    return lambda c: all(condition(axis) for axis in axes_of(c.parameters, c.rank))


def _uneven(c: Configuration) -> bool:
    """Whether kernel, stride, dilation or padding differ between two axes."""
    return len({axis._replace(size=1) for axis in axes_of(c.parameters, c.rank)}) > 1


def _sizes(c: Configuration) -> tuple[int, ...]:
    p = c.parameters
    channels, filters = p["groups"] * p["channels"], p["groups"] * p["filters"]
    return p["batch"], channels, filters, *[axis.size for axis in axes_of(p, c.rank)]


CELLS: Mapping[str, Callable[[Configuration], bool]] = {
    "stride > 1": _some(lambda axis: axis.stride > 1),
    "remainder > 0": _some(lambda axis: axis.remainder > 0),
    "stride > kernel": _some(lambda axis: axis.stride > axis.kernel),
    "padding > 0": _some(lambda axis: axis.low + axis.high > 0),
    "padding > dilated kernel - 1": _some(lambda axis: max(axis.low, axis.high) >= axis.reach),
    "dilation > 1": _some(lambda axis: axis.dilation > 1 and axis.kernel > 1),
    "groups > 1": lambda c: c.parameters["groups"] > 1,
    "1 < groups < C": lambda c: c.parameters["groups"] > 1 and c.parameters["channels"] > 1,
    "depthwise": lambda c: c.parameters["groups"] > 1 and c.parameters["channels"] == 1,
    "options differ between axes": _uneven,
    "1x1 kernel with stride": lambda c: (
        _every(lambda axis: axis.kernel == 1)(c) and _some(lambda axis: axis.stride > 1)(c)
    ),
    "kernel > 1": _some(lambda axis: axis.kernel > 1),
    "even kernel": _some(lambda axis: axis.kernel % 2 == 0),
    "asymmetric padding": _some(lambda axis: axis.low != axis.high),
    "no padding": _every(lambda axis: axis.low == axis.high == 0),
    "padding mode": lambda c: c.options["padding_mode"] != "zeros",
    "one filter": lambda c: c.parameters["groups"] * c.parameters["filters"] == 1,
    "several filters": lambda c: c.parameters["groups"] * c.parameters["filters"] > 1,
    "several channels a group": lambda c: c.parameters["channels"] > 1,
    "no bias": lambda c: c.shapes.get("b") is None,
    "N = 1": lambda c: c.parameters["batch"] == 1,
    "N > 1": lambda c: c.parameters["batch"] > 1,
    "N > 2": lambda c: c.parameters["batch"] > 2,
    "non-square": lambda c: len({axis.size for axis in axes_of(c.parameters, c.rank)}) > 1,
    "several output pixels": _some(lambda axis: axis.out > 1),
    "tile edge": lambda c: any(size in TILE_EDGES for size in _sizes(c)),
}


#: The parameters that say in which of the declared ways an option is written.
INDICES = {"stride": "stride_form", "dilation": "dilation_form", "padding": "padding_form", "padding_mode": "mode"}


class ConvCases(Layer):
    """The cases of a convolution."""

    contract = CONV
    axis_names = staticmethod(coordinates.conv_axes)
    picture = staticmethod(pictures.picture_of_windows)
    cells = CELLS
    cell_pairs = (
        ("stride > 1", "remainder > 0"),
        ("stride > 1", "groups > 1"),
        ("stride > 1", "options differ between axes"),
        ("stride > 1", "padding > 0"),
        ("stride > 1", "dilation > 1"),
        ("groups > 1", "options differ between axes"),
        ("remainder > 0", "groups > 1"),
        ("groups > 1", "tile edge"),
    )
    size_classes = ((80, 64, 16, 2048, 512), (160, 144, 72, 4096, 1024), (512, 256, 72, 8448, 2048))
    samples = ("batch",)

    def parts(self, settings: Mapping[str, Any]) -> tuple[Part, ...]:
        """A part for each number of spatial axes."""
        return tuple(Part(f"conv{dims}d", dims, (dims,)) for dims in sorted(settings["spatial_dims"]))

    def build(self, parameters: Mapping[str, int], space: Space) -> Configuration | None:
        """Parameters: batch, groups, channels and filters (of a group), bias; for each axis size, kernel, stride,
        dilation, low, high; mode, and the way in which stride, dilation and padding are written, as indices.
        """
        p, rank = parameters, space.rank
        batch, groups, channels, filters = p["batch"], p["groups"], p["channels"], p["filters"]
        axes = axes_of(p, rank)
        if not all(0 <= p[index] < _ways(option, space) for option, index in INDICES.items()):
            return None
        mode = space.spellings("padding_mode")[p["mode"]] if space.takes("padding_mode") else "zeros"
        if min(groups, channels, filters) < 1 or batch < 0 or p["bias"] not in bias_choices(space):
            return None
        if groups > 1 and not space.takes("groups"):
            return None
        spellings: dict[str, str] = {}
        for option, values in (
            ("stride", [axis.stride for axis in axes]),
            ("dilation", [axis.dilation for axis in axes]),
            ("padding", [side for axis in axes for side in (axis.low, axis.high)]),
        ):
            if space.takes(option):
                spellings[option] = space.spellings(option)[p[f"{option}_form"]]
                if spellings[option] == "int" and len(set(values)) > 1:
                    return None
                if option == "padding" and spellings[option] == "axes" and values[::2] != values[1::2]:
                    return None
            elif any(value != (0 if option == "padding" else 1) for value in values):
                return None
        if not all(axis.is_asked and axis.has_meaning(mode) for axis in axes):
            return None
        spatial, kernel, out = zip(*[(axis.size, axis.kernel, axis.out) for axis in axes], strict=True)
        shapes: dict[str, tuple[int, ...] | None] = {
            "x": (batch, groups * channels, *spatial),
            "w": (groups * filters, channels, *kernel),
        }
        if space.takes("b"):
            shapes["b"] = (groups * filters,) if p["bias"] else None
        shapes["dout"] = (batch, groups * filters, *out)
        options = {
            "stride": tuple([axis.stride for axis in axes]),
            "padding": tuple([(axis.low, axis.high) for axis in axes]),
            "dilation": tuple([axis.dilation for axis in axes]),
            "groups": groups,
            "padding_mode": mode,
        }
        complexity = groups - 1 + (mode != "zeros") + sum([axis.complexity for axis in axes])
        return Configuration(p, shapes, options, spellings, rank, complexity)

    def draw(self, tape: Tape, space: Space) -> Configuration:
        """Every option on every axis, plain values most often; in one case of eight one size is a tile's edge."""
        rank = space.rank
        batch = tape.pick((1, 2, 3, 1, 2, 1, 4, 2, 5, 6))
        groups = tape.pick((1, 2, 3, 1, 2, 4, 1, 2)) if space.takes("groups") else 1
        channels = tape.pick((1, 2, 3, 1, 2, 1, 2, 4))
        filters = tape.pick((1, 2, 3, 1, 2, 1, 2, 4))
        bias = tape.pick(bias_choices(space)[::-1])
        room = tape.pick(ROOMS)
        mode = tape.byte()
        mode = (mode >> 1) % _ways("padding_mode", space) if mode % 2 else 0
        name = space.spellings("padding_mode")[mode] if space.takes("padding_mode") else "zeros"
        # Without padding every mode is the same.
        padded = tape.byte() % 4 < 3 or name != "zeros"
        spellings = {option: tape.byte() % _ways(option, space) for option in ("stride", "dilation", "padding")}
        at_edge, main = tape.byte() % 8 == 7, tape.byte() % rank
        place, wide = tape.byte() % (4 + rank), TILE_EDGES[tape.byte() % len(TILE_EDGES)]
        if at_edge and place >= 4:
            main = place - 4
        choices = [self._axis(tape, space, main=k == main, padded=padded) for k in range(rank)]
        # What a mode shows ends where it runs out of pixels: reflect needs one more than it pads, circular as many.
        needed = {"reflect": 1, "circular": 0}.get(name)
        if needed is not None:
            choices = [axis._replace(size=max(axis.size, axis.low + needed, axis.high + needed)) for axis in choices]
        if at_edge:
            batch, groups, channels, filters = (min(size, 2) for size in (batch, groups, channels, filters))
            choices = [
                axis._replace(
                    size=min(axis.size, 3),
                    kernel=min(axis.kernel, 2 if k == main else 1),
                    low=min(axis.low, 1),
                    high=min(axis.high, 1),
                )
                for k, axis in enumerate(choices)
            ]
            if place == 0:
                batch = wide
            elif place == 1:
                groups, channels = 1, wide
            elif place == 2:
                groups, filters = 1, wide
            elif place == 3 and space.takes("groups"):
                groups, channels, filters = wide, 1, 1
            else:
                choices[main] = choices[main]._replace(size=wide)
        choices = self._written(choices, spellings, space)
        axes = [axis.with_meaning(name) for axis in choices]
        batch, groups, channels, filters, axes = affordable(
            batch, groups, channels, filters, axes, name, EDGE_ROOM if at_edge else room, main if at_edge else None
        )
        parameters = {
            "batch": batch,
            "groups": groups,
            "channels": channels,
            "filters": filters,
            "bias": bias,
            "mode": mode,
            **{f"{option}_form": spelling for option, spelling in spellings.items()},
        }
        for k, axis in enumerate(axes):
            parameters |= axis.parameters(k)
        configuration = self.build(parameters, space)
        assert configuration is not None, parameters
        return configuration

    @staticmethod
    def _axis(tape: Tape, space: Space, *, main: bool, padded: bool) -> Axis:
        kernel = tape.pick((1, 2, 3, 2, 3, 1, 3, 4, 5) if main else (1, 2, 1, 3))
        stride = tape.pick((1, 2, 1, 2, 3, 1, 4)) if space.takes("stride") else 1
        dilation = tape.pick((1, 1, 2, 1, 3, 1, 4, 2)) if space.takes("dilation") else 1
        reach = dilation * (kernel - 1)
        pads = (0, 1, 0, 2, 0, reach, 1, reach + 1, max(0, reach - 1), reach + 3)
        low, high = tape.pick(pads), tape.pick(pads)
        if not padded or not space.takes("padding"):
            low = high = 0
        out, rest = tape.pick((1, 2, 3, 2, 4, 3, 5) if main else (1, 2, 1, 3)), tape.byte()
        size = (out - 1) * stride + reach + 1 - low - high + rest % stride
        return Axis(max(1 + rest // 16 % 3, size), kernel, stride, dilation, low, high)

    @staticmethod
    def _written(axes: list[Axis], spellings: Mapping[str, int], space: Space) -> list[Axis]:
        """The axes with equal values where the option's form has room for one value only."""
        first = axes[0]
        for option in ("stride", "dilation"):
            if space.takes(option) and space.spellings(option)[spellings[option]] == "int":
                axes = [axis._replace(**{option: getattr(first, option)}) for axis in axes]
        if space.takes("padding"):
            spelling = space.spellings("padding")[spellings["padding"]]
            if spelling == "int":
                axes = [axis._replace(low=first.low, high=first.low) for axis in axes]
            elif spelling == "axes":
                axes = [axis._replace(high=axis.low) for axis in axes]
        return axes

    def base(self, space: Space) -> dict[str, int]:
        """One of everything: a kernel of one on a single pixel."""
        parameters = {"batch": 1, "groups": 1, "channels": 1, "filters": 1, "bias": bias_choices(space)[-1]}
        parameters |= dict.fromkeys(("mode", "stride_form", "dilation_form", "padding_form"), 0)
        for k in range(space.rank):
            parameters |= Axis(1, 1, 1, 1, 0, 0).parameters(k)
        return parameters

    def features(self, space: Space) -> list[dict[str, int]]:
        """Small sizes, and the options one by one: on each axis alone and on all of them."""
        along: list[dict[str, int]] = [
            {"size": 2},
            {"size": 3},
            {"kernel": 2, "size": 2},
            {"kernel": 2, "size": 3},
            {"stride": 2},
            {"kernel": 2, "dilation": 2, "size": 3},
            {"low": 1, "high": 1},
            {"low": 1},
            {"high": 1},
        ]
        axes = [[k] for k in range(space.rank)] + ([list(range(space.rank))] if space.rank > 1 else [])
        ways = {index: range(1, _ways(option, space)) for option, index in INDICES.items()}
        padding_modes = ways.pop("mode")
        # A padding mode shows where there is padding, and something to reflect.
        modes = [
            {"mode": way}
            | {f"{name}{k}": value for name, value in (("size", size), ("low", 1), ("high", 1)) for k in some}
            for way in padding_modes
            for size in (1, 2)
            for some in axes
        ]
        written = [{index: way} for index, among in ways.items() for way in among]
        return [
            *({"batch": size} for size in (2, 3)),
            *({name: 2} for name in ("groups", "channels", "filters")),
            *(
                {f"{name}{k}": value for name, value in feature.items() for k in some}
                for some in axes
                for feature in along
            ),
            *modes,
            *written,
            {"bias": bias_choices(space)[0]},
        ]

    def large(self, space: Space, edges: Sequence[int]) -> Iterator[dict[str, int]]:
        """Batch, channels, filters, groups of one channel, and every axis; all kernels at 3; four groups of four."""
        base = self.base(space)
        small = {"batch": 2, "channels": 2, "filters": 2}
        for k in range(space.rank):
            small |= {f"size{k}": 3, f"kernel{k}": 2}
        for edge in edges:
            for k in range(space.rank):
                # As many windows as pixels: what is tiled may be out.
                yield {**base, **small, f"size{k}": edge, f"kernel{k}": 1}
            for name in ("batch", "channels", "filters", *[f"size{k}" for k in range(space.rank)]):
                yield {**base, **small, name: edge}
            yield {**base, **small, "groups": edge, "channels": 1, "filters": 1}
        yield {**base, **small, **{f"kernel{k}": 3 for k in range(space.rank)}}
        yield {**base, **small, "groups": 4, "channels": 4}

    def big(self, space: Space, batches: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Iterator[dict[str, int]]:
        """The batch beside two pixels; batch and channels, batch and filters, channels and filters, any two axes."""
        base, last = self._two_taps(space), f"size{space.rank - 1}"
        for batch in batches:
            yield {**base, last: 2, "batch": batch}
        sizes = [f"size{k}" for k in range(space.rank)]
        for (one, other), (first, second) in product(
            (*combinations(("batch", "channels", "filters"), 2), *combinations(sizes, 2)), pairs
        ):
            yield {**base, one: first, other: second}

    def long_sums(self, space: Space) -> Iterator[Case]:
        """Ones: out over the channels, dx over the filters, dw and db over the samples and along every axis."""
        base = self._two_taps(space)
        short, *longer = space.precision.sticking
        sizes = {f"size{k}": (short,) for k in range(space.rank)}
        for name, lengths in {**dict.fromkeys(("channels", "filters", "batch"), (short, *longer)), **sizes}.items():
            for terms in lengths:
                # Two taps, or two pixels, double the terms of the other sums.
                found = self.build({**base, name: terms if name in sizes or terms == short else terms // 2}, space)
                if found is not None:
                    yield bilinear.ones(found, space.precision, self.dtypes(space))

    def _two_taps(self, space: Space) -> dict[str, int]:
        """A kernel of two on the last axis, three pixels long."""
        last = space.rank - 1
        return {**self.base(space), f"size{last}": 3, f"kernel{last}": 2}

    def ascending(self, space: Space) -> Iterator[Configuration]:
        """Every size, with kernels to 5, stride, dilation and groups to 4, padding to the dilated kernel + 2."""
        modes = range(_ways("padding_mode", space))
        written = [
            dict(zip(("stride_form", "dilation_form", "padding_form"), ways, strict=True))
            for ways in product(*[range(_ways(option, space)) for option in ("stride", "dilation", "padding")])
        ]
        largest = 12
        choices = axis_choices(space, largest)
        for elements in count(3):
            if elements - 3 > largest:
                largest *= 2
                choices = axis_choices(space, largest)
            shapes = list(shapes_by_elements(elements, space.rank, bias_choices(space), space.takes("groups"), choices))
            yield from self._by_excess(shapes, choices, modes, written, space)

    def _by_excess(
        self,
        shapes: Sequence[tuple[dict[str, int], tuple[Kind, ...]]],
        choices: Mapping[Kind, Mapping[int, list[Axis]]],
        modes: Sequence[int],
        written: Sequence[Mapping[str, int]],
        space: Space,
    ) -> Iterator[Configuration]:
        """All configurations of these shapes, those of less excess first."""
        most = max((s["groups"] + sum(max(choices[kind]) for kind in kinds) for s, kinds in shapes), default=-1)
        for complexity in range(most + 1):
            for (sizes, kinds), mode in product(shapes, modes):
                moded = space.takes("padding_mode") and space.spellings("padding_mode")[mode] != "zeros"
                left = complexity - (sizes["groups"] - 1) - moded
                for axes in spread(left, [choices[kind] for kind in kinds]):
                    for spelling in written:
                        parameters = {**sizes, "mode": mode, **spelling}
                        for k, axis in enumerate(axes):
                            parameters |= axis.parameters(k)
                        configuration = self.build(parameters, space)
                        if configuration is not None:
                            yield configuration

    def fills(self, configuration: Configuration, space: Space) -> Iterator[Case]:
        """Small integers."""
        return bilinear.fills(configuration, space.precision, self.dtypes(space))

    def fill(self, configuration: Configuration, tape: Tape, space: Space) -> Case:
        """Small integers or numbers that round."""
        return bilinear.fill(configuration, tape, space.precision, self.dtypes(space))

    def edges(self, space: Space) -> Iterator[Case]:
        """An empty batch: out and dx are empty, dw and db zero."""
        if not space.settings["empty_batch"]:
            return
        plain = Axis(3, 2, 1, 1, 0, 0)
        spellings = {"mode": 0, "stride_form": 0, "dilation_form": 0, "padding_form": 0}
        axes = (plain, Axis(1, 1, 1, 1, 0, 0), plain._replace(stride=2), plain._replace(low=1, high=1))
        sizes = (Sizes(0, 1, 1, 1), Sizes(0, 1, 2, 3), Sizes(0, 2, 1, 2))
        # Few different shapes: each with a bias or without one, by turns.
        biases = cycle(bias_choices(space))
        for (axis, size), bias in zip(product(axes, sizes), biases, strict=False):
            parameters = {**size._asdict(), "bias": bias, **spellings}
            for k in range(space.rank):
                parameters |= axis.parameters(k)
            found = self.build(parameters, space)
            if found is not None:
                yield next(iter(self.fills(found, space)))


def _ways(option: str, space: Space) -> int:
    """In how many ways an option may be written, or how many padding modes there are."""
    return len(space.spellings(option)) if space.takes(option) else 1
