"""Which entries of a result are wrong and by how much, where no known mistake explains it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.compare import number
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.results import Discrepancy

#: A place is reported if at least so many failing cases are large enough to show it.
FEWEST = 3
#: The relative tolerance within which two ratios are the same.
SAME = 1e-6

#: A result is nearly right if its relative error is below this.
NEARLY = 1e-3

#: Where along a coordinate the wrong entries may lie, the most specific first, and the least size that shows it.
_PLACES: tuple[tuple[str, int, Callable[[Array, int], Array]], ...] = (
    ("only in the last {}", 2, lambda at, size: at == size - 1),
    ("only in the first {}", 2, lambda at, size: at == 0),
    ("only in the first and the last {}", 3, lambda at, size: (at == 0) | (at == size - 1)),
    ("nowhere in the first {}", 2, lambda at, size: at > 0),
    ("nowhere in the last {}", 2, lambda at, size: at < size - 1),
    ("neither in the first nor in the last {}", 3, lambda at, size: (at > 0) & (at < size - 1)),
    ("only in every other {}, from the first", 3, lambda at, size: at % 2 == 0),
    ("only in every other {}, from the second", 3, lambda at, size: at % 2 == 1),
)


class _Error:
    """The wrong entries of one failing case."""

    def __init__(self, case: Case, reference: Reference, found: Discrepancy, tensor: str, candidate: Candidate) -> None:
        assert found.got is not None
        assert found.expected is not None
        self.got, self.expected = (candidate.in_reference(tensor, a) for a in (found.got, found.expected))
        tolerance = reference.expected(case).tolerances.get(tensor)
        tolerance = 0.0 if tolerance is None else tolerance
        self.wrong = ~(np.abs(self.got - self.expected) <= tolerance) & (self.got != self.expected)
        self.coordinates = reference.layer.coordinates(tensor, case)


def error_pattern(candidate: Candidate, failing: Sequence[tuple[Case, Reference, Discrepancy]]) -> tuple[str, ...]:
    """Sentences true of every failing case: which rows, channels or groups are wrong, and how large the error is."""
    errors = []
    for case, reference, found in failing:
        tensor = found.tensor
        if found.kind != "value" or case.invalidity is not None or tensor not in reference.expected(case).tensors:
            return ()
        assert tensor is not None
        shape = reference.expected(case).tensors[tensor].shape
        if found.got is None or found.expected is None or sorted(found.got.shape) != sorted(shape):
            return ()
        errors.append(_Error(case, reference, found, tensor, candidate))
    if not errors or not all(error.wrong.any() for error in errors):
        return ()
    tensor = failing[0][2].tensor
    return tuple(f"{tensor} {words}." for words in (*_places(errors), *_sizes(errors)))


def _places(errors: Sequence[_Error]) -> Iterator[str]:
    for name in errors[0].coordinates:
        for words, least, holds in _PLACES:
            support = 0
            for error in errors:
                at = error.coordinates.get(name)
                if at is None:
                    break
                size = int(at.max(initial=-1)) + 1
                inside = np.broadcast_to(holds(at, size), error.wrong.shape)
                if size >= least:
                    support += 1
                    if not inside[error.wrong].all():
                        break
            else:
                if support >= FEWEST:
                    yield f"is wrong {words.format(name)}"
                    break


def _sizes(errors: Sequence[_Error]) -> Iterator[str]:
    """How the wrong entries relate to the right ones: a constant factor, zero, a constant difference."""
    got = np.concatenate([error.got[error.wrong] for error in errors])
    expected = np.concatenate([error.expected[error.wrong] for error in errors])
    if not (np.isfinite(got).all() and np.isfinite(expected).all()):
        return
    if (got == 0).all():
        yield "is 0 where it is wrong"
        return
    if (expected != 0).all():
        ratios = got / expected
        off = np.abs(ratios - 1).max()
        if off < NEARLY:
            yield f"is nearly right where it is wrong: off by {off:.1g} of what it must be, at most"
            return
        if np.ptp(ratios) <= SAME * np.abs(ratios).max():
            yield f"is {number(ratios[0])} times what it must be, wherever it is wrong"
            return
        each = [error.got[error.wrong] / error.expected[error.wrong] for error in errors]
        if sum(ratio.size > 1 for ratio in each) >= FEWEST and all(
            np.ptp(ratio) <= SAME * np.abs(ratio).max() for ratio in each
        ):
            yield (
                f"is a multiple of what it must be: the same in all wrong entries of a case, {number(each[0][0])} "
                f"in the smallest, {number(ratios.min())} to {number(ratios.max())} in all"
            )
            return
    distance = got - expected
    if np.ptp(distance) <= SAME * np.abs(distance).max():
        yield f"is off by {number(distance[0])}, wherever it is wrong"
