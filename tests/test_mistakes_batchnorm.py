"""The catalogue of batch norm's mistakes: each is wrong somewhere, none raises, and wrong code is recognized."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from inspect import getsource
from typing import Any

import numpy as np
import pytest

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Space
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.mistakes.batchnorm import MISTAKES
from backproof.reference.mistakes.batchnorm_stages import GRADIENTS, STEPS, Stages, stages
from backproof.reference.textbook import batchnorm as textbook
from tests.spaces import LAYER, cases, space

PAGE = LAYER["batchnorm"]
TENSORS = ("out", "dx", "dgamma", "dbeta", "running_mean", "running_var")

Judged = tuple[Case, Results]


def judged(found: Iterator[Case]) -> list[Judged]:
    """The cases with what is right in them, which nobody may write to."""
    kept = []
    for case in found:
        right = {name: np.array(a) for name, a in PAGE.evaluate(case).items()}
        for a in (*right.values(), *(a for a in case.arrays.values() if a is not None)):
            a.setflags(write=False)
        kept.append((case, right))
    return kept


def declared(rank: int, dtype: str = "float64", **settings: Any) -> Space:
    """Everything allowed, with other settings."""
    found = space("batchnorm", rank, dtype)
    return replace(found, settings={**found.settings, **settings})


def tiled() -> Iterator[Case]:
    """Sizes around the edges of tiles, with numbers of no pattern, in training and in eval."""
    for rank in (0, 2):
        where = declared(rank)
        generator = np.random.default_rng(rank)
        for parameters in PAGE.large(where, (9, 17, 33, 65)):
            found = PAGE.build(parameters, where)
            assert found is not None
            case = next(iter(PAGE.fills(found, where)))
            yield case.with_arrays(
                {k: a if a is None else generator.normal(3, 1, a.shape) ** 2 for k, a in case.arrays.items()}
            )


@cache
def drawn() -> tuple[Judged, ...]:
    """A few hundred drawn cases of every rank, in training and eval, with and without gamma and beta."""
    return tuple(judged(case for rank in range(4) for _, case in cases("batchnorm", rank, 80, seed=rank)))


@cache
def special() -> tuple[Judged, ...]:
    """Tiles' edges, one element a channel, an empty batch, no variance, far means, 16 bits and other declarations."""
    low = declared(0, "float16", parameters="float32")
    biased = declared(0, running_var="biased", momentum="old")
    far = [
        case.with_arrays({k: a if a is None else a * 300 for k, a in case.arrays.items()})
        for _, case in cases("batchnorm", 0, 4, "float16")
    ]
    found = [
        *tiled(),
        *PAGE.edges(declared(0, empty_batch=True)),
        *PAGE.edges(declared(2, empty_batch=True)),
        *PAGE.extremes(declared(0)),
        *PAGE.extremes(low),
        *far,
        *(case for _, case in cases("batchnorm", 0, 6, "bfloat16")),
        *PAGE.long_sums(declared(0, "float16")),
        *(PAGE.fill(found, tape, biased) for found, tape in configurations(biased, 20)),
    ]
    return tuple(judged(iter(found)))


def configurations(where: Space, count: int) -> Iterator[tuple[Any, Any]]:
    """So many drawn configurations of a space, each with a tape for its numbers."""
    from backproof.conformance.spec.tape import Tape

    generator = np.random.default_rng(5)
    while count:
        found = PAGE.build(dict(PAGE.draw(Tape(generator.bytes(64)), where).parameters), where)
        if found is not None:
            count -= 1
            yield found, Tape(generator.bytes(64))


def same(one: Array, other: Array) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True))


def shows(mistake: Mistake, case: Case, right: Results) -> set[str]:
    """The tensors that a mistake makes wrong in a case."""
    given = mistake.gives(case, right) or {}
    return {name for name, a in given.items() if not same(np.asarray(a, np.float64), right[name])}


def test_there_are_many_and_no_two_say_the_same() -> None:
    assert len(MISTAKES) >= 60
    sentences = [mistake.sentence for mistake in MISTAKES]
    assert sorted(sentences) == sorted(set(sentences))
    assert all(sentence.count("{tensor}") == 1 and sentence.endswith(".") for sentence in sentences)
    assert all(mistake.tensors and set(mistake.tensors) <= set(TENSORS) for mistake in MISTAKES)


def test_each_step_is_one_of_the_textbook() -> None:
    """In the words of its backward's comments."""
    lines = getsource(textbook.batchnorm_backward)
    for number, step in STEPS.items():
        assert step.startswith(f"step {number}: ")
        assert f"# {number}. {step.partition(': ')[2]}\n" in lines
    told = {mistake.step for mistake in MISTAKES}
    assert {step for steps in told if steps for step in steps.split("; ")} == set(STEPS.values())


@pytest.mark.parametrize("tensor", TENSORS)
def test_each_shows_in_every_tensor_that_it_speaks_of(tensor: str) -> None:
    everywhere = (*drawn()[::3], *special())
    hidden = [
        mistake.sentence
        for mistake in MISTAKES
        if tensor in mistake.tensors and not any(tensor in shows(mistake, *each) for each in everywhere)
    ]
    assert hidden == []


def test_none_raises_and_all_keep_to_their_tensors() -> None:
    everywhere = (*drawn(), *special())
    for k, mistake in enumerate(MISTAKES):
        for case, right in everywhere[k % 5 :: 5]:
            given = mistake.gives(case, right)
            assert given is None or set(given) <= set(mistake.tensors) & set(right), mistake.sentence


def test_the_catalogue_does_not_know_the_gallery() -> None:
    code = "import sys, backproof.reference.mistakes.batchnorm; assert not [m for m in sys.modules if 'plugins' in m]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_stages_are_right_where_nothing_is_changed() -> None:
    for case, right in drawn():
        found = Stages(case)
        tensors = found.normalized() | {"dbeta": found.dbeta}
        if found.training:
            tensors |= found.tracked()
            assert same(found.as_passed("dx", found.backward()), right["dx"])
            unchanged: dict[str, Callable[[Array], Array]] = dict.fromkeys(GRADIENTS, np.array)
            assert same(found.as_passed("dx", found.backward(unchanged)), right["dx"])
        for name in set(tensors) & set(right):
            assert same(found.as_passed(name, tensors[name]), right[name]), name


@pytest.mark.parametrize("name", GRADIENTS)
def test_each_gradient_of_the_stages_counts(name: str) -> None:
    training = [found for case, _ in drawn() if (found := stages(case)).training]
    assert any(not same(found.backward({name: lambda value: 3 * value}), found.dx) for found in training)


def test_what_needs_one_mode_does_not_show_in_the_other() -> None:
    for mistake in MISTAKES:
        for case, right in drawn()[:40]:
            if mistake.sentence.startswith("In eval, " if case.options["training"] else "In training alone, "):
                assert mistake.gives(case, right) is None


# --- wrong batch norms, as somebody may write them --------------------------------------------------------------


def right_pieces(case: Case) -> tuple[Any, ...]:
    """x and dout as rows of channels, and the parameters."""
    x, dout = (np.moveaxis(case.array(name), 1, -1).reshape(-1, case.array("x").shape[1]) for name in ("x", "dout"))
    gamma, beta = case.wide.get("gamma"), case.wide.get("beta")
    return x, dout, 1.0 if gamma is None else gamma, 0.0 if beta is None else beta, case.options["eps"]


def like(rows: Array, case: Case) -> Array:
    shape = case.array("x").shape
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def statistics_of(case: Case) -> tuple[Any, Any]:
    x = right_pieces(case)[0]
    if case.options["training"]:
        return x.mean(axis=0), x.var(axis=0)
    return case.array("running_mean"), case.array("running_var")


def mean_path_dropped(case: Case) -> Results:
    x, dout, gamma, _, eps = right_pieces(case)
    mean, var = statistics_of(case)
    std = np.sqrt(var + eps)
    dxhat = dout * gamma
    if not case.options["training"]:
        return {"dx": like(dxhat / std, case)}
    dvar = np.sum(dxhat * (x - mean) * -0.5 * std**-3, axis=0)
    return {"dx": like(dxhat / std + dvar * 2 * (x - mean) / len(x), case)}


def root_differentiated_without_its_half(case: Case) -> Results:
    x, dout, gamma, _, eps = right_pieces(case)
    mean, var = statistics_of(case)
    std = np.sqrt(var + eps)
    dxhat = dout * gamma
    if not case.options["training"]:
        return {"dx": like(dxhat / std, case)}
    dvar = -np.sum(dxhat * (x - mean), axis=0) / std**2 / std
    dcentred = dxhat / std + 2 * (x - mean) * dvar / len(x)
    return {"dx": like(dcentred - dcentred.mean(axis=0), case)}


def compact_formula_over_the_batch(case: Case) -> Results:
    x, dout, gamma, _, eps = right_pieces(case)
    mean, var = statistics_of(case)
    xhat = (x - mean) / np.sqrt(var + eps)
    if not case.options["training"]:
        return {"dx": like(dout * gamma / np.sqrt(var + eps), case)}
    n = case.array("x").shape[0]
    dx = gamma / np.sqrt(var + eps) / n * (n * dout - dout.sum(axis=0) - xhat * (dout * xhat).sum(axis=0))
    return {"dx": like(dx, case)}


def dgamma_from_the_input(case: Case) -> Results:
    x, dout, *_ = right_pieces(case)
    return {"dgamma": (dout * x).sum(axis=0)}


def mean_for_sum(case: Case) -> Results:
    x, dout, *_, eps = right_pieces(case)
    mean, var = statistics_of(case)
    return {"dgamma": (dout * (x - mean) / np.sqrt(var + eps)).mean(axis=0), "dbeta": dout.mean(axis=0)}


def eps_outside_the_root(case: Case) -> Results:
    x, dout, gamma, beta, eps = right_pieces(case)
    mean, var = statistics_of(case)
    xhat = (x - mean) / (np.sqrt(var) + eps)
    return {"out": like(gamma * xhat + beta, case), "dgamma": (dout * xhat).sum(axis=0)}


def unbiased_in_the_forward(case: Case) -> Results:
    x, dout, gamma, beta, eps = right_pieces(case)
    mean, var = statistics_of(case)
    if case.options["training"]:
        var = var * len(x) / np.float64(len(x) - 1)
    xhat = (x - mean) / np.sqrt(var + eps)
    return {"out": like(gamma * xhat + beta, case), "dgamma": (dout * xhat).sum(axis=0)}


def statistics_of_each_image(case: Case) -> Results:
    x = case.array("x")
    if x.ndim == 2 or not case.options["training"]:
        return {}
    _, _, gamma, beta, eps = right_pieces(case)
    axes, column = tuple(range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    xhat = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    return {"out": np.reshape(gamma, column) * xhat + np.reshape(beta, column)}


def batch_statistics_in_eval(case: Case) -> Results:
    x, dout, gamma, beta, eps = right_pieces(case)
    xhat = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)
    return {"out": like(gamma * xhat + beta, case), "dgamma": (dout * xhat).sum(axis=0)}


def momentum_the_wrong_way(case: Case) -> Results:
    x, *_ = right_pieces(case)
    momentum, mean, var = case.options["momentum"], case.array("running_mean"), case.array("running_var")
    if not case.options["training"]:
        return {}
    unbiased = x.var(axis=0) * len(x) / max(len(x) - 1, 1)
    return {
        "running_mean": momentum * mean + (1 - momentum) * x.mean(axis=0),
        "running_var": momentum * var + (1 - momentum) * unbiased,
    }


def biased_running_variance(case: Case) -> Results:
    x, *_ = right_pieces(case)
    momentum = case.options["momentum"]
    if not case.options["training"]:
        return {}
    return {"running_var": (1 - momentum) * case.array("running_var") + momentum * x.var(axis=0)}


def training_formula_in_eval(case: Case) -> Results:
    x, dout, gamma, _, eps = right_pieces(case)
    mean, var = statistics_of(case)
    xhat = (x - mean) / np.sqrt(var + eps)
    dx = gamma / np.sqrt(var + eps) * (dout - dout.mean(axis=0) - xhat * (dout * xhat).mean(axis=0))
    return {"dx": like(dx, case)}


def gamma_of_none_is_zero(case: Case) -> Results:
    if case.arrays["gamma"] is not None:
        return {}
    _, _, _, beta, _ = right_pieces(case)
    rows = np.zeros(like(right_pieces(case)[0], case).shape)
    return {"out": rows + np.reshape(beta, (-1, *[1] * (rows.ndim - 2))), "dx": rows}


def no_transposition(case: Case) -> Results:
    x, dout = case.array("x"), case.array("dout")
    _, _, gamma, beta, eps = right_pieces(case)
    rows = x.reshape(-1, x.shape[1])
    mean, var = (rows.mean(axis=0), rows.var(axis=0)) if case.options["training"] else statistics_of(case)
    xhat = (rows - mean) / np.sqrt(var + eps)
    dgamma = (dout.reshape(rows.shape) * xhat).sum(axis=0)
    return {"out": (gamma * xhat + beta).reshape(x.shape), "dgamma": dgamma}


def whole_tiles_of_eight(case: Case) -> Results:
    _, dout, *_ = right_pieces(case)
    m = len(dout)
    return {"dbeta": dout[: m // 8 * 8 or m].sum(axis=0)}


def sum_over_the_batch_alone(case: Case) -> Results:
    return {"dbeta": case.array("dout").sum(axis=0)}


def named(wrong: Callable[[Case], Results], tensor: str) -> set[str]:
    """The mistakes that give a wrong implementation's tensor in every case, wrong ones and right ones alike."""
    fitting = list(MISTAKES)
    seen = 0
    # No variance and powers of it do not go together with a comparison of plain numbers.
    everywhere = [each for each in (*drawn(), *special()) if each[0].dtype == "float64" and each[0].array("x").size]
    for case, right in everywhere:
        if tensor not in right or case.options["running_var"] == "biased":
            continue
        with np.errstate(all="ignore"):
            got = wrong(case).get(tensor, right[tensor])
        seen += not same(got, right[tensor])

        def gives(mistake: Mistake, case: Case = case, right: Results = right, got: Array = got) -> bool:
            return same(got, (mistake.gives(case, right) or {}).get(tensor, right[tensor]))

        fitting = [mistake for mistake in fitting if tensor in mistake.tensors and gives(mistake)]
    assert seen > 5
    return {mistake.sentence.replace("{tensor}", tensor) for mistake in fitting}


@pytest.mark.parametrize(
    ("wrong", "tensor", "sentence"),
    [
        (mean_path_dropped, "dx", "dx leaves out the path through the mean: mean(dout) is not subtracted."),
        (
            root_differentiated_without_its_half,
            "dx",
            "dx has twice the path through the variance: the factor 1/2 of the root's derivative is missing.",
        ),
        (
            compact_formula_over_the_batch,
            "dx",
            "dx divides both statistics' paths by the number of samples N, not by m, the elements of a channel.",
        ),
        (unbiased_in_the_forward, "out", "out has the variance over m - 1 instead of over m."),
        (unbiased_in_the_forward, "dgamma", "dgamma has the variance over m - 1 instead of over m."),
        (
            biased_running_variance,
            "running_var",
            "running_var moves towards the biased variance, over m, where the unbiased one, over m - 1, belongs.",
        ),
        (
            dgamma_from_the_input,
            "dgamma",
            "dgamma sums dout times x where xhat belongs.",
        ),
        (mean_for_sum, "dgamma", "dgamma is divided by m: it is an average where a sum belongs."),
        (mean_for_sum, "dbeta", "dbeta is divided by m: it is an average where a sum belongs."),
        (eps_outside_the_root, "out", "out adds eps outside the root: the deviation is sqrt(var) + eps."),
        (eps_outside_the_root, "dgamma", "dgamma adds eps outside the root: the deviation is sqrt(var) + eps."),
        (statistics_of_each_image, "out", "out has mean and variance over each sample by itself, as in instance norm."),
        (
            batch_statistics_in_eval,
            "out",
            "out has the mean and variance of the batch in eval, where the running ones belong.",
        ),
        (
            momentum_the_wrong_way,
            "running_mean",
            "running_mean has the momentum the wrong way round: it weighs the old statistic for the new.",
        ),
        (
            training_formula_in_eval,
            "dx",
            "dx is that of training: in eval it goes through mean and variance too.",
        ),
        (gamma_of_none_is_zero, "out", "out takes a gamma of None for 0."),
        (gamma_of_none_is_zero, "dx", "dx takes a gamma of None for 0."),
        (
            no_transposition,
            "out",
            "out reads (N, C, H, W) as (N * H * W, C) without moving the channels to the end first.",
        ),
        (whole_tiles_of_eight, "dbeta", "dbeta leaves the elements behind the last multiple of 8 out of its sum."),
        (sum_over_the_batch_alone, "dbeta", "dbeta is summed over the batch alone: it keeps the spatial axes."),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_wrong_code_is_recognized(wrong: Callable[[Case], Results], tensor: str, sentence: str) -> None:
    assert named(wrong, tensor) == {sentence}
