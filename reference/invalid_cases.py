"""Cases without meaning, for candidates that say they reject them: each breaks one condition and no other.

A size that is 0 and not the batch's, groups that divide not both numbers of channels, a w with other input channels, no
window that fits, padding that is negative or reaches further than its mode can, an eps that is not positive, a dout of
another shape, such as one that NumPy would broadcast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Case, Configuration, Invalidity, Shape, rounded
from backproof.conformance.spec.layer import Layer, Space

_NUMBERS = np.array([1, 2, -1, 3, -2], dtype=np.float64)


def linear(layer: Layer, space: Space) -> Iterator[Case]:
    """Sizes of 0, a w with other inputs, a dout of another shape."""
    base = {**layer.base(space), "batch0": 2, "inputs": 2, "outputs": 2}
    good = layer.build(base, space)
    assert good is not None
    lead = good.shape("x")[:-1]
    for name, shape in (("x", (*lead, 3)), ("x", (*lead, 1)), ("w", (3, 2)), ("w", (1, 2))):
        x, w = (_seen(layer, space, array, shape if array == name else good.shape(array)) for array in ("x", "w"))
        yield _case(layer, space, good, {name: shape}, Invalidity(f"an x of shape {x} with a w of shape {w}"))
    for changed, words in (
        ({"x": (*lead, 0), "w": (0, 2)}, "x and w without any input"),
        ({"w": (2, 0), "b": (0,), "dout": (*lead, 0)}, "a w without any output"),
    ):
        yield _case(layer, space, good, changed, Invalidity(words))
    yield from _douts(layer, space, good)


def conv(layer: Layer, space: Space) -> Iterator[Case]:
    """Everything that can be wrong with groups, kernels, padding, sizes and shapes."""
    rank = space.rank
    base = {**layer.base(space), "batch": 2, "channels": 2, "filters": 2}
    for k in range(rank):
        base |= {f"size{k}": 3, f"kernel{k}": 2}
    good = layer.build(base, space)
    assert good is not None
    ones, twos = (1,) * rank, (2,) * rank
    for w in ((2, 1, *twos), (2, 3, *twos)):
        yield _case(layer, space, good, {"w": w}, Invalidity(f"a w of shape {w} for an x with 2 channels"))
    yield _case(layer, space, good, {"w": (2, 2, *[4] * rank)}, Invalidity("a kernel that is larger than x"))
    if space.takes("stride"):
        # -1 / 2 rounded towards zero leaves one window.
        words = "a kernel that is larger than x, and a stride of 2"
        yield _case(layer, space, good, {"w": (2, 2, *[4] * rank)}, Invalidity(words), stride=twos)
    for changed, words in (
        ({"x": (2, 0, 3, *[3] * (rank - 1)), "w": (2, 0, *twos)}, "x and w without any channel"),
        ({"w": (0, 2, *twos), "b": (0,), "dout": (2, 0, *twos)}, "a w without any filter"),
        ({"x": (2, 2, 0, *[3] * (rank - 1))}, "an x without any pixel"),
        ({"w": (2, 2, 0, *[2] * (rank - 1))}, "a kernel without any tap"),
    ):
        yield _case(layer, space, good, changed, Invalidity(words))
    if space.takes("groups"):
        for x, w, b in (((2, 3), (2, 1), 2), ((2, 2), (3, 1), 3), ((2, 4), (2, 1), 2)):
            shapes: dict[str, Shape] = {"x": (*x, *[3] * rank), "w": (*w, *twos), "b": (b,), "dout": (2, b, *twos)}
            words = f"groups=2 for an x with {x[1]} channels and a w of shape {shapes['w']}"
            yield _case(layer, space, good, shapes, Invalidity(words), groups=2)
    if space.takes("dilation"):
        dilated = {"dilation": (3,) * rank}
        yield _case(layer, space, good, {}, Invalidity("a dilated kernel that is larger than x"), **dilated)
    if space.takes("padding"):
        yield _case(layer, space, good, {"w": (2, 2, *ones)}, Invalidity("a padding of -1"), padding=((-1, -1),) * rank)
        modes = space.spellings("padding_mode") if space.takes("padding_mode") else ()
        for mode, pad in (("reflect", 3), ("circular", 4)):
            if mode in modes:
                words = f"{mode} padding of {pad} around an axis of 3"
                yield _case(layer, space, good, {}, Invalidity(words), padding=((pad, pad),) * rank, padding_mode=mode)
    yield from _douts(layer, space, good)


def batchnorm(layer: Layer, space: Space) -> Iterator[Case]:
    """An eps of 0 or less, no channels, no pixels, a dout of another shape."""
    base = {**layer.base(space), "batch": 2, "channels": 2} | {f"size{k}": 2 for k in range(space.rank)}
    good = layer.build(base, space)
    assert good is not None
    if space.takes("eps"):
        for eps in (0.0, -1e-5):
            yield _case(layer, space, good, {}, Invalidity(f"eps={eps:g}"), eps=eps)
    spatial = good.shape("x")[2:]
    per_channel = {name: (0,) for name in ("gamma", "beta", "running_mean", "running_var") if name in good.shapes}
    changed = {"x": (2, 0, *spatial), "dout": (2, 0, *spatial), **per_channel}
    yield _case(layer, space, good, changed, Invalidity("an x without any channel"))
    for k in range(space.rank):
        empty = tuple([0 if axis == k + 2 else size for axis, size in enumerate(good.shape("x"))])
        yield _case(
            layer,
            space,
            good,
            {"x": empty, "dout": empty},
            Invalidity(f"an x of shape {_seen(layer, space, 'x', empty)}"),
        )
    yield from _douts(layer, space, good)


def _douts(layer: Layer, space: Space, good: Configuration) -> Iterator[Case]:
    """One entry more or less along each axis, and single entries that broadcast."""
    right = good.shape("dout")
    for axis in range(len(right)):
        for size in (1, right[axis] + 1):
            shape = tuple([size if k == axis else n for k, n in enumerate(right)])
            if shape != right:
                seen, out = (_seen(layer, space, "dout", one) for one in (shape, right))
                words = f"a dout of shape {seen} where out has {out}"
                yield _case(layer, space, good, {"dout": shape}, Invalidity(words, in_backward=True))


def _seen(layer: Layer, space: Space, name: str, shape: Shape) -> Shape:
    """The shape as the candidate has it."""
    axes = layer.permutation(name, len(shape), space.settings)
    return shape if axes is None else tuple([shape[axis] for axis in axes])


def _case(
    layer: Layer, space: Space, good: Configuration, shapes: Mapping[str, Shape], invalidity: Invalidity, **options: Any
) -> Case:
    """The configuration with other shapes and options, and plain numbers; a None stays one."""
    changed = {name: shapes.get(name, shape) if shape is not None else None for name, shape in good.shapes.items()}
    arrays = {name: None if shape is None else np.resize(_NUMBERS, shape) for name, shape in changed.items()}
    if "running_var" in arrays:
        arrays["running_var"] = np.ones(changed["running_var"] or ())
    configuration = replace(good, shapes=changed, options={**good.options, **options}, complexity=0)
    return Case(configuration, space.dtype, rounded(arrays, layer.dtypes(space)), "sweep", invalidity=invalidity)
