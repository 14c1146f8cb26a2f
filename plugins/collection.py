"""The suite's nodes: virtual collectors for part and check, and an item for each dtype.

`conformance` is the plugin of the run, `run.Conformance`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from backproof.conformance.judging.reference import ReferencesDisagree
from backproof.conformance.reporting import sentences
from backproof.conformance.reporting.build import item_record, unfinished
from backproof.conformance.reporting.record import Item, builtins


class Group(pytest.Collector):
    """backproof, backproof::conv2d, backproof::conv2d::dx."""

    def __init__(self, *, conformance: Any, at: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__(**more)
        self.conformance = conformance
        self.at = at

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """The groups, or the items, one level further down."""
        depth = len(self.at)
        below = [item for item in self.conformance.session.items if item.path[:depth] == self.at]
        for name in dict.fromkeys(item.path[depth] for item in below):
            if depth < 2:
                yield Group.from_parent(self, name=name, conformance=self.conformance, at=(*self.at, name))
            else:
                (item,) = [item for item in below if item.dtype == name]
                yield Check.from_parent(self, name=name, conformance=self.conformance, item=item)


class Location(NamedTuple):
    """Where a failure is shown to be: the adapter's forward, and the failure in one line."""

    path: str
    lineno: int
    message: str


class Shown:
    """A failure as pytest shows it: an item's record and what it has to do with an earlier one, or the text alone.

    `line` has it in one line.
    """

    def __init__(self, content: str | Item, line: str, adapter: Any, spec: str, relation: Any = None) -> None:
        self.content = content
        self.relation = relation
        self.reprcrash = Location(str(adapter.path or spec), adapter.line or 1, line)

    def __str__(self) -> str:
        # Late, here and below: a run that passes imports no rich.
        from backproof.conformance.reporting.terminal import shown

        return self.content if isinstance(self.content, str) else shown(self.content, self.relation)

    def toterminal(self, terminal: Any) -> None:
        """Writes the failure, in colour where the terminal has any."""
        from backproof.conformance.reporting.terminal import in_colour, shown

        text = self.content
        if not isinstance(text, str):
            text = shown(text, self.relation, terminal.fullwidth, in_colour(terminal.hasmarkup, os.environ))
        for line in text.splitlines():
            terminal.line(line)


class DoesNotConform(Exception):
    """An item failed."""


class Check(pytest.Item):
    """One item of the suite."""

    def __init__(self, *, conformance: Any, item: Any, **more: Any) -> None:
        super().__init__(**more)
        self.conformance = conformance
        self.conformance_item = item
        self.verdict: Any = None
        #: What became of the cases kept from earlier runs.
        self.settled: Any = None
        self.scripts: list[Any] = []
        self.relation: Any = None
        self._record: Item | None = None
        self.add_marker("backproof")

    def runtest(self) -> None:
        """Judges the item. Raises DoesNotConform, or pytest's skip."""
        conformance, self._record = self.conformance, None
        expected = conformance.expected_to_fail(self.nodeid)
        run = conformance.selected or [self.conformance_item]
        judged = conformance.session.judge(self.conformance_item, run)
        self.verdict = conformance.explainer.result(judged, known=expected is not None)
        found = self.verdict.counterexamples
        refused = any(f.discrepancy.kind == "refused" for f in found)
        check = self.conformance_item.check
        failing = [] if refused else [f.case for f in found]
        listed = judged.property_.is_listed
        self.settled = conformance.store.settle(self.nodeid, judged.cases, failing, listed=listed)
        if found or self.verdict.outcome == "passed":
            self.scripts = conformance.reproductions.write(self.nodeid, check, found, judged.part.candidate)
        # A known failure is not shown: no other refers to it.
        if found and expected is None:
            self.relation = conformance.ledger.relate(self.nodeid, self.verdict)
        if self.verdict.outcome == "failed":
            raise DoesNotConform
        if self.verdict.outcome == "skipped":
            raise pytest.skip.Exception(f"{self.verdict.reason}", _use_item_location=True)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The failure in words, without a traceback of the suite's own."""
        adapter = self.conformance.adapter
        if isinstance(excinfo.value, ReferencesDisagree):
            return Shown(str(excinfo.value), str(excinfo.value), adapter, self.conformance.spec)
        if not isinstance(excinfo.value, DoesNotConform):
            return super().repr_failure(excinfo)
        record = self.record
        return Shown(record, sentences.headline(record), adapter, self.conformance.spec, self.relation)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """The adapter's file and the line of its first forward."""
        adapter = self.conformance.adapter
        return adapter.path or self.path, (adapter.line or 1) - 1, self.nodeid

    def _scripts(self) -> list[str | None]:
        """Where the scripts lie, as seen from the folder in which the run began."""
        begun = self.conformance.config.invocation_params.dir
        return [None if path is None else os.path.relpath(path, begun) for path in self.scripts]

    @property
    def record(self) -> Item:
        """The item as it was judged. Made once: it asks the references anew."""
        if self._record is None:
            item, conformance = self.conformance_item, self.conformance
            self._record = item_record(
                self.verdict,
                self.nodeid,
                conformance.session.runner(item).layer,
                conformance.adapter.implementations[item.layer].settings,
                again=conformance.again(self.nodeid),
                scripts=self._scripts(),
                kept=self.settled.sentence if self.settled and not self.settled.is_fixed else None,
            )
        return self._record

    def on_report(self, outcome: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The item's record, in what travels from a worker, and what its runner adds once."""
        item = self.conformance_item
        runner = self.conformance.session.runner(item)
        extra: dict[str, Any] = {"title": runner.title}
        if self.verdict is None:
            return builtins(unfinished(item, self.nodeid, outcome, self.conformance.again(self.nodeid))), extra
        extra["warned"] = dict(runner.warned)
        if item.check in runner.tensors:
            extra["cells"] = dict(runner.cells)
        elif runner.property_of(item.check).in_memory_layouts:
            extra["layouts"] = dict(runner.layouts())
        return builtins(msgspec.structs.replace(self.record, outcome=outcome)), extra


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Puts the item's record on its report, and excuses a known failure."""
    report: Any = yield
    if isinstance(item, Check) and call.when == "call":
        reason = item.conformance.expected_to_fail(item.nodeid)
        outcome = report.outcome
        if outcome == "failed" and item.verdict is None:
            outcome = "error"
        elif outcome == "failed" and reason is not None:
            outcome, report.outcome, report.wasxfail = "xfailed", "skipped", f"reason: {reason}"
        report.backproof, report.backproof_extra = item.on_report(outcome)
        report.backproof_fixed = item.settled.sentence if item.settled and item.settled.is_fixed else None
        if isinstance(report.longrepr, Shown):
            report.backproof_headline = report.longrepr.reprcrash.message
    return report
