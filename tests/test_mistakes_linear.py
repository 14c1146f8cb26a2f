"""The catalogue of linear's mistakes: each is one that a small wrong layer commits, and is named for no other.

A line of SLIPS is a layer written by hand. The mistakes that give its result in every case, drawn and of large sizes,
must be those that say what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from backproof.conformance.spec.case import Case
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.linear import LAYER
from backproof.reference.mistakes.linear import MISTAKES
from tests.spaces import cases, space

Make = Callable[..., Any]


def right(x, w, b, dout):
    rows, upstream = x.reshape(-1, x.shape[-1]), dout.reshape(-1, dout.shape[-1])
    return {"out": x @ w + b, "dx": dout @ w.T, "dw": rows.T @ upstream, "db": upstream.sum(axis=0)}


def rows_of(a):
    return a.reshape(-1, a.shape[-1])


def last_sample(x, w, b, dout):
    dw = np.zeros(w.shape)
    for sample, upstream in zip(x, dout, strict=True):
        dw = rows_of(sample).T @ rows_of(upstream)
    return {"dw": dw}


def in_tiles(x, w, b, dout):
    out = np.zeros((*x.shape[:-1], w.shape[1])) + b
    for k in range(0, len(w) - 7 if len(w) > 8 else 1, 8):
        end = k + 8 if len(w) > 8 else len(w)
        out += x[..., k:end] @ w[k:end]
    return {"out": out}


def moved_back(x, w, b, dout):
    starts = list(range(0, len(rows_of(x)), 8))
    dw = np.zeros(w.shape)
    for start in starts:
        start = max(0, min(start, len(rows_of(x)) - 8))
        dw += rows_of(x)[start : start + 8].T @ rows_of(dout)[start : start + 8]
    return {"dw": dw}


def bias_in_tiles(x, w, b, dout):
    out = np.zeros((*x.shape[:-1], w.shape[1]))
    for k in range(0, len(w), 8):
        out += x[..., k : k + 8] @ w[k : k + 8] + b
    return {"out": out}


def relu(x, w, b, dout):
    out = x @ w + b
    return {**right(x, w, b, dout * (out >= 0)), "out": np.maximum(out, 0)}


def square_only(x, w, b, dout):
    return {"dx": dout @ (w if w.shape[0] == w.shape[1] else w.T)}


def magnitude(x, w, b, dout):
    found = right(x, np.abs(w), b, dout)
    return {**found, "dw": np.where(w < 0, -found["dw"], found["dw"])}


def along_the_batch(x, w, b, dout):
    return {"out": x @ w + (b[:, None] if x.ndim == 2 and 1 < len(x) == len(b) else b)} if x.ndim == 2 else {}


def wrapped(x, w, b, dout):
    flat = x.ravel()
    return {"dw": rows_of(np.array([flat[k % 64] for k in range(x.size)]).reshape(x.shape)).T @ rows_of(dout)}


#: A layer, the tensors that it has wrong, how the sentences begin that must be told, and the rank that it is asked at.
SLIPS: tuple[tuple[Make, str, str, int], ...] = (
    (lambda x, w, b, g: {"db": right(x, w, b, g)["db"] / max(1, len(g))}, "db", "{tensor} is averaged over", 2),
    (lambda x, w, b, g: {"dw": -right(x, w, b, g)["dw"]}, "dw", "{tensor} has the wrong sign", 2),
    (lambda x, w, b, g: {"dx": 2 * (g @ w.T)}, "dx", "{tensor} is twice what it should be", 3),
    (lambda x, w, b, g: {"db": 0 * b}, "db", "{tensor} is always zero", 2),
    (
        lambda x, w, b, g: {"dw": right(x, w, b, g)["dw"] / w.shape[1]},
        "dw",
        "{tensor} is divided by the number of o",
        2,
    ),
    (last_sample, "dw", "{tensor} is that of the last sample alone", 3),
    (lambda x, w, b, g: {"db": rows_of(g)[0]}, "db", "{tensor} is that of the first sample alone", 2),
    (lambda x, w, b, g: {"db": g}, "db", "{tensor} is dout itself", 2),
    (lambda x, w, b, g: {"db": g.sum(axis=0, keepdims=True)}, "db", "{tensor} keeps what it is summed over", 2),
    (lambda x, w, b, g: {"db": g.sum(axis=0)}, "db", "{tensor} sums the first leading axis of dout alone", 3),
    (lambda x, w, b, g: {"db": g.sum(axis=-1)}, "db", "{tensor} sums dout over its last axis", 2),
    (lambda x, w, b, g: {"db": np.full(b.shape, g.sum())}, "db", "{tensor} has one number for all outputs", 2),
    (lambda x, w, b, g: {"dw": x.swapaxes(1, 2) @ g}, "dw", "{tensor} has a matrix for each index", 3),
    (
        lambda x, w, b, g: {"dw": np.outer(x.sum(axis=0), g.sum(axis=0))},
        "dw",
        "{tensor} is the product of two sums",
        2,
    ),
    (
        lambda x, w, b, g: {"dw": rows_of(x)[: len(x)].T @ rows_of(g)[: len(x)]},
        "dw",
        "{tensor} sums as many rows as the first leading axis",
        3,
    ),
    (lambda x, w, b, g: {"dw": g.T @ x}, "dw", "{tensor} is transposed", 2),
    (square_only, "dx", "{tensor} multiplies dout with w the wrong way round", 2),
    (lambda x, w, b, g: {"dx": g @ w.reshape(w.shape[::-1])}, "dx", "{tensor} is computed with w reshaped", 2),
    (lambda x, w, b, g: {"dx": right(x, w, b, g)["dw"]}, "dx", "{tensor} is what dw should be", 2),
    (lambda x, w, b, g: {"dx": rows_of(g @ w.T)}, "dx", "{tensor} is left flattened", 3),
    (
        lambda x, w, b, g: {"dx": (g @ w.T).swapaxes(0, 1).reshape(x.shape)},
        "dx",
        "{tensor} has its rows in another order",
        3,
    ),
    (
        lambda x, w, b, g: {"out": x.reshape(x.shape[-1], -1).T.reshape(x.shape) @ w + b},
        "out",
        "x is flattened with",
        3,
    ),
    (lambda x, w, b, g: {"dw": right(x, w, b, g)["dw"][::-1]}, "dw", "{tensor} is right but for its order", 2),
    (lambda x, w, b, g: {"out": x @ w}, "out", "b is not added", 2),
    (lambda x, w, b, g: {"out": x @ w - b}, "out", "b is subtracted", 3),
    (along_the_batch, "out", "b is added to {tensor} along the batch", 2),
    (magnitude, "out dx dw", "{tensor} is that of a layer with |w|", 2),
    (lambda x, w, b, g: {"out": x @ w / np.sqrt(len(w)) + b}, "out", "The product is divided by the root", 2),
    (relu, "out dx dw db", "A ReLU is applied", 2),
    (lambda x, w, b, g: {"dx": g.clip(-1, 1) @ w.T}, "dx", "dout is clipped to 1", 2),
    (lambda x, w, b, g: {"dw": x.T @ np.abs(g)}, "dw", "{tensor} is computed with |dout|", 2),
    (lambda x, w, b, g: {"dw": x.T @ g + 5e-4 * w}, "dw", "{tensor} has a multiple of its own array", 2),
    (in_tiles, "out", "{tensor} is summed in whole blocks of 8: ", 2),
    (moved_back, "dw", "{tensor} is summed in blocks of 8, the last of which is moved back", 2),
    (bias_in_tiles, "out", "The product is summed in blocks of 8 inputs", 2),
    (lambda x, w, b, g: {"db": g[:32].sum(axis=0)}, "db", "{tensor} stops summing after 32", 2),
    (
        lambda x, w, b, g: {"dx": (g @ w.T) * (np.arange(len(w)) < 16)},
        "dx",
        "Only the first 16 inputs of {tensor}",
        2,
    ),
    (wrapped, "dw", "{tensor} finds the entries of x at an offset that starts again at 64", 2),
    (lambda x, w, b, g: {"dw": x.astype("float32").astype(float).T @ g}, "dw", "x is rounded to float32", 2),
    (lambda x, w, b, g: {"db": np.trunc(g).sum(axis=0)}, "db", "dout is cut to integers", 2),
)


@cache
def asked(rank: int) -> tuple[Case, ...]:
    """Drawn cases with a bias, and every large size of a sweep beside small ones."""
    here = space("linear", rank)
    drawn = [case for _, case in cases("linear", rank, 60) if case.arrays["b"] is not None]
    edges = [LAYER.build(parameters, here) for parameters in LAYER.large(here, (7, 9, 15, 17, 31, 33, 65))]
    return (*drawn, *(next(iter(LAYER.fills(found, here))) for found in edges if found is not None))


def numbers(case: Case) -> list[Any]:
    return [case.array(name) for name in ("x", "w", "b", "dout")]


def same(one: Any, other: Any) -> bool:
    """Whether two results differ by no more than sums in another order do."""
    if one.shape != other.shape:
        return False
    return bool((np.abs(one - other) <= 1e-12 * (1 + np.abs(one).max(initial=0))).all())


def made(make: Make, tensor: str, case: Case) -> Any:
    found = make(*numbers(case)).get(tensor)
    return LAYER.evaluate(case)[tensor] if found is None else found


def is_given_by(mistake: Mistake, make: Make, tensor: str, rank: int) -> bool:
    """Whether a mistake gives what a slip does in every case, and shows in one."""
    shows = False
    for case in asked(rank):
        expected, got = LAYER.evaluate(case), made(make, tensor, case)
        given = (mistake.gives(case, expected) or {}).get(tensor, expected[tensor])
        if not same(given, got):
            return False
        shows = shows or not same(got, expected[tensor])
    return shows


@pytest.mark.parametrize(("make", "tensors", "begin", "rank"), SLIPS, ids=[slip[2][:40] for slip in SLIPS])
def test_a_slip_is_named_and_nothing_else_is(make: Make, tensors: str, begin: str, rank: int) -> None:
    for tensor in tensors.split():
        named = {
            mistake.sentence
            for mistake in MISTAKES
            if tensor in mistake.tensors
            if is_given_by(mistake, make, tensor, rank)
        }
        assert named, tensor
        assert {sentence for sentence in named if not sentence.startswith(begin)} == set()


def test_right_code_commits_no_mistake() -> None:
    for mistake in MISTAKES:
        for tensor in mistake.tensors:
            assert not is_given_by(mistake, right, tensor, 2), mistake.sentence


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_a_mistake_raises_in_no_case_and_makes_its_own_tensors(rank: int, dtype: str) -> None:
    here = space("linear", rank, dtype)
    drawn = [case for _, case in cases("linear", rank, 20, dtype)]
    for case in (*drawn, *LAYER.edges(here)):
        expected = LAYER.evaluate(case)
        with np.errstate(all="ignore"):
            for mistake in MISTAKES:
                given = mistake.gives(case, expected) or {}
                assert given.keys() <= set(mistake.tensors) & expected.keys(), mistake.sentence


def test_there_are_many_and_each_is_a_sentence_about_a_tensor() -> None:
    sentences = {mistake.sentence for mistake in MISTAKES}
    assert len(sentences) >= 60
    for sentence in sentences:
        assert sentence.endswith(".")
        assert sentence.replace("{tensor}", "dw").count("{") == 0
