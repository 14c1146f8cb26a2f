"""Why a candidate raises: from the error's message, and from which other cases raise it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.trials import (
    absent,
    crash_of,
    equal,
    filled,
    given,
    grown,
    larger,
)
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.contract import Contract
from backproof.conformance.spec.memory_layouts import laid_out
from backproof.conformance.spec.probe import Probe, of_each

FLOATS = re.compile(
    r"float\d*' object cannot be interpreted as an integer|slice indices must be integers|"
    r"indices must be integers or slices, not float"
)
#: -1 for a size of an array without entries.
INFERRED = re.compile(r"cannot reshape array of size 0 into shape \(.*newaxis|cannot reshape tensor of 0 elements")
DIVISION = re.compile(r"ZeroDivisionError|division by zero|modulo by zero")
CONTIGUOUS = re.compile(
    r"not C-contiguous|must be (C-)?contiguous|incompatible shape for (a non-contiguous array|in-place)|"
    r"last axis must be contiguous|view size is not compatible|non-contiguous",
    re.IGNORECASE,
)
#: Shapes that do not fit together.
MISFIT = re.compile(
    r"mismatch in its core dimension|could not be broadcast|not aligned|cannot reshape|could not broadcast|"
    r"shape mismatch|does not have enough dimensions|dimension mismatch|size of label|shapes cannot be multiplied"
)

#: An array with fewer axes than it is taken to have.
TOO_FEW_AXES = re.compile(
    r"does not have enough dimensions|out of bounds for array of dimension|too many indices for array|"
    r"mismatch in its core dimension|not enough values to unpack|not aligned|axes don't match|tuple index out of range"
)
IN_A_SECOND = ("in the second backward on one cache", "in a later backward on one cache")


def crashes(holds: Callable[[FailingCase], bool]) -> Callable[[FailingCase], bool]:
    """Holds of crashes alone."""
    return lambda failing: failing.found.kind == "crash" and holds(failing)


def says(pattern: re.Pattern[str]) -> Callable[[FailingCase], bool]:
    """Whether the error's message matches."""
    return crashes(lambda failing: pattern.search(failing.found.message) is not None)


def _plain(failing: FailingCase) -> Case:
    return replace(failing.case, layouts={})


def _none(name: str, failing: FailingCase) -> bool:
    """Whether the code fails because this array is None, also where no other one is."""
    if failing.found.kind != "crash" or "NoneType" not in failing.found.message or name not in absent(failing.case):
        return False
    others = [other for other in absent(failing.case) if other != name]
    configuration = given(failing.reference, failing.case.configuration, others)
    if configuration.shapes.get(name) is not None:
        return False
    return "NoneType" in (crash_of(failing.candidate, filled(failing.reference, configuration)) or "")


def _written(name: str, failing: FailingCase) -> bool:
    """Whether it fails if this array alone is read-only."""
    if (
        failing.found.kind != "crash"
        or "read-only" not in failing.found.message
        or failing.case.arrays.get(name) is None
    ):
        return False

    def allocate(other: str, array: object) -> object:
        return laid_out(array, "read-only" if other == name else None)  # type: ignore[arg-type]

    crash = crash_of(failing.candidate, _plain(failing), allocate=allocate)  # type: ignore[arg-type]
    return "read-only" in (crash or "")


def _used_up(failing: FailingCase) -> bool:
    return any(where in failing.found.message for where in IN_A_SECOND)


def _refused_by_the_code(failing: FailingCase) -> bool:
    """Whether the last line of the candidate's own code in the traceback is a raise or an assert."""
    lines = [line for line in (failing.found.traceback or "").splitlines() if line.startswith("  ")]
    frames = [k for k, line in enumerate(lines) if line.startswith('  File "')]
    if not frames or "site-packages" in lines[frames[-1]] or len(lines) < frames[-1] + 2:
        return False
    line = lines[frames[-1] + 1].strip()
    return line.startswith("raise ") or (line.startswith("assert") and "AssertionError" in failing.found.message)


def _misfits(reference: Reference, failing: FailingCase, case: Case) -> bool:
    return MISFIT.search(crash_of(failing.candidate, case) or "") is not None


def _unequal_sizes(failing: FailingCase) -> bool:
    """Whether the shapes fit if all sizes are equal, and do not if one of them is larger."""
    reference = failing.reference
    if MISFIT.search(failing.found.message) is None or failing.case.layouts or failing.check == "edges":
        return False
    for size in (2, 3):
        even = equal(reference, failing.case.configuration, size)
        if even is not None and crash_of(failing.candidate, filled(reference, even)) is None:
            return any(_misfits(reference, failing, filled(reference, uneven)) for _, uneven in larger(reference, even))
    return False


def _lost_axis(failing: FailingCase) -> bool:
    """Whether a single size of 1 among larger ones makes it raise, because an array has too few axes."""
    reference, case = failing.reference, failing.case
    if TOO_FEW_AXES.search(failing.found.message) is None or case.layouts or failing.check == "edges":
        return False
    large = grown(reference, case.configuration)
    if crash_of(failing.candidate, filled(reference, large)) is not None:
        return False
    for name, value in large.parameters.items():
        if case.configuration.parameters[name] == 1 < value:
            thin = reference.layer.build({**large.parameters, name: 1}, reference.space)
            crash = None if thin is None else crash_of(failing.candidate, filled(reference, thin))
            if crash is not None and TOO_FEW_AXES.search(crash) is not None:
                return True
    return False


def _number_of_axes(failing: FailingCase) -> bool:
    """Whether it raises in every case of this many axes, and not in those of another declared number."""
    reference, check = failing.reference, failing.found.message
    if failing.case.layouts or failing.check == "edges" or " raised " not in check:
        return False
    here = filled(reference, grown(reference, failing.case.configuration))
    if crash_of(failing.candidate, here) is None:
        return False
    ranks = {rank for part in reference.layer.parts(reference.space.settings) for rank in part.ranks} - {
        reference.space.rank
    }
    for rank in sorted(ranks):
        other = Reference(reference.layer, replace(reference.space, rank=rank))
        base = other.layer.build(other.layer.base(other.space), other.space)
        if base is not None and crash_of(failing.candidate, filled(other, grown(other, base))) is None:
            return True
    return False


def _after_another(failing: FailingCase) -> bool:
    return "after another" in failing.found.message or "after a forward of other" in failing.found.message


def errors(contract: Contract) -> tuple[Probe, ...]:
    """Why an implementation of this contract may raise."""
    return (
        Probe(
            "A size or an index is a float: it is computed with / where // is needed.",
            (),
            says(FLOATS),
        ),
        *of_each(
            contract.arrays,
            "{name} is None in these cases, and the code uses it as if it were an array.",
            (),
            _none,
        ),
        *of_each(
            (*contract.arrays, "dout"),
            "{name} is written to where it lies: it is not the layer's to change, and may be read-only. Write to a "
            "copy.",
            ("memory_layout",),
            _written,
        ),
        Probe(
            "A cache serves one backward only, a second one raises: what it needs is taken out or freed, or the "
            "code forbids it.",
            ("repeatability",),
            crashes(_used_up),
        ),
        Probe(
            "What the backward needs is kept on the layer, where another call replaces it, and not in the cache.",
            ("repeatability",),
            crashes(_after_another),
        ),
        Probe(
            "A size is inferred with -1, which has no answer where there is nothing in the batch: give every size.",
            ("edges",),
            says(INFERRED),
        ),
        Probe(
            "Something is divided by a number that is 0 in this case.",
            (),
            says(DIVISION),
        ),
        Probe(
            "The code demands contiguous memory, which an array need not have: copy it first "
            "(np.ascontiguousarray), or use reshape where a view is made.",
            ("memory_layout",),
            says(CONTIGUOUS),
        ),
        Probe(
            "The shapes fit only where two sizes are equal: one size is taken for another, or an array is not "
            "transposed.",
            (),
            crashes(_unequal_sizes),
        ),
        Probe(
            "An axis of size 1 is lost on the way, by squeeze() or by an index where a slice is needed.",
            (),
            crashes(_lost_axis),
        ),
        Probe(
            f"It raises for every {contract.arrays[0]} of this many axes, and for no other: the code is written for "
            "another number of axes.",
            (),
            crashes(_number_of_axes),
        ),
        Probe(
            "The code itself refuses this case, with a raise or an assert; the contract wants an answer.",
            (),
            crashes(_refused_by_the_code),
        ),
    )
