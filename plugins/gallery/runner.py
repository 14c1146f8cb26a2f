"""A runner of one candidate on the cases of another: what the suite is worth, tried on faults that are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

from backproof.conformance.adapter.load import Adapter
from backproof.conformance.cases.profile import Profile
from backproof.conformance.judging.item_cases import ItemCases
from backproof.conformance.judging.properties import TENSORS
from backproof.conformance.judging.reference import Reference
from backproof.conformance.judging.runner import Asked, PartRunner, quiet
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.results import Discrepancy

Admits = Callable[[Case], bool]

STAGES = ("sweep", "drawn")


def everything(case: Case) -> bool:
    """Every case is asked."""
    return True


def runners(adapter: Adapter, layer: Layer, profile: Profile, seed: int) -> tuple[PartRunner, ...]:
    """One runner for each part of a layer and each dtype that an adapter declares."""
    settings = adapter.implementations[layer.name].settings
    return tuple(
        PartRunner(layer, part, dtype, adapter, profile, seed)
        for part in layer.parts(settings)
        for dtype in adapter.settings["dtypes"]
    )


class GalleryRunner(PartRunner):
    """Asks the cases of a right implementation that declares the same, and shares with it what is right in them.

    `admitted` keeps it from some of them, `stages` from all that are swept or all that are drawn. Raises ValueError if
    the two do not declare the same.
    """

    def __init__(
        self, adapter: Adapter, base: PartRunner, admitted: Admits = everything, stages: Sequence[str] = STAGES
    ) -> None:
        super().__init__(base.layer, base.part, base.dtype, adapter, base.profile, base.seed)
        if [reference.space for reference in self.references] != [reference.space for reference in base.references]:
            raise ValueError(f"{adapter.spec} is asked other cases than the implementation that it is a change of.")
        self.references, self._base, self._admitted, self._stages = base.references, base, admitted, stages

    def admits(self, case: Case) -> bool:
        """Whether a case is asked: not if this runner is kept from it."""
        return self._admitted(case)

    @cached_property
    def swept(self) -> Asked:
        """The other's sweep, as far as it is asked."""
        return self._of("sweep", self._base.swept)

    @cached_property
    def drawn(self) -> Asked:
        """The other's drawn cases, as far as they are asked."""
        return self._of("drawn", self._base.drawn)

    def _of(self, stage: str, asked: Asked) -> Asked:
        taken = stage in self._stages
        return tuple((reference, tuple(filter(self.admits, cases)) if taken else ()) for reference, cases in asked)

    def first_failures(self, checks: Sequence[str]) -> Mapping[str, tuple[int, Case] | None]:
        """For each of these items how many cases it took to fail, and the case; None: it passes.

        Every item stops at its first failure, and what is left unjudged is not drawn again.
        """
        found: dict[str, tuple[int, Case] | None] = dict.fromkeys(checks)
        with quiet(self.warned):
            waiting = {check for check in checks if check in self.tensors}
            for count, (reference, case) in enumerate(self._plain_cases() if waiting else (), 1):
                judged = TENSORS.judge(case, self.candidate, reference)
                for check in list(waiting):
                    if isinstance(judged.get(check), Discrepancy):
                        found[check] = (count, case)
                        waiting.remove(check)
                if not waiting:
                    break
            for check in checks:
                if check not in self.tensors:
                    found[check] = self._first(check)
        return found

    def _plain_cases(self) -> Iterator[tuple[Reference, Case]]:
        """What the tensors are asked: one rank's sweep after the other, then what was drawn."""
        for stage in (self.swept, self.drawn):
            yield from ((reference, case) for reference, cases in stage for case in cases)

    def _first(self, check: str) -> tuple[int, Case] | None:
        property_ = self.property_of(check)
        for count, (reference, case) in enumerate(self.questions(check, ItemCases()), 1):
            if isinstance(property_.judge(case, self.candidate, reference).get(check), Discrepancy):
                return count, case
        return None
