"""Convolution in 1, 2 and 3 dimensions, as the literature has it (a cross-correlation):

    out[n, o, q] = b[o] + sum over c, k of x[n, g C' + c, q S - P + k D] * w[o, c, k]

with q, k index vectors over the spatial axes, S stride, P low padding, D dilation, C' channels a group, g the group
of filter o; x outside its edges is what the padding mode says. Output sizes are
floor((H + P + P' - D (K - 1) - 1) / S) + 1
(Dumoulin and Visin, A guide to convolution arithmetic for deep learning, relationships 5, 6 and 15). The gradients are
this sum read backwards: every product out += x w gives dx += dout w and dw += dout x.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Identity, Program, Relation, Space
from backproof.conformance.spec.mistake import Mistake
from backproof.conformance.spec.probe import Probe
from backproof.conformance.spec.traits import Traits
from backproof.reference import algebra, bilinear, convolutions, coordinates, invalid_cases
from backproof.reference.axis import axes_from, positions
from backproof.reference.bilinear import fitting, padded
from backproof.reference.conv_cases import ConvCases
from backproof.reference.windows import (
    fold,
    pad,
    read_pixels,
)


class Conv(ConvCases):
    """x is (N, C, *H), w (O, C / groups, *K), b (O,), dout and out (N, O, *Q); `rank` is the number of spatial axes.

    Beside the items of every layer it has identities, relations, edges (an empty batch) and rejection; linearity is one
    of every layer's.
    """

    def evaluate(self, case: Case) -> dict[str, Array]:
        """Windows cut out of the padded x, one matrix product a group; dx adds every window back where it came from."""
        x, w, b, dout = case.array("x"), case.array("w"), case.wide.get("b"), case.array("dout")
        options, rank = case.options, x.ndim - 2
        groups, (batch, out_channels, *out) = options["groups"], dout.shape
        kernel, channels = w.shape[2:], w.shape[1]
        taps, pixels = prod(kernel), prod(out)

        source = [
            positions(size, low, high, options["padding_mode"])
            for size, (low, high) in zip(x.shape[2:], options["padding"], strict=True)
        ]
        plain = all(low == high == 0 for low, high in options["padding"])
        padded_x = x if plain else pad(x, source, options["padding"], options["padding_mode"])
        cut = [
            tuple(
                slice(k * d, k * d + (q - 1) * s + 1, s)
                for k, d, s, q in zip(tap, options["dilation"], options["stride"], out, strict=True)
            )
            for tap in np.ndindex(*kernel)
        ]
        windows = np.empty((batch, x.shape[1], taps, *out))
        for t, where in enumerate(cut):
            windows[:, :, t] = padded_x[(slice(None), slice(None), *where)]
        columns = windows.reshape(batch, groups, channels * taps, pixels)
        filters = w.reshape(groups, out_channels // groups, channels * taps)
        upstream = dout.reshape(batch, groups, out_channels // groups, pixels)

        tensors = {}
        result = (filters @ columns).reshape(dout.shape)
        if b is not None:
            result = result + b.reshape(-1, *[1] * rank)
            tensors["db"] = dout.sum(axis=(0, *range(2, dout.ndim)))
        tensors["dw"] = (upstream @ columns.swapaxes(-1, -2)).sum(axis=0).reshape(w.shape)
        back = (filters.swapaxes(-1, -2) @ upstream).reshape(windows.shape)
        padded_dx = np.zeros(padded_x.shape)
        for t, where in enumerate(cut):
            padded_dx[(slice(None), slice(None), *where)] += back[:, :, t]
        tensors["dx"] = padded_dx if plain else fold(padded_dx, source, x.shape, options)
        return {"out": result, **tensors}

    def tolerances(self, case: Case, expected: Mapping[str, Array], space: Space) -> dict[str, Array | float | None]:
        """Sums of C' taps and the bias for out, at most O / groups taps for dx, N pixels for dw and db."""
        w, dout = case.configuration.shape("w"), case.configuration.shape("dout")
        taps, pixels = prod(w[2:]), dout[0] * prod(dout[2:])
        # A padded pixel may copy one of x's, whose gradient then collects those of all its copies.
        moded = case.options["padding_mode"] != "zeros"
        copies = prod([1 + low + high for low, high in case.options["padding"]]) if moded else 1
        counts = {
            "out": w[1] * taps + 1,
            "dx": w[0] // case.options["groups"] * taps * copies,
            "dw": pixels,
            "db": pixels,
        }
        return bilinear.tolerances(case, expected, counts, self.evaluate, bias_axis=1, exact=space.exact)

    def program(self, case: Case) -> Program:
        """Flat arrays, and for every output pixel and tap the index of what they read; a zero behind x's and w's end
        stands for what lies outside.
        """
        x, w, b, dout = case.array("x"), case.array("w"), case.wide.get("b"), case.array("dout")
        options = case.options
        (batch, in_channels), (filters, channels) = x.shape[:2], w.shape[:2]
        pixels, taps, out_pixels = prod(x.shape[2:]), prod(w.shape[2:]), prod(dout.shape[2:])
        need = (batch * out_pixels, in_channels * taps, filters, x.size + 1, w.size + 1)
        rows, terms, columns, length, weights = fitting(self.size_classes, need)

        pixel = read_pixels(axes_from(x.shape[2:], w.shape[2:], options), options["padding_mode"])
        plane = np.arange(batch * in_channels).reshape(batch, 1, in_channels, 1) * pixels
        pixel = pixel[None, :, None, :]
        reads = np.where(pixel < 0, x.size, pixel + plane)
        own = np.arange(filters) // (filters // options["groups"]) * channels
        channel = np.arange(in_channels)[:, None, None] - own
        entry = (np.arange(filters) * channels + channel) * taps + np.arange(taps)[:, None]
        uses = np.where((channel >= 0) & (channel < channels), entry, w.size)
        index_x = np.full((rows, terms), x.size, np.int32)
        index_x[: need[0], : need[1]] = reads.reshape(need[:2])
        index_w = np.full((terms, columns), w.size, np.int32)
        index_w[: need[1], :filters] = uses.reshape(need[1], filters)
        upstream = np.moveaxis(dout.reshape(batch, filters, out_pixels), 1, 2).reshape(need[0], filters)
        arguments = (
            padded(x.ravel(), (length,)),
            padded(w.ravel(), (weights,)),
            padded(np.zeros(filters) if b is None else b, (columns,)),
            index_x,
            index_w,
            padded(upstream, (rows, columns)),
        )

        def unpack(outcome: Sequence[Array]) -> dict[str, Array]:
            out, dx, dw, db = outcome
            out = out[: need[0], :filters].reshape(batch, out_pixels, filters)
            tensors = {
                "out": np.moveaxis(out, 2, 1).reshape(dout.shape),
                "dx": dx[: x.size].reshape(x.shape),
                "dw": dw[: w.size].reshape(w.shape),
            }
            return tensors if b is None else {**tensors, "db": db[:filters]}

        return Program((rows, terms, columns, length, weights), arguments, unpack)

    def definition(self, x: Any, w: Any, b: Any, reads: Any, uses: Any, dout: Any) -> Any:
        """out[q, o] = sum over t of x[reads[q, t]] * w[uses[t, o]], plus b[o]: the geometry is data."""
        import jax

        out, pullback = jax.vjp(lambda x, w, b: x[reads] @ w[uses] + b, x, w, b)
        return (out, *pullback(dout))

    def homogeneous(self, case: Case) -> Case:
        """A bias of zeros."""
        return algebra.homogeneous(case)

    def identities(
        self, case: Case, tensors: Mapping[str, Array], tolerances: Mapping[str, Array | float]
    ) -> Iterator[Identity]:
        """<out, dout> = <x, dx> = <w, dw>; db is the sum of dout."""
        return algebra.identities(case, tensors, tolerances, 1)

    def relations(self, case: Case, space: Space, others: Mapping[str, Space]) -> Iterator[Relation]:
        """The batch split; the padding put around x beforehand; groups as one dense layer; a 1x1 kernel as linear."""
        yield from algebra.split_batch(self, case, space, "batch")
        yield from convolutions.padded_beforehand(self, case, space)
        yield from convolutions.block_diagonal(self, case, space)
        if "linear" in others:
            yield from convolutions.as_linear(case, others["linear"])

    def invalid_cases(self, space: Space) -> Iterator[Case]:
        """Groups that do not divide, kernels that do not fit, negative or too wide padding, arrays of other shapes."""
        return invalid_cases.conv(self, space)

    def coordinates(self, tensor: str, case: Case) -> dict[str, Array]:
        """The names of the axes."""
        return coordinates.conv(tensor, case)

    def mistakes(self) -> Sequence[Mistake]:
        """The catalogue of mistakes."""
        from backproof.reference.mistakes import conv as catalogue

        return catalogue.MISTAKES

    def probes(self) -> Sequence[Probe]:
        """Causes that only this layer can have."""
        from backproof.reference.probes import conv as own

        return own.PROBES

    def traits(self) -> Traits:
        """Facts about its cases."""
        from backproof.reference.traits import conv as vocabulary

        return vocabulary.TRAITS

    def permutation(self, tensor: str, dimensions: int, settings: Mapping[str, Any]) -> tuple[int, ...] | None:
        """ "channels_last" moves the channels of x and out behind the spatial axes."""
        if settings["layout"] == "channels_last" and tensor in ("x", "dx", "out", "dout"):
            return (0, *range(2, dimensions), 1)
        return None


LAYER = Conv()
