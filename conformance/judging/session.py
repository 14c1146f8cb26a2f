"""Judges all items of one adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter

from backproof.conformance.adapter.load import Adapter
from backproof.conformance.cases.profile import Profile
from backproof.conformance.judging.failure import Failure, failures
from backproof.conformance.judging.item import Item, Outcome
from backproof.conformance.judging.item_cases import ItemCases
from backproof.conformance.judging.properties import PROPERTIES, Property
from backproof.conformance.judging.runner import PartRunner, Progress
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.results import Discrepancy, Status


@dataclass(frozen=True, eq=False)
class Judged:
    """What became of an item: its outcome, its cases, and its failures by kind, the most frequent first.

    `refused_everything` is the failure of a layer that was judged on no case of the run. `duration` is in seconds.
    """

    item: Item
    outcome: Outcome
    part: PartRunner
    property_: Property
    cases: ItemCases
    duration: float
    failures: tuple[Failure, ...] = ()
    refused_everything: Discrepancy | None = None


@dataclass
class Session:
    """An adapter and the layers that it is judged on. A part's cases are drawn when the first of its items is judged.

    `kept` gives a part's failing cases of earlier runs.
    """

    adapter: Adapter
    layers: Sequence[Layer]
    profile: Profile
    seed: int
    progress: Progress = lambda title, done, total: None
    kept: Callable[[PartRunner], Mapping[str, Sequence[Case]]] = lambda part: {}
    properties: Mapping[str, Property] = field(default_factory=lambda: PROPERTIES)

    @cached_property
    def runners(self) -> Mapping[tuple[str, str], PartRunner]:
        """For every part of every layer that the adapter has, and every dtype: by the part's title and the dtype."""
        runners = {}
        for layer in self.layers:
            if layer.name in self.adapter.implementations:
                for part in layer.parts(self.adapter.implementations[layer.name].settings):
                    for dtype in self.adapter.settings["dtypes"]:
                        about = self.adapter, self.profile, self.seed, self.progress, self.properties
                        runner = PartRunner(layer, part, dtype, *about)
                        runner.kept = self.kept(runner)
                        runners[part.title, dtype] = runner
        return runners

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Every item, in the order of the report: by part, then by check, then by dtype."""
        dtypes = tuple(self.adapter.settings["dtypes"])
        return tuple(
            Item(item.layer, item.part, item.spatial_dims, item.check, each)
            for (_, dtype), runner in self.runners.items()
            if dtype == dtypes[0]
            for item in runner.items
            for each in dtypes
        )

    def runner(self, item: Item) -> PartRunner:
        """What judges an item, with the others of its part and dtype."""
        return self.runners[item.part, item.dtype]

    def judge(self, item: Item, run: Iterable[Item]) -> Judged:
        """Judges one item; `run` are all items of the run, which decide whether a layer refused everything.

        Raises ReferencesDisagree.
        """
        start = perf_counter()
        part = self.runner(item)
        cases, found = part.item_cases(item.check), failures(part, item)
        refused = None if cases.judged else self._refused_everything(item, run)
        outcome: Outcome = "failed" if found or refused else "passed" if cases.judged else "skipped"
        about = item, outcome, part, part.property_of(item.check), cases
        return Judged(*about, perf_counter() - start, found, refused)

    def _refused_everything(self, item: Item, run: Iterable[Item]) -> Discrepancy | None:
        """The failure of a layer whose output, or whose every gradient, was judged on no case of the whole run.

        Where the forward refuses everything no backward is called: that is a failure of the output alone. It is
        reported for the first gradient.
        """
        gradients = [f"d{array}" for array in self.adapter.implementations[item.layer].signature.arrays]
        if item.check not in ("out", *gradients[:1]):
            return None
        mine = [other for other in run if other.layer == item.layer]
        asked = [o for o in mine if (o.check == "out" if item.check == "out" else o.check in gradients)]
        if item.check != "out" and not self.runner(item).item_cases("out").judged:
            return None
        total = 0
        for other in {other.path: other for other in asked}.values():
            cases = self.runner(other).item_cases(other.check)
            if cases.judged:
                return None
            if other.check == item.check:
                total += cases.counts[Status.UNSUPPORTED]
        if not total:
            return None
        function = f"{item.layer}_{'forward' if item.check == 'out' else 'backward'}"
        return Discrepancy("refused", item.check, f"{function} refused all {total} cases (NotImplementedError).")
