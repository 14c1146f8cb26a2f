"""What is known of the smallest case that fails."""

from __future__ import annotations

from dataclasses import dataclass, field

from backproof.conformance.judging.properties import Property
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy

#: The region of what fails in every case that was judged.
EVERYWHERE = "every case"
#: Every configuration fails, for some values of its arrays but not all.
SOMEHOW_EVERYWHERE = "every configuration"


@dataclass(frozen=True, eq=False)
class Counterexample:
    """The smallest failing case found for one item and one kind of failure.

    `region` is where it fails, in words, and `failed` and `passed` are what that was held against; without one they are
    the cases that were judged.

    `proved`: every configuration with meaning that is smaller was judged with every fill, and none failed alike; else
    `smaller_cases` says how many were.
    """

    discrepancy: Discrepancy
    case: Case
    reference: Reference
    proved: bool
    smaller_cases: int
    region: str | None
    failed: int
    passed: int
    #: In how many of the passing cases the region holds too: it is then only where all failures lie.
    inside: int = 0
    #: Whether `failed`, `passed` and `inside` count configurations: some numbers hide the fault.
    configurations: bool = False
    #: False where the case failed once and did not when it was asked again.
    steady: bool = True
    #: Whether every number is 0, or 1, or fails no more when it is made plainer.
    plain: bool = False
    #: What explains it, in sentences, the simplest first; all that fit.
    diagnosis: tuple[str, ...] = ()
    #: The numbered step of the layer's textbook page whose gradient is at fault.
    step: str | None = None
    #: Where the error sits and how large it is, in sentences, where nothing explains it.
    site: tuple[str, ...] = ()
    #: Why it was not made smaller and explained; None: it was.
    unexplained: str | None = None
    #: What it breaks.
    property_: Property = field(kw_only=True)
