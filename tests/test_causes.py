"""What is told of a fault is so in cases that it was not found in, and in words that the layer knows."""

from __future__ import annotations

import textwrap
from math import inf
from pathlib import Path

import pytest

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.diagnosis import Evidence, Inexact, diagnose
from backproof.conformance.explaining.explain import counterexamples
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.conformance.spec.results import Discrepancy
from backproof.plugins.gallery import FAULTS
from backproof.plugins.gallery.runner import runners
from backproof.reference import CONTRACTS
from tests.spaces import LAYER

FAULT = {fault.name: fault for fault in FAULTS}


def runner(name: str) -> PartRunner:
    fault = FAULT[name]
    return runners(load(fault.spec, CONTRACTS), LAYER[fault.layer], PROFILES["quick"], 0)[0]


def test_mistakes_that_fit_the_judged_cases_alike_are_told_apart_by_asking() -> None:
    (found,) = counterexamples(runner("drops_the_tail_of_the_channels"), "out")
    assert found.diagnosis == ("out counts whole tiles of 8 channels: the rest behind them is left out.",)


def test_what_is_the_same_in_every_case_is_told_once() -> None:
    (found,) = counterexamples(runner("forgets_what_is_behind_the_last_block"), "db")
    assert found.diagnosis == (
        "db is summed in whole blocks of 4: the terms behind the last whole block are left out.",
    )


def test_no_option_is_spoken_of_that_the_layer_does_not_take() -> None:
    (found,) = counterexamples(runner("forgets_the_remainder"), "dx")
    assert found.diagnosis == ("dx ends with the last window: the rows that are left over behind it are missing.",)


def test_what_is_inexact_explains_the_items_that_compare_it() -> None:
    of_dx = "dx has float32's accuracy: something on the way to it is float32, or a sum is kept in it."
    court = runner("sums_float64_in_float32")
    (found,) = counterexamples(court, "linearity")
    assert found.diagnosis == (of_dx,)


@pytest.mark.parametrize(("error", "sentences"), [(1e-7, ("dx is rounded.",)), (1e-13, ())])
def test_what_is_inexact_does_not_explain_a_larger_error(error: float, sentences: tuple[str, ...]) -> None:
    court = runner("sums_float64_in_float32")
    item_cases = court.item_cases("linearity")
    failing = [entry for entry in item_cases.failed if entry[2].tensor == "dx"]
    evidence = Evidence("linearity", court.candidate, failing, [])
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
def test_where_it_fails_is_held_against_what_is_right_elsewhere(name: str, item: str, region: str | None) -> None:
    assert region in [found.region for found in counterexamples(runner(name), item)]


def test_a_list_is_held_against_the_cases_of_its_tensors() -> None:
    (found,) = counterexamples(runner("recomputes_the_deviation_with_the_usual_eps"), "stability")
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


def test_a_sum_that_stops_at_the_largest_tile_is_told_from_other_sums(tmp_path: Path) -> None:
    (found,) = counterexamples(with_an_optional_bias(tmp_path), "db")
    assert found.diagnosis == ("db stops summing after 64 terms.",)


def test_causes_that_nothing_tells_apart_are_told_where_a_bias_may_be_none(tmp_path: Path) -> None:
    court = with_an_optional_bias(tmp_path)

    def gives(case: Case, right: Results) -> Results:
        return {"db": case.array("dout")[:64].sum(axis=0)}

    alike = [Mistake(f"{{tensor}} {words}.", ("db",), gives) for words in ("stops", "ends")]
    evidence = Evidence("db", court.candidate, court.item_cases("db").failed, [])
    assert diagnose(evidence, {}, alike, inf).sentences == ("db stops.", "db ends.")


def test_rounding_does_not_explain_a_case_in_which_nothing_rounds() -> None:
    court = runner("sums_float64_in_float32")
    (reference,) = (reference for reference in court.references if reference.space.rank == 2)
    configuration = next(iter(reference.layer.ascending(reference.space)))
    case = next(iter(reference.layer.fills(configuration, reference.space)))
    right = reference.expected(case).tensors["dx"]
    found = Discrepancy("value", "dx", "it is off", right, right * (1 + 1e-8))
    evidence = Evidence("linearity", court.candidate, [(case, reference, found)], [])
    assert diagnose(evidence, {}, None, inf, {"dx": Inexact("dx is rounded.", 1e-7)}).sentences == ()


def test_what_no_rule_is_held_against_is_not_counted() -> None:
    court = runner("accepts_any_eps")
    (found,) = counterexamples(court, "rejection")
    assert found.failed + found.passed == len(list(court.asked("rejection")))


def test_the_unreduced_case_has_the_same_cause() -> None:
    court = runner("leaves_channels_behind_the_last_tile")
    item_cases = court.item_cases("dx")
    failing = sorted(item_cases.failed, key=lambda entry: entry[0].key)
    passing = [
        (case, reference)
        for reference in court.references
        for case in item_cases.passed
        if case.configuration.rank == reference.space.rank
    ]
    evidence = Evidence("dx", court.candidate, failing, passing)
    (sentence,) = diagnose(evidence, {}, None, inf).sentences
    assert sentence.endswith("behind the last multiple of 8.")
