"""Linear layers that look wrong and are right."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from backproof.plugins.gallery.equivalents import sums
from backproof.plugins.gallery.fault import equivalent

BOTH = ("float64", "float32")


class Summed:
    """Every sum of products in one place, `total`."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "linear": {"ranks": (2, 3)}}

    def total(self, terms):
        return terms.sum(axis=0)

    def product(self, a, b):
        return self.total(a.T[:, :, None] * b[:, None, :])

    def linear_forward(self, x, w, b):
        return self.product(rows(x), w).reshape(*x.shape[:-1], len(b)) + b, (x, w)

    def linear_backward(self, dout, cache):
        x, w = cache
        dx = self.product(rows(dout), w.T).reshape(x.shape)
        return dx, self.product(rows(x).T, rows(dout)), self.total(rows(dout))


def rows(a):
    """All leading axes as one."""
    return a.reshape(-1, a.shape[-1])


@equivalent("PyTorch #15501: the same sum by hand is another number")
class sums_in_pairs(Summed):
    """The sums are those of halves of halves, so they differ from a loop's in their last digits. Both round."""

    total = staticmethod(sums.pairwise)


@equivalent("PyTorch #23042: an error of 0.023 at values of 10 000")
class sums_one_after_the_other(Summed):
    """Nothing is done against rounding: an error that grows with the number of terms and their size is no fault."""

    total = staticmethod(sums.one_after_the_other)


@equivalent("PyTorch #15501: the same sum by hand is another number")
class sums_from_the_end(Summed):
    """The loop runs from the last term to the first. A sum has no order."""

    total = staticmethod(sums.from_the_end)


@equivalent("own")
class sums_the_smallest_first(Summed):
    """The terms are sorted by size, in another order for every element. A sum has no order."""

    total = staticmethod(sums.smallest_first)


@equivalent("own")
class sums_in_blocks(Summed):
    """The sums run over blocks of four terms; what is left behind the last of them is added apart."""

    total = staticmethod(sums.in_blocks)


@equivalent("own: Kahan's sum")
class subtracts_what_was_rounded_away(Summed):
    """Each term is changed before it is added, by what the last addition rounded away. In exact numbers that is 0."""

    total = staticmethod(sums.compensated)


@equivalent("own")
class rounds_every_sum_once(Summed):
    """The sums are computed without rounding, so they are better than any reference's in the same format."""

    total = staticmethod(sums.without_rounding)


@equivalent("own: BLAS with a longer accumulator")
class sums_in_float64(Summed):
    """float32 is summed in float64 and rounded once. A longer accumulator is allowed, a shorter one is not."""

    total = staticmethod(sums.in_float64)


@equivalent("own: 16 bits differ from float32")
class rounds_only_the_result(Summed):
    """Formats of 16 bits are added up in float32, and only results are rounded: not the numbers of a 16-bit loop."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": ("float16", "bfloat16"), "linear": {"ranks": (2, 3)}}

    def linear_forward(self, x, w, b):
        out, _ = super().linear_forward(*[a.astype(np.float32) for a in (x, w, b)])
        return out.astype(x.dtype), (x, w)

    def linear_backward(self, dout, cache):
        wide = [a.astype(np.float32) for a in cache]
        return [a.astype(dout.dtype) for a in super().linear_backward(dout.astype(np.float32), wide)]


class Multiplied:
    """Every product of matrices in one place."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "linear": {"ranks": (2, 3, 4)}}

    def product(self, a, b):
        return a @ b

    def linear_forward(self, x, w, b):
        return self.product(rows(x), w).reshape(*x.shape[:-1], len(b)) + b, (x, w)

    def linear_backward(self, dout, cache):
        x, w = cache
        dx = self.product(rows(dout), w.T).reshape(x.shape)
        return dx, self.product(rows(x).T, rows(dout)), rows(dout).sum(axis=0)


@equivalent("own: Strassen's algorithm")
class multiplies_by_strassen(Multiplied):
    """Seven products of sums of blocks instead of eight products of blocks; the sizes are filled up with zeros.

    It rounds relative to the largest numbers, hence "exact": False.
    """

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "exact": False}

    def product(self, a, b):
        (n, k), (_, m) = a.shape, b.shape
        a, b = np.pad(a, ((0, n % 2), (0, k % 2))), np.pad(b, ((0, k % 2), (0, m % 2)))
        (a1, a2), (a3, a4) = quarters(a)
        (b1, b2), (b3, b4) = quarters(b)
        p1, p2, p3 = (a1 + a4) @ (b1 + b4), (a3 + a4) @ b1, a1 @ (b2 - b4)
        p4, p5 = a4 @ (b3 - b1), (a1 + a2) @ b4
        p6, p7 = (a3 - a1) @ (b1 + b2), (a2 - a4) @ (b3 + b4)
        return np.block([[p1 + p4 - p5 + p7, p3 + p5], [p2 + p4, p1 - p2 + p3 + p6]])[:n, :m]


def quarters(a):
    """The four blocks of a matrix of even sizes."""
    return [np.hsplit(half, 2) for half in np.vsplit(a, 2)]


@equivalent("own: float32 on hardware for shorter factors")
class multiplies_halves_of_numbers(Multiplied):
    """Every factor is split into two numbers of half the digits, and four products take the place of one."""

    def product(self, a, b):
        (high, low), (upper, lower) = halves(a), halves(b)
        return low @ lower + (high @ lower + low @ upper) + high @ upper


def halves(a):
    """A number rounded to half of its digits, and the rest."""
    factor = a.dtype.type(2 ** (12 if a.dtype == np.float32 else 27) + 1)
    high = a * factor - (a * factor - a)
    return high, a - high


@equivalent("own: products of sparse matrices")
class skips_every_zero(Multiplied):
    """Rows and columns that hold nothing but zeros are left out of the products; they would add zeros."""

    def product(self, a, b):
        useful = a.any(axis=0) & b.any(axis=1)
        return a[:, useful] @ b[useful]


@equivalent("own: outer products as they come")
class walks_the_batch_backwards(Multiplied):
    """dw and db are added up sample by sample from the last to the first, dx row by row."""

    def linear_backward(self, dout, cache):
        x, w = cache
        dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros_like(w[0])
        for row in reversed(list(np.ndindex(dout.shape[:-1]))):
            dx[row] = w @ dout[row]
            dw += np.outer(x[row], dout[row])
            db += dout[row]
        return dx, dw, db


@equivalent("own: the bias trick")
class folds_the_bias_into_the_weight(Multiplied):
    """There is no bias: x has one more column, of ones, and w one more row. dx is cut, and db is that row of dw."""

    def linear_forward(self, x, w, b):
        wider = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
        longer = np.concatenate([w, b[None]])
        return wider @ longer, (wider, longer)

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx[..., :-1], dw[:-1], dw[-1]


@equivalent("own: torch's layout")
class keeps_the_weight_output_first(Multiplied):
    """w is (C, D) and used transposed; dw lies in memory the other way around than w. Its shape is w's, as declared."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "linear": {"ranks": (2, 3), "weight": "oi"}}

    def linear_forward(self, x, w, b):
        return super().linear_forward(x, w.T, b)

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return dx, dw.T, db


@equivalent("own")
class contracts_by_einsum(Multiplied):
    """Nothing is reshaped or transposed: each result contracts the axes that the other two arrays share."""

    def linear_forward(self, x, w, b):
        return np.einsum("...d,dc->...c", x, w) + b, (x, w)

    def linear_backward(self, dout, cache):
        x, w = cache
        dx = np.einsum("...c,dc->...d", dout, w)
        return dx, np.einsum("nd,nc->dc", rows(x), rows(dout)), np.einsum("nc->c", rows(dout))


@equivalent("own")
class answers_in_a_dict_out_of_order(Multiplied):
    """The gradients come as a dict whose first entry is not dx. They are read by their names."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return {"db": db, "dw": dw, "dx": dx}


@equivalent("PyTorch #2330: a gradient that nobody wants")
class leaves_rubbish_for_no_bias(Multiplied):
    """Where there is no bias an array of NaN in a wrong shape stands in the place of db. Nobody looks at it."""

    def linear_forward(self, x, w, b=None):
        return (x @ w if b is None else x @ w + b), (x, w, b)

    def linear_backward(self, dout, cache):
        x, w, b = cache
        dx, dw, db = super().linear_backward(dout, (x, w))
        return dx, dw, np.full((7, 7), np.nan) if b is None else db


@equivalent("own: one workspace for all gradients")
class shares_one_buffer_between_gradients(Multiplied):
    """All gradients are views of one buffer, dx in every second place of it and dw between. None overlaps another."""

    def linear_backward(self, dout, cache):
        gradients = super().linear_backward(dout, cache)
        longest = max(a.size for a in gradients)
        buffer = np.zeros((longest, 3), dout.dtype)
        views = [buffer[: a.size, k].reshape(a.shape) for k, a in enumerate(gradients)]
        for view, a in zip(views, gradients, strict=True):
            view[...] = a
        return views


@equivalent("own")
class answers_in_read_only_arrays(Multiplied):
    """No result can be written to, and the gradients come as a list. Results are read."""

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return [locked(out), cache]

    def linear_backward(self, dout, cache):
        return [locked(a) for a in super().linear_backward(dout, cache)]


def locked(a):
    """The array, read-only."""
    a.setflags(write=False)
    return a


class Later:
    """A number of arrays that is computed when somebody looks."""

    def __init__(self, compute):
        self.compute = compute

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.compute(), dtype)


@equivalent("own: lazy evaluation")
class computes_when_somebody_looks(Multiplied):
    """The results are no arrays but objects that can become some; nothing is computed until then."""

    def linear_forward(self, x, w, b):
        return Later(lambda: Multiplied.linear_forward(self, x, w, b)[0]), (x, w)

    def linear_backward(self, dout, cache):
        return tuple(Later(lambda k=k: Multiplied.linear_backward(self, dout, cache)[k]) for k in range(3))


@equivalent("own")
class answers_with_minus_zero(Multiplied):
    """Everything is computed with the sign turned around and turned back, so a zero comes as -0.0, which is 0."""

    def linear_forward(self, x, w, b):
        out, _ = super().linear_forward(-x, w, -b)
        return -out, (x, w)

    def linear_backward(self, dout, cache):
        return [-a for a in super().linear_backward(-dout, cache)]


@equivalent("own: results inside a packed buffer")
class answers_at_odd_addresses(Multiplied):
    """Every result begins one byte behind an aligned address. Its numbers are what they are."""

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return misaligned(out), cache

    def linear_backward(self, dout, cache):
        return [misaligned(a) for a in super().linear_backward(dout, cache)]


def misaligned(a):
    """A copy that begins at an odd address."""
    copy = np.frombuffer(bytearray(a.nbytes + 1), a.dtype, a.size, 1).reshape(a.shape)
    copy[...] = a
    return copy
