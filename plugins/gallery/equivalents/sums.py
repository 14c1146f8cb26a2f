"""Sums over the first axis in orders other than NumPy's: each is right, and each rounds elsewhere."""

from __future__ import annotations

from math import fsum, prod

import numpy as np


def pairwise(terms):
    """The sum of the sums of two halves, each of which is the sum of those of its halves."""
    if len(terms) < 2:
        return terms.sum(axis=0)
    half = len(terms) // 2
    return pairwise(terms[:half]) + pairwise(terms[half:])


def one_after_the_other(terms):
    """A plain loop from the first term to the last."""
    total = np.zeros(terms.shape[1:], terms.dtype)
    for term in terms:
        total = total + term
    return total


def from_the_end(terms):
    """A plain loop from the last term to the first."""
    return one_after_the_other(terms[::-1])


def smallest_first(terms):
    """A plain loop from the smallest absolute value to the largest."""
    order = np.argsort(abs(terms), axis=0)
    return one_after_the_other(np.take_along_axis(terms, order, axis=0))


def in_blocks(terms):
    """Partial sums of four terms each, and what is left behind the last of them."""
    blocks = len(terms) // 4
    covered = terms[: 4 * blocks].reshape(blocks, 4, *terms.shape[1:])
    return covered.sum(axis=1).sum(axis=0) + terms[4 * blocks :].sum(axis=0)


def compensated(terms):
    """Kahan's sum, which carries along what was rounded away."""
    total, lost = np.zeros(terms.shape[1:], terms.dtype), np.zeros(terms.shape[1:], terms.dtype)
    for term in terms:
        owed = term - lost
        longer = total + owed
        lost = (longer - total) - owed
        total = longer
    return total


def without_rounding(terms):
    """Rounded once, at the end."""
    columns = terms.reshape(len(terms), prod(terms.shape[1:])).T
    return np.array([fsum(column) for column in columns], terms.dtype).reshape(terms.shape[1:])


def in_float64(terms):
    """In float64, then rounded to the format of the terms."""
    return terms.sum(axis=0, dtype=np.float64).astype(terms.dtype)
