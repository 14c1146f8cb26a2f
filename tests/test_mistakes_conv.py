"""The catalogue of mistakes in convolution: what its entries give, and that hand-written mistakes are recognised."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.axis import axes_of
from backproof.reference.mistakes import conv as catalogue
from backproof.reference.mistakes.conv import ANYWHERE, MISTAKES
from backproof.reference.mistakes.convolution import Convolution
from tests.spaces import LAYER, cases, space

TENSORS = ("out", "dx", "dw", "db")
FILES = sorted(Path(catalogue.__file__).parent.glob("conv*.py"))


@cache
def judged(rank: int, count: int, seed: int = 0) -> tuple[tuple[Case, Mapping[str, Array]], ...]:
    return tuple((case, layer.evaluate(case)) for layer, case in cases("conv", rank, count, seed=seed))


@cache
def at_edges() -> tuple[tuple[Case, Mapping[str, Array]], ...]:
    """Sizes behind whole tiles, and kernels and paddings larger than what is drawn often."""
    found = []
    for rank in (1, 2, 3):
        layer, place = LAYER["conv"], space("conv", rank)
        small = {**layer.base(place), "batch": 2, "channels": 2, "filters": 3, "size0": 9, "kernel0": 2}
        last = f"{rank - 1}"
        rows = [*layer.large(place, (5, 9, 17, 33, 65, 99)), *layer.large(place, (21,))]
        rows += [{**small, "size0": 340}, {**small, "batch": 200}, {**small, "batch": 520}, {**small, "filters": 400}]
        rows += [{**small, f"size{last}": 9, "kernel0": 5, f"kernel{last}": 5}]
        rows += [{**small, "size0": 2, "low0": 3, "mode": mode} for mode in (1, 2, 3)]
        rows += [{**small, "size0": 3, "low0": n, "mode": mode} for n in (2, 3) for mode in (1, 3)]
        # The same on every path.
        strided = {**{f"stride{k}": 2 for k in range(rank)}, **{f"size{k}": 11 for k in range(rank)}}
        paths: list[dict[str, int]] = [
            {"groups": 2, "filters": 5, "channels": 5},
            {"groups": 3, "filters": 5, "channels": 1},
            {"dilation0": 2, f"kernel{last}": 2},
            {"dilation0": 2, "kernel0": 3},
            {f"low{last}": 1, "high0": 2},
            {"kernel0": 1},
            strided,
        ]
        edges = [{name: n} for n in (5, 9, 17, 33, 65) for name in ("batch", "channels", "filters")]
        edges += [{"groups": n, "channels": 1, "filters": 1} for n in (5, 9, 17, 33, 65)]
        edges += [{f"size{k}": n} for n in (5, 9, 17, 33, 65, 131) for k in range(rank)]
        edges += [{f"size{k}": 3 * n for k in range(rank)} for n in (1, 3)]
        if rank == 3:
            edges += [
                {"kernel1": n, "size1": n, "size0": 4, "size2": 4, **even}
                for n in (3, 5)
                for even in ({}, {"dilation1": 3, "size1": 15}, {"low1": 1, "high1": 2})
            ]
        rows += [{**small, **path, **edge} for path in paths for edge in edges]
        for parameters in rows:
            configuration = layer.build(parameters, place)
            if configuration is not None:
                case = list(layer.fills(configuration, place))[-1]
                found.append((case, layer.evaluate(case)))
    return tuple(found)


def given(mistake: Mistake, case: Case, right: Mapping[str, Array]) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        found = mistake.gives(case, right)
        return {} if found is None else dict(found)


def alike(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    return bool(np.allclose(one, other, 1e-9, 1e-9 * float(np.abs(other).max(initial=1.0)), equal_nan=True))


def differs(mistake: Mistake, case: Case, right: Mapping[str, Array]) -> bool:
    with np.errstate(all="ignore"):
        found = mistake.gives(case, right)
        return found is not None and any(not alike(found[tensor], right[tensor]) for tensor in found)


def test_there_are_many_and_each_has_a_sentence_of_its_own() -> None:
    assert len(ANYWHERE) >= 60
    sentences = [mistake.sentence for mistake in MISTAKES]
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert sentence.count("{tensor}") == 1
        assert sentence.endswith(".")
        assert "\n" not in sentence


def test_every_mistake_is_in_tensors_of_the_layer() -> None:
    assert all(mistake.tensors and set(mistake.tensors) <= set(TENSORS) for mistake in MISTAKES)


def test_every_mistake_shows_somewhere() -> None:
    waiting = list(MISTAKES)
    supply = [pair for rank in (2, 3, 1) for pair in judged(rank, 200)] + list(at_edges())
    for case, right in supply:
        waiting = [mistake for mistake in waiting if not differs(mistake, case, right)]
        if not waiting:
            break
    assert [mistake.sentence for mistake in waiting] == []


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_none_raises_and_each_keeps_to_its_tensors(rank: int) -> None:
    for case, right in judged(rank, 70, seed=1):
        for mistake in ANYWHERE:
            for tensor, result in given(mistake, case, right).items():
                assert tensor in mistake.tensors
                assert tensor in right
                assert result.dtype == np.float64


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_none_raises_on_an_empty_batch(rank: int) -> None:
    layer = LAYER["conv"]
    for case in layer.edges(space("conv", rank)):
        right = layer.evaluate(case)
        for mistake in MISTAKES:
            given(mistake, case, right)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_what_is_passed_and_right_stays_as_it_is(rank: int) -> None:
    for case, right in judged(rank, 4, seed=2):
        arrays = {name: None if a is None else a.copy() for name, a in case.arrays.items()}
        before = {tensor: a.copy() for tensor, a in right.items()}
        for mistake in MISTAKES:
            given(mistake, case, right)
        assert all(a is None or np.array_equal(a, case.array(name)) for name, a in arrays.items())
        assert all(np.array_equal(a, right[tensor]) for tensor, a in before.items())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_pieces_are_put_together_right(rank: int) -> None:
    for case, right in judged(rank, 60, seed=3):
        conv = Convolution(case)
        assert alike(conv.out(conv.windows, conv.w), right["out"])
        assert alike(conv.dw(conv.windows, conv.dout), right["dw"])
        assert alike(conv.dx(conv.back, conv.tables), right["dx"])
        assert alike(conv.folded(conv.padded_dx(conv.back)), right["dx"])


def test_a_large_table_gives_what_a_small_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from backproof.reference.mistakes import convolution

    monkeypatch.setattr(convolution, "MATRIX", 0)
    for case, right in judged(2, 30, seed=4):
        conv = Convolution(case)
        assert alike(conv.dx(conv.back, conv.tables), right["dx"])


def test_the_catalogue_knows_no_fault_of_the_gallery() -> None:
    from backproof.plugins.gallery import FAULTS

    names = {fault.name.rpartition(".")[2] for fault in FAULTS}
    for file in FILES:
        source = file.read_text()
        assert "plugins" not in source
        assert not [name for name in names if name in source]
        imported = [node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
        assert all(not name.startswith("backproof") or "gallery" not in name for name in imported)


def test_options_that_an_implementation_lacks_are_not_blamed() -> None:
    case, right = next(
        pair
        for pair in judged(2, 60)
        if any(s > 1 for s in pair[0].options["stride"]) and pair[0].array("dout").size > 4
    )
    stride = next(m for m in MISTAKES if m.sentence.startswith("{tensor} puts the windows side by side: "))
    assert given(stride, case, right)
    case.configuration.spellings.pop("stride")
    judged.cache_clear()
    assert not given(stride, case, right)


# --- mistakes written by hand, as loops --------------------------------------------------------------------------


class Loops:
    """A convolution as nine loops have it, for zeros as padding; each number may be got wrong."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.x, self.w, self.dout = case.array("x"), case.array("w"), case.array("dout")
        self.b = case.wide.get("b")
        self.axes = axes_of(case.configuration.parameters, self.x.ndim - 2)
        self.groups = case.options["groups"]

    def group(self, o: int) -> int:
        return o // (len(self.w) // self.groups)

    def channel(self, o: int, c: int) -> int:
        return self.group(o) * self.w.shape[1] + c

    def pixel(self, q: tuple[int, ...], k: tuple[int, ...]) -> tuple[int, ...] | None:
        at = tuple(self.place(axis, h, t) - axis.low for axis, h, t in zip(self.axes, q, k, strict=True))
        return at if all(0 <= p < axis.size for p, axis in zip(at, self.axes, strict=True)) else None

    def place(self, axis, h, t):
        return h * axis.stride + t * axis.dilation

    def products(self) -> Iterator[tuple[int, int, int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
        for n, o, *q in np.ndindex(*self.dout.shape):
            for c, *k in np.ndindex(*self.w.shape[1:]):
                pixel = self.pixel(tuple(q), tuple(k))
                if pixel is not None:
                    yield n, o, c, tuple(q), tuple(k), pixel

    def out(self) -> Array:
        out = np.zeros(self.dout.shape)
        for n, o, c, q, k, pixel in self.products():
            out[(n, o, *q)] += self.x[(n, self.channel(o, c), *pixel)] * self.w[(o, c, *k)]
        return out if self.b is None else out + self.b.reshape(-1, *[1] * len(self.axes))

    def dx(self) -> Array:
        dx = np.zeros(self.x.shape)
        for n, o, c, q, k, pixel in self.products():
            dx[(n, self.channel(o, c), *pixel)] += self.dout[(n, o, *q)] * self.w[(o, c, *k)]
        return dx

    def dw(self) -> Array:
        dw = np.zeros(self.w.shape)
        for n, o, c, q, k, pixel in self.products():
            dw[(o, c, *k)] += self.dout[(n, o, *q)] * self.x[(n, self.channel(o, c), *pixel)]
        return dw

    def db(self) -> Array:
        return self.dout.sum(axis=(0, *range(2, self.dout.ndim)))


class WithoutStride(Loops):
    def place(self, axis, h, t):
        return h + t * axis.dilation


class WithoutDilation(Loops):
    def place(self, axis, h, t):
        return h * axis.stride + t


class WithoutStrideOfGroups(Loops):
    def place(self, axis, h, t):
        return h * (axis.stride if self.groups == 1 else 1) + t * axis.dilation


class OnePixelLate(Loops):
    def place(self, axis, h, t):
        return h * axis.stride + t * axis.dilation + 1


class KeepsThePaddingOn(Loops):
    def place(self, axis, h, t):
        return h * axis.stride + t * axis.dilation + axis.low


class TurnedKernel(Loops):
    def place(self, axis, h, t):
        return h * axis.stride + (axis.kernel - 1 - t) * axis.dilation


class InterleavedGroups(Loops):
    def channel(self, o, c):
        return c * self.groups + self.group(o)


class FirstGroupForAll(Loops):
    def channel(self, o, c):
        return c


class WithoutTheLastTap(Loops):
    def products(self):
        last = tuple(axis.kernel - 1 for axis in self.axes)
        return (each for each in super().products() if each[4] != last or not any(last))


class WithoutTheLastSample(Loops):
    def products(self):
        return (each for each in super().products() if each[0] < len(self.x) - 1)


class WithoutTheLastChannel(Loops):
    def products(self):
        return (each for each in super().products() if each[2] < self.w.shape[1] - 1)


class TilesOfFourFilters(Loops):
    def products(self):
        whole = len(self.w) // 4 * 4 or len(self.w)
        return (each for each in super().products() if each[1] < whole)


class AssignedTapByTap(Loops):
    def dx(self):
        dx = np.zeros(self.x.shape)
        for k in np.ndindex(*self.w.shape[2:]):
            one = np.zeros(self.x.shape)
            touched = np.zeros(self.x.shape, bool)
            for n, o, c, q, tap, pixel in self.products():
                if tap == k:
                    at = (n, self.channel(o, c), *pixel)
                    one[at] += self.dout[(n, o, *q)] * self.w[(o, c, *k)]
                    touched[at] = True
            dx[touched] = one[touched]
        return dx


class MeanOverSamples(Loops):
    def dw(self):
        return super().dw() / len(self.x)

    def db(self):
        return super().db() / len(self.x)


class SumsOverTheSamplesAlone(Loops):
    def db(self):
        return self.dout.sum(axis=0)


class WithoutBias(Loops):
    def out(self):
        self.b = None
        return super().out()


class TransposedFilters(Loops):
    def dw(self):
        dw = super().dw()
        return dw.swapaxes(0, 1).reshape(dw.shape)


class EndsWithTheLastWindow(Loops):
    def dx(self):
        ends = [max(0, min(a.size, a.size + a.high - a.remainder)) for a in self.axes]
        return super().dx()[(..., *map(slice, ends))]


class KeepsThePadding(Loops):
    def dx(self):
        pads = [(axis.low, axis.high) for axis in self.axes]
        self.x = np.pad(self.x, ((0, 0), (0, 0), *pads))
        self.axes = [a._replace(size=a.padded, low=0, high=0) for a in self.axes]
        return super().dx()


class StrideOfTheFirstAxis(Loops):
    def place(self, axis, h, t):
        return h * self.axes[0].stride + t * axis.dilation


def small(rank: int) -> list[tuple[Case, Mapping[str, Array]]]:
    """Few products, so that loops are fast, and zeros around x."""
    return [
        (case, right)
        for case, right in judged(rank, 700 if rank == 2 else 300, seed=5)
        if case.options["padding_mode"] == "zeros" and case.array("dout").size * case.array("w")[0].size < 400
    ][:60]


def recognised(
    rank: int, tensor: str, wrong: Callable[[Case], Array], supply: list[tuple[Case, Mapping[str, Array]]] | None = None
) -> list[str]:
    """The sentences of the mistakes that give a wrong result wherever it is wrong, and the right one elsewhere."""
    found = [(case, right, wrong(case)) for case, right in supply or small(rank) if tensor in right]
    failing = [each for each in found if not alike(each[2], each[1][tensor])]
    passing = [each for each in found if alike(each[2], each[1][tensor])]
    assert len(failing) > 3

    def fits(mistake: Mistake) -> bool:
        for case, right, result in (*failing, *passing):
            with np.errstate(all="ignore"):
                gives = mistake.gives(case, right) or {}
            if not alike(gives[tensor] if tensor in gives else right[tensor], result):
                return False
        return True

    return [mistake.sentence for mistake in MISTAKES if tensor in mistake.tensors and fits(mistake)]


@pytest.mark.parametrize("rank", [1, 2])
def test_the_loops_are_right(rank: int) -> None:
    for case, right in small(rank):
        loops = Loops(case)
        assert all(alike(getattr(loops, tensor)(), right[tensor]) for tensor in right)


@pytest.mark.parametrize(
    ("wrong", "tensors", "begins"),
    [
        (WithoutStride, "out dx dw", "{tensor} puts the windows side by side:"),
        (WithoutDilation, "out dx dw", "{tensor} puts the taps side by side:"),
        (WithoutStrideOfGroups, "dx dw", "Where groups > 1, {tensor} puts the windows side by side:"),
        (OnePixelLate, "dx dw", "{tensor} is a pixel late:"),
        (KeepsThePaddingOn, "dx dw", "{tensor} leaves the padding on:"),
        (TurnedKernel, "out dx dw", "{tensor} turns the kernel around:"),
        (InterleavedGroups, "out dx dw", "{tensor} interleaves the groups:"),
        (FirstGroupForAll, "out dw", "{tensor} takes the channels of x in the first group for those of every group:"),
        (FirstGroupForAll, "dx", "{tensor} adds every group to the channels of the first one:"),
        (WithoutTheLastTap, "out dx dw", "{tensor} leaves out the last tap where there are several."),
        (WithoutTheLastSample, "dx dw", "{tensor} leaves out the last sample, or the only one:"),
        (WithoutTheLastChannel, "dx dw", "{tensor} leaves out the last channel of a group, or the only one:"),
        (TilesOfFourFilters, "dx dw", "{tensor} counts whole tiles of 4 filters:"),
        (AssignedTapByTap, "dx", "{tensor} is assigned where windows overlap: = stands for +="),
        (MeanOverSamples, "dw db", "{tensor} is divided by the number of samples:"),
        (SumsOverTheSamplesAlone, "db", "{tensor} is not summed over the windows:"),
        (WithoutBias, "out", "{tensor} has no bias added."),
        (TransposedFilters, "dw", "{tensor} takes the memory of dw, (O, C, *K), for one in the order (C, O, *K)."),
        (EndsWithTheLastWindow, "dx", "{tensor} ends with the last window:"),
        (KeepsThePadding, "dx", "{tensor} keeps the padding:"),
        (StrideOfTheFirstAxis, "dx dw", "{tensor} takes the stride of the first axis for every axis."),
    ],
)
def test_a_mistake_written_by_hand_is_recognised(wrong: type[Loops], tensors: str, begins: str) -> None:
    for tensor in tensors.split():
        sentences = recognised(2, tensor, lambda case, tensor=tensor: getattr(wrong(case), tensor)())
        assert len(sentences) <= 3, sentences
        assert sentences
        assert sentences[0].startswith(begins)


def test_a_mistake_that_is_none_of_the_catalogue_is_not_named() -> None:
    def wrong(case: Case) -> Array:
        loops = Loops(case)
        dx = loops.dx()
        return dx + 0.001 * np.arange(dx.size).reshape(dx.shape)

    assert recognised(2, "dx", wrong) == []


def test_a_mistake_on_some_cases_alone_is_not_taken_for_one_on_all() -> None:
    def wrong(case: Case) -> Array:
        loops = (WithoutStride if case.array("w").shape[0] % 2 else Loops)(case)
        return loops.dx()

    assert recognised(2, "dx", wrong) == []
