"""Seventeen faulty convolutions and the right ones that each of them changes in one place, for benchmarks/unseen.py."""

# The implementations are written as users write theirs, and the gallery's right ones without types.
# ruff: noqa: D102
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from backproof.plugins.gallery.conditions import (
    Condition,
    asked_as,
    depthwise,
    differs,
    every_axis,
    expanded,
    grouped,
    lies,
    mode,
    pointwise,
    several_samples,
    shape,
    size,
    some_axis,
    stride_differs,
)
from backproof.plugins.gallery.conv import bases

Array = NDArray[Any]
Pairs = tuple[tuple[int, int], ...]
Ints = tuple[int, ...]

#: The filters that a block holds.
BLOCK = 4


class Joining:
    """Right: for each axis a 0-1 array of tap, output and pixel, as a kernel asks it of its indices."""

    def conv_forward(self, x: Array, w: Array, b: Array, stride: Ints, padding: Pairs, dilation: Ints) -> Any:
        walks = list(zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True))
        high, wide = (self._joined(0, *walk) for walk in walks)
        out = np.einsum("kph,lqw,nchw,ockl->nopq", high, wide, x, w, optimize=True)
        return out + b[:, None, None], (x, w, walks)

    def conv_backward(self, dout: Array, cache: Any) -> Any:
        x, w, walks = cache
        high, wide = (self._joined(0, *walk) for walk in walks)
        dw = np.einsum("kph,lqw,nchw,nopq->ockl", high, wide, x, dout, optimize=True)
        high, wide = (self._joined(self._forgotten(walk[3]), *walk) for walk in walks)
        dx = np.einsum("kph,lqw,nopq,ockl->nchw", high, wide, dout, w, optimize=True)
        return dx, dw, dout.sum(axis=(0, 2, 3))

    def _joined(self, forgotten: int, n: int, kernel: int, stride: int, pads: Ints, dilation: int) -> Array:
        outs = (n + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1
        taps, places, pixels = np.ogrid[:kernel, :outs, :n]
        start = pixels + pads[0] - taps * dilation
        hits: Array = ((start - forgotten) % stride == 0) & (start // stride == places)
        return hits.astype(float)

    def _forgotten(self, pads: Ints) -> int:
        return 0


class StrideTestedWithoutPadding(Joining):
    """The data gradient asks of (pixel - tap) whether the stride divides it, and forgets the padding in this test."""

    def _forgotten(self, pads: Ints) -> int:
        return pads[0]


def correlate(a: Array, w: Array, stride: Ints, padding: Pairs, dilation: Ints) -> Array:
    """A correlation over two axes; what is padded less than nothing is cut off."""
    a = np.pad(a, ((0, 0), (0, 0), *[(max(low, 0), max(high, 0)) for low, high in padding]))
    sides = zip(padding, a.shape[2:], strict=True)
    rows, columns = (slice(max(-low, 0), n - max(-high, 0)) for (low, high), n in sides)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True))
    every = sliding_window_view(a[:, :, rows, columns], reach, axis=(2, 3))
    windows = every[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    out: Array = np.einsum("ncpqkl,ockl->nopq", windows, w, optimize=True)
    return out


class Mirrored:
    """Right: dx correlates the stretched dout with the flipped kernel, dw the input with the stretched dout."""

    def conv_forward(self, x: Array, w: Array, b: Array, stride: Ints, padding: Pairs, dilation: Ints) -> Any:
        return correlate(x, w, stride, padding, dilation) + b.reshape(1, -1, 1, 1), (x, w, stride, padding, dilation)

    def conv_backward(self, dout: Array, cache: Any) -> Any:
        x, w, stride, padding, dilation = cache
        sides = list(zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True))
        left = self._left([(n + sum(pads) - d * (k - 1) - 1) % s for n, k, s, pads, d in sides])
        full = [(d * (k - 1) - low, d * (k - 1) - high) for _, k, _, (low, high), d in sides]
        around = tuple((low, high + rest) for (low, high), rest in zip(full, left, strict=True))
        flipped = w[:, :, ::-1, ::-1].swapaxes(0, 1)
        dx = correlate(self._stretched(dout, stride), flipped, (1, 1), around, dilation)
        dw = correlate(x.swapaxes(0, 1), dout.swapaxes(0, 1), dilation, padding, stride).swapaxes(0, 1)
        return dx, dw[..., : w.shape[2], : w.shape[3]], dout.sum((0, 2, 3))

    def _left(self, rests: list[int]) -> list[int]:
        return rests

    def _stretched(self, dout: Array, stride: Ints) -> Array:
        sizes = [(n - 1) * s + 1 for n, s in zip(dout.shape[2:], stride, strict=True)]
        wide = np.zeros((*dout.shape[:2], *sizes), dout.dtype)
        wide[..., :: stride[0], :: stride[1]] = dout
        return wide


class OneRemainderForBothAxes(Mirrored):
    """The output padding of the data gradient is computed for the rows and used for the columns as well."""

    def _left(self, rests: list[int]) -> list[int]:
        return [rests[0]] * len(rests)


class StretchedThenCutToNothing(Mirrored):
    """The stretched dout has stride - 1 trailing zeros, cut off by [:-(stride - 1)]: nothing stays where one is 1."""

    def _stretched(self, dout: Array, stride: Ints) -> Array:
        if max(stride) == 1:
            return dout
        high, wide = stride
        room = np.zeros((*dout.shape[:2], dout.shape[2] * high, dout.shape[3] * wide), dout.dtype)
        room[:, :, ::high, ::wide] = dout
        return room[:, :, : -(high - 1), : -(wide - 1)]


class Windowed:
    """Right: windows of a view, and a loop over the taps to scatter them back; every option but the padding mode."""

    def conv_forward(
        self, x: Array, w: Array, b: Array, stride: Ints, padding: Pairs, dilation: Ints, groups: int
    ) -> Any:
        padded = np.pad(x, ((0, 0), (0, 0), *padding)) if np.any(padding) else x
        windows = self._kept(self._windows(padded, w, stride, dilation, groups))
        filters = w.reshape(groups, -1, *w.shape[1:])
        out = np.einsum("ngcpqkl,gockl->ngopq", windows, filters, optimize=True)
        out = out.reshape(len(x), len(w), *out.shape[3:]) + b.reshape(-1, 1, 1)
        return out, (x, w, padded, windows, filters, stride, padding, dilation)

    def _windows(self, padded: Array, w: Array, stride: Ints, dilation: Ints, groups: int) -> Array:
        reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True))
        every = sliding_window_view(padded, reach, axis=(2, 3))
        windows = every[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
        return windows.reshape(len(padded), groups, padded.shape[1] // groups, *windows.shape[2:])

    def _kept(self, windows: Array) -> Array:
        return windows.copy()

    def conv_backward(self, dout: Array, cache: Any) -> Any:
        x, w, padded, windows, filters, (down, right), ((top, _), (left, _)), dilation = cache
        (samples, _, high, wide), (groups, each) = dout.shape, filters.shape[:2]
        upstream = dout.reshape(samples, groups, each, high, wide)
        dw = np.einsum("ngcpqkl,ngopq->gockl", self._by_group(windows), upstream, optimize=True)
        dpadded = self._room(padded)
        for tap in np.ndindex(*filters.shape[3:]):
            part = np.einsum("ngopq,goc->ngcpq", upstream, filters[(..., *tap)])
            part = part.reshape(samples, x.shape[1], high, wide)
            i, j = tap[0] * dilation[0], tap[1] * dilation[1]
            dpadded[:, :, i : i + (high - 1) * down + 1 : down, j : j + (wide - 1) * right + 1 : right] += part
        dx = dpadded[:, :, top : top + x.shape[2], left : left + x.shape[3]]
        return dx, dw.reshape(w.shape), dout.sum(axis=(0, 2, 3))

    def _by_group(self, windows: Array) -> Array:
        return windows

    def _room(self, padded: Array) -> Array:
        return np.zeros_like(padded)


class GroupsBeforeSamples(Windowed):
    """For dw the columns (samples, groups, ...) are reshaped to (groups, samples, ...), and not transposed."""

    def _by_group(self, windows: Array) -> Array:
        samples, groups, *rest = windows.shape
        return windows.reshape(groups, samples, *rest).swapaxes(0, 1)


class ColumnsInOneWorkspace(Windowed):
    """The layer owns a workspace for its columns and caches a view of it, and the next forward fills it anew."""

    def __init__(self) -> None:
        self._workspace = np.empty(0)

    def _kept(self, windows: Array) -> Array:
        if self._workspace.size < windows.size:
            self._workspace = np.empty(windows.size, windows.dtype)
        view = self._workspace[: windows.size].reshape(windows.shape)
        view[...] = windows
        return view


class DxOverThePaddedInput(Windowed):
    """When dw is done the cached padded input is zeroed and takes dx; where nothing is padded it is the caller's x."""

    def _room(self, padded: Array) -> Array:
        padded.fill(0)
        return padded


class Patches:
    """Right: where windows do not overlap, dx is the patches laid side by side, `stride` apart."""

    def conv_forward(self, x: Array, w: Array, b: Array, stride: int) -> Any:
        return correlate(x, w, (stride, stride), ((0, 0),) * 2, (1, 1)) + b[:, None, None], (x, w, stride)

    def conv_backward(self, dout: Array, cache: Any) -> Any:
        x, w, stride = cache
        back = np.einsum("nopq,ockl->ncpqkl", dout, w)
        high, wide, *kernel = back.shape[2:]
        dw = correlate(x.swapaxes(0, 1), dout.swapaxes(0, 1), (1, 1), ((0, 0),) * 2, (stride, stride)).swapaxes(0, 1)
        dx = np.zeros((*x.shape[:2], max(x.shape[2], high * stride), max(x.shape[3], wide * stride)), x.dtype)
        if max(kernel) <= stride:
            i, j = self._apart(kernel, stride)
            room = np.zeros((*back.shape[:2], high, i, wide, j), x.dtype)
            room[:, :, :, : kernel[0], :, : kernel[1]] = back.transpose(0, 1, 2, 4, 3, 5)
            dx[:, :, : high * i, : wide * j] = room.reshape(*x.shape[:2], high * i, wide * j)
        else:
            for p, q in np.ndindex(high, wide):
                window = np.s_[:, :, p * stride : p * stride + kernel[0], q * stride : q * stride + kernel[1]]
                dx[window] += back[:, :, p, q]
        return dx[:, :, : x.shape[2], : x.shape[3]], dw[..., : kernel[0], : kernel[1]], dout.sum((0, 2, 3))

    def _apart(self, kernel: list[int], stride: int) -> list[int]:
        return [stride, stride]


class PatchesWithoutGaps(Patches):
    """The shortcut for windows that do not overlap lays the patches side by side as if stride and kernel were equal."""

    def _apart(self, kernel: list[int], stride: int) -> list[int]:
        return kernel


class Depthwise:
    """Right: one filter after the other, on the channels of its group."""

    def conv_forward(self, x: Array, w: Array, b: Array, groups: int) -> Any:
        seen = self._seen(len(w), x.shape[1], groups)
        windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))
        out = np.stack([np.einsum("ncpqkl,ckl->npq", windows[:, seen[o]], w[o]) for o in range(len(w))], axis=1)
        return out + b.reshape(1, -1, 1, 1), (x, w, seen)

    def conv_backward(self, dout: Array, cache: Any) -> Any:
        x, w, seen = cache
        dx, dw = np.zeros(x.shape, x.dtype), np.zeros(w.shape, w.dtype)
        high, wide = dout.shape[2:]
        for (i, j), o in ((tap, o) for tap in np.ndindex(*w.shape[2:]) for o in range(len(w))):
            dw[o, :, i, j] = np.tensordot(x[:, seen[o], i : i + high, j : j + wide], dout[:, o], ((0, 2, 3), (0, 1, 2)))
            dx[:, seen[o], i : i + high, j : j + wide] += dout[:, o, None] * w[o, :, i, j].reshape(1, -1, 1, 1)
        return dx, dw, np.einsum("nopq->o", dout)

    def _seen(self, filters: int, channels: int, groups: int) -> list[Any]:
        width = channels // groups
        return [slice(g * width, (g + 1) * width) for g in (o * groups // filters for o in range(filters))]


class DepthwiseMultiplierOutside(Depthwise):
    """The depthwise path gives filter o the channel o % channels: the copies of a channel stand apart, not together."""

    def _seen(self, filters: int, channels: int, groups: int) -> list[Any]:
        if 1 < groups == channels:
            return [slice(o % channels, o % channels + 1) for o in range(filters)]
        return super()._seen(filters, channels, groups)


class Signal:
    """Right, over one axis: a loop over where the windows begin."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"conv": {"spatial_dims": (1,)}}

    def conv_forward(self, x: Array, w: Array, b: Array, stride: int, padding: int, dilation: int) -> Any:
        padded = np.pad(x, ((0, 0), (0, 0), (padding, padding)))
        reach = dilation * (w.shape[2] - 1) + 1
        starts = range(0, padded.shape[2] - reach + 1, stride)
        seen = [padded[:, :, t : t + reach : dilation] for t in starts]
        out = np.stack([np.tensordot(part, w, ((1, 2), (1, 2))) + b for part in seen], axis=2)
        return out, (padded, w, stride, padding, dilation)

    def conv_backward(self, dout: Array, cache: Any) -> Any:
        padded, w, stride, padding, dilation = cache
        reach = dilation * (w.shape[2] - 1) + 1
        dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
        for q, t in enumerate(range(0, padded.shape[2] - self._last(w.shape[2], reach) + 1, stride)):
            dpadded[:, :, t : t + reach : dilation] += np.tensordot(dout[:, :, q], w, (1, 0))
            dw += np.tensordot(dout[:, :, q], padded[:, :, t : t + reach : dilation], (0, 0))
        return dpadded[:, :, padding : padded.shape[2] - padding], dw, dout.sum(axis=(0, 2))

    def _last(self, kernel: int, reach: int) -> int:
        return reach


class WindowsOfTheUndilatedKernel(Signal):
    """The backward's loop goes on to the last window of the kernel without dilation, past the end of dout."""

    def _last(self, kernel: int, reach: int) -> int:
        return kernel


class Blocked:
    """Right, with one padding; dx adds up what blocks of four filters give, the last one as far as it goes."""

    def conv_forward(self, x: Array, w: Array, b: Array, padding: int) -> Any:
        out = correlate(x, w, (1, 1), ((padding, padding),) * 2, (1, 1))
        return out + b[None, :, None, None], (x, w, padding)

    def conv_backward(self, dout: Array, cache: Any) -> Any:
        x, w, padding = cache
        full, dx = tuple((self._mirrored(k, padding),) * 2 for k in w.shape[2:]), np.zeros_like(x)
        for start in self._starts(len(w)):
            block = slice(start, start + BLOCK)
            back = correlate(dout[:, block], np.flip(w[block], (2, 3)).swapaxes(0, 1), (1, 1), full, (1, 1))
            dx += back[:, :, : x.shape[2], : x.shape[3]]
        dw = correlate(x.swapaxes(0, 1), dout.swapaxes(0, 1), (1, 1), ((padding, padding),) * 2, (1, 1))
        return dx, dw.swapaxes(0, 1), dout.sum(axis=(0, 2, 3))

    def _mirrored(self, kernel: int, padding: int) -> int:
        return kernel - 1 - padding

    def _starts(self, filters: int) -> list[int]:
        return list(range(0, filters, BLOCK))


class SamePaddingOfEvenKernels(Blocked):
    """Padding of kernel // 2 counts as "same", whose gradient has it too; with an even kernel it is one less."""

    def _mirrored(self, kernel: int, padding: int) -> int:
        return padding if padding == kernel // 2 else kernel - 1 - padding


class LastBlockMovedBack(Blocked):
    """The last block of filters is moved back to be whole, and what it shares with the one before counts twice."""

    def _starts(self, filters: int) -> list[int]:
        return [min(start, max(0, filters - BLOCK)) for start in super()._starts(filters)]


class Pointwise(Mirrored):
    """Right: a matrix product where the kernel is a single tap."""

    def conv_forward(self, x: Array, w: Array, b: Array) -> Any:  # type: ignore[override]
        out, cache = super().conv_forward(x, w, b, (1, 1), ((0, 0), (0, 0)), (1, 1))
        if w.shape[2:] == (1, 1):
            out = (w[:, :, 0, 0] @ self._pixels(x) + b[:, None]).reshape(out.shape)
        return out, cache

    def _pixels(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])


class PointwiseReadsMemory(Pointwise):
    """The 1x1 shortcut reads the pixels in the order in which they lie in memory: another where x is transposed."""

    def _pixels(self, x: Array) -> Array:
        return x.ravel(order="K").reshape(*x.shape[:2], x.shape[2] * x.shape[3])


class TapsScatteredColumnByColumn(bases.Conv):
    """col2im lists the taps column by column, with tile and repeat exchanged, where im2col lists them row by row."""

    def scatter(self, back: Array, g: Any) -> Array:
        dpadded = np.zeros((*back.shape[:2], *g.size), back.dtype)
        taps = np.tile(np.arange(g.kernel[0]), g.kernel[1]), np.repeat(np.arange(g.kernel[1]), g.kernel[0])
        for t, tap in enumerate(zip(*taps, strict=True)):
            dpadded[self.cut(tap, g)] += back[:, :, t]
        return dpadded


class RowsOfTapsByTheirHeight(bases.Conv3d):
    """The data gradient finds a weight at (depth * height + row) * height + column, where the width belongs."""

    def dx(self, upstream: Array, w: Array, g: Any) -> Any:
        depth, row, column = np.ogrid[tuple(map(slice, g.kernel))]
        offset = (depth * g.kernel[1] + row) * g.kernel[1] + column
        return super().dx(upstream, w.reshape(*w.shape[:2], -1)[:, :, offset % prod(g.kernel)], g)


class ReflectionFoldedFromTheEdge(bases.Bordered):
    """The gradient of reflected pixels is folded back about the edge of the image, the edge pixel among them."""

    def crop(self, dpadded: Array, shape: Any, g: Any) -> Any:
        if g.mode != "reflect":
            return super().crop(dpadded, shape, g)
        sides = zip(shape[2:], g.padding, strict=True)
        rows, columns = (np.eye(n)[np.pad(np.arange(n), pads, "symmetric")] for n, pads in sides)
        return rows.T @ dpadded @ columns


class WeightsSeeZeros(bases.Bordered):
    """The weight gradient pads x again, and with zeros whatever the padding mode."""

    def dw(self, upstream: Array, padded: Array, g: Any) -> Any:
        (top, bottom), (left, right) = g.padding
        x = padded[:, :, top : g.size[0] - bottom, left : g.size[1] - right]
        return super().dw(upstream, np.pad(x, ((0, 0), (0, 0), *g.padding)), g)


class ImagesTurnedByReversedAxes(bases.ChannelsLast):
    """For dw, x.T and dout.T bring the channels to the front and exchange rows and columns, and so dw has them too."""

    def dw(self, upstream: Array, padded: Array, g: Any) -> Any:
        upstream = upstream.reshape(*upstream.shape[:3], *g.out).swapaxes(3, 4).reshape(upstream.shape)
        turned = g._replace(kernel=g.kernel[::-1], size=g.size[::-1], out=g.out[::-1])
        return super().dw(upstream, padded.swapaxes(2, 3), turned)


phase = some_axis("stride does not divide the padding", lambda axis: axis.low % axis.stride > 0)
evenly_same = some_axis("padding = kernel / 2", lambda axis: axis.kernel == 2 * axis.low)
more_undilated = some_axis("more windows without dilation", lambda a: (a.padded - a.kernel) // a.stride >= a.out)
strided_on_one_axis = stride_differs & some_axis("one stride is 1", lambda axis: axis.stride == 1)
apart = some_axis("stride > kernel", lambda axis: axis.stride > axis.kernel and axis.out > 1) & every_axis(
    "no kernel > stride", lambda axis: axis.kernel <= axis.stride
)
filters_left = size("w", 0, "more than 4 filters and no multiple of 4", lambda n: n > BLOCK and n % BLOCK > 0)
multiplied = depthwise & Condition("several filters a channel", lambda case: shape(case, "w")[0] > shape(case, "x")[1])
block_of_taps = Condition("several rows and columns of taps", lambda case: min(shape(case, "w")[2:]) > 1)
rows_of_taps = Condition("several rows of taps", lambda case: prod(shape(case, "w")[2:4]) > 1)
oblong_taps = Condition("taps not as wide as high", lambda case: shape(case, "w")[3] != shape(case, "w")[4])
turned_x = lies("x", "Fortran", "channels last", "transposed", "batch transposed") | expanded("x")

#: Each fault, the right implementation that it is a change of, where it shows, and what catches it.
ROWS: tuple[tuple[type, type, Condition, str], ...] = (
    (StrideTestedWithoutPadding, Joining, phase, "dx identities relations"),
    (OneRemainderForBothAxes, Mirrored, differs("remainder differs", lambda axis: axis.remainder), "dx dw db"),
    (StretchedThenCutToNothing, Mirrored, strided_on_one_axis, "dx dw db"),
    (SamePaddingOfEvenKernels, Blocked, evenly_same, "dx identities"),
    (LastBlockMovedBack, Blocked, filters_left, "dx"),
    (GroupsBeforeSamples, Windowed, grouped & several_samples, "dw identities"),
    (ColumnsInOneWorkspace, Windowed, asked_as("another forward before the backward"), "repeatability"),
    (DxOverThePaddedInput, Windowed, asked_as("a look at x, or a second backward"), "purity aliasing memory_layout"),
    (PointwiseReadsMemory, Pointwise, pointwise & turned_x, "memory_layout"),
    (PatchesWithoutGaps, Patches, apart, "dx identities"),
    (DepthwiseMultiplierOutside, Depthwise, multiplied, "out dx dw"),
    (TapsScatteredColumnByColumn, bases.Conv, block_of_taps, "dx identities"),
    (RowsOfTapsByTheirHeight, bases.Conv3d, rows_of_taps & oblong_taps, "dx identities"),
    (WindowsOfTheUndilatedKernel, Signal, more_undilated, "dx dw db"),
    (ReflectionFoldedFromTheEdge, bases.Bordered, mode("reflect"), "dx"),
    (WeightsSeeZeros, bases.Bordered, mode("reflect", "replicate", "circular"), "dw"),
    (ImagesTurnedByReversedAxes, bases.ChannelsLast, block_of_taps, "dw identities"),
)
