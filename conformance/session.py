"""All items of one adapter: their names, and the verdict on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Literal

from backproof.conformance.adapter import Adapter
from backproof.conformance.allowance import Allowance
from backproof.conformance.case import Case
from backproof.conformance.hearing import Hearing, Progress
from backproof.conformance.layer import Layer
from backproof.conformance.profile import Profile
from backproof.conformance.tally import Counterexample
from backproof.conformance.verdict import Discrepancy, Status

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Item:
    """One item: a check of one part in one dtype."""

    layer: str
    part: str
    spatial_dims: int | None
    check: str
    dtype: str

    @property
    def path(self) -> tuple[str, str, str]:
        """The id behind "backproof": part, check, dtype."""
        return self.part, self.check, self.dtype


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of an item. `reason` says why it was skipped; `refused` how often, and where, it was refused."""

    item: Item
    outcome: Outcome
    judged: int
    unsupported: int
    unjudged: int
    duration: float
    counterexamples: Sequence[Counterexample] = ()
    reason: str | None = None
    refused: str | None = None


@dataclass
class Session:
    """An adapter before the court. Parts are heard when the first of their items is asked for."""

    adapter: Adapter
    layers: Sequence[Layer]
    profile: Profile
    seed: int
    progress: Progress = lambda title, done, total: None
    kept: Callable[[str, Layer, Hearing], Mapping[str, Sequence[Case]]] | None = None
    _hearings: dict[tuple[str, str], Hearing] = field(default_factory=dict)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Every item, in the order of the report: by part, then by check, then by dtype."""
        return tuple(
            Item(layer.name, part.title, part.spatial_dims, check, dtype)
            for layer in self.layers
            if layer.name in self.adapter.implementations
            for part in layer.parts(self.adapter.implementations[layer.name].settings)
            for check in self._hearing(layer.name, part.title, self._dtypes[0]).checks
            for dtype in self._dtypes
        )

    @property
    def _dtypes(self) -> tuple[str, ...]:
        return tuple(self.adapter.settings["dtypes"])

    def hearing(self, item: Item) -> Hearing:
        """The hearing that an item belongs to."""
        return self._hearing(item.layer, item.part, item.dtype)

    def _hearing(self, name: str, title: str, dtype: str) -> Hearing:
        key = (title, dtype)
        if key not in self._hearings:
            layer = next(layer for layer in self.layers if layer.name == name)
            parts = layer.parts(self.adapter.implementations[name].settings)
            part = next(part for part in parts if part.title == title)
            hearing = Hearing(layer, part, dtype, self.adapter, self.profile, self.seed, self.progress)
            if self.kept is not None:
                hearing.kept = self.kept(title, layer, hearing)
            self._hearings[key] = hearing
        return self._hearings[key]

    @cached_property
    def _allowance(self) -> Allowance:
        return self.profile.allowance()

    def verdict(self, item: Item, run: Iterable[Item], *, known: bool = False) -> Verdict:
        """Judges one item; `run` are all items of the run, which decide whether a layer refused everything.

        A `known` failure is told by the smallest of its cases, without looking for a smaller one or a cause.
        Raises ReferencesDisagree.
        """
        start = perf_counter()
        hearing = self.hearing(item)
        tally = hearing.tally(item.check)
        counts = (tally.examples, tally.counts[Status.UNSUPPORTED], tally.counts[Status.UNJUDGED])
        refused = hearing.refusals(item.check)
        if tally.failed:
            found = hearing.counterexamples(item.check, self._allowance, known=known)
            return Verdict(item, "failed", *counts, perf_counter() - start, found, refused=refused)
        if tally.judged:
            return Verdict(item, "passed", *counts, perf_counter() - start, refused=refused)
        everything = self._refused_everything(item, run)
        if everything is not None:
            found = [hearing.refusal(item.check, everything)]
            return Verdict(item, "failed", *counts, perf_counter() - start, found, refused=refused)
        reason = refused or _why_unjudged(item, tally.counts)
        return Verdict(item, "skipped", *counts, perf_counter() - start, reason=reason, refused=refused)

    def _refused_everything(self, item: Item, run: Iterable[Item]) -> Discrepancy | None:
        """The failure of a layer whose output, or whose every gradient, was judged on no case of the whole run.

        Where the forward refuses everything no backward is called: that is a failure of `out` alone.
        """
        if item.check not in ("out", "dx"):
            return None
        mine = [other for other in run if other.layer == item.layer]
        gradients = {f"d{array}" for array in self.adapter.implementations[item.layer].signature.arrays}
        asked = [o for o in mine if (o.check == "out" if item.check == "out" else o.check in gradients)]
        if item.check == "dx" and not self.hearing(item).tally("out").judged:
            return None
        total = 0
        for other in {other.path: other for other in asked}.values():
            tally = self.hearing(other).tally(other.check)
            if tally.judged:
                return None
            if other.check == item.check:
                total += tally.counts[Status.UNSUPPORTED]
        if not total:
            return None
        function = f"{item.layer}_{'forward' if item.check == 'out' else 'backward'}"
        return Discrepancy("refused", item.check, f"{function} refused all {total} cases (NotImplementedError).")


def _why_unjudged(item: Item, counts: Counter[Status]) -> str:
    if counts[Status.UNJUDGED]:
        return f"in all {counts[Status.UNJUDGED]} cases rounding could hide a fault in {item.check}"
    if counts[Status.LEFT_OUT]:
        return f"in every case a call fails before {item.check} is asked, or plain cases are wrong in the same way"
    return f"no case asks for {item.check}"
