"""Faults of linear layers in reading an array's memory, working in tiles of it, and choosing number formats."""

from __future__ import annotations

import numpy as np

from backproof.plugins.gallery.conditions import (
    ALWAYS,
    expanded,
    lies,
    of_dtype,
    scattered,
    several_rows,
    shape,
    size,
    stacked,
    when,
)
from backproof.plugins.gallery.every_layer import ReadFromItsBuffer
from backproof.plugins.gallery.fault import fault
from backproof.plugins.gallery.linear.bases import Linear, Rounded, Single, Stacked
from backproof.plugins.gallery.memory import as_it_lies, buffer_of, is_expanded, is_scattered


@fault("memory_layout", scattered("dout"), source="H197 flash-attention#355")
class reads_the_rows_of_dout_from_its_buffer(Linear):
    """The strides of dout are ignored: its numbers are read as they lie in memory."""

    def linear_backward(self, dout, cache):
        return super().linear_backward(as_it_lies(dout), cache)


@fault("memory_layout", scattered("w"), source="own: H79 candle#3735 in a linear layer")
class reads_the_rows_of_w_from_its_buffer(ReadFromItsBuffer, Linear, part=1):
    """The backward ignores the strides of w; the forward reads it right."""


@fault("memory_layout", scattered("x"), source="own: H168 in a linear layer")
class reads_the_rows_of_x_from_its_buffer(ReadFromItsBuffer, Linear, part=0):
    """dw ignores the strides of x; the forward reads it right."""


@fault("memory_layout", expanded("dout"), source="H189 pytorch#195066")
class returns_early_at_a_stride_of_zero(Linear):
    """A stride of 0 is taken for an empty matrix: dx stays as it was allocated."""

    def dx(self, dout, x, w):
        dx = super().dx(dout, x, w)
        return np.full_like(dx, 77) if is_expanded(dout) else dx


@fault("memory_layout", expanded("dout"), source="own")
class takes_equal_columns_for_one(Linear):
    """Where dout repeats along its last axis, db is that of the first output alone."""

    def db(self, dout):
        db = super().db(dout)
        if dout.shape[1] > 1 and dout.strides[1] == 0 and dout.strides[0] != 0:
            db[1:] = 0
        return db


@fault("memory_layout", expanded("dout") | lies("dout", "read-only"), source="own: H140 in a linear layer")
class scales_dout_in_place_and_back(Linear):
    """dout is doubled for a moment, where it lies, but not every array can be written."""

    def linear_backward(self, dout, cache):
        dout *= 2
        found = [gradient / 2 for gradient in super().linear_backward(dout, cache)]
        dout /= 2
        return found


@fault(
    "memory_layout",
    lies("dout", "odd strides of size 1", "offset slice"),
    source="own: H173 pytorch#115940 in a linear layer",
)
class demands_the_strides_of_a_fresh_array(Linear):
    """A contiguous dout must have the strides of a newly made one, though those of an axis of size 1 say nothing."""

    def linear_backward(self, dout, cache):
        if dout.flags.c_contiguous and dout.strides != np.zeros_like(dout, order="C").strides:
            raise ValueError("the strides of dout do not fit its shape")
        return super().linear_backward(dout, cache)


@fault("memory_layout", stacked & scattered("x"), source="own: a view where a copy is needed")
class walks_two_leading_axes_as_one(Stacked):
    """dw reads the rows of x one behind the other, also where the second leading axis does not follow the first."""

    def linear_backward(self, dout, cache):
        x, w = cache
        apart = x.ndim > 2 and len(x) > 1 and x.strides[0] != x.shape[1] * x.strides[1]
        return super().linear_backward(dout, (buffer_of(x) if apart and is_scattered(x) else x, w))


@fault("dx", ALWAYS, source="H187 pytorch#187521")
class scales_uninitialised_memory_by_zero(Linear):
    """dx is the product plus 0 times what its memory held before, which may be NaN."""

    def dx(self, dout, x, w):
        return super().dx(dout, x, w) + 0 * np.full_like(x, np.nan)


@when("rows > 1 and inputs != outputs")
def oblong(case):
    inputs, outputs = shape(case, "w")
    return several_rows(case) and inputs != outputs


@fault("dw identities", oblong, source="own: the leading dimension of a matrix product")
class takes_the_outputs_for_the_length_of_a_row(Linear):
    """dw finds the n-th row of x at n times the number of outputs, not of inputs."""

    def dw(self, dout, x, w):
        places = np.arange(len(x))[:, None] * dout.shape[1] + np.arange(x.shape[1])
        return np.take(x, places, mode="wrap").T @ dout


TILE = 8

beyond_tiles = size("w", 0, "inputs > 8, not a multiple of 8", lambda n: n > TILE and n % TILE > 0)
rows_beyond_tiles = size("x", 0, "batch > 8, not a multiple of 8", lambda n: n > TILE and n % TILE > 0)
rows_beyond_fours = size("x", 0, "batch > 16, not a multiple of 4", lambda n: n > 16 and n % 4 > 0)
many_rows = size("x", 0, "batch > 32", lambda n: n > 32)


@fault("dw", many_rows, source="own: H87 pytorch#96225 in a linear layer")
class stops_after_32_rows(Linear):
    """dw leaves out the rows behind the thirty-second."""

    def dw(self, dout, x, w):
        return x[:32].T @ dout[:32]


@fault("out", beyond_tiles, source="own")
class drops_inputs_behind_whole_tiles(Linear):
    """out is summed in tiles of 8 inputs; those behind the last whole tile are left out."""

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        whole = len(w) - len(w) % TILE
        return x[:, :whole] @ w[:whole] + b if whole else out, cache


@fault("dx", beyond_tiles, source="own")
class leaves_dx_zero_behind_whole_tiles(Linear):
    """dx is written in tiles of 8 inputs; those behind the last whole tile stay zero."""

    def dx(self, dout, x, w):
        dx = super().dx(dout, x, w)
        whole = dx.shape[1] - dx.shape[1] % TILE
        if whole:
            dx[:, whole:] = 0
        return dx


@fault("dw", rows_beyond_tiles, source="own")
class counts_rows_of_the_last_tile_twice(Linear):
    """The last tile of 8 rows is moved back to end with the batch; the rows that it shares are added to dw again."""

    def dw(self, dout, x, w):
        dw = super().dw(dout, x, w)
        if len(x) > TILE and len(x) % TILE:
            shared = slice(len(x) - TILE, len(x) - len(x) % TILE)
            dw = dw + x[shared].T @ dout[shared]
        return dw


biased_tiles = when("inputs > 8 and b is not zero")(lambda case: shape(case, "w")[0] > TILE and case.array("b").any())


@fault("out", biased_tiles, source="own: split-K with a fused bias")
class adds_the_bias_with_every_tile(Linear):
    """out is summed in tiles of 8 inputs, each of which adds b."""

    def linear_forward(self, x, w, b):
        tiles = -(-len(w) // TILE)
        return super().linear_forward(x, w, tiles * b)


@fault("db", rows_beyond_fours, source="own: split-K")
class loses_the_remainder_of_a_split_sum(Linear):
    """A batch above 16 is summed for db in four equal parts; the rows that are left over are in none of them."""

    def db(self, dout):
        return dout[: len(dout) // 4 * 4].sum(axis=0) if len(dout) > 16 else super().db(dout)


far = when("x has more than 128 entries")(lambda case: case.array("x").size > 128)


@fault("dw", far, source="own: H89 pytorch#84488 in a linear layer")
class wraps_the_offset_of_an_entry(Linear):
    """dw finds the entries of x by an offset of seven bits, which starts again at 128."""

    def dw(self, dout, x, w):
        offsets = np.arange(x.size).reshape(x.shape) % 128
        return np.take(x, offsets).T @ dout


@fault("dw", ALWAYS, source="M11 by hand")
class gathers_the_weight_gradient_in_float64(Single):
    """dw is gathered in np.zeros, which is float64 whatever x is."""

    def dw(self, dout, x, w):
        dw = super().dw(dout, x, w)
        gathered = np.zeros(dw.shape)
        gathered += dw
        return gathered


@fault("out", ALWAYS, source="own")
class keeps_the_bias_in_float64(Single):
    """b is converted to float64 when it is stored, and adding it makes out float64."""

    def linear_forward(self, x, w, b):
        return super().linear_forward(x, w, b.astype(np.float64))


fine_x = when("an x that float32 rounds")(lambda case: (case.array("x") != case.array("x").astype(np.float32)).any())


@fault("dw identities", fine_x, source="own: compressed activations")
class keeps_x_in_float32(Linear):
    """The cache holds x in float32 to save memory; dw is computed of the rounded one."""

    def linear_forward(self, x, w, b):
        out, (_, w) = super().linear_forward(x, w, b)
        return out, (x.astype(np.float32), w)


fine_w = when("a w that float16 rounds")(lambda case: (case.array("w") != case.array("w").astype(np.float16)).any())


@fault("out dx identities", fine_w, source="own: automatic mixed precision")
class multiplies_by_a_weight_of_float16(Linear):
    """out and dx are computed with w rounded to float16."""

    def linear_forward(self, x, w, b):
        return super().linear_forward(x, w.astype(np.float16).astype(w.dtype), b)


fraction = when("a dout that is no integer")(lambda case: (case.array("dout") % 1 != 0).any())


@fault("db identities", fraction, source="own")
class sums_the_bias_gradient_as_integers(Linear):
    """db is summed in an array of integers: what stands behind the point is lost."""

    def db(self, dout):
        return dout.astype(np.int64).sum(axis=0).astype(dout.dtype)


above_64 = size("x", 0, "batch > 64", lambda n: n > 64)


@fault("db", of_dtype("bfloat16") & above_64, source="H91 pytorch#68048")
class sums_the_bias_gradient_in_bfloat16(Rounded):
    """db is rounded to bfloat16 after every sample, and sticks at 256."""

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, dout.sum(axis=0)


@fault("dw", of_dtype("bfloat16") & above_64, source="own: H175 Liger-Kernel PR#950 in a linear layer")
class adds_blocks_of_rows_in_bfloat16(Rounded):
    """dw is summed in float32 over blocks of 64 rows, whose sums are added in bfloat16."""

    def linear_backward(self, dout, cache):
        x, _ = cache
        dx, dw, db = super().linear_backward(dout, cache)
        total = np.zeros_like(dw)
        for start in range(0, len(x), 64):
            block = slice(start, start + 64)
            total += (x[block].T @ dout[block].astype(np.float32)).astype(dw.dtype)
        return dx, total, db
