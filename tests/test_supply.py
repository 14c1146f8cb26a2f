"""What is asked: the drawn cases, the sweep, and the enumeration of everything smaller."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations, islice, pairwise, product

import numpy as np
import pytest

from backproof.conformance.cases.coverage import cells_of
from backproof.conformance.cases.draw import drawn
from backproof.conformance.cases.profile import PROFILES, Profile
from backproof.conformance.cases.sweep import swept
from backproof.conformance.spec.case import signature_of_shapes
from backproof.conformance.spec.tape import Tape
from tests.spaces import LAYER, PLACES, cases, space

MANY = 1500
#: A sweep without anything large.
PLAIN = Profile("plain", examples=0, sweep=120, sweep_shapes=40, others=0, tile_edges=())


def test_a_tape_reads_zeros_behind_its_end_and_picks_the_first_for_zero() -> None:
    tape = Tape(bytes([0, 1, 255]))
    assert [tape.pick("ab") for _ in range(4)] == ["a", "b", "b", "a"]


@pytest.mark.parametrize(("layer", "rank"), [("conv", 2), ("batchnorm", 0)])
def test_the_same_seed_draws_the_same_cases_and_another_does_not(layer: str, rank: int) -> None:
    def values(seed: int) -> list[bytes]:
        found = drawn(LAYER[layer], space(layer, rank), 20, seed)
        assert len(found) == 20
        return [case.array("dout").tobytes() for case in found]

    assert values(0) == values(0)
    assert values(0) != values(1)


@pytest.mark.parametrize(("layer", "rank"), PLACES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_every_drawn_case_has_meaning_and_shapes_that_fit(layer: str, rank: int, dtype: str) -> None:
    for page, case in cases(layer, rank, 200, dtype):
        assert page.has_meaning(case)
        again = page.build(case.configuration.parameters, space(layer, rank, dtype))
        assert again is not None
        assert {n: None if a is None else a.shape for n, a in case.arrays.items()} == dict(again.shapes)
        for array in case.arrays.values():
            assert array is None or (array.dtype == dtype and array.flags.c_contiguous)


def test_the_ranges_of_conv_are_drawn_to_their_ends() -> None:
    found = [case.configuration for rank in (1, 2) for _, case in cases("conv", rank, MANY)]
    seen = Counter()
    for configuration in found:
        p = configuration.parameters
        seen.update([("batch", p["batch"]), ("groups", p["groups"]), ("channels", p["channels"])])
        if p["groups"] > 6 and p["channels"] == 1:
            seen["many groups of one channel"] += 1
        for k in range(configuration.rank):
            seen.update((name, p[f"{name}{k}"]) for name in ("kernel", "stride", "dilation", "size"))
            widest = p[f"dilation{k}"] * (p[f"kernel{k}"] - 1) + 3
            seen["widest padding"] += p[f"low{k}"] == widest
            assert p[f"stride{k}"] <= 4
            assert p[f"dilation{k}"] <= 4
            assert p[f"kernel{k}"] <= 5
    for name, values in {
        "batch": (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33),
        "groups": (1, 2, 3, 4),
        "channels": (1, 2, 3, 4, 15, 16, 17, 31, 33),
        "kernel": (1, 2, 3, 4, 5),
        "stride": (1, 2, 3, 4),
        "dilation": (1, 2, 3, 4),
        "size": (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33),
    }.items():
        assert [value for value in values if not seen[name, value]] == []
    assert seen["many groups of one channel"]
    assert seen["widest padding"]


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_every_cell_and_every_pair_is_drawn(layer: str, rank: int) -> None:
    counts: Counter[object] = Counter()
    for page, case in cases(layer, rank, MANY):
        cells = cells_of(page, case.configuration)
        counts.update(cells)
        counts.update(pair for pair in page.cell_pairs if cells.issuperset(pair))
    impossible = {
        ("conv", 1): {"options differ between axes", "non-square"},
        ("linear", 2): {"rank > 2"},
        ("batchnorm", 0): {"N = 1", "spatial", "several pixels"},
    }.get((layer, rank), set())
    page = LAYER[layer]
    assert {cell for cell in page.cells if not counts[cell]} == impossible
    # The pairs that real bugs needed together are no rarities.
    possible = [pair for pair in page.cell_pairs if impossible.isdisjoint(pair)]
    assert [pair for pair in possible if counts[pair] < 0.05 * MANY] == []


@pytest.mark.parametrize(("dtype", "least"), [("float64", 1e-12), ("float32", 1e-6), ("bfloat16", 1e-3)])
def test_eps_gamma_and_dout_are_drawn_as_promised(dtype: str, least: float) -> None:
    epsilons, signs = Counter(), Counter()
    for _, case in cases("batchnorm", 0, 600, dtype):
        epsilons[case.options["eps"]] += 1
        gamma = case.wide["gamma"]
        signs.update([] if gamma is None else np.sign(gamma).tolist())
        dout = case.array("dout")
        assert np.abs(dout).max() > 0
    assert (min(epsilons), max(epsilons)) == (least, 1.0)
    assert dtype == "bfloat16" or epsilons[1e-5] > 150
    assert set(signs) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_dout_is_dense_and_of_mixed_sign(layer: str, rank: int) -> None:
    values = np.concatenate([case.array("dout").ravel() for _, case in cases(layer, rank, 100)])
    assert (values == 0).mean() < 0.15
    assert 0.25 < (values > 0).mean() < 0.75


def test_half_of_the_cases_of_linear_and_conv_are_exact() -> None:
    for layer in ("linear", "conv"):
        exact = [case.integral for _, case in cases(layer, 2, 400)]
        assert 0.4 < np.mean(exact) < 0.65


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_the_sweep_rises_and_keeps_its_limits(layer: str, rank: int) -> None:
    found = swept(LAYER[layer], space(layer, rank), PLAIN)
    configurations = list(dict.fromkeys(case.configuration for case in found))
    assert 0 < len(configurations) <= 120
    assert len({tuple(c.shapes.items()) for c in configurations}) <= 40
    assert all(one.size <= other.size for one, other in pairwise(configurations))
    assert len({tuple(c.parameters.values()) for c in configurations}) == len(configurations)


def test_the_enumeration_rises_and_misses_nothing() -> None:
    """conv1d with a stride and a kernel: against plain nested loops."""
    full = space("conv", 1)
    signature = replace(full.signature, options=("stride",), nullable=frozenset(), arrays=("x", "w", "b"))
    narrow = replace(full, signature=signature)
    most = 9
    found = []
    for configuration in LAYER["conv"].ascending(narrow):
        if configuration.elements > most:
            break
        found.append(configuration)
    assert all(one.size <= other.size for one, other in pairwise(found))
    listed = Counter(tuple(c.options["stride"]) + c.shapes["x"] + c.shapes["w"] for c in found)
    assert set(listed.values()) == {1}
    expected = set()
    for batch, channels, filters, size, kernel, stride in product(*[range(1, most + 1)] * 4, range(1, 6), range(1, 5)):
        if size < kernel:
            continue
        out = (size - kernel) // stride + 1
        elements = batch * channels * size + filters * channels * kernel + filters + batch * filters * out
        if elements <= most:
            expected.add((stride, batch, channels, size, filters, channels, kernel))
    assert set(listed) == expected


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_the_enumeration_goes_on_past_any_size(layer: str, rank: int) -> None:
    sizes = [c.size for c in islice(LAYER[layer].ascending(space(layer, rank)), 3000)]
    assert len(sizes) == 3000
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_hardly_any_drawn_case_repeats_a_configuration(layer: str, rank: int) -> None:
    found = drawn(LAYER[layer], space(layer, rank), 200, 0)
    assert len({tuple(case.configuration.parameters.values()) for case in found}) >= 170


@pytest.mark.parametrize(("layer", "rank"), PLACES)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize(("profile", "most"), [("quick", 150), ("default", 800)])
def test_a_candidate_that_compiles_for_each_shape_is_asked_few(
    layer: str, rank: int, dtype: str, profile: str, most: int
) -> None:
    own, numbers = space(layer, rank, dtype), PROFILES[profile]
    found = [*swept(LAYER[layer], own, numbers), *drawn(LAYER[layer], own, numbers.examples, 0)]
    assert len({signature_of_shapes(case.configuration) for case in found}) <= most


@pytest.mark.parametrize(("layer", "rank"), PLACES)
def test_deep_sweeps_big_batches_and_pairs_of_large_sizes(layer: str, rank: int) -> None:
    page, deep = LAYER[layer], replace(PROFILES["deep"], sweep=0, tile_edges=())
    big = [case.configuration for case in swept(page, space(layer, rank), deep)]
    assert max(configuration.elements for configuration in big) < 300_000
    sizes = {"linear": ("inputs", "outputs"), "conv": ("channels", "filters"), "batchnorm": ("channels",)}[layer]
    batch = [name for name in page.base(space(layer, rank)) if name.startswith("batch")]
    axes = [name for name in page.base(space(layer, rank)) if name.startswith("size")]
    for name in batch:
        assert {1025, 65537} <= {c.parameters[name] for c in big}
    together = {
        (one, other)
        for c in big
        for one in c.parameters
        for other in c.parameters
        if {c.parameters[one], c.parameters[other]} == {33, 65}
    }
    assert together >= {*combinations((batch[-1], *sizes), 2), *combinations(axes, 2)}
    for name in ("quick", "default"):
        assert PROFILES[name].big_batches == PROFILES[name].big_pairs == ()
