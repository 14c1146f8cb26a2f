"""Which batch norms are asked: options, shapes and numbers, and the conditions that they must hit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, count, product
from math import prod
from typing import Any

import numpy as np

from backproof.conformance.cases.profile import TILE_EDGES
from backproof.conformance.spec.case import Array, Case, Configuration, rounded
from backproof.conformance.spec.layer import Layer, Part, Space
from backproof.conformance.spec.tape import Tape
from backproof.reference.bilinear import DENSE
from backproof.reference.contracts import BATCHNORM

#: Every eps that is asked, the plain one first.
EPSILONS = (1e-5, 1e-3, 0.1, 1.0, 1e-8, 1e-12, 1e-6, 0.01, 0.5, 1e-10, 1e-4)
MOMENTA = (0.1, 0.9, 0.5, 0.25, 0.75)
#: |mean| is at most this many standard deviations.
OFFSET = 100.0

#: Plain gamma, beta, running mean and running variance.
PLAIN = (
    np.array([1.0, -1.0, 2.0, -0.5, 0.0, 3.0]),
    np.array([0.0, 1.0, -2.0]),
    np.array([0.0, 1.0, -1.0]),
    np.array([1.0, 2.0, 0.25, 4.0, 0.0]),
)

_RAMP = np.resize(np.array([1, 0, 3, -2, 2, -1, 4, -3], dtype=np.float64), 1024)
_DOUT = np.random.default_rng(31).choice(DENSE[:6], 1024)
_GAMMA = np.array([2, -1, 3, 1, -2], dtype=np.float64)
_BETA = np.array([1, 3, -1, 0], dtype=np.float64)
_MEAN = np.array([2, -1, 1, 0], dtype=np.float64)
_VAR = np.array([2, 1, 3, 4], dtype=np.float64)


CELLS: Mapping[str, Callable[[Configuration], bool]] = {
    "training": lambda c: bool(c.options["training"]),
    "eval": lambda c: not c.options["training"],
    "eps > 1e-5": lambda c: c.options["eps"] > 1e-5,
    "eps < 1e-5": lambda c: c.options["eps"] < 1e-5,
    "momentum != 0.1": lambda c: c.options["momentum"] != 0.1,
    "gamma is None": lambda c: c.shapes.get("gamma") is None,
    "beta is None": lambda c: c.shapes.get("beta") is None,
    "one channel": lambda c: c.shape("x")[1] == 1,
    "several channels": lambda c: c.shape("x")[1] > 1,
    "N = 1": lambda c: c.parameters["batch"] == 1,
    "N > 2": lambda c: c.parameters["batch"] > 2,
    "m > 2": lambda c: elements_a_channel(c) > 2,
    "spatial": lambda c: c.rank > 0,
    "several pixels": lambda c: prod(c.shape("x")[2:]) > 1,
    "tile edge": lambda c: any(size in TILE_EDGES for size in c.shape("x")),
}


class BatchNormCases(Layer):
    """The cases of batch norm."""

    contract = BATCHNORM
    cells = CELLS
    cell_pairs = (
        ("eval", "gamma is None"),
        ("eval", "spatial"),
        ("eval", "eps > 1e-5"),
        ("training", "momentum != 0.1"),
        ("training", "tile edge"),
    )
    size_classes = ((8, 128), (72, 1024))
    samples = ("batch",)

    def parts(self, settings: Mapping[str, Any]) -> tuple[Part, ...]:
        """One part for all ranks."""
        return (Part("batchnorm", None, tuple(sorted(settings["spatial_dims"]))),)

    def dtypes(self, space: Space) -> dict[str, Any]:
        """Parameters and statistics stay float32 under a format of 16 bits where the adapter says so."""
        found = super().dtypes(space)
        if space.settings["parameters"] == "float32" and space.precision.low:
            found |= dict.fromkeys(("gamma", "beta", *self.contract.state), np.dtype(np.float32))
        return found

    def build(self, parameters: Mapping[str, int], space: Space) -> Configuration | None:
        """Parameters: batch, channels, size0, ...; eps and momentum as indices; training, gamma and beta as 0 or 1."""
        p = parameters
        sizes = [p[f"size{k}"] for k in range(space.rank)]
        if min(p["channels"], *sizes, 1) < 1 or p["batch"] < 0:
            return None
        for option in ("eps", "momentum"):
            if not 0 <= p[option] < len(_values(option, space)):
                return None
        if p["training"] not in _modes(space):
            return None
        shapes: dict[str, tuple[int, ...] | None] = {"x": (p["batch"], p["channels"], *sizes)}
        for name in ("gamma", "beta"):
            if p[name] not in _presence(name, space):
                return None
            if space.takes(name):
                shapes[name] = (p["channels"],) if p[name] else None
        if space.signature.state:
            shapes |= dict.fromkeys(self.contract.state, (p["channels"],))
        shapes["dout"] = shapes["x"]
        settings = space.settings
        options = {
            "eps": _values("eps", space)[p["eps"]],
            "training": bool(p["training"]),
            "momentum": _values("momentum", space)[p["momentum"]],
            "weighs": settings["momentum"],
            "running_var": settings["running_var"],
        }
        complexity = (p["eps"] > 0) + (p["momentum"] > 0) + (not p["training"])
        return Configuration(p, shapes, options, {}, space.rank, complexity, self.contract.state)

    def draw(self, tape: Tape, space: Space) -> Configuration:
        """At least two elements a channel in training; in one case of eight one size is a tile's edge."""
        batch = tape.pick((2, 3, 4, 1, 2, 3, 5, 6))
        channels = tape.pick((1, 2, 3, 2, 1, 4, 3))
        sizes = [tape.pick((1, 2, 3, 2, 4, 3, 5) if k == 0 else (1, 2, 3)) for k in range(3)][: space.rank]
        training = tape.pick((1, 1, 0) if _modes(space) == (1, 0) else _modes(space))
        eps = tape.byte()
        # The plain eps stands in a third of all cases.
        eps = 0 if eps % 3 == 0 else (eps // 3) % len(_values("eps", space))
        momentum = tape.byte() % len(_values("momentum", space))
        gamma, beta = (tape.pick(_presence(name, space)[::-1]) for name in ("gamma", "beta"))
        edge, where, wide = tape.byte(), tape.byte(), TILE_EDGES[tape.byte() % len(TILE_EDGES)]
        if edge % 8 == 7:
            batch, channels, sizes = min(batch, 3), min(channels, 3), [min(size, 2) for size in sizes]
            place = where % (2 + len(sizes))
            if place == 0:
                batch = wide
            elif place == 1:
                channels = wide
            else:
                sizes[place - 2] = wide
        if batch * prod(sizes) < 2:
            batch = 2
        parameters = {
            "batch": batch,
            "channels": channels,
            **{f"size{k}": size for k, size in enumerate(sizes)},
            "eps": eps,
            "momentum": momentum,
            "training": training,
            "gamma": gamma,
            "beta": beta,
        }
        configuration = self.build(parameters, space)
        assert configuration is not None, parameters
        return configuration

    def base(self, space: Space) -> dict[str, int]:
        """Two samples of one channel in training, with the plain eps and momentum."""
        sizes = {f"size{k}": 1 for k in range(space.rank)}
        presence = {name: _presence(name, space)[-1] for name in ("gamma", "beta")}
        return {"batch": 2, "channels": 1, **sizes, "eps": 0, "momentum": 0, "training": 1, **presence}

    def features(self, space: Space) -> list[dict[str, int]]:
        """Sizes to 3, the other eps and momenta, eval, gamma and beta None."""
        sizes = ["batch", "channels", *[f"size{k}" for k in range(space.rank)]]
        choices = {option: range(1, len(_values(option, space))) for option in ("eps", "momentum")}
        return [
            *({name: size} for name in sizes for size in (2, 3)),
            *({option: value} for option, values in choices.items() for value in list(values)[:3]),
            *({"training": value} for value in _modes(space)[1:]),
            *({name: value} for name in ("gamma", "beta") for value in _presence(name, space)[:-1]),
        ]

    def large(self, space: Space, edges: Sequence[int]) -> Iterator[dict[str, int]]:
        """Batch, channels and every spatial axis beside sizes of 2, in training and in eval."""
        small = dict.fromkeys(("batch", "channels", *[f"size{k}" for k in range(space.rank)]), 2)
        for name, edge, training in product(small, edges, _modes(space)):
            yield {**self.base(space), **small, "training": training, name: edge}

    def big(self, space: Space, batches: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Iterator[dict[str, int]]:
        """The batch beside two channels, and any two sizes at once, in training and in eval."""
        base = self.base(space)
        names = ["batch", "channels", *[f"size{k}" for k in range(space.rank)]]
        for training in _modes(space):
            for batch in batches:
                yield {**base, "training": training, "channels": 2, "batch": batch}
            for (one, other), (first, second) in product(combinations(names, 2), pairs):
                yield {**base, "training": training, one: first, other: second}

    def long_sums(self, space: Space) -> Iterator[Case]:
        """Every other x and dout 0, the rest 2: no partial sum of x, dout, dout * xhat or (x - mean)^2 ever falls.

        The second channel has its x the other way round, so that its dgamma is negative.
        """
        short, *longer = space.precision.sticking
        base = {**self.base(space), "channels": 2}
        places = {"batch": (2 * short, *longer), **{f"size{k}": (2 * short,) for k in range(space.rank)}}
        for training, (name, lengths) in product(_modes(space), places.items()):
            for terms in lengths:
                found = self.build({**base, "training": training, "batch": 1, name: terms}, space)
                if found is None:
                    continue
                shape = found.shape("x")
                dout = _by_channel(np.resize([0.0, 2.0], terms + 1), shape)
                dout[:, 1] = dout[:, 0]
                numbers = {
                    "x": _by_channel(np.resize([0.0, 2.0], terms + 1), shape),
                    "dout": dout,
                    **dict.fromkeys(("gamma", "beta", "running_mean", "running_var"), np.ones(2)),
                }
                arrays = {key: None if size is None else numbers[key] for key, size in found.shapes.items()}
                yield self._case(found, space, arrays, origin="sweep")

    def ascending(self, space: Space) -> Iterator[Configuration]:
        """All shapes with at least two elements a channel, every eps and momentum that is drawn."""
        presence = list(product(_presence("gamma", space), _presence("beta", space)))
        switches = [
            (bool(eps) + bool(momentum) + (not training), training, eps, momentum)
            for training, eps, momentum in product(
                _modes(space), range(len(_values("eps", space))), range(len(_values("momentum", space)))
            )
        ]
        for elements in count(4):
            shapes = [
                {
                    "batch": batch,
                    "channels": channels,
                    **{f"size{k}": size for k, size in enumerate(sizes)},
                    "gamma": gamma,
                    "beta": beta,
                }
                for channels in range(1, elements)
                for gamma, beta in presence
                for batch, *sizes in _factors(elements - channels * (gamma + beta), 2 * channels, 1 + space.rank)
                if batch * prod(sizes) >= 2
            ]
            for complexity in range(4):
                for shape in shapes:
                    for own, training, eps, momentum in switches:
                        if own == complexity:
                            more = {"training": training, "eps": eps, "momentum": momentum}
                            found = self.build({**shape, **more}, space)
                            if found is not None:
                                yield found

    def _case(
        self, configuration: Configuration, space: Space, arrays: Mapping[str, Array | None], **more: Any
    ) -> Case:
        return Case(configuration, space.dtype, rounded(arrays, self.dtypes(space)), **more)

    def fills(self, configuration: Configuration, space: Space) -> Iterator[Case]:
        """Plain integers; a variance far below 1e-5; zeros; an offset, with gamma 0 in the first channel."""
        shape, channels = configuration.shape("x"), configuration.shape("x")[1]
        plain = {
            "x": _by_channel(_RAMP, shape),
            "gamma": np.resize(_GAMMA, channels),
            "beta": np.resize(_BETA, channels),
            "running_mean": np.resize(_MEAN, channels),
            "running_var": np.resize(_VAR, channels),
            "dout": np.resize(_DOUT, shape),
        }
        small = 2.0**-10
        variants: tuple[dict[str, Array], ...] = (
            plain,
            {**plain, "x": plain["x"] * small, "running_mean": plain["running_mean"] * small},
            {
                **plain,
                "x": np.zeros(shape),
                "running_var": np.zeros(channels),
                "running_mean": np.zeros(channels),
            },
            {**plain, "x": plain["x"] + 10, "gamma": np.resize([0.0, *_GAMMA], channels)},
        )
        for numbers in variants:
            arrays = {name: None if size is None else numbers[name] for name, size in configuration.shapes.items()}
            yield self._case(configuration, space, arrays, origin="sweep")

    def fill(self, configuration: Configuration, tape: Tape, space: Space) -> Case:
        """Normal numbers of drawn scale and offset, or plain ones; gamma of both signs and zero; dout dense."""
        kind = tape.pick(("plain", "normal", "normal", "picked"))
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(bytes(tape.byte() for _ in range(4)))))
        shape = configuration.shape("x")
        channels = shape[1]
        scale, offset = tape.pick((1.0, 1.0, 0.01, 10.0, 0.1)), tape.pick((0.0, 1.0, -3.0, 10.0, 0.0, 30.0))
        per_channel = (1, channels, *[1] * (len(shape) - 2))
        piece = [tape.byte() for _ in range(8)]
        x: Array
        if kind == "normal":
            x = scale * (generator.standard_normal(shape) + offset)
            dout = generator.standard_normal(shape)
            gamma, beta, mean, var = generator.standard_normal((4, channels))
            mean, var = scale * (mean + offset), scale**2 * np.square(var)
        else:
            if kind == "plain":
                x = np.resize(np.array(piece, dtype=np.float64) % 7 - 3, shape)
                dout = np.resize(DENSE[np.array(piece[::-1]) % 8], shape)
            else:
                x = generator.integers(-3, 4, shape) * scale + offset
                dout = DENSE[generator.integers(0, 8, shape)]
            gamma, beta, mean, var = (values[generator.integers(0, len(values), channels)] for values in PLAIN)
        if configuration.options["training"]:
            x = np.where(_constant(x).reshape(per_channel), _by_channel(_RAMP, shape), x)
        numbers = {
            "x": x,
            "dout": dout,
            "gamma": gamma,
            "beta": beta,
            "running_mean": mean,
            "running_var": var,
        }
        arrays = {name: None if size is None else numbers[name] for name, size in configuration.shapes.items()}
        case = self._case(configuration, space, arrays)
        if not self.has_meaning(case):
            arrays["x"] = _by_channel(_RAMP, shape)
            case = self._case(configuration, space, arrays)
        return case

    def edges(self, space: Space) -> Iterator[Case]:
        """One element a channel; an empty batch where it is declared."""
        batches = (1, 0) if space.settings["empty_batch"] else (1,)
        for batch, channels, training in product(batches, (1, 3), _modes(space)):
            for gamma, beta in product(_presence("gamma", space), _presence("beta", space)):
                parameters = {
                    "batch": batch,
                    "channels": channels,
                    **{f"size{k}": 1 for k in range(space.rank)},
                    "eps": 0,
                    "momentum": 0,
                    "training": training,
                    "gamma": gamma,
                    "beta": beta,
                }
                found = self.build(parameters, space)
                if found is not None:
                    yield next(iter(self.fills(found, space)))

    def has_meaning(self, case: Case) -> bool:
        """In training at least two elements a channel and |mean| at most 100 standard deviations."""
        x = case.array("x")
        if not case.options["training"]:
            return x.size > 0
        if elements_a_channel(case.configuration) < 2:
            return False
        axes = (0, *range(2, x.ndim))
        return bool((np.abs(x.mean(axis=axes)) <= OFFSET * x.std(axis=axes)).all())


def elements_a_channel(configuration: Configuration) -> int:
    """The number m of elements that a channel's statistics are of."""
    shape = configuration.shape("x")
    return shape[0] * prod(shape[2:])


def _values(option: str, space: Space) -> tuple[float, ...]:
    """The values that an option is asked; the fixed one alone where the forward has no such parameter."""
    if option == "eps":
        if not space.takes("eps"):
            return (float(space.settings["eps"]),)
        return tuple(eps for eps in EPSILONS if eps >= space.precision.smallest_eps)
    return MOMENTA if space.takes("momentum") else (float(space.settings["fixed_momentum"]),)


def _modes(space: Space) -> tuple[int, ...]:
    return (1, 0) if space.takes("training") and space.signature.state else (1,)


def _presence(name: str, space: Space) -> tuple[int, ...]:
    if not space.takes(name):
        return (0,)
    return (0, 1) if name in space.signature.nullable else (1,)


def _by_channel(sequence: Array, shape: Sequence[int]) -> Array:
    """The sequence down every channel, each channel starting one further on."""
    channels, m = shape[1], shape[0] * prod(shape[2:])
    rows = np.stack([np.resize(sequence[k:], m) for k in range(channels)])
    return np.moveaxis(rows.reshape(channels, shape[0], *shape[2:]), 0, 1)


def _constant(x: Array) -> Array:
    axes = (0, *range(2, x.ndim))
    return np.asarray(x.max(axis=axes) == x.min(axis=axes))


def _factors(total: int, divisor: int, count: int) -> Iterator[tuple[int, ...]]:
    """All tuples of `count` sizes whose product times the divisor is the total."""
    if total < divisor or total % divisor:
        return
    product_of_sizes = total // divisor
    if count == 1:
        yield (product_of_sizes,)
        return
    for first in range(1, product_of_sizes + 1):
        if product_of_sizes % first == 0:
            for rest in _factors(product_of_sizes // first, 1, count - 1):
                yield (first, *rest)
