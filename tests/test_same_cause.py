"""Failures that belong together are told once, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from backproof.conformance.explaining.item_result import ItemResult
from backproof.conformance.explaining.related import AfterForward, Ledger, SameCause, grouped, named
from backproof.conformance.judging.item import Item
from backproof.conformance.judging.properties import PROPERTIES, property_of
from backproof.conformance.spec.results import Discrepancy
from tests.failures import one, stride


def failing(check: str, *diagnosis: str, part: str = "conv2d", dtype: str = "float64", **facts: Any) -> tuple[str, Any]:
    """An item that fails with these sentences."""
    found = replace(stride(), diagnosis=diagnosis, **facts)
    found = replace(found, discrepancy=replace(found.discrepancy, tensor=check if check not in PROPERTIES else "dx"))
    item = Item("linear" if part == "linear" else "conv", part, 2, check, dtype)
    return f"backproof::{part}::{check}::{dtype}", ItemResult(
        item, "failed", 200, 0, 0, 0.1, (found,), property_=property_of(check)
    )


def relations(*told: tuple[str, Any]) -> list[str]:
    """How each failing item is related to those before it, in the names of the relations."""
    ledger = Ledger()
    return [type(ledger.relate(*each)).__name__ for each in told]


def test_one_cause_is_told_once_across_tensors_parts_and_dtypes() -> None:
    first = failing("dw", "dw is averaged instead of summed.")
    again = [
        failing("db", "db is averaged instead of summed."),
        failing("dw", "dw is averaged instead of summed.", part="conv1d"),
        failing("dw", "dw is averaged instead of summed.", dtype="float32"),
        failing("identities", "dw is averaged instead of summed."),
    ]
    assert relations(first, *again) == ["NoneType"] + ["SameCause"] * 4


def test_another_cause_is_told_in_full() -> None:
    first = failing("dw", "dw is averaged instead of summed.")
    others = [
        failing("db", "db is averaged over the batch alone."),
        failing("db", "db is averaged instead of summed.", "db is the mean."),
        failing("dw", "dw is averaged instead of summed.", part="linear"),
        failing("dx"),
        failing("dx", part="conv1d"),
        failing("dw", "dw is averaged instead of summed.", dtype="float32", steady=False),
    ]
    assert relations(first, *others) == ["NoneType"] * 7


def test_two_kinds_are_the_same_only_where_both_are() -> None:
    name, one = failing("dw", "dw is averaged instead of summed.")
    other = replace(one.counterexamples[0], diagnosis=("dw is None.",))
    both = replace(one, counterexamples=(*one.counterexamples, other))
    assert relations((name, both), failing("db", "db is None.")) == ["NoneType", "SameCause"]
    assert relations(failing("db", "db is None."), (name, both)) == ["NoneType", "NoneType"]


def test_a_wrong_forward_comes_before_its_gradients() -> None:
    out = failing("out", "out is too large.")
    assert relations(out, failing("dx"), failing("dw", "dw is None.")) == ["NoneType", "AfterForward", "AfterForward"]
    apart = [failing("dx", part="conv1d"), failing("dx", dtype="float32"), failing("purity")]
    assert relations(out, *apart) == ["NoneType"] * 4
    assert relations(failing("dx"), out) == ["NoneType"] * 2


def test_a_forward_that_raises_is_no_wrong_forward() -> None:
    """Where it raises no backward is asked: the gradient is wrong elsewhere."""
    name, out = failing("out")
    raised = replace(out.counterexamples[0], discrepancy=Discrepancy("crash", "out", "It raised."))
    assert relations((name, replace(out, counterexamples=(raised,))), failing("dx")) == ["NoneType"] * 2


def test_a_gradients_own_cause_is_told_after_a_wrong_forward() -> None:
    ledger = Ledger()
    ledger.relate(*failing("out", "out is that of a stride of 1."))
    same = ledger.relate(*failing("dx", "dx is that of a stride of 1."))
    own = ledger.relate(*failing("dw", "dw is transposed."))
    assert isinstance(same, AfterForward)
    assert isinstance(own, AfterForward)
    assert (same.causes, own.causes) == ((), ("dw is transposed.",))
    assert same.words == ("dx is wrong too, as the forward is: mend out first (backproof::conv2d::out::float64).")


def test_what_ties_results_is_a_consequence_in_the_same_configuration_alone() -> None:
    name, tied = failing("identities")
    assert relations(failing("dx"), (name, tied)) == ["NoneType", "Consequence"]
    for elsewhere in (one(), one(size0=2, size1=2, kernel0=2, stride0=2)):
        other = replace(tied.counterexamples[0], case=elsewhere)
        assert relations(failing("dx"), (name, replace(tied, counterexamples=(other,)))) == ["NoneType"] * 2
    assert relations(failing("dw"), (name, tied)) == ["NoneType"] * 2
    assert relations(failing("dx"), failing("linearity"), failing("memory_layout")) == ["NoneType"] * 3


def test_a_ledger_says_the_same_when_it_is_asked_again() -> None:
    ledger = Ledger()
    first, second = failing("dw", "dw is None."), failing("db", "db is None.")
    told = ledger.relate(*first), ledger.relate(*second)
    assert (ledger.relate(*first), ledger.relate(*second)) == told
    assert isinstance(told[1], SameCause)
    assert told[1].words == "fails for the same reason as conv2d dw (float64): db is None."


def test_the_summary_groups_by_cause() -> None:
    ledger, averaged = Ledger(), "{} is averaged instead of summed."
    for dtype in ("float64", "float32"):
        for check in ("dw", "db"):
            ledger.relate(*failing(check, averaged.format(check), dtype=dtype))
    ledger.relate(*failing("dx", "dx is None."))
    ledger.relate(*failing("out", part="conv1d"))
    ledger.relate(*failing("dx", part="conv1d"))
    ids = [f"backproof::conv2d::{check}::{dtype}" for dtype in ("float64", "float32") for check in ("dw", "db")]
    assert ledger.groups() == [("dw is averaged instead of summed.", tuple(ids))]
    assert ledger.summary() == [
        "conv2d dw and db fail for the same reason: dw is averaged instead of summed.",
        "conv1d dx is wrong after a wrong forward: mend conv1d out first.",
    ]


def test_a_gradient_with_the_forwards_cause_is_summed_up_once() -> None:
    ledger = Ledger()
    for check in ("out", "dx"):
        ledger.relate(*failing(check, f"{check} is that of a stride of 1."))
    ledger.relate(*failing("dw"))
    assert ledger.summary() == [
        "conv2d out and dx fail for the same reason: out is that of a stride of 1.",
        "conv2d dw is wrong after a wrong forward: mend conv2d out first.",
    ]


def test_groups_can_be_told_from_reports() -> None:
    told = [
        ("backproof::conv2d::dw::float64", "conv", ["dw is None."]),
        ("backproof::conv2d::db::float64", "conv", ["db is None."]),
        ("backproof::linear::db::float64", "linear", ["db is None."]),
        ("backproof::conv2d::dx::float64", "conv", []),
        ("backproof::conv1d::dx::float64", "conv", []),
    ]
    assert grouped(told) == [("dw is None.", (told[0][0], told[1][0]))]


def test_items_are_named_shortly() -> None:
    ids = ["conv1d::dw::float64", "conv1d::dw::float32", "conv1d::db::float64", "conv2d::dx::float64"]
    assert (
        named(f"backproof::{name}" for name in ids)
        == "conv1d dw (float64), dw (float32) and db (float64), conv2d dx (float64)"
    )
    assert named(f"backproof::{name}" for name in ids[:2]) == "conv1d dw"
    assert named(["backproof::conv1d::dw::float32"]) == "conv1d dw"
