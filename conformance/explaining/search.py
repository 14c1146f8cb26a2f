"""Tries everything smaller: what lets a report say that no smaller case fails."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import inf

import numpy as np

from backproof.conformance.explaining.budget import now
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case, Configuration
from backproof.conformance.spec.results import Discrepancy, Judgement

#: Configurations of at most so many elements are tried with all signs.
SIGNED = 12

Judge = Callable[[Case, Reference], Judgement]


@dataclass(frozen=True)
class Found:
    """The first failing case of a search, None where nothing smaller failed, and how far the search came."""

    case: Case | None
    reference: Reference | None
    complete: bool
    cases: int


class Search:
    """Judges all configurations of a part by rising size, each with every fill, once for all checks of one property.

    It goes only as far as it is asked, and stops for good when its time or its number of cases is used up.
    """

    def __init__(self, references: Sequence[Reference], judge: Judge, most: int, seconds: float) -> None:
        self._judge = judge
        self._most = most
        self._left = seconds
        self._configurations = heapq.merge(
            *[_tagged(reference, k) for k, reference in enumerate(references)], key=lambda item: (item[0], item[1])
        )
        self._references = references
        self._ahead = next(self._configurations, None)
        self._cases = 0
        self._first: dict[tuple[str, str], tuple[tuple[int, int], Case, Reference, int]] = {}
        #: (size, cases judged so far) of each configuration that is done, for an honest count.
        self._done: list[tuple[tuple[int, int], int]] = []

    def smaller(self, check: str, kind: str, size: tuple[int, int], until: float = inf) -> Found:
        """The first case below this size that fails the check in this kind; `until`, by `budget.now`."""
        key = (check, kind)
        own = now() + self._left
        while key not in self._first and self._ahead is not None and self._ahead[0] < size:
            time = now()
            if time >= min(own, until) or self._cases >= self._most:
                self._left = max(0.0, own - time) if self._cases < self._most else 0.0
                return Found(None, None, False, self._cases)
            self._step()
        self._left = max(0.0, own - now())
        if key in self._first and self._first[key][0] < size:
            _, case, reference, cases = self._first[key]
            return Found(case, reference, True, cases)
        return Found(None, None, True, max((cases for done, cases in self._done if done < size), default=0))

    def _step(self) -> None:
        assert self._ahead is not None
        size, k, configuration = self._ahead
        reference = self._references[k]
        for case in _filled(configuration, reference):
            if not reference.layer.has_meaning(case):
                continue
            for check, judged in self._judge(case, reference).items():
                if isinstance(judged, Discrepancy):
                    self._first.setdefault((check, judged.kind), (size, case, reference, self._cases))
            self._cases += 1
        self._done.append((size, self._cases))
        self._ahead = next(self._configurations, None)


def _filled(configuration: Configuration, reference: Reference) -> Iterator[Case]:
    """Every fill; of the smallest with plain options the first one also with every choice of signs."""
    fills = list(reference.layer.fills(configuration, reference.space))
    yield from fills
    if configuration.complexity > 0 or configuration.elements > SIGNED:
        return
    arrays = {name: a for name, a in fills[0].arrays.items() if a is not None}
    signed = [name for name in (*reference.layer.contract.arrays, "dout") if name in arrays]
    for count in range(1, len(signed) + 1):
        for names in combinations(signed, count):
            turned = {name: _negative(arrays[name]) for name in names}
            yield replace(fills[0], arrays={**fills[0].arrays, **turned}, origin="reduced")


def _negative(array: Array) -> Array:
    """With its zeros as they are."""
    return np.where(array == 0, array, -array).astype(array.dtype)


def _tagged(reference: Reference, k: int) -> Iterator[tuple[tuple[int, int], int, Configuration]]:
    for configuration in reference.layer.ascending(reference.space):
        yield configuration.size, k, configuration
