"""Simulates an implementation with given mistakes, to see which items it would fail."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from backproof.conformance.adapter.candidate import Allocate, Candidate, Forward
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.mistake import Mistake
from backproof.conformance.spec.results import Problem


class Simulated(Candidate):
    """The reference with a mistake in each of some tensors, called and laid out as the candidate is."""

    def __init__(self, candidate: Candidate, mistakes: Mapping[str, Mistake], reference: Reference) -> None:
        super().__init__(candidate.adapter, candidate.implementation, candidate.layer)
        self._mistakes, self._reference = mistakes, reference

    def forward(self, case: Case, *, allocate: Allocate | None = None) -> Forward:
        """The results of the forward; its cache is the case."""
        tensors = self._tensors(case)
        names = ("out", *(self.layer.contract.state if self.signature.state else ()))
        return Forward({name: tensors[name] for name in names if name in tensors}, case, {})

    def backward(
        self, case: Case, forward: Forward, *, dout: Array | None = None, allocate: Allocate | None = None
    ) -> dict[str, Array | Problem | None]:
        """The gradients."""
        tensors = self._tensors(case if dout is None else case.with_dout(dout))
        return {f"d{name}": tensors.get(f"d{name}") for name in self.signature.arrays}

    def _tensors(self, case: Case) -> dict[str, Array]:
        right = self._reference.expected(case).tensors
        tensors = dict(right)
        with np.errstate(all="ignore"):
            for tensor, mistake in self._mistakes.items():
                given = mistake.gives(case, right)
                if given is not None and tensor in given:
                    tensors[tensor] = given[tensor]
        return {
            name: self.in_data_format(name, a).astype(self._reference.dtype(name))  # type: ignore[call-overload]
            for name, a in tensors.items()
            if name == "out" or name in self.layer.contract.state or name[1:] in self.signature.arrays
        }
