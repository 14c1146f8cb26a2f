"""What is told of a fault is so in cases that it was not found in, and in words that the layer knows."""

from __future__ import annotations

import textwrap
from math import inf
from pathlib import Path

import pytest

from backproof.conformance.adapter import load
from backproof.conformance.diagnosis import Evidence, Inexact, diagnose
from backproof.conformance.hearing import Hearing
from backproof.conformance.profile import PROFILES
from backproof.conformance.rehearsal import hearings
from backproof.plugins.gallery import FAULTS
from backproof.reference import CONTRACTS
from tests.spaces import LAYER

FAULT = {fault.name: fault for fault in FAULTS}


def hearing(name: str) -> Hearing:
    fault = FAULT[name]
    return hearings(load(fault.spec, CONTRACTS), LAYER[fault.layer], PROFILES["quick"], 0)[0]


def test_mistakes_that_fit_the_judged_cases_alike_are_told_apart_by_asking() -> None:
    (found,) = hearing("drops_the_tail_of_the_channels").counterexamples("out")
    assert found.diagnosis == ("out counts whole tiles of 8 channels: the rest behind them is left out.",)


def test_no_option_is_spoken_of_that_the_layer_does_not_take() -> None:
    (found,) = hearing("forgets_the_remainder").counterexamples("dx")
    assert found.diagnosis == ("dx ends with the last window: the rows that are left over behind it are missing.",)


def test_what_is_inexact_explains_the_items_that_compare_it() -> None:
    of_dx = "dx has float32's accuracy: something on the way to it is float32, or a sum is kept in it."
    court = hearing("sums_float64_in_float32")
    (found,) = court.counterexamples("linearity")
    assert found.diagnosis == (of_dx,)


@pytest.mark.parametrize(("error", "sentences"), [(1e-7, ("dx is rounded.",)), (1e-13, ())])
def test_what_is_inexact_does_not_explain_a_larger_error(error: float, sentences: tuple[str, ...]) -> None:
    court = hearing("sums_float64_in_float32")
    tally = court.tally("linearity")
    failing = [entry for entry in tally.failed if entry[2].tensor == "dx"]
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
    assert region in [found.region for found in hearing(name).counterexamples(item)]


def test_a_list_is_held_against_the_cases_of_its_tensors() -> None:
    (found,) = hearing("recomputes_the_deviation_with_the_usual_eps").counterexamples("stability")
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


def test_a_sum_that_stops_at_the_largest_tile_is_told_from_other_sums_with_a_bias_that_may_be_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "optional_bias.py").write_text(textwrap.dedent(OPTIONAL))
    adapter = load("optional_bias.py", CONTRACTS, tmp_path)
    court = hearings(adapter, LAYER["linear"], PROFILES["quick"], 0)[0]
    (found,) = court.counterexamples("db")
    assert found.diagnosis == ("db stops summing after 64 terms.",)


def test_what_no_rule_is_held_against_is_not_counted() -> None:
    court = hearing("accepts_any_eps")
    (found,) = court.counterexamples("rejection")
    assert found.failed + found.passed == len(list(court.asked("rejection")))


def test_the_unreduced_case_has_the_same_cause() -> None:
    court = hearing("leaves_channels_behind_the_last_tile")
    tally = court.tally("dx")
    failing = sorted(tally.failed, key=lambda entry: entry[0].key)
    passing = [(case, law) for law in court.laws for case in tally.passed if case.configuration.rank == law.space.rank]
    evidence = Evidence("dx", court.candidate, failing, passing)
    (sentence,) = diagnose(evidence, {}, None, inf).sentences
    assert sentence.endswith("behind the last multiple of 8.")
