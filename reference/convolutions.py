"""Other ways to ask a convolution's question: with the padding put around x, with groups as zeros in one dense kernel,
as a linear layer where the kernel is a single tap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Layer, Relation, Space
from backproof.reference import algebra
from backproof.reference.axis import axes_of, positions
from backproof.reference.linear import LAYER as LINEAR
from backproof.reference.windows import fold, pad

Answers = Sequence[Mapping[str, Array]]


def padded_beforehand(layer: Layer, case: Case, space: Space) -> Iterator[Relation]:
    """x with its padding around it, and no padding asked: dx is what falls on the pixels of x."""
    axes = axes_of(case.configuration.parameters, case.configuration.rank)
    if all(axis.low == axis.high == 0 for axis in axes):
        return
    parameters = {**case.configuration.parameters, "mode": 0}
    for k, axis in enumerate(axes):
        parameters |= axis._replace(size=axis.padded, low=0, high=0).parameters(k)
    configuration = layer.build(parameters, space)
    if configuration is None:
        return
    options, shape = case.options, case.configuration.shape("x")
    source = [
        positions(size, low, high, options["padding_mode"])
        for size, (low, high) in zip(shape[2:], options["padding"], strict=True)
    ]
    x = pad(case.array("x"), source, options["padding"], options["padding_mode"]).astype(case.precision.dtype)

    def join(answers: Answers) -> dict[str, Array]:
        (answer,) = answers
        return {t: np.asarray(fold(a, source, shape, options)) if t == "dx" else a for t, a in answer.items()}

    part = algebra.of(configuration, case, algebra.arrays_of(case, x=x))
    yield Relation("x with the padding already around it", (part,), join)


def block_diagonal(layer: Layer, case: Case, space: Space) -> Iterator[Relation]:
    """One dense kernel with zeros between the groups: dw is what stands in its blocks."""
    p, w = case.configuration.parameters, case.arrays["w"]
    groups, channels, filters = p["groups"], p["channels"], p["filters"]
    if groups == 1 or w is None:
        return
    configuration = layer.build({**p, "groups": 1, "channels": groups * channels, "filters": groups * filters}, space)
    if configuration is None:
        return
    dense = np.zeros(configuration.shape("w"), w.dtype)
    blocks = [(slice(g * filters, (g + 1) * filters), slice(g * channels, (g + 1) * channels)) for g in range(groups)]
    for rows, columns in blocks:
        dense[rows, columns] = w[rows]

    def join(answers: Answers) -> dict[str, Array]:
        (answer,) = answers
        return {t: np.concatenate([a[block] for block in blocks]) if t == "dw" else a for t, a in answer.items()}

    yield Relation(
        "one dense kernel with zeros between the groups",
        (algebra.of(configuration, case, algebra.arrays_of(case, w=dense)),),
        join,
    )


def as_linear(case: Case, other: Space) -> Iterator[Relation]:
    """A kernel of one tap, without stride, padding and groups, is a linear layer over the channels of every pixel."""
    p, rank = case.configuration.parameters, case.configuration.rank
    axes = axes_of(p, rank)
    if p["groups"] > 1 or any(a.kernel > 1 or a.stride > 1 or a.low or a.high for a in axes):
        return
    ranks = other.settings["ranks"]
    space = replace(other, rank=ranks[0])
    x, w, b, dout = (case.arrays.get(name) for name in ("x", "w", "b", "dout"))
    assert x is not None and w is not None and dout is not None  # noqa: PT018
    if b is not None and not space.takes("b"):
        return
    rows, (filters, channels) = prod(x.shape[2:]) * len(x), w.shape[:2]
    lead = {f"batch{k}": 1 for k in range(space.rank - 1)} | {"batch0": rows}
    configuration = LINEAR.build({**lead, "inputs": channels, "outputs": filters, "bias": int(b is not None)}, space)
    if configuration is None:
        return

    def flat(a: Array) -> Array:
        return np.moveaxis(a, 1, -1).reshape(*configuration.shape("x")[:-1], a.shape[1])

    def image(a: Array, like: Array) -> Array:
        return np.moveaxis(a.reshape(len(like), *like.shape[2:], like.shape[1]), -1, 1)

    arrays: dict[str, Array | None] = {"x": flat(x), "w": w.reshape(filters, channels).T, "dout": flat(dout)}
    if space.takes("b"):
        arrays["b"] = b

    def join(answers: Answers) -> dict[str, Array]:
        (answer,) = answers
        found = dict(answer)
        for tensor, like in (("out", dout), ("dx", x)):
            if tensor in found:
                found[tensor] = image(found[tensor], like)
        if "dw" in found:
            found["dw"] = found["dw"].T.reshape(w.shape)
        return found

    part = algebra.of(configuration, case, arrays)
    yield Relation("the adapter's own linear layer", (part,), join, LINEAR, space)
