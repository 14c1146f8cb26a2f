"""The rule of where an implementation fails: the shortest one, consistent with its own counts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.region import RegionSearch
from backproof.conformance.explaining.rules import Feature, Rule, RuleCandidate, Table, features_of, narrowest, shortest
from backproof.conformance.judging.properties import TENSORS, property_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.judging.runner import PartRunner, quiet
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.results import Discrepancy, Status
from backproof.plugins.gallery import FAULTS, Fault
from backproof.plugins.gallery.runner import runners
from backproof.reference import CONTRACTS
from tests.spaces import LAYER

LINEAR = """
import numpy as np

def linear_forward(x, w, b=None):
    {refuse}
    out = x @ w
    return out if b is None else out + b, (x, w, b)

def linear_backward(dout, cache):
    x, w, b = cache
    dx, dw, db = dout @ w.T, x.T @ dout, dout.sum(axis=0)
    {fault}
    return dx, dw, db
"""
CONV = """
import numpy as np
from backproof.plugins.numpy_adapter import conv_backward as right, conv_forward as forward

def conv_forward(x, w, b=None, *, stride=1, padding: tuple[tuple[int, int], ...] = ((0, 0),), dilation=1, groups=1):
    out, cache = forward(
        x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode="zeros"
    )
    return out, (cache, x, w, stride, padding, dilation, groups)

def conv_backward(dout, cache):
    cache, x, w, stride, padding, dilation, groups = cache
    dx, dw, db = right(dout, cache)
    {fault}
    return dx, dw, db
"""


def runner_of(text: str, layer: str, folder: Path) -> PartRunner:
    (folder / "adapter.py").write_text(text)
    (runner,) = runners(load(str(folder / "adapter.py"), CONTRACTS), LAYER[layer], PROFILES["quick"], 0)
    return runner


def judge_of(runner: PartRunner, check: str) -> Callable[[Case, Reference], bool | None]:
    property_ = property_of(check).judge

    def judge(case: Case, reference: Reference) -> bool | None:
        found = property_(case, runner.candidate, reference)[check]
        return True if isinstance(found, Discrepancy) else False if found is Status.RIGHT else None

    return judge


def search_rule(
    runner: PartRunner, check: str, seconds: float = 60.0, seed: int = 0
) -> tuple[Rule | None, RegionSearch]:
    """The rule of an item, and its search; with so many seconds only the number of cases limits it."""
    item_cases = runner.item_cases(check)
    failed = sorted((case for case, _, _ in item_cases.failed), key=lambda case: case.key)
    arranged, closed = check == "memory_layout", check == "rejection"
    search = RegionSearch(
        runner.references, judge_of(runner, check), seed=seed, seconds=seconds, arranged=arranged, closed=closed
    )
    with quiet(runner.warned):
        return search.rule(failed[0], failed, item_cases.passed), search


def contradictions(rule: Rule, search: RegionSearch) -> int:
    """The number of judged cases that contradict a rule, beyond those that it admits to."""
    labelled = search.labelled
    chosen, labels = list(range(len(labelled.cases))), np.array(labelled.failed, bool)
    if rule.configurations:
        chosen, labels = labelled.of_configurations()
    held = np.array([rule.holds(labelled.cases[k]) for k in chosen], bool)
    missed = int((labels & ~held).sum())
    counts = [int(labels.sum()) - rule.failed, int((~labels).sum()) - rule.passed, (held & ~labels).sum() - rule.inside]
    return missed + sum(abs(int(count)) for count in counts)


# --- what is found ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "fault", "words"),
    [
        ("db", "db = db + 1", "every case"),
        ("dx", "dx = dx if b is not None else 2 * dx", "no b"),
        ("dw", "dw = x[:32].T @ dout[:32]", "batch > 32"),
        ("dx", "n = len(w); dx[:, n // 8 * 8 :] *= n < 8", "inputs > 8 and inputs not a multiple of 8"),
        ("dw", "dw = dw if w.shape[0] != w.shape[1] else 2 * dw", "inputs = outputs"),
        ("db", "db = db if (w >= 0).all() else db + 1", "a negative number in w"),
        ("dx", "dx = dx if np.all(x == np.rint(x)) else dx + 1", "a fraction in x"),
        ("dx", "dx = dx if b is not None and w.shape[1] == 1 else dx + 1", "no b or outputs > 1"),
    ],
)
def test_the_rule_of_a_linear_layer(check: str, fault: str, words: str, tmp_path: Path) -> None:
    runner = runner_of(LINEAR.format(fault=fault, refuse=""), "linear", tmp_path)
    rule, search = search_rule(runner, check)
    assert rule is not None
    assert plain(rule.words) == words
    assert contradictions(rule, search) == 0
    assert not rule.inside


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("dx = dx if max(stride) == 1 else dx + 1", "stride > 1"),
        ("dx = dx if groups == 1 or max(stride) == 1 else dx + 1", "stride > 1 and groups > 1"),
        ("dx = dx if len(set(stride)) == 1 else dx + 1", "stride differs between the axes"),
        ("dx = dx if all(p == q for p, q in padding) else dx + 1", "asymmetric padding"),
        ("dx = dx if x.shape[1] % 4 == 0 else dx + 1", "channels not a multiple of 4"),
    ],
)
def test_the_rule_of_a_convolution(fault: str, words: str, tmp_path: Path) -> None:
    runner = runner_of(CONV.format(fault=fault), "conv", tmp_path)
    rule, search = search_rule(runner, "dx")
    assert rule is not None
    assert rule.words == words
    assert contradictions(rule, search) == 0


def test_multiples_of_a_tile_are_judged() -> None:
    adapter = load("backproof.plugins.gallery:drops_the_tail_of_the_channels", CONTRACTS)
    rule, _ = search_rule(runners(adapter, LAYER["conv"], PROFILES["quick"], 0)[0], "out")
    assert rule is not None
    assert rule.words == "channels > 8 and channels not a multiple of 8"


def plain(words: str) -> str:
    """With two dimensions the rows are the batch."""
    return words.replace("N > 1", "batch > 1").replace("rows", "batch")


def test_a_rule_that_numbers_hide_counts_configurations(tmp_path: Path) -> None:
    fault = "dx = dx if len(x) < 3 or x[0, 0] * x[-1, -1] > 0 else dx + 1"
    rule, search = search_rule(runner_of(LINEAR.format(fault=fault, refuse=""), "linear", tmp_path), "dx")
    assert rule is not None
    assert (rule.words, rule.configurations) == ("N > 2", True)
    assert contradictions(rule, search) == 0


def test_a_rule_says_where_failures_lie_if_nothing_says_which_cases_fail(tmp_path: Path) -> None:
    # A hash of the sizes, which no rule expresses.
    fault = "dx = dx if max(stride) == 1 or sum(x.shape) * 7919 % 10 < 2 else dx + 1"
    rule, search = search_rule(runner_of(CONV.format(fault=fault), "conv", tmp_path), "dx")
    assert rule is not None
    assert rule.words == "stride > 1"
    assert 0 < rule.inside < rule.failed
    assert contradictions(rule, search) == 0


def test_there_need_be_no_rule(tmp_path: Path) -> None:
    fault = "dx = dx if sum(x.shape) * 7919 % 10 < 5 else dx + 1"
    rule, _ = search_rule(runner_of(CONV.format(fault=fault), "conv", tmp_path), "dx")
    assert rule is None


def test_what_is_refused_has_a_rule(tmp_path: Path) -> None:
    refuse = "if b is None: raise NotImplementedError"
    runner = runner_of(LINEAR.format(fault="", refuse=refuse), "linear", tmp_path)
    item_cases = runner.item_cases("dx")
    status = {Status.UNSUPPORTED: True, Status.RIGHT: False}
    search = RegionSearch(
        runner.references,
        lambda case, reference: status.get(TENSORS.judge(case, runner.candidate, reference)["dx"]),
        seconds=60.0,
    )
    start = min(item_cases.refused, key=lambda case: case.key)
    rule = search.rule(start, item_cases.refused, item_cases.passed)
    assert rule is not None
    assert rule.words == "no b"
    assert contradictions(rule, search) == 0


# --- what holds of every rule ----------------------------------------------------------------------------------

SOME_FAULTS = FAULTS[:: len(FAULTS) // 24]


@pytest.mark.parametrize("fault", SOME_FAULTS, ids=lambda fault: fault.name)
def test_rules_agree_with_their_counts(fault: Fault) -> None:
    check = fault.caught_by[0]
    adapter = load(fault.spec, CONTRACTS)
    found = runners(adapter, LAYER[fault.layer], PROFILES["quick"], 0)
    runner = next(each for each in found if check in each.checks and each.item_cases(check).failed)
    rule, search = search_rule(runner, check)
    assert rule is not None
    assert contradictions(rule, search) == 0


def test_a_rule_that_disagrees_with_its_counts_is_noticed(tmp_path: Path) -> None:
    fault = "dx = dx if max(stride) == 1 else dx + 1"
    rule, search = search_rule(runner_of(CONV.format(fault=fault), "conv", tmp_path), "dx")
    assert rule is not None
    wrong = Rule("groups > 1", lambda case: case.options["groups"] > 1, rule.failed, rule.passed)
    assert contradictions(wrong, search) > 0
    assert contradictions(Rule(rule.words, rule.holds, rule.failed + 1, rule.passed), search) > 0


def test_the_same_seed_gives_the_same_rule(tmp_path: Path) -> None:
    text = CONV.format(fault="dx = dx if len(set(stride)) == 1 else dx + 1")
    first, second = (search_rule(runner_of(text, "conv", tmp_path), "dx") for _ in range(2))
    assert first[0] is not None
    assert second[0] is not None
    assert (first[0].words, first[0].failed, first[0].passed) == (second[0].words, second[0].failed, second[0].passed)
    assert first[1].asked == second[1].asked > 0


def test_without_time_no_case_is_judged_and_the_rule_fits_those_there_are(tmp_path: Path) -> None:
    runner = runner_of(CONV.format(fault="dx = dx if max(stride) == 1 else dx + 1"), "conv", tmp_path)
    rule, search = search_rule(runner, "dx", seconds=0.0)
    assert search.asked == 0
    assert rule is not None
    assert contradictions(rule, search) == 0


# --- the search ------------------------------------------------------------------------------------------------


def table_of(columns: Array) -> tuple[Table, list[Feature]]:
    facts = [{f"f{k}": bool(value) for k, value in enumerate(row)} for row in columns.T]
    table = Table(facts)
    features = features_of(table, np.zeros(table.size, bool))
    return table, [feature for feature in features if not feature.words.startswith("not ")]


@pytest.mark.parametrize("seed", range(40))
def test_the_search_finds_what_trying_everything_finds(seed: int) -> None:
    generator = np.random.default_rng(seed)
    columns = generator.random((9, 14)) < generator.choice((0.4, 0.7, 0.85))
    failed = columns[generator.permutation(9)[: 1 + seed % 4]].all(axis=0)
    if not failed.any() or failed.all():
        failed = generator.random(14) < 0.5
    table, features = table_of(columns)
    found = shortest(features, table, failed)
    lengths = [
        size
        for size in (1, 2, 3)
        for some in combinations(range(9), size)
        if (columns[list(some)].all(axis=0) == failed).all()
        or (size == 2 and (columns[list(some)].any(axis=0) == failed).all())
    ]
    assert [candidate.length for candidate in found[:1]] == lengths[:1]
    for candidate in found:
        assert (candidate.holds(table) == failed).all()
    for candidate in narrowest(features, table, failed):
        assert candidate.holds(table)[failed].all()


def test_nothing_passed_is_every_case() -> None:
    table, features = table_of(np.ones((2, 3), bool))
    assert shortest(features, table, np.ones(3, bool)) == [RuleCandidate(())]
    assert shortest(features, table, np.zeros(3, bool)) == []
    assert RuleCandidate(()).words == "every case"


def test_a_threshold_is_a_round_number_between_both_sides() -> None:
    table = Table([{"size": size} for size in (1, 9, 31, 33, 65)])
    (rule, *_) = shortest(features_of(table, np.array([0, 0, 0, 1, 1], bool)), table, np.array([0, 0, 0, 1, 1], bool))
    assert rule.words == "size > 32"
