"""Entries of the survey that the gallery leaves out, and why."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_SECOND = "a gradient of the gradient; the contract has one backward"
_TRANSPOSED = "the output padding of a transposed convolution, which is no layer of the contract"
_LAYER = "layer norm, which is no layer of the contract"
_GROUP = "group norm, which is no layer of the contract"

#: What the contract cannot express, by entry: H is a published bug, M a mistake that people make by hand.
OUT_OF_SCOPE: Mapping[str, str] = MappingProxyType(
    {
        "H95": f"Chainer PR#8624: {_SECOND}",
        "H99": f"pytorch#14272: {_TRANSPOSED}",
        "H103": f"pytorch#169236: {_TRANSPOSED}",
        "H105": f"tvm#19524: {_TRANSPOSED}",
        "H117": f"Paddle PR#27549: {_SECOND}",
        "H135": "pytorch#107199: dx lies in memory otherwise than x; the contract leaves the strides of results open",
        "H171": f"tt-metal PR#56202: {_GROUP}",
        "M71": f"batch norm's formula along the wrong axis: {_LAYER}",
        "M72": f"dgamma and dbeta summed along the wrong axis: {_LAYER}",
        "M73": f"rows counted by the first axis alone: {_LAYER}",
        "M74": f"groups interleaved: {_GROUP}",
    }
)
