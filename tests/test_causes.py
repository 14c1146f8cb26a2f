"""Diagnoses hold in cases other than those they were made from, and only name options that the layer takes."""

from __future__ import annotations

import textwrap
from math import inf
from pathlib import Path

import pytest

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.diagnosis import Evidence, Inexact, diagnose
from backproof.conformance.explaining.explain import counterexamples
from backproof.conformance.judging.properties import property_of
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.conformance.spec.results import Discrepancy
from backproof.plugins.gallery import FAULTS
from backproof.plugins.gallery.runner import runners
from backproof.reference import CONTRACTS
from tests.spaces import LAYER

FAULT = {fault.name: fault for fault in FAULTS}


def runner_of(name: str) -> PartRunner:
    fault = FAULT[name]
    return runners(load(fault.spec, CONTRACTS), LAYER[fault.layer], PROFILES["quick"], 0)[0]


def test_further_cases_decide_between_mistakes_that_fit_equally() -> None:
    (found,) = counterexamples(runner_of("drops_the_tail_of_the_channels"), "out")
    assert found.diagnosis == ("out counts whole tiles of 8 channels: the rest behind them is left out.",)


def test_mistakes_that_never_differ_are_reported_once() -> None:
    (found,) = counterexamples(runner_of("forgets_what_is_behind_the_last_block"), "db")
    assert found.diagnosis == (
        "db is summed in whole blocks of 4: the terms behind the last whole block are left out.",
    )


def test_no_option_is_named_that_the_layer_does_not_take() -> None:
    (found,) = counterexamples(runner_of("forgets_the_remainder"), "dx")
    assert found.diagnosis == ("dx ends with the last window: the rows that are left over behind it are missing.",)


def test_an_inexact_tensor_explains_the_items_that_compare_it() -> None:
    of_dx = "dx has float32's accuracy: something on the way to it is float32, or a sum is kept in it."
    runner = runner_of("sums_float64_in_float32")
    (found,) = counterexamples(runner, "linearity")
    assert found.diagnosis == (of_dx,)


@pytest.mark.parametrize(("error", "sentences"), [(1e-7, ("dx is rounded.",)), (1e-13, ())])
def test_an_inexact_tensor_does_not_explain_a_larger_error(error: float, sentences: tuple[str, ...]) -> None:
    runner = runner_of("sums_float64_in_float32")
    item_cases = runner.item_cases("linearity")
    failing = [entry for entry in item_cases.failed if entry[2].tensor == "dx"]
    evidence = Evidence("linearity", property_of("linearity"), runner.candidate, failing, [])
    assert diagnose(evidence, {}, None, inf, {"dx": Inexact("dx is rounded.", error)}).sentences == sentences


@pytest.mark.parametrize(
    ("name", "item", "region"),
    [
        ("crops_by_negative_padding", "rejection", "negative padding"),
        ("leaves_over_filters_out", "rejection", "groups that do not divide the filters"),
        ("accepts_any_eps", "rejection", "eps <= 0"),
        ("broadcasts_w", "rejection", None),
        ("counts_the_edge_twice_in_reflect", "relations", "padding > 0"),
    ],
)
def test_the_region_excludes_cases_that_are_right_elsewhere(name: str, item: str, region: str | None) -> None:
    assert region in [found.region for found in counterexamples(runner_of(name), item)]


def test_the_region_of_a_list_excludes_right_cases_of_its_tensors() -> None:
    (found,) = counterexamples(runner_of("recomputes_the_deviation_with_the_usual_eps"), "stability")
    assert found.region is not None
    assert "eps" in found.region
    assert "channel" not in found.region


OPTIONAL = """
    def linear_forward(x, w, b=None):
        return x @ w + (0 if b is None else b), (x, w, b)

    def linear_backward(dout, cache):
        x, w, b = cache
        return dout @ w.T, x.T @ dout, None if b is None else dout[:64].sum(axis=0)
"""


def with_an_optional_bias(folder: Path) -> PartRunner:
    (folder / "optional_bias.py").write_text(textwrap.dedent(OPTIONAL))
    return runners(load("optional_bias.py", CONTRACTS, folder), LAYER["linear"], PROFILES["quick"], 0)[0]


def test_a_sum_that_stops_at_the_largest_tile_is_distinguished(tmp_path: Path) -> None:
    (found,) = counterexamples(with_an_optional_bias(tmp_path), "db")
    assert found.diagnosis == ("db stops summing after 64 terms.",)


def test_causes_that_nothing_distinguishes_are_all_reported(tmp_path: Path) -> None:
    runner = with_an_optional_bias(tmp_path)

    def gives(case: Case, right: Results) -> Results:
        return {"db": case.array("dout")[:64].sum(axis=0)}

    same = [Mistake(f"{{tensor}} {words}.", ("db",), gives) for words in ("stops", "ends")]
    evidence = Evidence("db", property_of("db"), runner.candidate, runner.item_cases("db").failed, [])
    assert diagnose(evidence, {}, same, inf).sentences == ("db stops.", "db ends.")


def test_rounding_does_not_explain_a_case_in_which_nothing_rounds() -> None:
    runner = runner_of("sums_float64_in_float32")
    (reference,) = (reference for reference in runner.references if reference.space.rank == 2)
    configuration = next(iter(reference.layer.ascending(reference.space)))
    case = next(iter(reference.layer.fills(configuration, reference.space)))
    right = reference.expected(case).tensors["dx"]
    found = Discrepancy("value", "dx", "it is off", right, right * (1 + 1e-8))
    evidence = Evidence("linearity", property_of("linearity"), runner.candidate, [(case, reference, found)], [])
    assert diagnose(evidence, {}, None, inf, {"dx": Inexact("dx is rounded.", 1e-7)}).sentences == ()


def test_cases_outside_the_item_are_not_counted() -> None:
    runner = runner_of("accepts_any_eps")
    (found,) = counterexamples(runner, "rejection")
    assert found.failed + found.passed == len(list(runner.asked("rejection")))


def test_the_unreduced_case_has_the_same_cause() -> None:
    runner = runner_of("leaves_channels_behind_the_last_tile")
    item_cases = runner.item_cases("dx")
    failing = sorted(item_cases.failed, key=lambda entry: entry[0].key)
    passing = [
        (case, reference)
        for reference in runner.references
        for case in item_cases.passed
        if case.configuration.rank == reference.space.rank
    ]
    evidence = Evidence("dx", property_of("dx"), runner.candidate, failing, passing)
    (sentence,) = diagnose(evidence, {}, None, inf).sentences
    assert sentence.endswith("behind the last multiple of 8.")
