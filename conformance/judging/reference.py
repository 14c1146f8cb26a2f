"""What is right in one case: the NumPy reference, its error bounds, and JAX's word on both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary, WeakSet

from backproof.conformance.judging import oracle
from backproof.conformance.judging.compare import compare
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Layer, Space


class ReferencesDisagree(Exception):
    """NumPy and JAX differ on a case: Backproof's own error, never the candidate's."""


@dataclass(frozen=True)
class Expected:
    """Every tensor that is right, with the tolerance of right code's error; None: not judged."""

    tensors: Mapping[str, Array]
    tolerances: Mapping[str, Array | float | None]


class Reference:
    """What a layer says is right in the cases of one space."""

    def __init__(self, layer: Layer, space: Space) -> None:
        self.layer = layer
        self.space = space
        self.dtypes = layer.dtypes(space)
        self._right: WeakKeyDictionary[Case, Expected] = WeakKeyDictionary()
        self._confirmed: WeakSet[Case] = WeakSet()

    def expected(self, case: Case) -> Expected:
        """The NumPy reference's word, computed once a case."""
        found = self._right.get(case)
        if found is None:
            tensors = self.layer.evaluate(case)
            found = Expected(tensors, self.layer.tolerances(case, tensors, self.space))
            self._right[case] = found
        return found

    def rounding(self, case: Case) -> Mapping[str, Array | float | None]:
        """The bounds that hold even where a result's sums are not those of integers: none is 0.0 for being exact."""
        return self.layer.tolerances(replace(case, integers=False), self.expected(case).tensors, self.space)

    def dtype(self, tensor: str) -> object:
        """The dtype that a result must have: the first array's for out, for a gradient its array's."""
        if tensor == "out":
            return self.dtypes[self.layer.contract.arrays[0]]
        return self.dtypes[tensor if tensor in self.dtypes else tensor[1:]]

    def confirm(self, case: Case) -> None:
        """Asks JAX, once a case. Raises ReferencesDisagree where it says otherwise."""
        if case in self._confirmed:
            return
        right = self.expected(case)
        other = oracle.tensors(self.layer, case)
        for tensor, expected in right.tensors.items():
            tolerance = right.tolerances[tensor]
            if tolerance is None:
                continue
            found = compare(tensor, other[tensor], expected, tolerance, other[tensor].dtype)
            if found is not None:
                raise ReferencesDisagree(
                    f"Backproof's two references disagree, so this case judges nobody: {found.message} "
                    f"(got: JAX, expected: NumPy; {self.layer.name}, {dict(case.options)}, shapes "
                    f"{dict(case.configuration.shapes)}). Please report this as a bug of Backproof."
                )
        self._confirmed.add(case)
