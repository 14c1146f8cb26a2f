"""The boundary: how arrays and options go in, and what is made of whatever comes back."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.declaration import read_declaration
from backproof.conformance.adapter.load import Adapter, Implementation
from backproof.conformance.adapter.signature import read_signature
from backproof.conformance.judging.properties import TENSORS
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Space
from backproof.conformance.spec.results import Discrepancy, Status
from backproof.reference import CONTRACTS
from tests.spaces import LAYER


def candidate(layer: str, rank: int, forward, backward, dtype="float64", **more) -> tuple[Candidate, Reference]:
    """A candidate of one layer, and its reference."""
    contract = next(contract for contract in CONTRACTS if contract.layer == layer)
    general, settings = read_declaration(more.pop("conformance", {}), CONTRACTS)
    signature = read_signature(forward, contract, layer)
    implementation = Implementation(contract, forward, backward, signature, settings[layer])
    adapter = Adapter(
        spec="here",
        target=None,
        path=None,
        line=None,
        implementations={layer: implementation},
        missing=(),
        settings=general,
        from_numpy=more.pop("from_numpy", None),
        to_numpy=more.pop("to_numpy", None),
        warnings=(),
    )
    space = Space(signature, settings[layer], rank, dtype)
    return Candidate(adapter, implementation, LAYER[layer]), Reference(LAYER[layer], space)


def a_case(reference: Reference, **parameters: int) -> Case:
    base = reference.layer.base(reference.space) | parameters
    configuration = reference.layer.build(base, reference.space)
    assert configuration is not None
    return next(iter(reference.layer.fills(configuration, reference.space)))


def forward(x, w, b=None):
    return x @ w + (0 if b is None else b), (x, w)


def backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(0)


SIZES = {"batch0": 3, "inputs": 2, "outputs": 2}


def judged(forward, backward, bias=1, **more) -> dict[str, str]:
    """For each tensor the kind of its failure, or its status."""
    someone, reference = candidate("linear", 2, forward, backward, **more)
    found = TENSORS.judge(a_case(reference, **SIZES, bias=bias), someone, reference)
    return {n: j.kind if isinstance(j, Discrepancy) else j.value for n, j in found.items()}


RIGHT = {"out": "right", "dx": "right", "dw": "right", "db": "right"}


@pytest.mark.parametrize(
    "back",
    [
        backward,
        lambda dout, cache: list(backward(dout, cache)),
        lambda dout, cache: dict(zip(("dx", "dw", "db"), backward(dout, cache), strict=True)),
        lambda dout, cache: (*backward(dout, cache), None),
        lambda dout, cache: {**dict(zip(("dx", "dw", "db"), backward(dout, cache), strict=True)), "more": 1},
        lambda dout, cache: tuple(SimpleNamespace(__array__=g.__array__) for g in backward(dout, cache)),
    ],
    ids=["tuple", "list", "dict", "trailing None", "dict with more", "__array__"],
)
def test_gradients_may_come_back_in_these_forms(back) -> None:
    if "SimpleNamespace" in str(back.__code__.co_names):
        back = array_like(backward)
    assert judged(forward, back) == RIGHT


class ArrayLike:
    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return self.a


class DLPack:
    def __init__(self, a):
        self.a = a

    def __dlpack__(self, **more):
        return self.a.__dlpack__(**more)

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()


def array_like(back, wrapper=ArrayLike):
    return lambda dout, cache: tuple(wrapper(g) for g in back(dout, cache))


def test_results_may_be_dlpack_capsules() -> None:
    assert judged(forward, array_like(backward, DLPack)) == RIGHT


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda dx, dw, db: (dx, dw), {"dx": "result", "dw": "result", "db": "result"}),
        (lambda dx, dw, db: (dx, dw, db, db), {"dx": "result", "dw": "result", "db": "result"}),
        (lambda dx, dw, db: dx, {"dx": "result", "dw": "result", "db": "result"}),
        (lambda dx, dw, db: None, {"dx": "result", "dw": "result", "db": "result"}),
        (lambda dx, dw, db: (dx, dw, None), {"db": "result"}),
        (lambda dx, dw, db: (dx, dw, db.tolist()), {"db": "result"}),
        (lambda dx, dw, db: (dx, dw, db.sum()), {"db": "result"}),
        (lambda dx, dw, db: (dx, dw, 3.0), {"db": "result"}),
        (lambda dx, dw, db: (dx, dw, object()), {"db": "result"}),
        (lambda dx, dw, db: (dx, dw, db.astype(object)), {"db": "result"}),
        (lambda dx, dw, db: {"dx": dx, "dw": dw}, {"db": "result"}),
        (lambda dx, dw, db: (dx, dw, db[None]), {"db": "shape"}),
        (lambda dx, dw, db: (dx, dw, np.asarray(db.sum())), {"db": "shape"}),
        (lambda dx, dw, db: (dx, dw.astype(np.float32), db), {"dw": "dtype"}),
        (lambda dx, dw, db: (dx * np.nan, dw, db), {"dx": "nonfinite"}),
        (lambda dx, dw, db: (dx, -dw, db), {"dw": "value"}),
        (lambda dx, dw, db: (dx * 0, dw, db), {"dx": "value"}),
    ],
)
def test_a_wrong_result_is_named_by_its_kind_and_blamed_on_its_tensor(change, expected) -> None:
    assert judged(forward, lambda dout, cache: change(*backward(dout, cache))) == RIGHT | expected


def test_where_an_array_was_none_nothing_is_looked_at() -> None:
    for last in (None, "nonsense", 3):
        found = judged(forward, lambda dout, cache, last=last: (*backward(dout, cache)[:2], last), bias=0)
        assert found == RIGHT | {"db": "left out"}
    without = judged(forward, lambda d, c: dict(zip(("dx", "dw"), backward(d, c), strict=False)), bias=0)
    assert without == RIGHT | {"db": "left out"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda out, cache: out, {"out": "result"}),
        (lambda out, cache: None, {"out": "result"}),
        (lambda out, cache: (out,), {"out": "result"}),
        (lambda out, cache: (out, cache, None), {"out": "result"}),
    ],
)
def test_a_forward_without_out_and_cache_is_a_result_failure_of_out_alone(change, expected) -> None:
    left_out = dict.fromkeys(RIGHT, "left out")
    assert judged(lambda x, w, b=None: change(*forward(x, w, b)), backward) == left_out | expected


def raises(error):
    def function(*arguments, **options):
        raise error

    return function


def test_exceptions_and_refusals_are_told_apart() -> None:
    left_out = dict.fromkeys(RIGHT, "left out")
    crashed = lambda x, w, b=None: 1 / 0  # noqa: E731
    refused = lambda x, w, b=None: raises(NotImplementedError())()  # noqa: E731
    assert judged(crashed, backward) == left_out | {"out": "crash"}
    assert judged(refused, backward) == dict.fromkeys(RIGHT, "unsupported")
    gradients = dict.fromkeys(("dx", "dw", "db"), "crash")
    assert judged(forward, raises(ValueError("no"))) == {"out": "right"} | gradients
    assert judged(forward, raises(SystemExit(3))) == {"out": "right"} | gradients
    unsupported = dict.fromkeys(("dx", "dw", "db"), "unsupported")
    assert judged(forward, raises(NotImplementedError())) == {"out": "right"} | unsupported
    with pytest.raises(KeyboardInterrupt):
        judged(forward, raises(KeyboardInterrupt()))


def test_a_crash_carries_the_candidates_own_traceback() -> None:
    someone, reference = candidate("linear", 2, forward, raises(ValueError("no such thing")))
    found = TENSORS.judge(a_case(reference), someone, reference)["dx"]
    assert isinstance(found, Discrepancy)
    assert found.message == "linear_backward raised ValueError: no such thing."
    assert found.traceback is not None
    assert "test_candidate.py" in found.traceback
    assert "conformance/candidate.py" not in found.traceback


def test_a_conversion_that_raises_is_a_crash_of_its_tensor() -> None:
    def to_numpy(native):
        return native if native.ndim == 2 else 1 / 0

    assert judged(forward, backward, to_numpy=to_numpy) == RIGHT | {"db": "crash"}


def test_arrays_go_in_fresh_writable_and_contiguous() -> None:
    seen: list[np.ndarray] = []

    def greedy(x, w, b=None):
        seen.extend([x, w, b])
        results = forward(x, w, b)
        return results[0].copy(), tuple(a.copy() for a in results[1])

    def spoils(dout, cache):
        gradients = backward(dout, cache)
        seen.append(dout)
        for array in seen:
            array[...] = 99
        return gradients

    for _ in range(2):
        seen.clear()
        assert judged(greedy, spoils) == RIGHT
        assert all(a.flags.c_contiguous and a.flags.writeable for a in seen)


def passed_to_conv(annotated, rank: int, spelling: int, **parameters) -> dict:
    """The options that a forward gets for one configuration."""
    seen: dict = {}

    def spy(x, w, b, stride, padding, dilation, groups, padding_mode):
        seen.update(stride=stride, padding=padding, dilation=dilation, groups=groups, mode=padding_mode)
        raise NotImplementedError

    spy.__annotations__ = annotated
    someone, reference = candidate("conv", rank, spy, lambda dout, cache: None)
    names = ("stride", "padding", "dilation")
    spellings = {f"{n}_form": min(spelling, len(reference.space.spellings(n)) - 1) for n in names}
    TENSORS.judge(a_case(reference, **spellings, **parameters), someone, reference)
    return seen


def test_options_are_written_as_the_annotation_says() -> None:
    both = {"stride0": 2, "stride1": 2, "low0": 1, "high0": 1, "low1": 1, "high1": 1, "size0": 3, "size1": 3}
    ints = passed_to_conv({"stride": int, "padding": int, "dilation": int}, 2, 0, **both)
    assert ints == {"stride": 2, "padding": 1, "dilation": 1, "groups": 1, "mode": "zeros"}
    plain = passed_to_conv({}, 2, 0, **both)
    assert plain == {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 1, "mode": "zeros"}
    pairs = passed_to_conv({"padding": tuple[tuple[int, int], ...]}, 2, 0, **both | {"high1": 0})
    assert pairs["padding"] == ((1, 1), (1, 0))
    one = passed_to_conv({}, 1, 0, stride0=3, size0=4)
    assert one["stride"] == (3,)
    union = {"stride": int | tuple[int, ...], "padding": int | tuple[tuple[int, int], ...]}
    assert passed_to_conv(union, 2, 0, **both)["stride"] == 2
    assert passed_to_conv(union, 2, 1, **both)["stride"] == (2, 2)
    assert passed_to_conv(union, 2, 1, **both)["padding"] == ((1, 1), (1, 1))
    types = {type(ints["stride"]), type(ints["groups"]), type(plain["stride"][0]), type(pairs["padding"][0][0])}
    assert types == {int}


def test_running_statistics_may_be_returned_or_updated_in_place() -> None:
    def returned(x, running_mean, running_var, momentum):
        m = len(x)
        mean, var = x.mean(0), x.var(0) * m / (m - 1)
        new = ((1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var)
        xhat = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        return xhat, (xhat, np.sqrt(x.var(0) + 1e-5)), *new

    def in_place(x, running_mean, running_var, momentum):
        out, cache, mean, var = returned(x, running_mean, running_var, momentum)
        running_mean[:], running_var[:] = mean, var
        return out, cache

    def forgets(x, running_mean, running_var, momentum):
        return returned(x, running_mean, running_var, momentum)[:2]

    def back(dout, cache):
        xhat, std = cache
        return ((dout - dout.mean(0) - xhat * (dout * xhat).mean(0)) / std,)

    for forward_, expected in ((returned, "right"), (in_place, "right"), (forgets, "value")):
        someone, reference = candidate("batchnorm", 0, forward_, back)
        found = TENSORS.judge(a_case(reference, batch=3, channels=2), someone, reference)
        kinds = {n: j.kind if isinstance(j, Discrepancy) else j.value for n, j in found.items()}
        right = {"out": "right", "dx": "right"}
        assert kinds == right | {"running_mean": expected, "running_var": expected}


def test_layouts_are_the_candidates_own() -> None:
    shapes: dict = {}

    def spy(x, w, b):
        shapes.update(x=x.shape, w=w.shape)
        raise NotImplementedError

    oi = {"linear": {"weight": "oi"}}
    someone, reference = candidate("linear", 2, spy, lambda d, c: None, conformance=oi)
    TENSORS.judge(a_case(reference, inputs=2, outputs=3), someone, reference)
    assert shapes == {"x": (1, 2), "w": (3, 2)}
    last = {"conv": {"layout": "channels_last"}}
    someone, reference = candidate("conv", 2, spy, lambda d, c: None, conformance=last)
    TENSORS.judge(a_case(reference, channels=2, batch=3), someone, reference)
    assert shapes["x"] == (3, 1, 1, 2)
    someone, reference = candidate("conv", 2, spy, lambda d, c: None)
    assert TENSORS.judge(a_case(reference, channels=2), someone, reference)["dx"] is Status.UNSUPPORTED
    assert shapes["x"] == (1, 2, 1, 1)
