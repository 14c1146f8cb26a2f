"""A layer that nothing else knows, with names of its own, and implementations of it.

scaling: out[n, f] = level * signal[n, f] * profile[f] + shift[f], and total[f] gains the sum over n of signal[n, f]^2.
As a pytest plugin (`-p tests.invented`) it stands beside the layers that ship.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, product
from typing import Any

import numpy as np

from backproof import reference
from backproof.conformance.spec.case import Array, Case, Configuration, rounded
from backproof.conformance.spec.contract import Contract, Option, Setting
from backproof.conformance.spec.layer import Layer, Part, Program, Space
from backproof.conformance.spec.mistake import Mistake
from backproof.conformance.spec.tape import Tape
from backproof.conformance.spec.traits import Traits

CONTRACT = Contract(
    layer="scaling",
    arrays=("signal", "profile", "shift"),
    unnamed=2,
    options=(Option("level", 1),),
    state=("total",),
    nonnegative=("total",),
    settings={"empty_batch": Setting(False, "flag")},
)
PLAIN = np.array([2, -3, 1, 3, -1, 2, -2, 1, 3, -1, -2], dtype=np.float64)


class Scaling(Layer):
    """signal, dout and out are (N, F), profile, shift and total (F,); level is an int."""

    contract = CONTRACT
    cells = {"level > 1": lambda c: c.options["level"] > 1, "N > 1": lambda c: c.shape("signal")[0] > 1}
    cell_pairs = (("level > 1", "N > 1"),)
    size_classes = ((80, 80),)

    def parts(self, settings: Mapping[str, Any]) -> tuple[Part, ...]:
        return (Part("scaling", None, (2,)),)

    def build(self, parameters: Mapping[str, int], space: Space) -> Configuration | None:
        rows, features, level, shifted = (parameters[name] for name in ("rows", "features", "level", "shifted"))
        nullable = "shift" in space.signature.nullable
        if rows < 1 or features < 1 or not 0 < level < 5 or not 0 <= shifted <= 1:
            return None
        if (level > 1 and not space.takes("level")) or (not shifted and space.takes("shift") and not nullable):
            return None
        shapes: dict[str, tuple[int, ...] | None] = {"signal": (rows, features), "profile": (features,)}
        if space.takes("shift"):
            shapes["shift"] = (features,) if shifted else None
        if space.signature.state:
            shapes["total"] = (features,)
        shapes["dout"] = (rows, features)
        return Configuration(parameters, shapes, {"level": level}, {}, 2, level - 1, CONTRACT.state)

    def draw(self, tape: Tape, space: Space) -> Configuration:
        sizes = {name: tape.pick((1, 2, 3, 4, 5, 9)) for name in ("rows", "features")}
        level, shifted = tape.pick((1, 2, 3, 4)), tape.pick((1, 0))
        wanted = {**self.base(space), **sizes}
        for more in ({"level": level, "shifted": shifted}, {"level": level}, {"shifted": shifted}, {}):
            found = self.build({**wanted, **more}, space)
            if found is not None:
                return found
        raise AssertionError(wanted)

    def base(self, space: Space) -> dict[str, int]:
        return {"rows": 1, "features": 1, "level": 1, "shifted": 1}

    def features(self, space: Space) -> list[dict[str, int]]:
        return [{"rows": 2}, {"rows": 3}, {"features": 2}, {"level": 2}, {"level": 3}, {"shifted": 0}]

    def large(self, space: Space, edges: Sequence[int]) -> Iterator[dict[str, int]]:
        return ({**self.base(space), name: edge} for name in ("rows", "features") for edge in edges)

    def big(self, space: Space, batches: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Iterator[dict[str, int]]:
        return iter(())

    def long_sums(self, space: Space) -> Iterator[Case]:
        return iter(())

    def ascending(self, space: Space) -> Iterator[Configuration]:
        for size in count(1):
            for rows, level, shifted in product(range(1, size + 1), (1, 2, 3, 4), (1, 0)):
                for features in range(1, size + 1):
                    # signal and dout, profile, and shift where it is there.
                    if features * (2 * rows + 1 + (shifted and space.takes("shift"))) == size:
                        named = {"rows": rows, "features": features, "level": level, "shifted": shifted}
                        found = self.build(named, space)
                        if found is not None:
                            yield found

    def fill(self, configuration: Configuration, tape: Tape, space: Space) -> Case:
        generator = np.random.default_rng(tape.byte() * 256 + tape.byte())
        integers = tape.byte() % 2 == 0
        numbers = {
            name: generator.integers(-4, 5, shape) if integers else generator.standard_normal(shape)
            for name, shape in configuration.shapes.items()
            if shape is not None
        }
        return self._case(configuration, numbers, space, "drawn")

    def fills(self, configuration: Configuration, space: Space) -> Iterator[Case]:
        for start in (0, 3):
            numbers = {
                name: np.resize(np.roll(PLAIN, -start - k), shape)
                for k, (name, shape) in enumerate(configuration.shapes.items())
                if shape is not None
            }
            yield self._case(configuration, numbers, space, "sweep")

    def _case(self, configuration: Configuration, numbers: Mapping[str, Array], space: Space, origin: str) -> Case:
        arrays = {name: numbers.get(name) for name in configuration.shapes}
        if arrays.get("total") is not None:
            arrays["total"] = np.abs(arrays["total"])
        return Case(configuration, space.dtype, rounded(arrays, self.dtypes(space)), origin)

    def has_meaning(self, case: Case) -> bool:
        total = case.wide.get("total")
        return super().has_meaning(case) and (total is None or bool((total >= 0).all()))

    def edges(self, space: Space) -> Iterator[Case]:
        return iter(())

    def evaluate(self, case: Case) -> dict[str, Array]:
        signal, profile, dout = case.array("signal"), case.array("profile"), case.array("dout")
        shift, total, level = case.wide.get("shift"), case.wide.get("total"), case.options["level"]
        out = level * signal * profile
        tensors = {
            "out": out if shift is None else out + shift,
            "dsignal": level * dout * profile,
            "dprofile": (level * dout * signal).sum(axis=0),
        }
        if shift is not None:
            tensors["dshift"] = dout.sum(axis=0)
        if total is not None:
            tensors["total"] = total + (signal**2).sum(axis=0)
        return tensors

    def tolerances(self, case: Case, expected: Mapping[str, Array], space: Space) -> dict[str, Array | float | None]:
        magnitudes = {name: None if a is None else np.abs(a) for name, a in case.wide.items()}
        sums = self.evaluate(Case(case.configuration, "float64", magnitudes))
        if case.integral and all(float(a.max(initial=0.0)) <= 2.0**case.precision.digits for a in sums.values()):
            return dict.fromkeys(expected, 0.0)
        terms = case.configuration.shape("signal")[0] + 4
        return {tensor: 2 * terms * case.precision.roundoff * sums[tensor] for tensor in expected}

    def program(self, case: Case) -> Program:
        rows, features = case.configuration.shape("signal")
        arrays = {name: case.wide.get(name) for name in ("signal", "profile", "shift", "total", "dout")}
        size = self.size_classes[0]
        padded = []
        for name, a in arrays.items():
            full = np.zeros(size if name in ("signal", "dout") else size[1:])
            if a is not None:
                full[tuple(slice(n) for n in a.shape)] = a
            padded.append(full)

        def unpack(outcome: Sequence[Array]) -> dict[str, Array]:
            names = ("out", "dsignal", "dprofile", "dshift", "total")
            cut = [a[:rows, :features] if a.ndim == 2 else a[:features] for a in outcome]
            return {
                name: a for name, a in zip(names, cut, strict=True) if arrays.get(name.removeprefix("d"), a) is not None
            }

        return Program(size, (*padded, float(case.options["level"])), unpack)

    def definition(self, signal: Any, profile: Any, shift: Any, total: Any, dout: Any, level: Any) -> Any:
        import jax

        out, pullback = jax.vjp(lambda s, p, b: level * s * p + b, signal, profile, shift)
        return (out, *pullback(dout), total + (signal**2).sum(axis=0))

    def coordinates(self, tensor: str, case: Case) -> dict[str, Array]:
        rows, features = case.configuration.shape("signal")
        along = {"feature": np.arange(features)}
        return {"row": np.arange(rows)[:, None], **along} if tensor in ("out", "dsignal") else along

    def traits(self) -> Traits:
        def of_sizes(configuration: Configuration) -> dict[str, int]:
            rows, features = configuration.shape("signal")
            return {"rows": rows, "features": features, "level": configuration.options["level"]}

        return Traits(of_sizes, lambda case: {})

    def mistakes(self) -> Sequence[Mistake]:
        return (
            Mistake(
                "{tensor} leaves out the level.",
                ("dprofile", "dsignal"),
                lambda case, right: {name: right[name] / case.options["level"] for name in ("dprofile", "dsignal")},
            ),
        )


LAYER = Scaling()


def pytest_configure() -> None:
    """Beside the layers that ship: read by the suite when it is turned on."""
    reference.LAYERS = (*reference.LAYERS, LAYER)
    reference.CONTRACTS = (*reference.CONTRACTS, CONTRACT)


class Right:
    """As it should be."""

    def scaling_forward(self, signal, profile, shift=None, level=1, *, total):  # type: ignore[no-untyped-def]
        out = level * signal * profile
        cache = signal, profile, shift is None, level
        return (out if shift is None else out + shift), cache, total + (signal**2).sum(axis=0)

    def scaling_backward(self, dout, cache):  # type: ignore[no-untyped-def]
        signal, profile, unshifted, level = cache
        dshift = None if unshifted else dout.sum(axis=0)
        return level * dout * profile, (level * dout * signal).sum(axis=0), dshift


class ForgetsTheLevel(Right):
    """The level is missing in dprofile."""

    def scaling_backward(self, dout, cache):  # type: ignore[no-untyped-def]
        dsignal, dprofile, dshift = super().scaling_backward(dout, cache)
        return dsignal, dprofile / cache[3], dshift


class WritesIntoTheSignal(Right):
    """The backward takes signal for a buffer that nobody needs any more."""

    def scaling_backward(self, dout, cache):  # type: ignore[no-untyped-def]
        dsignal, dprofile, dshift = super().scaling_backward(dout, cache)
        cache[0][...] = dsignal
        return dsignal, dprofile, dshift


class ForgetsTheTotal(Right):
    """total is that of the last sample alone."""

    def scaling_forward(self, signal, profile, shift=None, level=1, *, total):  # type: ignore[no-untyped-def]
        out, cache, _ = super().scaling_forward(signal, profile, shift, level, total=total)
        return out, cache, total + signal[-1] ** 2
