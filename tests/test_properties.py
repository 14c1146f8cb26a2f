"""The items beside the tensors: which there are, what they see, and what is none of their business."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from candidates import im2col

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import load
from backproof.conformance.cases.draw import drawn
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.cases.sweep import swept
from backproof.conformance.explaining.explain import counterexamples
from backproof.conformance.judging.properties import PROPERTIES, property_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.spec.results import Discrepancy, Status
from backproof.reference import CONTRACTS, LAYERS, textbook
from tests.spaces import LAYER, PLACES, space

ROOT = Path(__file__).parent.parent


def runner(spec: str, layer: str, dtype: str = "float64", profile: str = "quick") -> PartRunner:
    adapter = load(spec, CONTRACTS, ROOT)
    page = LAYER[layer]
    part = page.parts(adapter.implementations[layer].settings)[0]
    return PartRunner(page, part, dtype, adapter, PROFILES[profile], 0)


def here(name: str) -> str:
    return f"tests.test_properties:{name}"


def test_every_property_begins_with_the_sentence_that_it_judges() -> None:
    for name, each in PROPERTIES.items():
        assert each.sentence.endswith("."), name
        assert each.name == name


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_which_items_a_layer_has_is_said_on_its_page(layer) -> None:
    spec = "backproof.plugins.numpy_adapter"
    everything = {name for name in PROPERTIES if layer.name != "batchnorm" or name != "relations"}
    if layer.name != "batchnorm":
        everything -= {"stability"}
    assert {check for check in runner(spec, layer.name).checks if check in PROPERTIES} == everything
    quiet = runner(str(ROOT / "examples/right.py"), layer.name)
    assert "rejection" not in quiet.checks
    for name in sorted(everything - {"memory_layout", "purity", "aliasing", "repeatability"}):
        assert name in (type(layer).__doc__ or ""), name


class Doubled:
    """Every gradient is twice what it should be, and out too: consistent, and wrong."""

    def linear_forward(self, x, w, b):
        out, cache = im2col.linear_forward(x, w, b)
        return 2 * out, cache

    def linear_backward(self, dout, cache):
        return [2 * gradient for gradient in im2col.linear_backward(dout, cache)]

    def batchnorm_forward(self, x, gamma, beta):
        m, zeros = x.shape[1], np.zeros(x.shape[1])
        out, cache, *_ = im2col.batchnorm_forward(x, gamma, beta, 1e-5, True, zeros, np.ones(m), 0.1)
        return out, cache

    def batchnorm_backward(self, dout, cache):
        return [7.3 * gradient for gradient in im2col.batchnorm_backward(dout, cache)]


class Averaged:
    """dw and db are means over the batch."""

    def linear_forward(self, x, w, b):
        return im2col.linear_forward(x, w, b)

    def linear_backward(self, dout, cache):
        dx, dw, db = im2col.linear_backward(dout, cache)
        return dx, dw / max(1, len(dout)), db / max(1, len(dout))


@pytest.mark.parametrize(
    ("name", "layer", "tensors", "others"),
    [
        ("Doubled", "linear", {"out", "dx", "dw", "db"}, {"identities"}),  # db is not the sum of dout
        ("Doubled", "batchnorm", {"dx", "dgamma", "dbeta"}, set()),
        ("Averaged", "linear", {"dw", "db"}, {"identities", "relations"}),
    ],
)
def test_what_is_wrong_and_consistent_is_the_tensors_failure_alone(
    name: str, layer: str, tensors: set[str], others: set[str]
) -> None:
    heard = runner(here(name), layer)
    assert {check for check in heard.checks if heard.item_cases(check).failed} == tensors | others


class Diluted:
    """w is divided by the root of the inputs: now and then a wrong out happens to be the right integer."""

    def linear_forward(self, x, w, b):
        return im2col.linear_forward(x, w / np.sqrt(len(w)), b)

    def linear_backward(self, dout, cache):
        dx, dw, db = im2col.linear_backward(dout, cache)
        return dx, dw / np.sqrt(len(dw)), db


def test_what_rounds_otherwise_in_another_layout_is_no_fault_of_the_layout() -> None:
    # x w is -1 in one order of summation and -1 + 2^-52 in another, where right code has nothing to round.
    heard = runner(here("Diluted"), "linear")
    (reference,) = heard.references
    fills = heard.layer.fills(
        heard.layer.build({**heard.layer.base(reference.space), "inputs": 3}, reference.space), reference.space
    )
    numbers = {"x": [[2, -3, 1]], "w": [[3], [3], [3]], "b": [-1], "dout": [[1]]}
    case = next(fills).with_arrays({name: np.array(values, float) for name, values in numbers.items()})
    case = replace(case, layouts={"x": "negative stride, last axis", "w": "zero stride, writable"})
    assert PROPERTIES["memory_layout"].judge(case, heard.candidate, reference)["memory_layout"] is Status.RIGHT


class OffByLittle:
    """dx is off by a part in a hundred million."""

    def linear_forward(self, x, w, b):
        return im2col.linear_forward(x, w, b)

    def linear_backward(self, dout, cache):
        dx, dw, db = im2col.linear_backward(dout, cache)
        return dx * (1 + 1e-8), dw, db


def test_identities_ask_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """They see a fault that a reference which shares it would hide."""
    page = LAYER["linear"]
    evaluate = type(page).evaluate

    def shares_the_fault(self, case):
        found = evaluate(self, case)
        return found | {"dx": found["dx"] * (1 + 1e-8)}

    monkeypatch.setattr(type(page), "evaluate", shares_the_fault)
    monkeypatch.setattr(Reference, "confirm", lambda self, case: None)
    heard = runner(here("OffByLittle"), "linear")
    assert not heard.item_cases("out").failed
    assert len(heard.item_cases("dx").failed) < heard.item_cases("dx").judged / 10
    assert heard.item_cases("identities").failed


class Shortened:
    """float64 results computed in float32."""

    def linear_forward(self, x, w, b):
        out, cache = im2col.linear_forward(*[a.astype(np.float32) for a in (x, w, b)])
        return out.astype(np.float64), cache

    def linear_backward(self, dout, cache):
        return [g.astype(np.float64) for g in im2col.linear_backward(dout.astype(np.float32), cache)]


def test_float32_accuracy_in_float64_is_said_in_these_words() -> None:
    heard = runner(here("Shortened"), "linear")
    for check in ("out", "dx", "dw", "db"):
        (found,) = counterexamples(heard, check)
        assert found.discrepancy.kind == "value"
        assert found.discrepancy.message.startswith(f"{check} is float64 with float32's accuracy: {check}[")
    # A wrong factor is no matter of accuracy, however small it is.
    (found,) = counterexamples(runner(here("Averaged"), "linear"), "dw")
    assert "accuracy" not in found.discrepancy.message


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_the_textbook_rejects_every_case_without_meaning(layer) -> None:
    heard = runner("backproof.plugins.numpy_adapter", layer.name)
    item_cases = heard.item_cases("rejection")
    assert not item_cases.failed
    assert item_cases.judged >= 10


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_a_case_without_meaning_breaks_one_condition(layer: str, rank: int) -> None:
    page, where = LAYER[layer], space(layer, rank)
    cases = list(page.invalid_cases(where))
    assert all(case.invalidity is not None for case in cases)
    told = [case.invalidity.words for case in cases]
    assert len(set(told)) == len(told)
    for case in cases:
        assert {name: np.shape(a) for name, a in case.arrays.items() if a is not None} == {
            name: shape for name, shape in case.configuration.shapes.items() if shape is not None
        }


def test_stability_judges_every_tensor_in_every_dtype() -> None:
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        where = space("batchnorm", 0, dtype)
        reference = Reference(LAYER["batchnorm"], where)
        judged: set[str] = set()
        for case in LAYER["batchnorm"].extremes(where):
            judged |= {tensor for tensor, bound in reference.expected(case).tolerances.items() if bound is not None}
        assert judged == {"out", "dx", "dgamma", "dbeta", "running_mean", "running_var"}


def test_relations_hold_between_the_references_own_results() -> None:
    """Every other way to ask a thing gives what the reference gives."""
    counts: dict[str, int] = {}
    for layer, rank in PLACES:
        where = space(layer, rank)
        others = {name: space(name, 2) for name in ("linear", "conv")}
        page = LAYER[layer]
        for case in (*swept(page, where, PROFILES["quick"])[::7], *drawn(page, where, 60, 0)):
            right = page.evaluate(case)
            for relation in page.relations(case, where, others):
                asked = relation.layer or page
                joined = relation.join([asked.evaluate(part) for part in relation.parts])
                counts[relation.words] = counts.get(relation.words, 0) + 1
                assert joined.keys() <= right.keys()
                for tensor, a in joined.items():
                    np.testing.assert_allclose(a, right[tensor], rtol=1e-9, atol=1e-9 * (1 + np.abs(a).max(initial=0)))
    assert len(counts) == 4
    assert min(counts.values()) >= 20, counts


def test_a_property_never_raises_for_what_it_finds() -> None:
    """Candidates that return nonsense: each item leaves the case out or names it."""

    class Nonsense:
        def linear_forward(self, x, w, b):
            return self.out, None

        def linear_backward(self, dout, cache):
            return self.back

    for out, back in ((None, (1, 2, 3)), (np.zeros((1, 1)), (None, None, None)), (np.full((1, 1), np.nan), "abc")):
        adapter_class = type("Adapter", (Nonsense,), {"out": out, "back": back})
        globals()["_Nonsense"] = adapter_class
        heard = runner(here("_Nonsense"), "linear")
        for name in heard.checks:
            if name in PROPERTIES and not property_of(name).is_listed:
                reference, case = next(iter(heard.asked(name)))
                found = PROPERTIES[name].judge(case, heard.candidate, reference)[name]
                assert not isinstance(found, Discrepancy) or found.message.endswith(".")


def test_the_textbook_is_its_own_witness() -> None:
    """The identities of batch norm on the textbook's results, by hand."""
    rng = np.random.default_rng(3)
    x, gamma, beta, dout = rng.normal(2, 3, (6, 4)), rng.normal(size=4), rng.normal(size=4), rng.normal(size=(6, 4))
    _, cache, *_ = textbook.batchnorm_forward(x, gamma, beta, eps=0.5)
    dx, dgamma, _ = textbook.batchnorm_backward(dout, cache)
    var = x.var(0)
    xhat = (x - x.mean(0)) / np.sqrt(var + 0.5)
    np.testing.assert_allclose(dx.sum(0), 0, atol=1e-13)
    np.testing.assert_allclose((dx * xhat).sum(0), gamma * dgamma * 0.5 / (var + 0.5) ** 1.5, rtol=1e-12)


def test_candidates_are_called_on_few_distinct_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that compiles for each new shape is asked at most 150 on quick and 800 on default."""
    seen: set[object] = set()
    forward = Candidate.forward

    def counted(self, case, **more):
        if case.invalidity is None:
            seen.add((self.layer.name, tuple(case.configuration.shapes.items())))
        return forward(self, case, **more)

    monkeypatch.setattr(Candidate, "forward", counted)
    for profile, most in (("quick", 150), ("default", 800)):
        for layer, rank, dtype in (("linear", 2, "bfloat16"), ("conv", 2, "float16"), ("batchnorm", 2, "float32")):
            spec = "backproof.plugins.numpy_adapter"
            adapter = load(spec, CONTRACTS, ROOT)
            page = LAYER[layer]
            part = next(p for p in page.parts(adapter.implementations[layer].settings) if rank in p.ranks)
            heard = PartRunner(page, replace(part, ranks=(rank,)), dtype, adapter, PROFILES[profile], 0)
            seen.clear()
            for check in heard.checks:
                heard.item_cases(check)
            assert len(seen) <= most, (profile, layer)
            assert len(seen) > most / 8


class Zeros:
    """Every result is zero, of the right shape and dtype."""

    CONFORMANCE = {"dtypes": ("float64", "float32", "float16", "bfloat16"), "batchnorm": {"spatial_dims": (0, 2)}}

    def linear_forward(self, x, w, b):
        return np.zeros((len(x), w.shape[1]), x.dtype), (x, w, b)

    def linear_backward(self, dout, cache):
        return [np.zeros_like(a) for a in cache]

    def conv_forward(self, x, w, b):
        spatial = [size - taps + 1 for size, taps in zip(x.shape[2:], w.shape[2:], strict=True)]
        return np.zeros((len(x), len(w), *spatial), x.dtype), (x, w, b)

    conv_backward = linear_backward

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        cache = [np.zeros_like(a) for a in (x, gamma, beta)]
        return np.zeros_like(x), cache, np.zeros_like(running_mean), np.zeros_like(running_var)

    def batchnorm_backward(self, dout, cache):
        return cache


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_zeros_never_pass_for_a_result_that_is_not_zero(layer, dtype: str) -> None:
    heard = runner(here("Zeros"), layer.name, dtype)
    (reference, *_) = heard.references
    for tensor in layer.tensors(heard.candidate.signature):
        item_cases = heard.item_cases(tensor)
        assert item_cases.failed
        passed = [case for case in item_cases.passed if case.configuration.rank == reference.space.rank]
        assert not [case for case in passed if reference.expected(case).tensors[tensor].any()]


def test_a_result_out_of_bounds_fails_where_zeros_would_pass_too() -> None:
    """Two elements a channel and a small eps: dx is nearly zero in float32, and infinite in this candidate."""

    class Infinite(Zeros):
        CONFORMANCE = {"dtypes": ("float32",)}

        def batchnorm_backward(self, dout, cache):
            return [np.full_like(a, np.inf) for a in cache]

    globals()["_Infinite"] = Infinite
    item_cases = runner(here("_Infinite"), "batchnorm", "float32").item_cases("dx")
    assert not item_cases.passed
    (reference, *_) = runner(here("_Infinite"), "batchnorm", "float32").references
    near = [
        case
        for case, _, _ in item_cases.failed
        if (np.abs(reference.expected(case).tensors["dx"]) <= reference.expected(case).tolerances["dx"]).all()
    ]
    assert near
