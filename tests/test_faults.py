"""The suite finds each fault by the checks that it must fail and no other, and at the smallest case there is.

What is smallest is decided here anew: by loops over sizes and options, by numbers and by comparisons that share nothing
with the engine but the textbook as truth.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from backproof.conformance.adapter import load
from backproof.conformance.hearing import Hearing
from backproof.conformance.profile import PROFILES
from backproof.conformance.tally import Counterexample
from backproof.reference import CONTRACTS, LAYERS, textbook

from .faults import FAULTS, Fault

ROOT = Path(__file__).parent.parent
TWINS = sorted({(fault.twin, fault.layer) for fault in FAULTS}, key=lambda twin: (twin[1], twin[0].__name__))
ORDER = ("x", "w", "b", "gamma", "beta", "running_mean", "running_var")
STATE = ORDER[-2:]
OPTIONS = ("stride", "padding", "dilation", "groups", "padding_mode", "eps", "training", "momentum")
#: Where there are more smaller configurations, so many are tried, picked at random; now there are 91 at most.
MOST_TRIED = 120

#: What this file's own judge knows: values and state. Lists are shrunk no further, and the items that hold results
#: against each other have no truth of their own.
JUDGED = ("out", "dx", "dw", "db", "dgamma", "dbeta", "running_mean", "running_var", "purity", "repeatability")

on_each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.layer}-{fault.name}")


def hearings(spec: str, layer_name: str, seed: int = 0) -> Iterator[Hearing]:
    adapter = load(spec, CONTRACTS, ROOT)
    layer = next(layer for layer in LAYERS if layer.name == layer_name)
    for part in layer.parts(adapter.implementations[layer_name].settings):
        for dtype in adapter.settings["dtypes"]:
            yield Hearing(layer, part, dtype, adapter, PROFILES["quick"], seed, lambda *_: None)


@cache
def first_hearing(fault: Fault) -> Hearing:
    (hearing,) = hearings(fault.spec, fault.layer)
    return hearing


@cache
def counterexamples(fault: Fault) -> list[tuple[str, Counterexample]]:
    hearing = first_hearing(fault)
    return [(check, found) for check in hearing.checks for found in hearing.counterexamples(check)]


@on_each_fault
@pytest.mark.parametrize("seed", range(5))
def test_exactly_the_right_checks_fail(fault: Fault, seed: int) -> None:
    hearing = first_hearing(fault) if seed == 0 else next(hearings(fault.spec, fault.layer, seed))
    failed = {check: hearing.tally(check).failed for check in hearing.checks}
    assert hearing.part.title == fault.only_part
    assert fault.caught_by <= {check for check, cases in failed.items() if cases} <= fault.caught_by | fault.sometimes
    assert {discrepancy.kind for cases in failed.values() for *_, discrepancy in cases} == fault.kinds


@pytest.mark.parametrize(("twin", "layer"), TWINS, ids=lambda value: getattr(value, "__name__", value))
def test_a_right_twin_passes(twin: type, layer: str) -> None:
    for hearing in hearings(f"{twin.__module__}:{twin.__name__}", layer):
        assert not [check for check in hearing.checks if hearing.tally(check).failed]
        assert all(hearing.tally(check).judged for check in hearing.checks)


def test_most_counterexamples_are_proved() -> None:
    proved = [fault for fault in FAULTS if all(found.proved for _, found in counterexamples(fault))]
    assert len(proved) >= 20


@on_each_fault
def test_nothing_smaller_fails(fault: Fault) -> None:
    for check, found in counterexamples(fault):
        if check not in JUDGED or not found.proved:
            continue
        failure, case = (check, found.discrepancy.kind), found.case
        size = case.configuration.size
        judge = Judge(fault, case.dtype)
        options = {name: value for name, value in case.options.items() if name in OPTIONS}
        own = Question(dict(case.configuration.shapes), options, size)
        assert failure in judge.failures(own, dict(case.arrays))

        smaller, seen = [], False
        for question in questions(fault, size[0]):
            seen = seen or question.shapes == own.shapes
            if question.size < size:
                smaller.append(question)
        assert seen, "the loops of this test do not reach the reported case"
        for question in random.Random(0).sample(smaller, min(len(smaller), MOST_TRIED)):
            for arrays in fills(question, fault.layer):
                assert failure not in judge.failures(question, arrays), (question, arrays)


class Question(NamedTuple):
    """Shapes of all arrays, options as the textbook takes them, and (elements, excess)."""

    shapes: dict[str, Any]
    options: dict[str, Any]
    size: tuple[int, int]


def parameters_of(fault: Fault) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(fault.adapter(), f"{fault.layer}_forward")).parameters)


def questions(fault: Fault, most: int) -> Iterator[Question]:
    """Every configuration of at most so many elements."""
    taken = parameters_of(fault)
    settings = fault.adapter.CONFORMANCE[fault.layer]
    if fault.layer == "linear":
        for rank in settings["ranks"]:
            yield from linear_questions(rank, most)
    elif fault.layer == "conv":
        yield from conv_questions(taken, settings["spatial_dims"][0], most)
    else:
        for rank in settings["spatial_dims"]:
            yield from batchnorm_questions(taken, rank, most)


def linear_questions(rank: int, most: int) -> Iterator[Question]:
    for *lead, inputs, outputs in product(range(1, most), repeat=rank + 1):
        rows = prod(lead)
        elements = rows * inputs + inputs * outputs + outputs + rows * outputs
        if elements <= most:
            shapes = {"x": (*lead, inputs), "w": (inputs, outputs), "b": (outputs,), "dout": (*lead, outputs)}
            yield Question(shapes, {}, (elements, 0))


def conv_questions(taken: dict[str, inspect.Parameter], rank: int, most: int) -> Iterator[Question]:
    one_int = {name for name in ("stride", "padding", "dilation") if name in taken and is_int(taken[name])}
    modes = ("zeros", "reflect", "replicate", "circular") if "padding_mode" in taken else ("zeros",)
    for axes in product(list(axes_within(taken, most)), repeat=rank):
        sizes, kernels, strides, dilations, pads, outs = zip(*axes, strict=True)
        if sum(map(prod, (sizes, kernels, outs))) + 1 > most:
            continue
        spread = {"stride": strides, "dilation": dilations, "padding": pads}
        if any(len(set(spread[name])) > 1 for name in one_int):
            continue
        for mode, groups in product(modes, range(1, 5 if "groups" in taken else 2)):
            widest = {"reflect": -1, "circular": 0}.get(mode)
            if widest is not None and any(max(pad) > n + widest for pad, n in zip(pads, sizes, strict=True)):
                continue
            excess = sum(strides) + sum(dilations) - 2 * rank + sum(map(sum, pads))
            excess += groups - 1 + (mode != "zeros")
            options = {**spread, "groups": groups, "padding_mode": mode}
            for batch, channels, filters in product(range(1, most), repeat=3):
                inputs, outputs = groups * channels, groups * filters
                elements = batch * inputs * prod(sizes) + outputs * channels * prod(kernels) + outputs
                elements += batch * outputs * prod(outs)
                if elements <= most:
                    shapes = {
                        "x": (batch, inputs, *sizes),
                        "w": (outputs, channels, *kernels),
                        "b": (outputs,),
                        "dout": (batch, outputs, *outs),
                    }
                    yield Question(shapes, options, (elements, excess))


def axes_within(taken: dict[str, inspect.Parameter], most: int) -> Iterator[tuple[Any, ...]]:
    """Size, kernel, stride, dilation, padding and output of one axis."""
    strides, dilations = (range(1, 5 if name in taken else 2) for name in ("stride", "dilation"))
    for size, kernel, stride, dilation in product(range(1, most), range(1, 6), strides, dilations):
        widest = dilation * (kernel - 1) + 3 if "padding" in taken else 0
        for low, high in product(range(widest + 1), repeat=2):
            room = size + low + high - dilation * (kernel - 1) - 1
            if low != high and is_int(taken["padding"]):
                continue
            if room >= 0 and size + kernel + room // stride + 2 <= most:
                yield size, kernel, stride, dilation, (low, high), room // stride + 1


def batchnorm_questions(taken: dict[str, inspect.Parameter], rank: int, most: int) -> Iterator[Question]:
    modes = (True, False) if "training" in taken else (True,)
    epsilons = (1e-5, 1.0, 0.1, 1e-3, 1e-8, 1e-12) if "eps" in taken else (1e-5,)
    momenta = (0.1, 0.5, 0.9) if "momentum" in taken else (0.1,)
    present = [
        [False] if name not in taken else [True, False] if taken[name].default is None else [True]
        for name in ("gamma", "beta")
    ]
    for batch, channels, *pixels in product(range(1, most), repeat=2 + rank):
        for gamma, beta in product(*present):
            elements = channels * (2 * batch * prod(pixels) + gamma + beta)
            for training, eps, momentum in product(modes, epsilons, momenta):
                if elements > most or (training and batch * prod(pixels) < 2):
                    continue
                shapes: dict[str, Any] = {"x": (batch, channels, *pixels), "dout": (batch, channels, *pixels)}
                for name, is_there in (("gamma", gamma), ("beta", beta)):
                    if name in taken:
                        shapes[name] = (channels,) if is_there else None
                if "running_mean" in taken:
                    shapes |= dict.fromkeys(STATE, (channels,))
                options = {"training": training, "eps": eps, "momentum": momentum}
                excess = (eps != 1e-5) + (momentum != 0.1) + (not training)
                yield Question(shapes, options, (elements, excess))


def is_int(parameter: inspect.Parameter) -> bool:
    return parameter.annotation == "int"


def fills(question: Question, layer: str) -> Iterator[dict[str, Any]]:
    """Zeros and ones, and small integers, three times each."""
    for seed, values in product(range(3), ((0, 1), (-3, -2, -1, 1, 2, 3))):
        generator = np.random.default_rng(seed)
        arrays = {
            name: None if shape is None else generator.choice(values, shape).astype(float)
            for name, shape in question.shapes.items()
        }
        if "running_var" in arrays:
            arrays["running_var"] = np.abs(arrays["running_var"])
        if layer == "batchnorm" and question.options["training"]:
            axes = (0, *range(2, arrays["x"].ndim))
            if (abs(arrays["x"].mean(axes)) > 100 * arrays["x"].std(axes)).any():
                continue
        yield arrays


class Judge:
    """Calls a candidate and says which checks it fails, and in which kind."""

    def __init__(self, fault: Fault, dtype: str) -> None:
        self.layer, self.adapter, self.dtype = fault.layer, fault.adapter(), dtype
        self.taken = parameters_of(fault)
        self.channels_last = fault.adapter.CONFORMANCE[fault.layer].get("layout") == "channels_last"

    def failures(self, question: Question, arrays: dict[str, Any]) -> set[tuple[str, str]]:
        arrays = {name: None if a is None else a.astype(self.dtype) for name, a in arrays.items()}
        with np.errstate(all="ignore"):
            truth = self.truth(question.options, arrays)
            passed = self.native(arrays)
            before = {name: a.copy() for name, a in passed.items() if a is not None}
            gradients = [f"d{name}" for name in arrays if name != "dout" and name not in STATE]
            try:
                out, kept, *state = self.forward(passed, question.options)
            except Exception:
                return {("out", "crash")}
            found = {("out", kind) for kind in self.differ(out, truth["out"])}
            for name, result in zip(STATE, state, strict=False):
                kinds = self.differ(result, truth[name])
                found |= {(name, kind if question.options["training"] else "state") for kind in kinds}
            try:
                first = self.backward(passed, kept)
            except Exception:
                return found | {(name, "crash") for name in gradients if arrays[name[1:]] is not None}
            if len(first) < len(gradients):
                return found | {(name, "result") for name in gradients}
            for name, result in zip(gradients, first, strict=True):
                if arrays[name[1:]] is not None:
                    found |= {(name, kind) for kind in self.differ(result, truth[name])}
            if any((before[name] != passed[name]).any() for name in before if name not in STATE):
                found.add(("purity", "mutation"))
            return found | {("repeatability", kind) for kind in self.unsteady(question, arrays, first)}

    def unsteady(self, question: Question, arrays: dict[str, Any], plain: Any) -> Iterator[str]:
        """A second backward, and one after the forward of other numbers."""
        other = {name: None if a is None else 3 * a[::-1] + 1 for name, a in arrays.items()}
        passed = self.native(arrays)
        kept = self.forward(passed, question.options)[1]
        for interleave in (False, True):
            if interleave:
                kept = self.forward(passed := self.native(arrays), question.options)[1]
                self.forward(self.native(other), question.options)
            else:
                self.backward({**passed, "dout": passed["dout"].copy()}, kept)
            yield from self.differently(passed, kept, plain)
        yield from self.elsewhere(question, arrays, plain)

    def elsewhere(self, question: Question, arrays: dict[str, Any], plain: Any) -> Iterator[str]:
        """A forward of one sample, or of twice as many, before the backward."""
        for times in (0, 2):
            passed = self.native(arrays)
            kept = self.forward(passed, question.options)[1]
            x = arrays["x"]
            shape = (times * len(x) or 1, *x.shape[1:])
            other = {**arrays, "x": np.arange(1, prod(shape) + 1).reshape(shape).astype(x.dtype)}
            with suppress(Exception):
                self.forward(self.native(other), question.options)
            yield from self.differently(passed, kept, plain)

    def differently(self, passed: dict[str, Any], kept: Any, plain: Any) -> Iterator[str]:
        """How a backward differs from the plain call's, if it does."""
        try:
            again = self.backward(passed, kept)
        except Exception:
            yield "crash"
            return
        pairs = zip(plain, again, strict=True)
        if any(isinstance(a, np.ndarray) and any(self.differ(b, a)) for a, b in pairs):
            yield "state"

    def truth(self, options: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
        forward = getattr(textbook, f"{self.layer}_forward")
        known = inspect.signature(forward).parameters
        given = {**options, **{name: a for name, a in arrays.items() if name != "dout"}}
        out, kept, *state = forward(**{name: value for name, value in given.items() if name in known})
        gradients = getattr(textbook, f"{self.layer}_backward")(arrays["dout"], kept)
        names = ("dx", "dgamma", "dbeta") if self.layer == "batchnorm" else ("dx", "dw", "db")
        named = {"out": out, **dict(zip(names, gradients, strict=True)), **dict(zip(STATE, state, strict=False))}
        if self.channels_last:
            named |= {name: np.moveaxis(named[name], 1, -1) for name in ("out", "dx")}
        return named

    def native(self, arrays: dict[str, Any]) -> dict[str, Any]:
        copies = {name: None if a is None else a.copy() for name, a in arrays.items()}
        if self.channels_last:
            copies |= {name: np.moveaxis(copies[name], 1, -1).copy() for name in ("x", "dout")}
        return copies

    def forward(self, arrays: dict[str, Any], options: dict[str, Any]) -> Any:
        written = {name: self.written(name, value) for name, value in options.items() if name in self.taken}
        given = [arrays[name] for name in ORDER[:5] if name in arrays]
        state = {name: arrays[name] for name in STATE if name in arrays}
        return getattr(self.adapter, f"{self.layer}_forward")(*given, **state, **written)

    def backward(self, arrays: dict[str, Any], kept: Any) -> Any:
        return getattr(self.adapter, f"{self.layer}_backward")(arrays["dout"], kept)

    def written(self, name: str, value: Any) -> Any:
        if not is_int(self.taken[name]):
            return value
        return value[0][0] if name == "padding" else value[0]

    def differ(self, got: Any, expected: Any) -> Iterator[str]:
        if not isinstance(got, np.ndarray):
            yield "result"
        elif got.shape != expected.shape:
            yield "shape"
        elif got.dtype != expected.dtype:
            yield "dtype"
        elif not np.isfinite(got[np.isfinite(expected)]).all():
            yield "nonfinite"
        else:
            exact = self.layer != "batchnorm"
            tolerance = 0.0 if exact else 1e-11 * (1 + np.abs(expected).max(initial=0.0))
            if (np.abs(got - expected) > tolerance).any():
                yield "value"
