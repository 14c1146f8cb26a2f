"""Where an implementation refused, in words."""

from __future__ import annotations

from backproof.conformance.explaining.region import RegionSearch
from backproof.conformance.explaining.rules import Rule
from backproof.conformance.judging.reference import Reference
from backproof.conformance.judging.runner import PartRunner, quiet
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy, Status

#: For finding out where an item's cases are refused.
SECONDS = 0.5


def refusals(part: PartRunner, check: str) -> str | None:
    """Where and how often the implementation refused an item's cases, or from_numpy a memory layout; None: nowhere."""
    cases, said = part.item_cases(check), []
    if part.property_of(check).in_memory_layouts and part.layouts_refused:
        said.append(_layouts(part))
    if cases.refused:
        count, accepted = len(cases.refused), cases.accepted
        rule = _rule(part, check) if accepted else None
        if rule is None or any(map(rule.holds, accepted)):
            said.append(f"refused {count} of {count + len(accepted)} cases")
        else:
            said.append(f"refused where {rule.words}: {count} of {count}")
    return "; ".join(said) or None


def _rule(part: PartRunner, check: str) -> Rule | None:
    """The rule that says where the candidate refuses; None if no rule does."""
    property_, cases = part.property_of(check), part.item_cases(check)

    def refuses(case: Case, reference: Reference) -> bool | None:
        found = property_.judge(case, part.candidate, reference).get(check)
        if found is Status.UNSUPPORTED:
            return True
        return False if found is Status.RIGHT or isinstance(found, Discrepancy) else None

    with quiet(part.warned):
        search = RegionSearch(
            part.references,
            refuses,
            seed=part.seed,
            seconds=SECONDS,
            arranged=property_.in_memory_layouts,
            closed=property_.takes_invalid_cases,
        )
        start = min(cases.refused, key=lambda case: case.key)
        return search.rule(start, cases.refused, cases.accepted)


def _layouts(part: PartRunner) -> str:
    """Such as "from_numpy does not take: negative stride (x, w, dout), 31 of 31"."""
    said = []
    for layout in dict.fromkeys(layout for _, layout in part.layouts_refused):
        names = [name for name, other in part.layouts_refused if other == layout]
        count = sum(part.layouts_refused[name, layout] for name in names)
        total = count + sum(part.layouts_judged[name, layout] for name in names)
        said.append(f"{layout} ({', '.join(names)}), {count} of {total}")
    return f"from_numpy does not take {'; '.join(said)}"
