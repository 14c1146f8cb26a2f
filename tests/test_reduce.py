"""A failing case is made as small as it can be, and stays a case that fails alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backproof.conformance.cases.draw import drawn
from backproof.conformance.explaining.budget import now
from backproof.conformance.explaining.reduce import plainer, reduced, refitted
from backproof.conformance.explaining.search import Search
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy, Status
from tests.spaces import LAYER, cases, space


def narrow(*options: str):
    full = space("conv", 2)
    return replace(full, signature=replace(full.signature, options=options, nullable=frozenset()))


def test_arrays_are_cut_and_repeated_to_fit() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert refitted(array, (1, 2)).tolist() == [[0, 1]]
    assert refitted(array, (3, 1)).tolist() == [[0], [3], [0]]
    assert refitted(None, (2,)).tolist() == [1, 1]


def test_a_remainder_of_the_stride_shrinks_to_two_pixels() -> None:
    def fails(case: Case) -> bool:
        p = case.configuration.parameters
        return any((p[f"size{k}"] - p[f"kernel{k}"]) % p[f"stride{k}"] for k in (0, 1))

    where, page = narrow("stride"), LAYER["conv"]
    for seed in range(5):
        case = next(c for c in drawn(page, where, 50, seed) if c.configuration.elements > 30 and fails(c))
        smallest, _ = reduced(case, fails, page, where, until=now() + 10)
        assert fails(smallest)
        assert smallest.configuration.size == (5, 1)
        assert smallest.plainness == (0, 0, 0, 0)


def test_what_a_tile_does_not_divide_shrinks_past_the_tiles() -> None:
    def fails(case: Case) -> bool:
        batch = len(case.array("x"))
        return batch > 8 and batch % 8 != 0

    page, where = LAYER["linear"], space("linear", 2)
    case = next(c for c in drawn(page, where, 500, 0) if len(c.array("x")) in (17, 33, 65))
    smallest, _ = reduced(case, fails, page, where, until=now() + 10)
    assert len(smallest.array("x")) == 9


def test_what_fails_with_plainer_numbers_alone_is_made_smaller_with_them() -> None:
    def fails(case: Case) -> bool:
        x, w = case.array("x"), case.array("w")
        return len(x) == 5 or (len(x) > 1 and not x.any() and not w.any())

    page, where = LAYER["linear"], space("linear", 2)
    case = next(c for _, c in cases("linear", 2, 200) if len(c.array("x")) == 5)
    smallest, _ = reduced(case, fails, page, where, until=now() + 10)
    assert len(smallest.array("x")) == 2


def test_numbers_become_plain_but_keep_what_matters() -> None:
    page, where = LAYER["linear"], space("linear", 2)
    case = next(c for _, c in cases("linear", 2, 50) if c.array("x").size >= 4)
    x = case.array("x").copy()
    x[0, 0] = 2.5
    case = case.with_arrays({**case.arrays, "x": x})

    def fails(trial: Case) -> bool:
        return bool(trial.array("x")[0, 0] >= 1.5)

    found, done = plainer(case, fails, page, where, until=now() + 10)
    assert done
    assert found.array("x")[0, 0] == 2
    others = [a.sum() for name, a in found.wide.items() if name != "x" and a is not None]
    assert found.array("x").sum() == 2
    assert others == [0] * len(others)


def references(*options: str) -> list[Reference]:
    return [Reference(LAYER["conv"], narrow(*options))]


def judge_by(condition):
    def judge(case: Case, reference: Reference):
        wrong = condition(case.configuration.parameters)
        return {"dx": Discrepancy("value", "dx", "planted") if wrong else Status.RIGHT}

    return judge


def test_the_search_finds_the_first_that_fails_and_counts_what_it_tried() -> None:
    search = Search(references("stride"), judge_by(lambda p: p["stride0"] == 2 and p["size0"] == 2), 10**6, 60.0)
    found = search.smaller("dx", "value", (8, 0))
    assert found.case is not None
    assert found.case.configuration.size == (5, 1)
    assert found.complete
    below = search.smaller("dx", "value", found.case.configuration.size)
    assert below.case is None
    assert below.complete
    assert 0 < below.cases < 400


def test_the_search_tries_both_signs_of_every_array() -> None:
    def judge(case: Case, reference: Reference):
        x, w, b = (case.wide.get(name) for name in ("x", "w", "b"))
        wrong = b is not None and (x < 0).all() and (b < 0).all() and (w > 0).all()
        return {"dx": Discrepancy("value", "dx", "planted") if wrong else Status.RIGHT}

    search = Search([Reference(LAYER["linear"], space("linear", 2))], judge, 10**6, 60.0)
    found = search.smaller("dx", "value", (6, 0))
    assert found.case is not None
    assert found.case.configuration.size == (4, 0)


def test_the_search_has_no_zero_below_zero() -> None:
    def judge(case: Case, reference: Reference):
        below = [a is not None and bool((np.signbit(a) & (a == 0)).any()) for a in case.arrays.values()]
        return {"dx": Discrepancy("value", "dx", "planted") if any(below) else Status.RIGHT}

    search = Search([Reference(LAYER["batchnorm"], space("batchnorm", 0))], judge, 10**6, 60.0)
    found = search.smaller("dx", "value", (14, 0))
    assert found.complete
    assert found.case is None


def test_the_search_keeps_kinds_and_checks_apart() -> None:
    search = Search(references("stride"), judge_by(lambda p: p["stride0"] == 2), 10**6, 60.0)
    assert search.smaller("dx", "shape", (5, 9)).case is None
    assert search.smaller("out", "value", (5, 9)).case is None
    assert search.smaller("dx", "value", (5, 9)).case is not None


def test_a_search_that_is_stopped_says_so() -> None:
    by_count = Search(references("stride", "padding", "dilation"), judge_by(lambda p: False), 30, 60.0)
    found = by_count.smaller("dx", "value", (20, 0))
    assert not found.complete
    assert 30 <= found.cases < 60
    by_time = Search(references("stride", "padding", "dilation"), judge_by(lambda p: False), 10**9, 0.0)
    assert not by_time.smaller("dx", "value", (20, 0)).complete
