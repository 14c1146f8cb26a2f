"""Failing items as they are told: one of each kind, made from what implementations of the gallery have wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import load
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.item_result import ItemResult
from backproof.conformance.explaining.related import Ledger
from backproof.conformance.judging.item import Item
from backproof.conformance.judging.properties import PROPERTIES, property_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.reporting.build import item_record
from backproof.conformance.reporting.record import Item as Record
from backproof.conformance.reporting.terminal import shown
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Space
from backproof.conformance.spec.results import Discrepancy
from backproof.reference import CONTRACTS
from tests.spaces import LAYER

AGAIN = "pytest --impl=mypkg.adapter --impl-profile=quick backproof::"
#: What is not a small change of one case: a failing run found so many and proved so much.
FOUND: Mapping[str, Any] = {"proved": True, "smaller_cases": 57, "region": None, "failed": 61, "passed": 139}
TRACEBACK = """Traceback (most recent call last):
  File "/home/me/mypkg/adapter.py", line 41, in conv_backward
    dx[:, :, i::s, j::s] += np.tensordot(dout, w[:, :, i, j], (1, 0))
    ~~^^^^^^^^^^^^^^^^^^
ValueError: could not broadcast input array from shape (2,1) into shape (1,1)
"""


@dataclass(frozen=True)
class Story:
    """A failing item, and how it is told."""

    verdict: ItemResult
    scripts: tuple[str | None, ...] = (".backproof/reproduce/conv2d.dx.float64.py",)
    relation: Any = None
    again: str = AGAIN
    kept: str | None = None

    @property
    def record(self) -> Record:
        found = self.verdict.counterexamples[0]
        identifier = "::".join(self.verdict.item.path)
        return item_record(
            self.verdict,
            f"backproof::{identifier}",
            found.reference.layer,
            found.reference.space.settings,
            again=self.again + identifier,
            scripts=self.scripts,
            kept=self.kept,
        )

    def shown(self, width: int = 90, colour: bool = False) -> str:
        return shown(self.record, self.relation, width, colour)


@cache
def candidate_and_reference(spec: str, rank: int, dtype: str = "float64") -> tuple[Candidate, Reference]:
    """The one layer of an adapter before its judge."""
    adapter = load(spec, CONTRACTS)
    (implementation,) = adapter.implementations.values()
    layer = LAYER[implementation.contract.layer]
    return Candidate(adapter, implementation, layer), Reference(
        layer, Space(implementation.signature, implementation.settings, rank, dtype)
    )


def case(spec: str, rank: int, arrays: Mapping[str, Any], dtype: str = "float64", **parameters: int) -> Case:
    """A case of a candidate: parameters that are not the plainest, and the numbers of its arrays, others are 0."""
    _, reference = candidate_and_reference(spec, rank, dtype)
    configuration = reference.layer.build({**reference.layer.base(reference.space), **parameters}, reference.space)
    assert configuration is not None, parameters
    filled = {
        name: None
        if shape is None
        else np.resize(arrays.get(name, [0]), shape).astype(reference.dtypes.get(name, dtype))
        for name, shape in configuration.shapes.items()
    }
    return Case(configuration, dtype, filled)


def counterexample(spec: str, check: str, asked: Case, **facts: Any) -> Counterexample:
    """What the candidate has wrong in this case."""
    candidate, reference = candidate_and_reference(spec, asked.configuration.rank, asked.dtype)
    with np.errstate(all="ignore"):
        found = property_of(check).judge(asked, candidate, reference)[check]
    assert isinstance(found, Discrepancy), found
    return Counterexample(found, asked, reference, **{**FOUND, **facts}, property_=property_of(check))


def verdict(check: str, *found: Counterexample) -> ItemResult:
    first = found[0]
    rank, name = first.case.configuration.rank, first.reference.layer.name
    part = f"conv{rank}d" if name == "conv" else name
    item = Item(name, part, rank if name == "conv" else None, check, first.case.dtype)
    return ItemResult(item, "failed", 200, 0, 0, 0.1, found, property_=property_of(item.check))


def gallery(name: str) -> str:
    return f"backproof.plugins.gallery:{name}"


STRIDE = gallery("forgets_the_stride_in_dx")
SAMPLE = gallery("keeps_db_of_the_last_sample")
DILATION = gallery("ignores_the_dilation")
MEAN = gallery("leaves_out_the_path_through_the_mean")
LINEAR = gallery("exchanges_the_factors_of_the_weight_gradient")

KEPT = "It failed in an earlier run too: the case kept from it still fails."

STORIES: dict[str, Callable[[], Story]] = {}


def story(make: Callable[[], Story]) -> Callable[[], Story]:
    """A failure whose text is kept under this function's name."""
    STORIES[make.__name__] = make
    return make


def stride(**facts: Any) -> Counterexample:
    """dx of two windows side by side instead of two pixels apart."""
    sizes = {"size0": 5, "size1": 2, "kernel0": 2, "kernel1": 2, "stride0": 2}
    asked = case(STRIDE, 2, {"w": [1, 0, 0, 1], "dout": [0, 1]}, **sizes)
    return counterexample(STRIDE, "dx", asked, **{"region": "stride > 1 and remainder > 0", "plain": True, **facts})


def said(check: str, spec: str, asked: Case, discrepancy: Discrepancy, **facts: Any) -> Story:
    """A failure that is told as if the candidate had it."""
    _, reference = candidate_and_reference(spec, asked.configuration.rank, asked.dtype)
    return Story(
        verdict(
            check, Counterexample(discrepancy, asked, reference, **{**FOUND, **facts}, property_=property_of(check))
        )
    )


def one(spec: str = STRIDE, **parameters: int) -> Case:
    """One of everything."""
    return case(spec, 2, {"x": [1], "w": [1], "dout": [1], "gamma": [1]}, **parameters)


@story
def value() -> Story:
    """In dx, with the region and the cause."""
    why = "dx puts the windows side by side: the stride is left out of the backward."
    return Story(verdict("dx", stride(diagnosis=(why,))))


@story
def value_in_images() -> Story:
    """Two channels of two samples, one of them right."""
    spec = DILATION
    sizes = {"batch": 2, "channels": 2, "size0": 3, "size1": 2, "kernel0": 2, "dilation0": 2}
    asked = case(spec, 2, {"x": range(-2, 3), "w": [1, 0, 0, -1], "dout": [0, 0, 1, 2]}, **sizes)
    found = counterexample(spec, "out", asked, region="dilation > 1", failed=1, passed=1, proved=False)
    return Story(verdict("out", found))


@story
def no_mistake_fits() -> Story:
    site = (
        "Only the rows 1 and 3 of the axis H are wrong.",
        "The ratio to the right value is not constant: from -0.5 to 3.",
    )
    return Story(verdict("dx", stride(site=site, region=None, plain=False, proved=False)))


@story
def several_mistakes_fit() -> Story:
    why = ("db is that of the last sample.", "db is assigned for every sample instead of accumulated.")
    asked = case(SAMPLE, 2, {"dout": [1, 0]}, batch=2)
    found = counterexample(SAMPLE, "db", asked, diagnosis=why, region="N > 1", plain=True, smaller_cases=1)
    return Story(verdict("db", found))


@story
def batchnorm_step() -> Story:
    asked = case(MEAN, 0, {"x": [1, 0, 3, 2], "gamma": [1, 2], "dout": [0, 1]}, batch=2, channels=2)
    why = ("dx leaves out the path through the mean.",)
    step = "step 1: mean = sum of rows / count: the second path into x"
    found = counterexample(MEAN, "dx", asked, diagnosis=why, step=step, region="training", smaller_cases=0, plain=True)
    return Story(verdict("dx", found))


@story
def batchnorm_in_eval() -> Story:
    """With the running statistics, which belong to the case here, and an eps of another size."""
    spec = gallery("gives_no_gradients_to_the_parameters_in_eval")
    arrays = {"x": [1], "gamma": [1], "running_var": [1], "dout": [1]}
    found = counterexample(spec, "dgamma", case(spec, 0, arrays, training=0, batch=1, eps=1), region="eval")
    return Story(verdict("dgamma", found))


@story
def almost_right() -> Story:
    """Numbers that differ behind the sixth digit are shown with as many as tell them apart."""
    expected = np.array([1 / 3, 2.0])
    sentence = "float64 with float32's accuracy: db[0] is 0.33333334326744080, must be 0.33333333333333331."
    found = Discrepancy("value", "db", sentence, expected, expected.astype(np.float32).astype(float))
    return said("db", LINEAR, one(LINEAR, outputs=2), found, region="every case")


@story
def rounding() -> Story:
    """What is off by no more than rounding is not wrong."""
    asked = case(MEAN, 0, {"x": [0.1, 0.7, 0.4], "gamma": [1], "dout": [1, 0.3]}, batch=3)
    found = counterexample(MEAN, "dx", asked, region="every case")
    expected, got = found.discrepancy.expected, found.discrepancy.got
    assert expected is not None
    assert got is not None
    got = np.where([[True], [False], [False]], got, expected * (1 + 1e-15))
    sentence = "dx[0, 0] is wrong. 1 of 3 entries are wrong."
    discrepancy = Discrepancy("value", "dx", sentence, expected, got)
    return Story(verdict("dx", replace(found, discrepancy=discrepancy, smaller_cases=1, proved=False)))


@story
def shape() -> Story:
    asked = case(LINEAR, 2, {"x": [1, 2], "w": [1], "dout": [1]}, inputs=2)
    why = ("dw is transposed.",)
    found = counterexample(LINEAR, "dw", asked, diagnosis=why, region="inputs != outputs", plain=True)
    return Story(verdict("dw", found))


@story
def dtype() -> Story:
    array = np.ones((1, 1, 1, 1))
    found = Discrepancy("dtype", "dx", "dx has dtype float32, must be float64.", array, array)
    return said("dx", STRIDE, one(), found, region="every case", proved=True, smaller_cases=0, plain=True)


@story
def nonfinite() -> Story:
    sentence = "dx[1, 0] is nan, must be 0. 2 of 2 entries are wrong."
    found = Discrepancy("nonfinite", "dx", sentence, np.zeros((2, 1)), np.array([[np.inf], [np.nan]]))
    return said("dx", MEAN, case(MEAN, 0, {"gamma": [1]}, batch=2), found, region="no variance")


@story
def result() -> Story:
    found = Discrepancy("result", "dx", "conv_backward returned 2 results, must return 3: dx, dw, db.")
    return said("dx", STRIDE, one(), found, region="every case", smaller_cases=0)


@story
def crash() -> Story:
    sentence = "conv_backward raised ValueError: could not broadcast input array from shape (2,1) into shape (1,1)."
    found = Discrepancy("crash", "dx", sentence, traceback=TRACEBACK)
    return said("dx", STRIDE, stride().case, found, region="remainder > 0")


@story
def mutation() -> Story:
    spec = gallery("turns_w_around_in_place")
    asked = case(spec, 2, {"w": [1, 2]}, size0=2, kernel0=2)
    return Story(verdict("purity", counterexample(spec, "purity", asked, region="kernel > 1")))


@story
def alias() -> Story:
    spec = gallery("returns_dx_in_the_memory_of_x")
    asked = case(spec, 0, {"x": [1, 0], "gamma": [1], "dout": [1, 2]}, batch=2)
    return Story(verdict("aliasing", counterexample(spec, "aliasing", asked, region="every case")))


@story
def state() -> Story:
    spec = gallery("adds_dbeta_to_that_of_the_last_backward")
    asked = case(spec, 0, {"x": [1, 0], "gamma": [1], "dout": [1, 2]}, batch=2)
    return Story(verdict("repeatability", counterexample(spec, "repeatability", asked, region="every case")))


@story
def accepted() -> Story:
    spec = gallery("leaves_over_filters_out")
    candidate, reference = candidate_and_reference(spec, 2)
    asked = next(
        asked
        for asked in reference.layer.invalid_cases(reference.space)
        if isinstance(PROPERTIES["rejection"].judge(asked, candidate, reference)["rejection"], Discrepancy)
    )
    facts = {"failed": 3, "passed": 9, "proved": False, "smaller_cases": 4}
    return Story(verdict("rejection", counterexample(spec, "rejection", asked, **facts)))


@story
def refused() -> Story:
    found = Discrepancy("refused", "out", "conv_forward refused all 212 cases (NotImplementedError).")
    facts = {"failed": 212, "passed": 0, "proved": False, "smaller_cases": 0}
    return said("out", STRIDE, one(), found, region="every case", **facts)


@story
def memory_layout() -> Story:
    spec = gallery("reads_the_buffer_of_dout")
    asked = case(spec, 0, {"x": [1, 0], "gamma": [1], "dout": [0, 1]}, batch=2)
    asked = replace(asked, layouts={"dout": "step slice"})
    found = counterexample(spec, "memory_layout", asked, region="dout: step slice", diagnosis=("dout is read whole.",))
    return Story(verdict("memory_layout", found), kept=KEPT)


@story
def unsteady() -> Story:
    return Story(verdict("dx", stride(steady=False, proved=False, smaller_cases=0, region=None, plain=False)))


@story
def out_of_time() -> Story:
    why = "failures before this one used up the time for explaining: run it alone for its smallest case and its cause"
    return Story(verdict("dx", stride(unexplained=why, proved=False, smaller_cases=0, plain=False)))


@story
def of_a_list() -> Story:
    spec = gallery("leaves_eps_out_of_dx")
    asked = case(spec, 0, {"x": [1, 1], "gamma": [1], "dout": [1, 0]}, batch=2)
    facts = {"proved": False, "smaller_cases": 3, "failed": 4, "passed": 9}
    return Story(verdict("stability", counterexample(spec, "stability", asked, **facts)))


@story
def two_kinds() -> Story:
    sentence = "conv_backward raised ValueError: could not broadcast input array from shape (2,1) into shape (1,1)."
    _, reference = candidate_and_reference(STRIDE, 2)
    raised = Discrepancy("crash", "dx", sentence, traceback=TRACEBACK)
    facts = {**FOUND, "failed": 5, "smaller_cases": 0, "region": "kernel > x"}
    second = Counterexample(raised, one(padding_form=0), reference, **facts, property_=property_of("dx"))
    return Story(verdict("dx", stride(diagnosis=("dx is that of a stride of 1.",)), second), ("one.py", "two.py"))


@story
def large_array() -> Story:
    asked = case(STRIDE, 2, {"x": [0], "w": [1], "dout": [1, 2, 3]}, batch=2, channels=3, size0=20, size1=17, stride0=2)
    return Story(verdict("dx", counterexample(STRIDE, "dx", asked, proved=False, smaller_cases=0)))


@story
def same_cause() -> Story:
    ledger, why = Ledger(), "{} is averaged over the batch instead of summed."
    asked = case(SAMPLE, 2, {"dout": [1, 0]}, batch=2)
    first = counterexample(SAMPLE, "db", asked, diagnosis=(why.format("db"),))
    ledger.relate("backproof::conv2d::db::float64", verdict("db", first))
    sentence = "dw[0, 0, 0, 0] is 0.5, must be 1 (off by 0.5)."
    found = replace(first, discrepancy=Discrepancy("value", "dw", sentence), diagnosis=(why.format("dw"),))
    other = verdict("dw", found)
    return Story(other, relation=ledger.relate("backproof::conv2d::dw::float64", other))


@story
def after_a_wrong_forward() -> Story:
    ledger = Ledger()
    asked = case(DILATION, 2, {"x": [1, 2, 3], "w": [1, 2], "dout": [1]}, size0=3, kernel0=2, dilation0=2)
    why = "{} is that of a dilation of 1."
    out = verdict("out", counterexample(DILATION, "out", asked, diagnosis=(why.format("out"),)))
    dx = verdict("dx", counterexample(DILATION, "dx", asked, diagnosis=(why.format("dx"),), failed=12, passed=28))
    ledger.relate("backproof::conv2d::out::float64", out)
    return Story(dx, relation=ledger.relate("backproof::conv2d::dx::float64", dx))


@story
def after_a_wrong_forward_with_its_own_cause() -> Story:
    told = after_a_wrong_forward()
    return replace(told, relation=replace(told.relation, causes=("dx is twice as large as it should be.",)))


@story
def consequence() -> Story:
    ledger = Ledger()
    asked = case(SAMPLE, 2, {"dout": [1, 0]}, batch=2)
    ledger.relate("backproof::conv2d::db::float64", verdict("db", counterexample(SAMPLE, "db", asked)))
    other = verdict("relations", counterexample(SAMPLE, "relations", asked))
    return Story(other, relation=ledger.relate("backproof::conv2d::relations::float64", other), kept=KEPT)
