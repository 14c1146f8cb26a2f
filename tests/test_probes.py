"""Each probe holds for the fault that it names, and for no other.

Every faulty layer below is judged in one case, and exactly the sentences of its line must hold.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import load
from backproof.conformance.explaining.probes import probes_of
from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.judging.properties import property_of
from backproof.conformance.judging.properties.several_calls import other_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.judging.runner import quiet
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer, Space
from backproof.conformance.spec.memory_layouts import arranged
from backproof.conformance.spec.results import Discrepancy
from backproof.reference import CONTRACTS
from tests.faulty import amplifier
from tests.spaces import LAYER

ROOT = Path(__file__).parent.parent
SENTENCES = list(dict.fromkeys(probe.sentence for layer in LAYER.values() for probe in probes_of(layer)))
PLAIN = {"batch0": 3, "inputs": 2, "outputs": 4}
SQUARE = {"batch0": 3, "inputs": 2, "outputs": 2}
LEAST = {"batch0": 1, "inputs": 1, "outputs": 1}

Parameters = dict[str, int]


@dataclass(frozen=True)
class Faulty:
    """A layer of tests/faulty, the item that it fails, the case, and how the sentences that must hold begin."""

    name: str
    check: str
    sentences: tuple[str, ...]
    parameters: Parameters = field(default_factory=lambda: PLAIN)
    layer: str = "linear"
    rank: int = 2
    dtype: str = "float64"
    layouts: dict[str, str] = field(default_factory=dict)
    #: Which of the fixed fills, or of the listed cases that fail.
    number: int = 0
    #: Numbers that replace those of the fill.
    arrays: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name.split('.')[1]}-{self.check}"


def faulty(name: str, check: str, *sentences: str, **more: Any) -> Faulty:
    return Faulty(name, check, sentences, **more)


REFUSED = "The code itself refuses this case"
BATCHNORM: dict[str, Any] = {"layer": "batchnorm", "rank": 0, "parameters": {"batch": 3, "channels": 2}}
IN_EVAL: dict[str, Any] = {"layer": "batchnorm", "rank": 0, "parameters": {"batch": 3, "training": 0}}
CONV: dict[str, Any] = {"layer": "conv", "rank": 1}
STACK = {"batch0": 2, "batch1": 3, "inputs": 2, "outputs": 4}
ROUNDED = ("{tensor} is right, but rounded to float32", "{tensor} has float32's accuracy")
FRACTIONS = {"x": [[0.1, 0.7], [1.3, -2.1], [0.3, 0.9]], "dout": np.full((3, 4), 0.7)}

FAULTY = (
    # Errors.
    faulty("forms.FloatSize", "out", "A size or an index is a float"),
    faulty("forms.AsksNone", "dx", "b is None in these cases", parameters={**PLAIN, "bias": 0}),
    faulty("memory.HalvesDout", "memory_layout", "dout is written to where it lies", layouts={"dout": "read-only"}),
    faulty("forms.WritesDout", "memory_layout", "dout is written to where it lies", layouts={"dout": "zero stride"}),
    faulty("forms.UsesUpItsCache", "repeatability", "A cache serves one backward only"),
    faulty("forms.KeepsTheShape", "repeatability", "What the backward needs is kept on the layer"),
    faulty("forms.InfersASize", "edges", "A size is inferred with -1"),
    faulty("forms.DividesByTheRest", "out", "Something is divided by a number that is 0", parameters=LEAST),
    faulty("forms.NeedsContiguous", "memory_layout", "The code demands contiguous", layouts={"dout": "step slice"}),
    faulty("forms.ForgetsToTranspose", "dx", "The shapes fit only where two sizes are equal"),
    faulty("forms.FlatWeight", "dx", "An axis of size 1 is lost on the way", parameters={**PLAIN, "outputs": 1}),
    faulty("forms.TwoAxes", "out", "It raises for every x of this many axes", rank=3, parameters=STACK),
    faulty("forms.PadsAnImage", "out", "x has one spatial axis", parameters={"low0": 1, "size0": 2}, **CONV),
    faulty("forms.Refuses", "out", REFUSED),
    # Forms.
    faulty("forms.NoneForDb", "db", "{tensor} is None, though the array"),
    faulty("forms.ClosesTheGap", "dx", "Where an array is None its gradient", parameters={**PLAIN, "bias": 0}),
    faulty("forms.TooFew", "dx", "The backward returns fewer gradients"),
    faulty("forms.Scalar", "db", "{tensor} is one number"),
    faulty("forms.Exchanged", "dx", "The gradients are right, but returned in another order"),
    faulty("forms.Squeezed", "dx", "{tensor} has the right numbers, but has lost", parameters={**PLAIN, "inputs": 1}),
    faulty("forms.KeptDims", "db", "{tensor} has the right numbers and an axis of size 1 too many"),
    faulty("forms.TransposedDw", "dw", "{tensor} is transposed"),
    faulty("forms.Unsummed", "db", "{tensor} is not summed over all axes"),
    faulty("forms.WrongAxis", "db", "{tensor} sums dout over the wrong axes"),
    faulty("forms.Repeats", "out", "{tensor} is repeated along an axis", parameters={**PLAIN, "outputs": 1}),
    faulty("forms.Flattened", "dx", "{tensor} has the right numbers in the wrong shape", rank=3, parameters=STACK),
    faulty("forms.ShapeOfX", "dw", "{tensor} has the shape of x"),
    # Cases without meaning.
    faulty("forms.Broadcasts", "rejection", "A dout with a single entry along an axis is broadcast"),
    faulty("forms.CutsDout", "rejection", "The shape of dout is not compared", number=1),
    faulty("forms.TakesNothing", "rejection", "An axis of size 0 is let through"),
    faulty("forms.RepeatsAnInput", "rejection", "An array with a single entry along an axis is broadcast"),
    faulty("forms.AnyEps", "rejection", "eps is not checked", **BATCHNORM),
    faulty("forms.EpsOfZero", "rejection", "An eps below 0 is rejected", **BATCHNORM),
    faulty("forms.Conv", "rejection", "Each group gets O // groups filters", number=7, **CONV),
    faulty("forms.Conv", "rejection", "The size of out is rounded towards 0", number=2, **CONV),
    faulty("forms.Conv", "rejection", "A padding below 0 is not rejected", number=9, **CONV),
    # Memory that is somebody else's.
    faulty("memory.WritesBehindDout", "purity", "Something is written outside {tensor}"),
    faulty("memory.OverwritesX", "purity", "{tensor} is overwritten with its own gradient"),
    faulty("memory.OverwritesXWithOut", "purity", "{tensor} is overwritten with out", parameters=SQUARE),
    faulty("memory.StepsInTheBackward", "purity", "{tensor} is changed by a multiple of its gradient"),
    faulty("memory.HalvesDout", "purity", "{tensor} is multiplied by a number where it lies"),
    faulty("memory.Normalized", "purity", "{tensor} is multiplied by gamma where it lies", **BATCHNORM),
    faulty("memory.CentresX", "purity", "{tensor} has its mean subtracted where it lies"),
    faulty("memory.TurnsW", "purity", "{tensor} is turned around where it lies"),
    faulty("memory.ClearsDout", "purity", "{tensor} is set to zero"),
    faulty("memory.ClearsTheLastRow", "purity", "Entries of {tensor} are set to zero"),
    faulty("memory.AddsUpInDout", "purity", "{tensor} is added up where it lies"),
    faulty("memory.ViewOfDout", "aliasing", "{tensor} lies in the memory of dout", parameters=LEAST),
    faulty("memory.ViewOfAGradient", "aliasing", "{tensor} lies in the memory of another gradient"),
    faulty("memory.Workspace", "aliasing", "{tensor} is returned in a workspace of the layer"),
    faulty("memory.BufferOfTheCache", "aliasing", "{tensor} is returned in a buffer of the cache"),
    # How an array lies in memory.
    faulty(
        "memory.IgnoresStrides", "memory_layout", "In these layouts the numbers of dout", layouts={"dout": "Fortran"}
    ),
    faulty(
        "memory.ReadsForwards",
        "memory_layout",
        "dout has negative strides",
        "In these layouts the numbers of dout",
        layouts={"dout": "negative stride, last axis"},
    ),
    faulty(
        "memory.IgnoresTheOffset", "memory_layout", "Where dout begins in its memory", layouts={"dout": "offset slice"}
    ),
    faulty("memory.CountsOnce", "memory_layout", "Of an expanded dout", layouts={"dout": "zero stride"}),
    faulty("memory.TakesAConstant", "memory_layout", "An expanded dout, with", layouts={"dout": "zero stride"}),
    faulty(
        "memory.ReturnsEarly", "memory_layout", "A stride of 0 is taken for a sign", layouts={"dout": "zero stride"}
    ),
    faulty(
        "memory.WritesXInPlace",
        "memory_layout",
        "x is written to where it lies, and with a stride of 0",
        layouts={"x": "zero stride, writable"},
    ),
    faulty(
        "memory.DemandsFreshStrides",
        "memory_layout",
        "It depends on the strides of axes of size 1",
        REFUSED,
        parameters={"batch0": 1, "inputs": 2, "outputs": 3},
        layouts={"dout": "odd strides of size 1"},
    ),
    # Numbers.
    faulty("states.Means", "edges", "{tensor} has a mean over nothing", "Something on the way to {tensor} is divided"),
    faulty(
        "states.DividesByItsSize",
        "out",
        "Something on the way to {tensor} is divided by 0",
        arrays={"x": [[0, 0], [1, 2], [2, 1]]},
    ),
    faulty("states.TakesARoot", "out", "The root of a negative number", arrays={"x": [[7, 0], [1, 2], [1, 1]]}),
    faulty(
        "states.Overflows",
        "out",
        "A number on the way to {tensor} is too large",
        dtype="float16",
        arrays={"b": [4] * 4},
    ),
    faulty("states.LeavesNan", "dx"),
    faulty("states.LeavesMemory", "dx", "{tensor} has memory in it that was never written"),
    faulty("states.RoundsAtTheEnd", "dx", "{tensor} is right, but rounded to float16", arrays=FRACTIONS),
    faulty("states.RoundsToFloat32", "dx", *ROUNDED, arrays=FRACTIONS),
    faulty("states.RoundsToBfloat16", "dx", "{tensor} is right, but rounded to bfloat16", arrays=FRACTIONS),
    faulty("states.SumsInFloat32", "dw", "{tensor} has float32's accuracy", arrays=FRACTIONS),
    faulty(
        "states.Sticks",
        "db",
        "A sum behind {tensor} is kept in the 16 bits of x",
        dtype="bfloat16",
        parameters={**SQUARE, "batch0": 300},
        number=2,
    ),
    # Calls.
    faulty("states.KeepsASum", "repeatability", "{tensor} is added to what the backward before has left: "),
    faulty("states.KeepsASumTurned", "repeatability", "{tensor} is added to what the backward before has left, turned"),
    faulty("states.GivesZeros", "repeatability", "{tensor} is zero in every second backward"),
    faulty("states.KeepsTheFirst", "repeatability", "{tensor} is that of an earlier dout"),
    faulty("states.ChangesW", "repeatability", "The backward changes w where it lies"),
    faulty("states.ChangesItsCache", "repeatability", "The backward changes what its cache holds"),
    faulty(
        "states.LastX",
        "repeatability",
        "{tensor} is computed with the x of the last forward",
        "A later forward replaces what this backward needs",
    ),
    faulty("states.LastBatch", "repeatability", "A later forward replaces what this backward needs"),
    faulty("states.LastBackward", "repeatability", "Another call's backward replaces"),
    faulty("states.NeverZeroes", "dw", "{tensor} is added to an array that no call sets back"),
    faulty("states.ByTurns", "repeatability", "{tensor} is another one in every second"),
    faulty(
        "states.ByTurns",
        "memory_layout",
        "{tensor} is another one in every second",
        parameters={"batch0": 1, "inputs": 2, "outputs": 3},
        layouts={"dout": "odd strides of size 1"},
    ),
    faulty("states.HalfABuffer", "repeatability", "Part of {tensor} is that of the call before"),
    faulty("states.OneCallLate", "repeatability", "{tensor} is that of the call before"),
    faulty("states.FirstWeight", "dx", "{tensor} is computed with the w of an earlier call of the same shape"),
    faulty("states.Counts", "repeatability", "{tensor} is not the same in equal calls"),
    faulty("states.UpdatesInTheBackward", "running_mean", "{tensor} is changed by the backward", **IN_EVAL),
    # Other douts.
    faulty("states.Decays", "linearity", "{tensor} has a multiple of its own array added"),
    faulty("states.Decays", "dw", "{tensor} has a multiple of its own array added"),
    faulty("states.AddsANumber", "linearity", "{tensor} has a number added to every entry"),
    faulty("states.AddsX", "linearity", "{tensor} has something in it that does not depend on dout"),
    faulty("states.Clips", "linearity", "dout, or {tensor} itself, is clipped: "),
    faulty("states.ClipsBelow", "linearity", "dout, or {tensor} itself, is clipped from below"),
    faulty("states.ClipsAbove", "linearity", "dout, or {tensor} itself, is clipped from above"),
    faulty("states.Normalizes", "linearity", "dout is divided by its own size"),
    faulty("states.LosesTheSign", "linearity", "The sign of dout is lost"),
    faulty("states.LosesNegatives", "linearity", "The negative entries of dout are lost"),
    faulty("states.Squares", "linearity", "dout is squared"),
    faulty("states.CutsToIntegers", "db", "dout is cut to integers", arrays=FRACTIONS),
    faulty("states.DividesByDout", "linearity", "Something is divided by the size of dout"),
)


def called(spec: str, layer: str, rank: int, dtype: str) -> tuple[Candidate, Reference]:
    adapter = load(spec, CONTRACTS, ROOT)
    found = adapter.implementations[layer]
    return Candidate(adapter, found, LAYER[layer]), Reference(
        LAYER[layer], Space(found.signature, found.settings, rank, dtype)
    )


def judged(one: Faulty, candidate: Candidate, reference: Reference, case: Case) -> Discrepancy | None:
    found = property_of(one.check).judge(case, candidate, reference).get(one.check)
    return found if isinstance(found, Discrepancy) else None


def failing(one: Faulty) -> FailingCase:
    """The failure of a faulty layer in its case."""
    module, name = one.name.split(".")
    candidate, reference = called(f"tests.faulty.{module}:{name}", one.layer, one.rank, one.dtype)
    if property_of(one.check).is_listed:
        cases = list(property_of(one.check).cases(reference.layer, reference.space))
    else:
        configuration = reference.layer.build(
            {**reference.layer.base(reference.space), **one.parameters}, reference.space
        )
        assert configuration is not None
        fill = list(reference.layer.fills(configuration, reference.space))[one.number]
        arrays = {name: np.array(numbers, fill.precision.dtype) for name, numbers in one.arrays.items()}
        case = fill.with_arrays({**fill.arrays, **arrays})
        cases = [arranged(case, one.layouts, reference.layer.has_meaning) if one.layouts else case]
        assert dict(cases[0].layouts) == one.layouts
        # What is kept from one call to the next has to come from somewhere.
        judged(one, candidate, reference, replace(other_of(case, reference.layer), layouts={}))
    failing = [(case, found) for case in cases if (found := judged(one, candidate, reference, case)) is not None]
    assert failing, "the faulty layer passes"
    case, found = failing[one.number if property_of(one.check).is_listed else 0]
    return FailingCase(one.check, case, reference, candidate, found)


def sentences_of(failure: FailingCase) -> list[str]:
    """The sentences of all probes that hold."""
    with quiet(Counter()):
        return [
            probe.sentence
            for probe in probes_of(failure.reference.layer)
            if (not probe.checks or failure.check in probe.checks) and probe.holds(failure)
        ]


@pytest.mark.parametrize("one", FAULTY, ids=str)
def test_the_probes_that_hold_are_those_of_the_fault(one: Faulty) -> None:
    with quiet(Counter()):
        found = sentences_of(failing(one))
    assert sorted(found) == sorted({s for s in found for begin in one.sentences if s.startswith(begin)})
    assert all(any(sentence.startswith(begin) for sentence in found) for begin in one.sentences), found


@pytest.mark.parametrize(
    ("dtype", "message", "begin"),
    [
        ("float32", "dw has dtype float64, must be float32.", "{tensor} is float64 whatever x is"),
        ("bfloat16", "dgamma has dtype bfloat16, must be float32.", "{tensor} has the dtype of x"),
        ("bfloat16", "dw has dtype float32, must be bfloat16.", "{tensor} is left in float32"),
        ("float64", "dw has dtype float32, must be float64.", "{tensor} is computed in a shorter format"),
        ("float32", "dw has dtype int64, must be float32.", "{tensor} is an array of integers"),
    ],
)
def test_a_wrong_dtype_says_where_it_comes_from(dtype: str, message: str, begin: str) -> None:
    failure = failing(next(one for one in FAULTY if one.name == "forms.NoneForDb"))
    case = replace(failure.case, dtype=dtype)
    found = Discrepancy("dtype", "dw", message)
    (sentence,) = sentences_of(replace(failure, check="dw", case=case, found=found))
    assert sentence.startswith(begin)


@pytest.mark.parametrize(
    ("name", "check", "layouts", "begin"),
    [
        ("ReturnsTheSignal", "aliasing", {}, "{tensor} lies in the memory of signal"),
        ("AmplifiesInPlace", "purity", {}, "{tensor} is overwritten with out"),
        ("AmplifiesInPlace", "purity", {}, "{tensor} is multiplied by gain where it lies"),
        ("HalvesTheGain", "purity", {}, "{tensor} is multiplied by a number where it lies"),
        ("IgnoresStrides", "memory_layout", {"signal": "Fortran"}, "In these layouts the numbers of signal are taken"),
        ("LastGain", "repeatability", {}, "{tensor} is computed with the gain of the last forward"),
    ],
)
def test_any_layer_has_the_general_probes_by_its_own_names(
    name: str, check: str, layouts: dict[str, str], begin: str
) -> None:
    layer = amplifier.Amplifier()
    adapter = load(f"tests.faulty.amplifier:{name}", [layer.contract], ROOT)
    implementation = adapter.implementations["amplifier"]
    space = Space(implementation.signature, implementation.settings, 0, "float64")
    candidate, reference = Candidate(adapter, implementation, layer), Reference(layer, space)
    configuration = layer.build({"rows": 3, "channels": 2}, space)
    assert configuration is not None
    case = arranged(next(layer.fills(configuration, space)), layouts, layer.has_meaning)
    found = property_of(check).judge(case, candidate, reference)[check]
    assert isinstance(found, Discrepancy)
    sentences = sentences_of(FailingCase(check, case, reference, candidate, found))
    assert any(sentence.startswith(begin) for sentence in sentences), sentences


NAMES = re.compile(r"\b(x|w|b|gamma|beta|dout|running_mean|running_var)\b")


def test_every_probe_has_an_example() -> None:
    """Those that differ in the name of an array are one."""
    begins = [NAMES.sub("", begin) for one in FAULTY for begin in one.sentences]
    dtypes = re.compile(r"float64 whatever|the dtype of|left in float32|computed in a shorter|array of integers")
    left = [sentence for sentence in SENTENCES if not any(NAMES.sub("", sentence).startswith(b) for b in begins)]
    assert [sentence for sentence in left if not dtypes.search(sentence)] == []


@pytest.mark.parametrize("layer", LAYER.values(), ids=lambda layer: layer.name)
def test_sentences_are_whole_and_different(layer: Layer) -> None:
    sentences = [probe.sentence for probe in probes_of(layer)]
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert sentence.endswith(".")
        assert set(re.findall(r"\{(\w*)\}", sentence)) <= {"tensor"}
