"""All items of one adapter: their names, and the verdict on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter

from backproof.conformance.adapter.load import Adapter
from backproof.conformance.cases.profile import Profile
from backproof.conformance.explaining.budget import Budget
from backproof.conformance.explaining.item_result import ItemResult
from backproof.conformance.judging.item import Item
from backproof.conformance.judging.runner import PartRunner, Progress
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.results import Discrepancy, Status


@dataclass
class Session:
    """An adapter before the court. Parts are heard when the first of their items is asked for."""

    adapter: Adapter
    layers: Sequence[Layer]
    profile: Profile
    seed: int
    progress: Progress = lambda title, done, total: None
    kept: Callable[[str, Layer, PartRunner], Mapping[str, Sequence[Case]]] | None = None
    _runners: dict[tuple[str, str], PartRunner] = field(default_factory=dict)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Every item, in the order of the report: by part, then by check, then by dtype."""
        return tuple(
            Item(layer.name, part.title, part.spatial_dims, check, dtype)
            for layer in self.layers
            if layer.name in self.adapter.implementations
            for part in layer.parts(self.adapter.implementations[layer.name].settings)
            for check in self._runner(layer.name, part.title, self._dtypes[0]).checks
            for dtype in self._dtypes
        )

    @property
    def _dtypes(self) -> tuple[str, ...]:
        return tuple(self.adapter.settings["dtypes"])

    def runner(self, item: Item) -> PartRunner:
        """The runner that an item belongs to."""
        return self._runner(item.layer, item.part, item.dtype)

    def _runner(self, name: str, title: str, dtype: str) -> PartRunner:
        key = (title, dtype)
        if key not in self._runners:
            layer = next(layer for layer in self.layers if layer.name == name)
            parts = layer.parts(self.adapter.implementations[name].settings)
            part = next(part for part in parts if part.title == title)
            runner = PartRunner(layer, part, dtype, self.adapter, self.profile, self.seed, self.progress)
            if self.kept is not None:
                runner.kept = self.kept(title, layer, runner)
            self._runners[key] = runner
        return self._runners[key]

    @cached_property
    def _budget(self) -> Budget:
        return Budget(self.profile.item_seconds, self.profile.run_seconds)

    def verdict(self, item: Item, run: Iterable[Item], *, known: bool = False) -> ItemResult:
        """Judges one item; `run` are all items of the run, which decide whether a layer refused everything.

        A `known` failure is told by the smallest of its cases, without looking for a smaller one or a cause.
        Raises ReferencesDisagree.
        """
        start = perf_counter()
        runner = self.runner(item)
        item_cases = runner.item_cases(item.check)
        counts = (item_cases.examples, item_cases.counts[Status.UNSUPPORTED], item_cases.counts[Status.UNJUDGED])
        refused = runner.refusals(item.check)
        if item_cases.failed:
            found = runner.counterexamples(item.check, self._budget, known=known)
            return ItemResult(item, "failed", *counts, perf_counter() - start, found, refused=refused)
        if item_cases.judged:
            return ItemResult(item, "passed", *counts, perf_counter() - start, refused=refused)
        everything = self._refused_everything(item, run)
        if everything is not None:
            found = [runner.refusal(item.check, everything)]
            return ItemResult(item, "failed", *counts, perf_counter() - start, found, refused=refused)
        reason = refused or _why_unjudged(item, item_cases.counts)
        return ItemResult(item, "skipped", *counts, perf_counter() - start, reason=reason, refused=refused)

    def _refused_everything(self, item: Item, run: Iterable[Item]) -> Discrepancy | None:
        """The failure of a layer whose output, or whose every gradient, was judged on no case of the whole run.

        Where the forward refuses everything no backward is called: that is a failure of `out` alone.
        """
        if item.check not in ("out", "dx"):
            return None
        mine = [other for other in run if other.layer == item.layer]
        gradients = {f"d{array}" for array in self.adapter.implementations[item.layer].signature.arrays}
        asked = [o for o in mine if (o.check == "out" if item.check == "out" else o.check in gradients)]
        if item.check == "dx" and not self.runner(item).item_cases("out").judged:
            return None
        total = 0
        for other in {other.path: other for other in asked}.values():
            item_cases = self.runner(other).item_cases(other.check)
            if item_cases.judged:
                return None
            if other.check == item.check:
                total += item_cases.counts[Status.UNSUPPORTED]
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
