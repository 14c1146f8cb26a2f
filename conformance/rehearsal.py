"""A hearing of one candidate on the cases of another: what the suite is worth, tried on faults that are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

from backproof.conformance.adapter import Adapter
from backproof.conformance.case import Case
from backproof.conformance.hearing import Hearing, quiet
from backproof.conformance.law import Law
from backproof.conformance.layer import Layer
from backproof.conformance.profile import Profile
from backproof.conformance.properties import OTHERS, tensors
from backproof.conformance.tally import Tally
from backproof.conformance.verdict import Discrepancy

Admits = Callable[[Case], bool]

STAGES = ("sweep", "drawn")


def everything(case: Case) -> bool:
    """Every case is asked."""
    return True


def hearings(adapter: Adapter, layer: Layer, profile: Profile, seed: int) -> tuple[Hearing, ...]:
    """One hearing for each part of a layer and each dtype that an adapter declares."""
    settings = adapter.implementations[layer.name].settings
    return tuple(
        Hearing(layer, part, dtype, adapter, profile, seed, lambda *_: None)
        for part in layer.parts(settings)
        for dtype in adapter.settings["dtypes"]
    )


class Rehearsal(Hearing):
    """Asks the cases of a right implementation that declares the same, and shares with it what is right in them.

    `admitted` keeps it from some of them, `stages` from all that are swept or all that are drawn. Raises ValueError if
    the two do not declare the same.
    """

    def __init__(
        self, adapter: Adapter, twin: Hearing, admitted: Admits = everything, stages: Sequence[str] = STAGES
    ) -> None:
        super().__init__(twin.layer, twin.part, twin.dtype, adapter, twin.profile, twin.seed, lambda *_: None)
        if [law.space for law in self.laws] != [law.space for law in twin.laws]:
            raise ValueError(f"{adapter.spec} is asked other cases than the implementation that it is a change of.")
        self.laws, self._twin, self._admitted, self._stages = twin.laws, twin, admitted, stages

    def admits(self, case: Case) -> bool:
        """Whether a case is asked: not if the rehearsal is kept from it."""
        return self._admitted(case)

    @cached_property
    def swept(self) -> tuple[tuple[Law, tuple[Case, ...]], ...]:
        """The other's sweep, as far as it is asked."""
        return self._of("sweep", self._twin.swept)

    @cached_property
    def drawn(self) -> tuple[tuple[Law, tuple[Case, ...]], ...]:
        """The other's drawn cases, as far as they are asked."""
        return self._of("drawn", self._twin.drawn)

    def _of(
        self, stage: str, asked: Sequence[tuple[Law, tuple[Case, ...]]]
    ) -> tuple[tuple[Law, tuple[Case, ...]], ...]:
        taken = stage in self._stages
        return tuple((law, tuple(filter(self.admits, cases)) if taken else ()) for law, cases in asked)

    def first_failures(self, checks: Sequence[str]) -> Mapping[str, tuple[int, Case] | None]:
        """For each of these items how many cases it took to fail, and the case; None: it passes.

        Every item stops at its first failure, and what is left unjudged is not drawn again.
        """
        found: dict[str, tuple[int, Case] | None] = dict.fromkeys(checks)
        with quiet(self.warned):
            waiting = {check for check in checks if check not in OTHERS}
            for count, (law, case) in enumerate(self._plain_cases() if waiting else (), 1):
                judged = tensors(case, self.candidate, law)
                for check in list(waiting):
                    if isinstance(judged.get(check), Discrepancy):
                        found[check] = (count, case)
                        waiting.remove(check)
                if not waiting:
                    break
            for check in checks:
                if check in OTHERS:
                    found[check] = self._first(check)
        return found

    def _plain_cases(self) -> Iterator[tuple[Law, Case]]:
        """What the tensors are asked: one rank's sweep after the other, then what was drawn."""
        for stage in (self.swept, self.drawn):
            yield from ((law, case) for law, cases in stage for case in cases)

    def _first(self, check: str) -> tuple[int, Case] | None:
        asked: Iterator[tuple[Law, Case]] = self.asked(check)
        if check == "memory_layout":
            asked = self._laid_out(asked, Tally())
        for count, (law, case) in enumerate(asked, 1):
            if isinstance(OTHERS[check](case, self.candidate, law).get(check), Discrepancy):
                return count, case
        return None
