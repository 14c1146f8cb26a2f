"""The suite in pytest: it is collected beside the tests, runs as items of its own, and reports at the end."""

from __future__ import annotations

import difflib
import os
import random
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backproof import __version__
from backproof.conformance.adapter.load import AdapterError, load
from backproof.conformance.cases.profile import PROFILES, Profile
from backproof.conformance.explaining.explain import Explainer
from backproof.conformance.explaining.related import Ledger, grouped, same_as, same_reason
from backproof.conformance.judging import xfails
from backproof.conformance.judging.kept import Store, write_whole
from backproof.conformance.judging.session import Session
from backproof.conformance.reporting import record, sentences
from backproof.conformance.reporting.record import Item, Report
from backproof.conformance.reporting.scripts import Reproductions
from backproof.plugins import collection
from backproof.plugins.collection import Group, Shown
from backproof.reference import CONTRACTS, LAYERS

ROOT = "backproof"
NAME = "backproof-conformance"
#: What --impl-report writes, by suffix.
REPORTS = (".json", ".html", ".md")
#: Seconds between two lines of progress.
PROGRESS_SECONDS = 5.0


def register(config: pytest.Config) -> None:
    """Reads the options, loads the adapter and turns the suite on. Raises pytest.UsageError."""
    specs = config.getoption("--impl") or []
    if len(specs) > 1:
        raise pytest.UsageError(f"--impl is given once, found {len(specs)}: {', '.join(specs)}. Run pytest for each.")
    spec = specs[0] if specs else config.getini("backproof_impl")
    picks, alone = _take_arguments(config, named=bool(specs))
    # NumPy first: an adapter's folder may hold a numpy.py, and it goes to the front of sys.path.
    import numpy  # noqa: F401

    try:
        profile, seed = _profile(config)
        known = _xfails(config)
        reports = _reports(config)
        adapter = load(spec, CONTRACTS, Path(config.invocation_params.dir))
    except (AdapterError, xfails.XfailsError) as error:
        raise pytest.UsageError(str(error)) from None
    config.addinivalue_line("markers", "backproof: an item of the conformance suite")
    conformance = Conformance(config, spec, adapter, profile, seed, picks, alone, known, reports)
    conformance.check_picks()
    config.pluginmanager.register(conformance, NAME)
    config.pluginmanager.register(collection, f"{NAME}-items")


def _take_arguments(config: pytest.Config, *, named: bool) -> tuple[tuple[str, ...], bool]:
    """The ids among the arguments, taken from them, and whether only the suite is collected.

    With --impl (`named`) and no path only the suite is; with paths both are.
    """
    given = config.args if config.args_source is config.ArgsSource.ARGS else []
    picks = tuple(argument for argument in given if argument.split("::")[0] == ROOT and not Path(argument).exists())
    paths = [argument for argument in given if argument not in picks]
    alone = not paths and (named or bool(picks))
    if alone or picks:
        config.args[:] = paths
    return picks, alone


def _whole(config: pytest.Config, name: str, least: int) -> int | None:
    given = config.getoption(f"--impl-{name}")
    if given is None:
        return None
    try:
        value = int(given)
    except ValueError:
        value = least - 1
    if value < least:
        raise pytest.UsageError(f"--impl-{name}={given}: must be a whole number, {least} or more.")
    return value


def _profile(config: pytest.Config) -> tuple[Profile, int]:
    name = config.getoption("--impl-profile") or "default"
    if name not in PROFILES:
        raise pytest.UsageError(f"--impl-profile={name}: must be one of {', '.join(PROFILES)}.")
    examples, seed = _whole(config, "examples", 1), _whole(config, "seed", 0)
    profile = PROFILES[name] if examples is None else replace(PROFILES[name], examples=examples)
    if seed is None and hasattr(config, "workerinput"):
        seed = config.workerinput["backproof_seed"]
    if seed is None:
        seed = random.SystemRandom().randrange(2**32) if name == "deep" else 0
    return profile, seed


def _xfails(config: pytest.Config) -> tuple[xfails.KnownFailure, ...]:
    file = config.getoption("--impl-xfails")
    return () if file is None else xfails.read(Path(config.invocation_params.dir, file))


def _reports(config: pytest.Config) -> tuple[Path, ...]:
    paths = tuple(Path(config.invocation_params.dir, name) for name in config.getoption("--impl-report") or ())
    for path in paths:
        if path.suffix not in REPORTS:
            raise pytest.UsageError(f"--impl-report={path.name}: must end in {', '.join(REPORTS)}.")
        if path.is_dir():
            raise pytest.UsageError(f"--impl-report={path.name}: is a folder, must be a file.")
    return paths


@dataclass(eq=False)
class Conformance:
    """The plugin of one run."""

    config: pytest.Config
    spec: str
    adapter: Any
    profile: Profile
    seed: int
    picks: tuple[str, ...]
    alone: bool
    known: Sequence[xfails.KnownFailure]
    reports: Sequence[Path]

    def __post_init__(self) -> None:
        self.started = self._shown = time.perf_counter()
        directory = Path(self.config.invocation_params.dir)
        self.store = Store(directory, self.spec)
        self.reproductions = Reproductions(directory, self.spec, self.reports[0] if self.reports else None)
        self.fixed: list[str] = []
        self.session = Session(self.adapter, LAYERS, self.profile, self.seed, self._progress, self._kept)
        self.explainer = Explainer(self.profile)
        self.ledger = Ledger()
        self.records: dict[str, Item] = {}
        self.extras: dict[str, dict[str, Any]] = {}
        self.selected: list[Any] = []
        self._unmet: list[tuple[xfails.KnownFailure, str]] | None = None
        self._written: list[str] = []
        self._annotations: list[str] = []

    # Collection

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tells a worker of a distributed run the seed, which may have been drawn."""
        node.workerinput["backproof_seed"] = self.seed

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        """Hangs the suite behind whatever the session collects."""
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:  # type: ignore[attr-defined]
            root = Group.from_parent(collector, name=ROOT, nodeid=ROOT, conformance=self)
            report.result = [*report.result, root]  # type: ignore[attr-defined]
        return report

    def check_picks(self) -> None:
        """Raises pytest.UsageError for an id that matches nothing."""
        ours = [self._identifier(item) for item in self.session.items] if self.picks else []
        for pick in self.picks:
            if not any(_under(identifier, pick) for identifier in ours):
                known = list(dict.fromkeys(part for name in ours for part in _prefixes(name)))
                near = difflib.get_close_matches(pick, known, 1, 0.5)
                hint = f" The nearest is {near[0]}." if near else ""
                raise pytest.UsageError(f"{pick}: no item of the suite has this id.{hint}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keeps the picked items."""
        if not self.picks:
            return
        gone = [
            item
            for item in items
            if hasattr(item, "conformance_item") and not any(_under(item.nodeid, pick) for pick in self.picks)
        ]
        if gone:
            config.hook.pytest_deselected(items=gone)
            dropped = set(gone)
            items[:] = [item for item in items if item not in dropped]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Notes which items are left: they decide whether a layer refused the whole run."""
        self.selected = [item.conformance_item for item in session.items if hasattr(item, "conformance_item")]

    def _kept(self, part: Any) -> Mapping[str, Sequence[Any]]:
        spaces = [reference.space for reference in part.references]
        names = {i.check: self._identifier(i) for i in part.items if not part.property_of(i.check).is_listed}
        return {check: list(self.store.read(name, part.layer, spaces)) for check, name in names.items()}

    def expected_to_fail(self, identifier: str) -> str | None:
        """The reason of the known failure that matches an item; None if none does."""
        for line in self.known:
            if line.matches(identifier):
                return line.reason or "known failure"
        return None

    def again(self, identifier: str) -> str:
        """The command that judges one item as this run does."""
        given = {
            "impl": self.spec,
            "impl-profile": self.config.getoption("--impl-profile"),
            "impl-examples": self.config.getoption("--impl-examples"),
            "impl-seed": str(self.seed) if self.seed else None,
        }
        options = [shlex.quote(f"--{name}={value}") for name, value in given.items() if value is not None]
        return " ".join(["pytest", *options, identifier])

    # Progress

    def _progress(self, title: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if now - self._shown < PROGRESS_SECONDS or hasattr(self.config, "workerinput"):
            return
        self._shown = now
        capture = self.config.pluginmanager.getplugin("capturemanager")
        terminal = self.config.pluginmanager.getplugin("terminalreporter")
        if terminal is None:
            return
        line = sentences.progress(title, done, total, now - self.started)
        if capture is None:
            terminal.write_line(line)
        else:
            with capture.global_and_fixture_disabled():
                terminal.ensure_newline()
                terminal.write_line(line)

    # Reporting

    def pytest_report_header(self) -> list[str]:
        """The candidate, its layers, profile and seed."""
        return sentences.header(self.adapter, self.spec, __version__, LAYERS, self.profile, self.seed, alone=self.alone)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Collects the items' records, which travel on their reports, from workers too."""
        if report.when == "call" and hasattr(report, "backproof"):
            self.records[report.nodeid] = record.item_of(report.backproof)
            if report.backproof_fixed:
                self.fixed.append(report.backproof_fixed)
            extra = report.backproof_extra
            self.extras.setdefault(extra["title"], {}).update(extra)
        if isinstance(report.longrepr, str) and hasattr(report, "backproof_headline"):
            # From a worker, whose failures arrive as their text alone.
            report.longrepr = Shown(report.longrepr, report.backproof_headline, self.adapter, self.spec)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judges the known failures and writes the reports, before the terminal's summary shows them."""
        if hasattr(self.config, "workerinput") or session.config.option.collectonly:
            return
        failed = {name: item.outcome in ("failed", "xfailed", "error") for name, item in self.records.items()}
        self._unmet = xfails.unmet(self.known, failed, complete=self._complete())
        if self._unmet and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._mark_unexpected()
        report = self._report()
        if self.reports and not self._write(report):
            session.exitstatus = max(int(session.exitstatus), int(pytest.ExitCode.TESTS_FAILED))
        if "GITHUB_ACTIONS" in os.environ:
            root = Path(os.environ.get("GITHUB_WORKSPACE") or self.config.invocation_params.dir)
            # Late: only GitHub reads annotations.
            from backproof.conformance.reporting.pages.annotations import annotations

            self._annotations = annotations(report, self.adapter, root)

    def _complete(self) -> bool:
        return all(self._identifier(item) in self.records for item in self.session.items)

    @staticmethod
    def _identifier(item: Any) -> str:
        return "::".join((ROOT, *item.path))

    def _mark_unexpected(self) -> None:
        for line, _ in self._unmet or ():
            for name, item in self.records.items():
                if line.matches(name) and item.outcome == "passed":
                    self.records[name] = msgspec.structs.replace(item, outcome="xpassed")

    def _report(self) -> Report:
        """The run as one value, of which every report is made."""
        complete = self._complete()
        for name, first in same_as(self._diagnoses()).items():
            self.records[name] = msgspec.structs.replace(self.records[name], same_as=first)
        items = tuple(
            self.records[name] for item in self.session.items if (name := self._identifier(item)) in self.records
        )
        return Report(
            schema=record.SCHEMA,
            impl=self.spec,
            backproof=__version__,
            duration_s=round(time.perf_counter() - self.started, 3),
            conforms=record.conforms(items, complete=complete, unmet=bool(self._unmet)),
            complete=complete,
            profile=self.profile.name,
            seed=self.seed,
            items=items,
            cells=self._cells(),
        )

    def _write(self, report: Report) -> bool:
        whole = True
        for path in self.reports:
            try:
                write_whole(path, _rendered(report, path.suffix))
                self._written.append(f"report: {path}")
            except OSError as error:
                whole = False
                self._written.append(f"--impl-report={path} could not be written: {error.strerror or error}.")
        return whole

    def _cells(self) -> dict[str, dict[str, int]]:
        """For each part, in how many judged cases every cell was hit, over all dtypes."""
        cells: dict[str, dict[str, int]] = {}
        for title, extra in self.extras.items():
            counts = cells.setdefault(title.split("::")[0], {})
            for cell, count in (*extra.get("cells", {}).items(), *extra.get("layouts", {}).items()):
                counts[cell] = counts.get(cell, 0) + count
        return {part: counts for part, counts in cells.items() if counts}

    def _diagnoses(self) -> list[tuple[str, str, list[tuple[str, ...]]]]:
        """Of every failing item its identifier, its layer and what explains each of its failures."""
        order = [name for item in self.session.items if (name := self._identifier(item)) in self.records]
        records = [(name, self.records[name]) for name in order]
        return [(name, item.layer, [f.diagnosis for f in item.failures]) for name, item in records if item.failures]

    def _same_reasons(self) -> list[str]:
        """The failures that belong together, a line each; workers report what they know."""
        failures = ((name, layer, one) for name, layer, diagnoses in self._diagnoses() for one in diagnoses)
        return self.ledger.summary() or [same_reason(*group) for group in grouped(failures)]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """One line a layer, and what else there is to know once."""
        if not self.records and not self._unmet:
            return
        terminalreporter.section(f"backproof: {self.spec}")
        for layer in LAYERS:
            mine = [item for item in self.records.values() if item.layer == layer.name]
            if mine:
                red = any(item.outcome in ("failed", "error", "xpassed") for item in mine)
                terminalreporter.write_line(sentences.layer_summary(layer, mine), red=red, green=not red)
        for line in self.fixed:
            terminalreporter.write_line(line, green=True)
        for line in self._same_reasons():
            terminalreporter.write_line(line)
        for line in sentences.coverage(self._cells()):
            terminalreporter.write_line(line)
        warned: dict[str, int] = {}
        for extra in self.extras.values():
            for text, count in extra.get("warned", {}).items():
                warned[text] = warned.get(text, 0) + count
        for line in sentences.warned(warned):
            terminalreporter.write_line(line)
        if self._unmet:
            file = self.config.getoption("--impl-xfails")
            for _, sentence in self._unmet:
                terminalreporter.write_line(f"{file}: {sentence}", red=True)
        for line in self._written:
            terminalreporter.write_line(line)
        for line in self._annotations:
            terminalreporter.write_line(line)


def _rendered(report: Report, suffix: str) -> str:
    """The report in the form that the suffix names."""
    if suffix == ".json":
        return record.text(report)
    # Late: who writes no page imports no jinja2.
    from backproof.conformance.reporting.pages.html import html
    from backproof.conformance.reporting.pages.markdown import markdown

    return html(report, LAYERS) if suffix == ".html" else markdown(report)


def _under(identifier: str, pick: str) -> bool:
    return identifier == pick or identifier.startswith(f"{pick}::")


def _prefixes(identifier: str) -> list[str]:
    parts = identifier.split("::")
    return ["::".join(parts[:k]) for k in range(1, len(parts) + 1)]
