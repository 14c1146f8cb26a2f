"""A layer of which nothing but the tests knows, with array names of its own, and faulty implementations of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array, Case, Configuration, rounded
from backproof.conformance.spec.contract import Contract
from backproof.conformance.spec.layer import Layer, Space

CONTRACT = Contract("amplifier", ("signal", "gain"), 2)


class Amplifier(Layer):
    """out = signal * gain: signal, dout and out are (N, C), gain is (C,). Only what probes need."""

    contract = CONTRACT

    def build(self, parameters: Mapping[str, int], space: Space) -> Configuration | None:
        rows, channels = parameters["rows"], parameters["channels"]
        shapes = {"signal": (rows, channels), "gain": (channels,), "dout": (rows, channels)}
        return Configuration(parameters, shapes, {}, {}, space.rank, 0) if min(rows, channels) > 0 else None

    def base(self, space: Space) -> dict[str, int]:
        return {"rows": 1, "channels": 1}

    def fills(self, configuration: Configuration, space: Space) -> Iterator[Case]:
        numbers = np.array([2, -3, 1, 5, -4, 7, 3], np.float64)
        arrays = {name: np.resize(numbers, shape) for name, shape in configuration.shapes.items()}
        yield Case(configuration, space.dtype, rounded(arrays, self.dtypes(space)))

    def has_meaning(self, case: Case) -> bool:
        return True

    def dtypes(self, space: Space) -> dict[str, Any]:
        return dict.fromkeys(("signal", "gain", "dout", "x"), space.precision.dtype)

    def evaluate(self, case: Case) -> dict[str, Array]:
        signal, gain, dout = (case.array(name) for name in ("signal", "gain", "dout"))
        return {"out": signal * gain, "dsignal": dout * gain, "dgain": (dout * signal).sum(axis=0)}

    def tolerances(self, case: Case, expected: Mapping[str, Array], space: Space) -> dict[str, Array | float | None]:
        return dict.fromkeys(expected, 1e-12)


# The methods that are left out make the cases of a run.
Amplifier.__abstractmethods__ = frozenset()


class Right:
    def amplifier_forward(self, signal, gain):
        return signal * gain, (signal.copy(), gain.copy())

    def amplifier_backward(self, dout, cache):
        signal, gain = cache
        return dout * gain, (dout * signal).sum(axis=0)


class ReturnsTheSignal(Right):
    def amplifier_forward(self, signal, gain):
        return signal * gain, (signal, gain)

    def amplifier_backward(self, dout, cache):
        signal, gain = cache
        dgain = (dout * signal).sum(axis=0)
        signal[...] = dout * gain
        return signal, dgain


class AmplifiesInPlace(Right):
    def amplifier_forward(self, signal, gain):
        cache = signal.copy(), gain.copy()
        signal *= gain
        return signal.copy(), cache


class HalvesTheGain(Right):
    def amplifier_forward(self, signal, gain):
        out, cache = super().amplifier_forward(signal, gain)
        gain /= 2
        return out, cache


class IgnoresStrides(Right):
    def amplifier_forward(self, signal, gain):
        return super().amplifier_forward(signal.ravel(order="K").reshape(signal.shape), gain)


class LastGain(Right):
    def amplifier_forward(self, signal, gain):
        self.gain = gain.copy()
        return super().amplifier_forward(signal, gain)

    def amplifier_backward(self, dout, cache):
        return super().amplifier_backward(dout, (cache[0], self.gain))
