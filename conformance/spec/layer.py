"""What a layer is: its cases, its two references and its tolerances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from backproof.conformance.spec.case import Array, Case, Configuration
from backproof.conformance.spec.contract import Contract, Signature
from backproof.conformance.spec.mistake import Mistake
from backproof.conformance.spec.picture import Picture, PicturedCase
from backproof.conformance.spec.precision import PRECISIONS, Precision
from backproof.conformance.spec.probe import Probe
from backproof.conformance.spec.tape import Tape
from backproof.conformance.spec.traits import Traits


@dataclass(frozen=True)
class Space:
    """Which cases of a layer one candidate may be asked: what it declares, for one rank and one dtype.

    `exact` is False where the candidate's sums are not plain multiply-adds.
    """

    signature: Signature
    settings: Mapping[str, Any]
    rank: int
    dtype: str
    exact: bool = True

    @property
    def precision(self) -> Precision:
        """The format of x."""
        return PRECISIONS[self.dtype]

    def takes(self, name: str) -> bool:
        """Whether the candidate's forward has this array or option."""
        return name in self.signature.arrays or name in self.signature.options

    def spellings(self, option: str) -> tuple[str, ...]:
        """The ways in which an option may be written, the plainest first."""
        return self.signature.spellings.get(option, ("axes",))


@dataclass(frozen=True)
class Part:
    """What the items of a layer are grouped by: "conv2d", or "batchnorm" for all of its ranks."""

    title: str
    spatial_dims: int | None
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """A case as the JAX oracle reads it: arrays padded to a size class, so that one compiled program serves it.

    `unpack` cuts the program's outputs back to the case's shapes, by the names of the tensors.
    """

    size_class: tuple[int, ...]
    arguments: tuple[Any, ...]
    unpack: Callable[[Sequence[Array]], dict[str, Array]]


@dataclass(frozen=True, eq=False)
class Identity:
    """What holds between a layer's own results, with no reference: `claim` (of `tensor`) must be `equals`.

    `left` and `right` are what the candidate's results give for the two sides; `tolerance` bounds how far apart right
    code has them.
    """

    tensor: str
    claim: str
    equals: str
    left: Array
    right: Array
    tolerance: Array


@dataclass(frozen=True, eq=False)
class Relation:
    """Two ways to ask one thing: the answers to `parts`, joined, are the answer to the case itself.

    `words` say what was done instead, as in "the batch split in two". `layer` is whose cases the parts are, None: the
    case's own. `join` adds, puts together and cuts, never subtracts, so that it joins error bounds as well; it returns
    only the tensors that the parts determine.
    """

    words: str
    parts: tuple[Case, ...]
    join: Callable[[Sequence[Mapping[str, Array]]], dict[str, Array]]
    layer: Layer | None = None
    space: Space | None = None


class Layer(ABC):
    """One layer. Judging, explaining and reporting call these, and know nothing else of it.

    Every method is a function of its arguments alone.
    """

    contract: ClassVar[Contract]
    #: Named conditions on a configuration that the cases must hit, in the order in which they are shown.
    cells: ClassVar[Mapping[str, Callable[[Configuration], bool]]] = {}
    #: Pairs of cells that real bugs needed together.
    cell_pairs: ClassVar[Sequence[tuple[str, str]]] = ()
    #: The sizes that the oracle's program is compiled for, the smallest first.
    size_classes: ClassVar[Sequence[tuple[int, ...]]] = ()
    #: The parameters that count samples.
    samples: ClassVar[Sequence[str]] = ()

    @property
    def name(self) -> str:
        """The layer's name in adapters and reports."""
        return self.contract.layer

    def tensors(self, signature: Signature) -> tuple[str, ...]:
        """The results that are judged: out, a gradient for each array, the running statistics."""
        gradients = tuple(f"d{array}" for array in self.contract.arrays if array in signature.arrays)
        return ("out", *gradients, *(self.contract.state if signature.state else ()))

    @abstractmethod
    def parts(self, settings: Mapping[str, Any]) -> tuple[Part, ...]:
        """The groups of items that the settings ask for."""

    @abstractmethod
    def build(self, parameters: Mapping[str, int], space: Space) -> Configuration | None:
        """The configuration of these parameters; None if it has no meaning or is not declared."""

    @abstractmethod
    def draw(self, tape: Tape, space: Space) -> Configuration:
        """A configuration chosen by the tape; always one with meaning."""

    @abstractmethod
    def base(self, space: Space) -> dict[str, int]:
        """The parameters of the plainest configuration, every array present where the candidate takes it."""

    @abstractmethod
    def features(self, space: Space) -> list[dict[str, int]]:
        """Small changes of the base that the sweep puts together."""

    @abstractmethod
    def large(self, space: Space, edges: Sequence[int]) -> Iterator[dict[str, int]]:
        """Parameters with one size at each of these edges in turn, the others small; for every size that there is."""

    @abstractmethod
    def big(self, space: Space, batches: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Iterator[dict[str, int]]:
        """Parameters with the batch at each of these sizes, and with two sizes that kernels tile at each of the pairs.

        The others are tiny.
        """

    @abstractmethod
    def long_sums(self, space: Space) -> Iterator[Case]:
        """For every sum behind a tensor cases in which it goes wrong if it is kept in a format of 16 bits itself.

        Asked in such a format alone.
        """

    @abstractmethod
    def ascending(self, space: Space) -> Iterator[Configuration]:
        """All configurations that may be drawn, without end, by rising size."""

    @abstractmethod
    def fill(self, configuration: Configuration, tape: Tape, space: Space) -> Case:
        """A case with numbers chosen by the tape, independently of the shapes."""

    @abstractmethod
    def fills(self, configuration: Configuration, space: Space) -> Iterator[Case]:
        """The same configuration with each of the fixed fills."""

    @abstractmethod
    def edges(self, space: Space) -> Iterator[Case]:
        """The cases of the item `edges`; none if the candidate is not asked any."""

    @abstractmethod
    def evaluate(self, case: Case) -> dict[str, Array]:
        """The reference in NumPy: every tensor in float64; gradients of arrays that are None are left out."""

    @abstractmethod
    def tolerances(self, case: Case, expected: Mapping[str, Array], space: Space) -> dict[str, Array | float | None]:
        """For every tensor the largest error of right code, element by element; None: not judged in this case.

        0.0 where the case is exact: right code has no error, whatever the order of its sums.
        """

    @abstractmethod
    def program(self, case: Case) -> Program:
        """The case as the oracle's program reads it."""

    @abstractmethod
    def definition(self, *arguments: Any) -> Any:
        """The layer in JAX, differentiated by `jax.vjp`: all tensors from the program's arguments."""

    def has_meaning(self, case: Case) -> bool:
        """Whether the tensor items may ask this case: they ask at least one sample."""
        return case.array(self.contract.arrays[0]).size > 0

    def updates_state(self, case: Case) -> bool:
        """Whether the forward of a case updates the state that it is passed, rather than read it."""
        return True

    def with_samples(self, parameters: Mapping[str, int]) -> Mapping[str, int]:
        """The parameters with at least two samples."""
        return {name: max(2, value) if name in self.samples else value for name, value in parameters.items()}

    def dtypes(self, space: Space) -> dict[str, Any]:
        """The dtype of each array that is passed."""
        names = (*self.contract.arrays, *self.contract.state, "dout")
        return dict.fromkeys(names, space.precision.dtype)

    def permutation(self, tensor: str, dimensions: int, settings: Mapping[str, Any]) -> tuple[int, ...] | None:
        """The axes in the candidate's layout of a tensor that the references hold in theirs; None: the same."""
        return None

    # What only some layers have. A page that overrides none of these has no such item.

    def homogeneous(self, case: Case) -> Case:
        """The case as its identities ask it: nothing is added to the result that is neither x nor w."""
        return case

    def identities(
        self, case: Case, tensors: Mapping[str, Array], tolerances: Mapping[str, Array | float]
    ) -> Iterator[Identity]:
        """What holds between a candidate's results of a homogeneous case; `tolerances` bounds the error of each."""
        return iter(())

    def relations(self, case: Case, space: Space, others: Mapping[str, Space]) -> Iterator[Relation]:
        """Other ways to ask the same. `others` are the layers of the same adapter, of any rank, by name."""
        return iter(())

    def coordinates(self, tensor: str, case: Case) -> dict[str, Array]:
        """Of each entry of a tensor its sample, channel, row ..., by these words: indices that broadcast to it."""
        return {}

    def axis_names(self, tensor: str, configuration: Configuration) -> tuple[str, ...]:
        """What reports call the axes of an array or a result, as the references have it; none: by their numbers."""
        return ()

    def unread(self, case: Case, tensor: str | None) -> frozenset[str]:
        """Arrays that are passed in this case but decide nothing about this tensor: reports leave them out."""
        return frozenset()

    def picture(self, case: PicturedCase) -> Picture | None:
        """What the page shows of a failing case beside its arrays."""
        return None

    def mistakes(self) -> Sequence[Mistake]:
        """Known ways to be wrong in this layer, the simplest first."""
        return ()

    def probes(self) -> Sequence[Probe]:
        """Causes of failures that only this layer can have, shown by further calls of the implementation."""
        return ()

    def traits(self) -> Traits | None:
        """Facts about the layer's cases, from which the rules of where an implementation fails are made."""
        return None

    def extremes(self, space: Space) -> Iterator[Case]:
        """The cases of the item `stability`, the smallest first."""
        return iter(())

    def invalid_cases(self, space: Space) -> Iterator[Case]:
        """The cases of the item `rejection`, each with its `invalidity`, the smallest first."""
        return iter(())
