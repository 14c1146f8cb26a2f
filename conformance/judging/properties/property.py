"""What a property is: one thing that holds of every right implementation, with all that is particular about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from backproof.conformance.adapter.candidate import Candidate, Crashed, Refused
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case, Configuration
from backproof.conformance.spec.contract import Signature
from backproof.conformance.spec.layer import Layer, Space
from backproof.conformance.spec.results import Discrepancy, Judgement, Status


class LeftOut(Exception):
    """A call gave nothing that could be compared with another: that is another item's failure."""


class ScriptWriter(Protocol):
    """What a property writes its script with: the numbers of a failing case, the calls, and how they are judged.

    `lines` is the script so far, `judge` the body of the function that returns 1 where the fault is there. Arrays are
    written in the candidate's data format.
    """

    lines: list[str]
    judge: list[str]

    @property
    def case(self) -> Case:
        """The case that fails."""

    @property
    def reference(self) -> Reference:
        """What is right in it."""

    @property
    def candidate(self) -> Candidate:
        """The implementation that fails."""

    @property
    def discrepancy(self) -> Discrepancy:
        """What is wrong."""

    @property
    def tensor(self) -> str:
        """The result that is wrong; "" where no single one is."""

    def comment(self, text: str) -> None:
        """Writes a comment above what comes next."""

    def array(self, name: str, array: Array | None) -> None:
        """Writes an array under a name."""

    def numbers(self, case: Case, suffix: str = "", candidate: Candidate | None = None) -> None:
        """Writes every array that a case passes, dout included, with a suffix to their names."""

    def others(self, suffix: str = "_other") -> None:
        """Writes other numbers of the same shapes."""

    def tolerance(self, name: str, tolerance: Array | float, got: Array | None = None, expected: Any = None) -> None:
        """Writes how far off right code may be: one number, where it finds the same entries wrong."""

    def calls(self, configuration: Configuration, prefix: str = "", candidate: Candidate | None = None) -> None:
        """Writes the functions `forward` and `backward`, with the options of a configuration as defaults."""

    def ask(self, tensors: Sequence[str], prefix: str = "", candidate: Candidate | None = None) -> None:
        """Writes the function `ask`: these results of one forward and its backward."""

    def passes(self, suffix: str = "") -> str:
        """The arrays as the forward's arguments."""

    def names(self, candidate: Candidate | None = None) -> tuple[str, ...]:
        """The arrays that a forward is passed, state included."""

    def options(self, configuration: Configuration, candidate: Candidate | None = None) -> dict[str, object]:
        """The options as they are passed."""

    def earlier(self, when: str = "comes first") -> list[str]:
        """Lines that make calls of which nothing may be left behind."""

    def copies_by(self, line: str) -> None:
        """Sets the line that copies an array before it is passed."""

    def taken(self) -> None:
        """Writes the function `taken`: an array as it is; where from_numpy does not take it the case is not judged."""

    def dtype(self, array: Array) -> str:
        """An array's dtype as an expression."""

    def function(self, function: Callable[..., Any]) -> str:
        """Writes a function's own source, and what it calls in its module; its name."""

    def sum_of(
        self,
        function: Callable[[Mapping[str, Array]], Array],
        shapes: Mapping[str, tuple[int, ...]],
        arrays: Mapping[str, Array],
    ) -> tuple[str, dict[str, Array]]:
        """A linear function of results as an expression, and its constants by name."""

    def joined(
        self, function: Callable[[Sequence[Array]], Array], shapes: Sequence[tuple[int, ...]], names: Sequence[str]
    ) -> tuple[str, dict[str, Array], list[str]]:
        """How parts are put together: an expression of their names, its constants, and a function that it needs."""


class Property(ABC):
    """One thing that every right implementation does.

    The docstring of a subclass begins with the sentence that it judges. It holds no state: what it finds in a case
    is a function of the case, the candidate and the reference.
    """

    #: The name of its item, as ids have it.
    name: ClassVar[str]
    #: The titles of the two arrays that differ.
    columns: ClassVar[tuple[str, str]] = ("expected", "got")
    #: It is asked one of so many of the cases that other properties are asked.
    one_of: ClassVar[int] = 1
    #: Whether it holds the values of several calls against each other: known mistakes of the tensors are simulated to
    #: explain it.
    compares_calls: ClassVar[bool] = False
    #: Whether it fails only where a tensor that it is about is wrong itself.
    follows_tensors: ClassVar[bool] = False
    #: Whether it judges single results against the reference.
    judges_results: ClassVar[bool] = False
    #: Whether its cases are asked in drawn memory layouts.
    in_memory_layouts: ClassVar[bool] = False
    #: Whether its cases have a list of their own, which is asked whole and begins with the smallest.
    is_listed: ClassVar[bool] = False
    #: Whether its cases have no meaning: an error is right, and what has meaning is no failure of it.
    takes_invalid_cases: ClassVar[bool] = False

    @property
    def sentence(self) -> str:
        """What must hold."""
        return (type(self).__doc__ or self.name).partition("\n\n")[0].replace("\n    ", " ")

    def items(self, layer: Layer, signature: Signature) -> tuple[str, ...]:
        """The items that it decides."""
        return (self.name,)

    def is_asked(self, candidate: Candidate) -> bool:
        """Whether the layer, and what the candidate declares, has its items."""
        return True

    def cases(self, layer: Layer, space: Space) -> Iterator[Case]:
        """Its own list of cases, where it has one."""
        return iter(())

    def asks_backward(self, item: str, tensor: str | None, layer: Layer) -> bool:
        """Whether a failure of the item, in this tensor, takes a backward to show."""
        return True

    @abstractmethod
    def judge(self, case: Case, candidate: Candidate, reference: Reference) -> Judgement:
        """What becomes of each of its items in a case. It calls the candidate, and does not raise for what it finds."""

    @abstractmethod
    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Writes what reproduces a failure of the item; False where that cannot be written."""


class OneItem(Property):
    """A property that decides the one item of its name, and leaves out a case in which a call that it needs fails."""

    def judge(self, case: Case, candidate: Candidate, reference: Reference) -> Judgement:
        """What `find` finds."""
        found: Discrepancy | Status
        try:
            found = self.find(case, candidate, reference)
        except Refused:
            found = Status.UNSUPPORTED
        except (Crashed, LeftOut):
            found = Status.LEFT_OUT
        return {self.name: found}

    @abstractmethod
    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """What is wrong in a case. Raises Refused, Crashed and LeftOut where a call gives nothing to judge."""


def overrides(layer: Layer, method: Callable[..., object]) -> bool:
    """Whether a layer has a method of its own in the place of this one of `Layer`."""
    return getattr(type(layer), method.__name__) is not method
