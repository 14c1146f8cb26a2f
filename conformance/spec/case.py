"""The questions: a configuration is a layer's options and shapes, a case is a configuration with numbers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backproof.conformance.spec.precision import PRECISIONS, Precision

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Configuration:
    """A layer's options and the shape of every array, without numbers.

    `parameters` are the integers that it was made from, by name; the layer's page makes a configuration of them and
    the reducer makes them smaller. `shapes` holds every array that is passed and dout; None where None is passed.
    `options` are what the references read, `spellings` how the options that may be written in several ways are written.
    `rank` is the number of spatial axes, or of all axes where a layer has no other. `state` are the names of those
    arrays that a layer keeps between calls: they do not count towards the size.
    """

    parameters: Mapping[str, int]
    shapes: Mapping[str, Shape | None]
    options: Mapping[str, Any]
    spellings: Mapping[str, str]
    rank: int
    complexity: int
    state: tuple[str, ...] = ()

    @cached_property
    def elements(self) -> int:
        """The number of elements of the arrays and dout together: what a reader has to take in."""
        counted = (shape for name, shape in self.shapes.items() if name not in self.state)
        return sum(prod(shape) for shape in counted if shape is not None)

    def shape(self, name: str) -> Shape:
        """The shape of an array that is there. Raises KeyError where None is passed or nothing."""
        shape = self.shapes[name]
        if shape is None:
            raise KeyError(name)
        return shape

    @property
    def size(self) -> tuple[int, int]:
        """What makes one configuration smaller than another: fewer elements, then plainer options."""
        return self.elements, self.complexity


class Invalidity(NamedTuple):
    """Why a case has no meaning, such as "groups=2 with 3 channels", and whether only the backward can know."""

    words: str
    in_backward: bool = False


@dataclass(frozen=True, eq=False)
class Case:
    """One question: a configuration and its arrays, C-contiguous, by name and of the dtype that is passed.

    `origin` says where it comes from: "sweep", "drawn", "kept" or "reduced".
    """

    configuration: Configuration
    dtype: str
    arrays: Mapping[str, Array | None]
    origin: str = "drawn"
    #: Whether every number is an integer, where that is known; None: not known. False: not to be relied upon.
    integers: bool | None = field(default=None)
    #: How arrays lie in memory, by name, for the item `memory_layout`; an array that is not named is C-contiguous.
    layouts: Mapping[str, str] = field(default_factory=dict)
    #: Why the case has no meaning, for the item `rejection`; None: it has.
    invalidity: Invalidity | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """The configuration's options."""
        return self.configuration.options

    @property
    def precision(self) -> Precision:
        """The format of x."""
        return PRECISIONS[self.dtype]

    @cached_property
    def wide(self) -> Mapping[str, Array | None]:
        """The arrays in float64, for the references."""
        if self.dtype == "float64":
            return self.arrays
        return {name: None if a is None else a.astype(np.float64) for name, a in self.arrays.items()}

    def array(self, name: str) -> Array:
        """An array that is there, in float64. Raises KeyError where None is passed or nothing."""
        array = self.wide[name]
        if array is None:
            raise KeyError(name)
        return array

    @cached_property
    def integral(self) -> bool:
        """Whether every number is an integer."""
        if self.integers is not None:
            return self.integers
        return all(bool((np.rint(a) == a).all()) for a in self.wide.values() if a is not None)

    @cached_property
    def plainness(self) -> tuple[int, ...]:
        """How far the numbers are from plain ones: the rest first, then integers, then ones, zeros count nothing."""
        values = np.concatenate([a.ravel() for a in self.wide.values() if a is not None] or [np.zeros(0)])
        magnitude = np.abs(values)
        integer = np.rint(values) == values
        return (
            int(np.sum(~integer)),
            int(np.sum(magnitude[integer & (magnitude > 1)])),
            int(np.sum(values == -1)),
            int(np.sum(values == 1)),
        )

    @property
    def key(self) -> tuple[int, int, tuple[int, ...]]:
        """The order of counterexamples: elements, excess of the options, plainness of the numbers."""
        return *self.configuration.size, self.plainness

    def with_arrays(self, arrays: Mapping[str, Array | None], origin: str = "reduced") -> Case:
        """The same configuration with other numbers."""
        return replace(self, arrays=arrays, origin=origin, integers=None)

    def with_dout(self, dout: Array) -> Case:
        """The same question to the forward, with another cotangent."""
        return replace(self, arrays={**self.arrays, "dout": dout.astype(self.precision.dtype)}, integers=None)


def signature_of_shapes(configuration: Configuration) -> tuple[Any, ...]:
    """What a just-in-time compiler would compile anew for: every shape."""
    return tuple(configuration.shapes.items())


def rounded(arrays: Mapping[str, Array | None], dtypes: Mapping[str, np.dtype]) -> dict[str, Array | None]:
    """The arrays in the dtypes that are passed, C-contiguous."""
    return {
        name: None if a is None else np.ascontiguousarray(a, dtype=dtypes[name]).reshape(a.shape)
        for name, a in arrays.items()
    }


def first_where(mask: Array) -> Sequence[int]:
    """The index of the first true entry."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))
