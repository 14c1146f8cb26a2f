"""Ten faulty linear layers and the right ones that each of them changes in one place, for benchmarks/unseen.py."""

# The implementations are written as users write theirs.
# ruff: noqa: D102

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backproof.conformance.spec.case import Case
from backproof.plugins.gallery.conditions import (
    Condition,
    asked_as,
    empty_batch,
    expanded,
    lies,
    missing,
    of_dtype,
    shape,
    when,
)
from backproof.plugins.gallery.memory import buffer_of

Array = NDArray[Any]

#: The rows that a tiled reduction takes at once, and the products that an unrolled loop takes at once.
TILE, UNROLL = 4, 4


class Unrolled:
    """Right: outer products, four at a time, and those left over one by one."""

    def linear_forward(self, x: Array, w: Array, b: Array) -> Any:
        out = np.zeros((len(x), w.shape[1]), x.dtype)
        whole = x.shape[1] - x.shape[1] % UNROLL
        for d in range(0, whole, UNROLL):
            out += x[:, d : d + UNROLL] @ w[d : d + UNROLL]
        for d in self._left(whole, x.shape[1]):
            out += np.multiply.outer(x[:, d], w[d])
        return out + b, (x, w)

    def _left(self, whole: int, inputs: int) -> Any:
        return range(whole, inputs)

    def linear_backward(self, dout: Array, cache: Any) -> Any:
        x, w = cache
        return np.einsum("nc,dc->nd", dout, w), np.einsum("nd,nc->dc", x, dout), np.einsum("nc->c", dout)


class UnrolledTailIsAnIf(Unrolled):
    """The loop over the inputs is unrolled by four, and the products left over are an `if` where a loop belongs."""

    def _left(self, whole: int, inputs: int) -> Any:
        return range(whole, min(whole + 1, inputs))


class RowTiles:
    """Right: dw is summed over tiles of four rows, the last of which may be smaller."""

    def linear_forward(self, x: Array, w: Array, b: Array) -> Any:
        return np.dot(x, w) + b, {"x": x, "w": w}

    def linear_backward(self, dout: Array, cache: Any) -> Any:
        x, w = cache["x"], cache["w"]
        dw = np.zeros_like(w)
        for tile in range(self._tiles(len(x))):
            rows = slice(tile * TILE, (tile + 1) * TILE)
            dw += np.dot(x[rows].T, dout[rows])
        return np.dot(dout, w.T), dw, np.sum(dout, 0)

    def _tiles(self, rows: int) -> int:
        return -(-rows // TILE)


class RowTilesRoundedDown(RowTiles):
    """The number of row tiles in the weight gradient is rows // tile, at least one, and not rounded up."""

    def _tiles(self, rows: int) -> int:
        return max(1, rows // TILE)


class Batched:
    """Right: matmul over whatever leads."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"linear": {"ranks": (2, 3, 4)}}

    def linear_forward(self, x: Array, w: Array, b: Array) -> Any:
        return np.matmul(x, w) + b, (x, w)

    def linear_backward(self, dout: Array, cache: Any) -> Any:
        x, w = cache
        each = np.matmul(x.swapaxes(-1, -2), dout)
        return np.matmul(dout, w.T), self._reduced(each), dout.sum(tuple(range(dout.ndim - 1)))

    def _reduced(self, each: Array) -> Array:
        total: Array = each.sum(tuple(range(each.ndim - 2)))
        return total


class BatchedSumsOneAxis(Batched):
    """A batched matmul gives one dw for each sequence, and they are summed over the first axis however many lead."""

    def _reduced(self, each: Array) -> Array:
        total: Array = each.sum(axis=0) if each.ndim > 2 else each
        return total


class Oriented:
    """Right, with w as (outputs, inputs)."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"linear": {"weight": "oi", "ranks": (2, 3)}}

    def linear_forward(self, x: Array, w: Array, b: Array) -> Any:
        return np.einsum("...d,cd->...c", x, w) + b, (x, w)

    def linear_backward(self, dout: Array, cache: Any) -> Any:
        x, w = cache
        rows, upstream = x.reshape(-1, x.shape[-1]), dout.reshape(-1, dout.shape[-1])
        return dout @ self._matrix(w, x, dout), upstream.T @ rows, upstream.sum(0)

    def _matrix(self, w: Array, x: Array, dout: Array) -> Array:
        return w


class OrientationGuessed(Oriented):
    """The backward serves both weight orientations and tells them apart by the shape, so a square w is turned."""

    def _matrix(self, w: Array, x: Array, dout: Array) -> Array:
        is_io = w.shape == (x.shape[-1], dout.shape[-1])
        return w.T if is_io else w


class Sequences:
    """Right: the steps of all sequences one after the other, as recurrent layers hold them."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"linear": {"ranks": (3,)}}

    def linear_forward(self, x: Array, w: Array, b: Array) -> Any:
        batch, steps, _ = x.shape
        flat = self._flat(x)
        out = flat.dot(w) + b
        return out.reshape(steps, batch, len(b)).transpose(1, 0, 2), (flat, w)

    def linear_backward(self, dout: Array, cache: Any) -> Any:
        flat, w = cache
        dw = flat.T.dot(self._upstream(dout))
        return dout.dot(w.T), dw, dout.sum(axis=(0, 1))

    def _flat(self, a: Array) -> Array:
        return a.transpose(1, 0, 2).reshape(-1, a.shape[2])

    def _upstream(self, dout: Array) -> Array:
        return self._flat(dout)


class SequencesFlattenedTwoWays(Sequences):
    """The forward caches x flattened step by step, and the backward flattens dout sequence by sequence for dw."""

    def _upstream(self, dout: Array) -> Array:
        return dout.reshape(-1, dout.shape[2])


class MaybeBiased:
    """Right, in two precisions, with a bias or without one."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": ("float32", "float64")}

    def linear_forward(self, x: Array, w: Array, b: Array | None = None) -> Any:
        bias = self._zeros(w.shape[1], x) if b is None else b
        return x @ w + bias, (x, w, b is not None)

    def _zeros(self, outputs: int, x: Array) -> Array:
        return np.zeros(outputs, x.dtype)

    def linear_backward(self, dout: Array, cache: Any) -> Any:
        x, w, biased = cache
        gradients = {"dx": dout @ w.T, "dw": x.T @ dout}
        if biased:
            gradients["db"] = dout.sum(axis=0)
        return gradients


class MissingBiasInDouble(MaybeBiased):
    """Where there is no bias, np.zeros(outputs) stands in for it, and its float64 makes the output float64."""

    def _zeros(self, outputs: int, x: Array) -> Array:
        return np.zeros(outputs)


class Gemm:
    """Right: hands a matrix to BLAS as it lies, as its transpose, or as a copy."""

    def linear_forward(self, x: Array, w: Array, b: Array) -> Any:
        return x @ self._operand(w) + b, (x, w)

    def linear_backward(self, dout: Array, cache: Any) -> Any:
        x, w = cache
        return dout @ self._operand(w).T, x.T @ dout, dout.sum(axis=0)

    def _operand(self, a: Array) -> Array:
        return a if a.flags.c_contiguous or a.flags.f_contiguous else np.ascontiguousarray(a)


class GemmTakesTheRestForTransposed(Gemm):
    """The BLAS wrapper knows two flags, and passes whatever is not C-contiguous as a transposed buffer."""

    def _operand(self, a: Array) -> Array:
        return a if a.flags.c_contiguous else buffer_of(a).reshape(a.shape[::-1]).T


class Frugal:
    """Right: one new array for each gradient."""

    def linear_forward(self, x: Array, w: Array, b: Array) -> Any:
        out = np.empty((x.shape[0], w.shape[1]), x.dtype)
        np.matmul(x, w, out=out)
        np.add(out, b, out=out)
        return out, (x, w)

    def linear_backward(self, dout: Array, cache: Any) -> Any:
        x, w = cache
        dw, db = np.matmul(x.T, dout), np.add.reduce(dout, axis=0)
        return np.matmul(dout, w.T, out=self._room(x, dout)), dw, db

    def _room(self, x: Array, dout: Array) -> Array:
        return np.empty(x.shape, x.dtype)


class DxWrittenOverDout(Frugal):
    """To save memory dx is written into dout where the two have the same shape, and the caller's dout is gone."""

    def _room(self, x: Array, dout: Array) -> Array:
        return dout if dout.shape == x.shape else np.empty(x.shape, x.dtype)


class Module:
    """Right: the forward makes a record with room for the gradients of the parameters."""

    def linear_forward(self, x: Array, w: Array, b: Array) -> Any:
        return x @ w + b, {"x": x, "w": w, "dw": np.zeros_like(w), "db": np.zeros_like(b)}

    def linear_backward(self, dout: Array, cache: Any) -> Any:
        dw, db = self._room(cache)
        dw += cache["x"].T @ dout
        db += dout.sum(axis=0)
        return dout @ cache["w"].T, dw, db

    def _room(self, cache: Any) -> tuple[Array, Array]:
        return np.zeros_like(cache["dw"]), np.zeros_like(cache["db"])


class ModuleAddsToItsRecord(Module):
    """The parameter gradients are added to buffers in the cache, which only the forward sets to zero."""

    def _room(self, cache: Any) -> tuple[Array, Array]:
        return cache["dw"], cache["db"]


class RowByRow:
    """Right: a vector times a matrix for each row."""

    def linear_forward(self, x: Array, w: Array, b: Array) -> Any:
        return self._together([row @ w + b for row in x], len(b), x), (x, w)

    def linear_backward(self, dout: Array, cache: Any) -> Any:
        x, w = cache
        dw, db = np.zeros(w.shape, w.dtype), np.zeros(w.shape[1], w.dtype)
        for row, upstream in zip(x, dout, strict=True):
            dw += row[:, None] * upstream
            db += upstream
        return self._together([w @ upstream for upstream in dout], len(w), x), dw, db

    def _together(self, rows: list[Array], width: int, x: Array) -> Array:
        whole = np.empty((len(rows), width), x.dtype)
        for place, row in zip(whole, rows, strict=True):
            place[:] = row
        return whole


class NoRowsToStack(RowByRow):
    """The rows are computed one by one and put together with np.stack, which raises where there is none."""

    def _together(self, rows: list[Array], width: int, x: Array) -> Array:
        return np.stack(rows)


@when("inputs % 4 > 1")
def two_left(case: Case) -> bool:
    return shape(case, "x")[-1] % UNROLL > 1


@when("more than 4 rows and no multiple of 4")
def rows_left(case: Case) -> bool:
    rows = shape(case, "x")[0]
    return rows > TILE and rows % TILE > 0


@when("rank > 3")
def deep(case: Case) -> bool:
    return len(shape(case, "x")) > 3


@when("inputs = outputs > 1")
def square(case: Case) -> bool:
    inputs, outputs = shape(case, "w")
    return inputs == outputs > 1


@when("inputs = outputs")
def same_width(case: Case) -> bool:
    inputs, outputs = shape(case, "w")
    return inputs == outputs


@when("several sequences of several steps")
def several_of_several(case: Case) -> bool:
    return min(shape(case, "x")[:-1]) > 1


TORN = ("step slice", "offset slice", "negative stride", "negative stride, last axis")

#: Each fault, the right implementation that it is a change of, where it shows, and what catches it.
ROWS: tuple[tuple[type, type, Condition, str], ...] = (
    (UnrolledTailIsAnIf, Unrolled, two_left, "out identities"),
    (RowTilesRoundedDown, RowTiles, rows_left, "dw identities"),
    (BatchedSumsOneAxis, Batched, deep, "dw"),
    (OrientationGuessed, Oriented, square, "dx identities"),
    (SequencesFlattenedTwoWays, Sequences, several_of_several, "dw identities"),
    (MissingBiasInDouble, MaybeBiased, missing("b") & of_dtype("float32"), "out"),
    (GemmTakesTheRestForTransposed, Gemm, lies("w", *TORN) | expanded("w"), "memory_layout"),
    (DxWrittenOverDout, Frugal, same_width, "purity aliasing memory_layout"),
    (ModuleAddsToItsRecord, Module, asked_as("a second backward on one cache"), "repeatability aliasing"),
    (NoRowsToStack, RowByRow, empty_batch, "edges"),
)
