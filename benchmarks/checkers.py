"""Puts every fault of the gallery before other checkers and before Backproof: who finds what, and for how long.

    python benchmarks/checkers.py                            everything, ten to fifteen minutes
    python benchmarks/checkers.py --write                    the same, and the tables of docs/comparison.md
    python benchmarks/checkers.py --only allclose --layer conv stride      some of it

Each checker is asked in two settings, see `configurations.py`, and two of them on Backproof's own cases too; Backproof
is asked in its profile quick. All stop at their first finding. A fault counts as found if the checker reports something
or the candidate raises. The right implementation that a fault is a change of is asked first: a configuration on which a
checker accuses it is a false alarm, and no fault is asked it. Needs torch.
"""

from __future__ import annotations

import argparse
import signal
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import process_time
from types import FrameType

import numpy as np
import torch
from configurations import SETTINGS, Key, questions
from other_checkers import CHECKERS, Called, Checker

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.judging.properties import PROPERTIES, property_of
from backproof.conformance.judging.runner import PartRunner, quiet
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Space
from backproof.conformance.spec.results import Discrepancy, Status
from backproof.plugins.gallery import EQUIVALENTS, FAULTS, NEEDS, Fault
from backproof.plugins.gallery.fault import layers_of
from backproof.reference import CONTRACTS, LAYERS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "comparison.md"
#: The tables stand between these lines of the page.
BEGIN, END = "<!-- the tables: python benchmarks/checkers.py --write -->", "<!-- the end of the tables -->"

BACKPROOF = "backproof"
#: The columns, by the names that --only takes; Backproof's two settings are profiles.
TITLES = {**{name: checker.title for name, checker in CHECKERS.items()}, BACKPROOF: "Backproof"}
#: The cases that Backproof's tensors are asked, swept and drawn; the slower checkers are not.
OWN = "Backproof's cases"
PROFILE = PROFILES["quick"]
SETTINGS_OF = {**dict.fromkeys(CHECKERS, SETTINGS), BACKPROOF: (PROFILE.name,)}
SETTINGS_OF |= dict.fromkeys(("gradcheck-fast", "allclose"), (*SETTINGS, OWN))
LAYER = {layer.name: layer for layer in LAYERS}
GRADIENTS = {"dx", "dw", "db", "dgamma", "dbeta"}
TENSORS = {"out", *GRADIENTS, "running_mean", "running_var"}
#: Of one checker on one candidate; what takes longer hangs.
SECONDS = 60


@dataclass(frozen=True)
class Verdict:
    """What one checker says of one candidate in one setting; `found` is what it says, None: nothing."""

    found: str | None
    seconds: float
    #: False where the checker cannot be asked in any dtype that the candidate declares.
    asked: bool = True
    #: The configurations on which it found something, where all were asked.
    accused: frozenset[Key] = frozenset()


@dataclass(frozen=True)
class Candidate:
    """One layer of an implementation; `base` is the right one that it is a change of, None: it is right itself."""

    name: str
    layer: str
    spec: str
    base: Candidate | None = None


@dataclass
class Results:
    """All verdicts, by candidate, checker and setting."""

    faults: list[Fault]
    right: list[Candidate]
    only: list[str]
    verdicts: dict[tuple[str, str, str, str], Verdict] = field(default_factory=dict)

    def of(self, candidate: Candidate, checker: str, setting: str) -> Verdict:
        """One of them."""
        return self.verdicts[candidate.spec, candidate.layer, checker, setting]

    def found(self, fault: Fault, checker: str, setting: str) -> bool:
        """Whether a fault was found."""
        return self.of(faulty(fault), checker, setting).found is not None

    def together(self, fault: Fault, setting: str) -> bool:
        """Whether one of the others found it."""
        return any(self.found(fault, checker, setting) for checker in self.others)

    @property
    def others(self) -> list[str]:
        """The checkers that are not Backproof."""
        return [checker for checker in self.only if checker != BACKPROOF]


def faulty(fault: Fault) -> Candidate:
    """A fault as a candidate."""
    base = Candidate(f"{fault.layer}'s {fault.base.__name__}", fault.layer, specification_of(fault.base))
    return Candidate(fault.name, fault.layer, fault.spec, base)


def specification_of(adapter: type) -> str:
    """What names a class where it is defined."""
    return f"{adapter.__module__}:{adapter.__name__}"


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TimeoutError after so many seconds."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer in {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ask(checker: Checker, candidate: Candidate, setting: str, without: Collection[Key]) -> Verdict:
    """One of the others on one candidate, on fresh state; right code is asked everything, faults until one is found."""
    start = process_time()
    adapter, layer = load(candidate.spec, CONTRACTS), LAYER[candidate.layer]
    dtypes = checker.asked(adapter.settings["dtypes"], setting)
    found, accused, refused, answered = None, set(), False, False
    own = [each for dtype in dtypes for each in own_cases(candidate.base or candidate, dtype) if setting == OWN]
    for key, space, case in own or questions(adapter, layer, setting, dtypes):
        if key in without:
            continue
        try:
            with limited(SECONDS), warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                checker.check(Called(adapter, layer, space, case), setting)
            answered = True
        except NotImplementedError:
            refused = True  # no fault, as long as it does not refuse everything
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            found = found or f"{type(error).__name__}: {' '.join(str(error).split())[:150]} ({case.dtype}, {key[2]})"
            accused.add(key)
            if candidate.base is not None:
                break
    if refused and not answered and found is None and candidate.base is not None:
        found = "refuses everything"
    return Verdict(found, process_time() - start, bool(dtypes), frozenset(accused))


@cache
def own_cases(right: Candidate, dtype: str) -> list[tuple[Key, Space, Case]]:
    """What Backproof asks the tensors of a right implementation, and so of its faults, in one dtype."""
    adapter, layer = load(right.spec, CONTRACTS), LAYER[right.layer]
    parts = layer.parts(adapter.implementations[layer.name].settings)
    runners = [PartRunner(layer, part, dtype, adapter, PROFILE, 0) for part in parts]
    asked = [(reference.space, case) for h in runners for reference, cases in (*h.swept, *h.drawn) for case in cases]
    return [
        ((dtype, space.rank, str(case.configuration.shapes), k), space, case) for k, (space, case) in enumerate(asked)
    ]


def try_backproof(candidate: Candidate) -> Verdict:
    """Backproof on one candidate, up to the first failure of any item: what `pytest --impl` draws with seed 0."""
    start = process_time()
    adapter, layer = load(candidate.spec, CONTRACTS), LAYER[candidate.layer]
    found = None
    with limited(10 * SECONDS):
        for part in layer.parts(adapter.implementations[layer.name].settings):
            for dtype in adapter.settings["dtypes"]:
                runner = PartRunner(layer, part, dtype, adapter, PROFILE, 0)
                with quiet(runner.warned):
                    found = found or first_failure(runner)
    return Verdict(found, process_time() - start)


def first_failure(runner: PartRunner) -> str | None:
    """The first thing that is off: in the tensors case by case, then in one item after the other."""
    answered = set()
    for stage in ("swept", "drawn"):
        for reference, cases in getattr(runner, stage):
            for case in cases:
                if stage == "drawn":
                    reference.confirm(case)
                for tensor, judged in property_of("out").judge(case, runner.candidate, reference).items():
                    if isinstance(judged, Discrepancy):
                        return f"{tensor}: {judged.message}"
                    answered.add(judged)
    if Status.RIGHT not in answered:
        return "refuses everything"
    for check in runner.checks:
        if check in PROPERTIES and (failed := runner.item_cases(check).failed):
            return f"{check}: {failed[0][2].message}"
    return None


def can_see(checker: str, fault: Fault, results: Results) -> bool:
    """Whether a fault is one that a checker could find if it were asked the right case.

    A comparison: what makes a result wrong on plain arrays. A gradient checker: what makes either out or gradients
    wrong there; of a wrong out they may be the right gradients. Besides, what one of its kind found anywhere.
    """
    if checker == BACKPROOF:
        return True
    caught = {*fault.caught_by}
    of_gradients = ("out" in caught) != bool(GRADIENTS & caught)
    visible = bool(TENSORS & caught) if checker == "allclose" else of_gradients
    alike = [other for other in results.others if (other == "allclose") == (checker == "allclose")]
    return visible or any(results.found(fault, other, setting) for other in alike for setting in SETTINGS_OF[other])


def run(faults: list[Fault], right: list[Candidate], only: list[str]) -> Results:
    """Every candidate before every checker: right ones first, so that nobody pays for compiling a program."""
    results = Results(faults, right, only)
    bases = {candidate.base for candidate in map(faulty, faults)}
    for candidate in (*right, *map(faulty, faults)):
        told = []
        for checker in only:
            told.append("")
            for setting in SETTINGS_OF[checker]:
                without: Collection[Key] = ()
                if candidate.base is not None:
                    without = results.of(candidate.base, checker, setting).accused
                if checker == BACKPROOF:
                    verdict = try_backproof(candidate)
                elif setting == OWN and candidate.base is None and candidate not in bases:
                    verdict = Verdict(None, 0.0, asked=False)
                else:
                    verdict = ask(CHECKERS[checker], candidate, setting, without)
                results.verdicts[candidate.spec, candidate.layer, checker, setting] = verdict
                told[-1] += "-" if not verdict.asked else "x" if verdict.found else "."
                if candidate.base is None and verdict.found:
                    print(f"FALSE ALARM of {checker}, {setting}: {candidate.name}: {verdict.found}", flush=True)
        print(f"{' '.join(told)}  {candidate.layer} {candidate.name}", flush=True)
    return results


# The tables.


def share(part: int, whole: int) -> str:
    """Such as "30 of 40, 75 %"."""
    return f"{part} of {whole}, {100 * part / whole:.0f} %" if whole else "-"


def by_checker(results: Results) -> str:
    """How many faults each found, by layer, with false alarms and seconds."""
    layers = [name for name in LAYER if any(fault.layer == name for fault in results.faults)]
    titles = [f"{name} ({sum(fault.layer == name for fault in results.faults)})" for name in layers]
    head = [
        "checker",
        "asked",
        *titles,
        "all",
        "of those it can see",
        "false alarms",
        "CPU s",
        "ms a fault",
        "ms a right one",
    ]
    lines = [f"| {' | '.join(head)} |", f"|---|---|{'---:|' * (len(head) - 2)}"]

    def line(title: str, setting: str, found: Callable[[Fault], bool], *rest: str) -> None:
        per_layer = [str(sum(found(fault) for fault in results.faults if fault.layer == name)) for name in layers]
        of_all = share(sum(map(found, results.faults)), len(results.faults))
        lines.append(f"| {' | '.join([title, setting, *per_layer, of_all, *rest])} |")

    for checker in results.only:
        fit = [fault for fault in results.faults if can_see(checker, fault, results)]
        for setting in SETTINGS_OF[checker]:
            verdicts = [results.of(faulty(fault), checker, setting) for fault in results.faults]
            judged = [v for c in results.right if (v := results.of(c, checker, setting)).asked]
            seconds = sum(verdict.seconds for verdict in verdicts)
            line(
                TITLES[checker],
                setting,
                lambda fault, c=checker, s=setting: results.found(fault, c, s),
                share(sum(results.found(fault, checker, setting) for fault in fit), len(fit)),
                f"{sum(verdict.found is not None for verdict in judged)} of {len(judged)}",
                f"{seconds:.1f}",
                f"{1e3 * seconds / max(1, len(verdicts)):.0f}",
                f"{1e3 * sum(verdict.seconds for verdict in judged) / max(1, len(judged)):.0f}",
            )
    for setting in SETTINGS if len(results.others) > 1 else ():
        line("these together", setting, lambda fault, s=setting: results.together(fault, s), *[""] * 5)
    return "\n".join(lines)


def by_condition(results: Results, title: str, rows: Sequence[tuple[str, list[Fault]]]) -> str:
    """How many faults each found, in the course and on the careful list, by what a case must have."""
    others = ["these together"] if len(results.others) > 1 else []
    head = [title, "faults", *(TITLES[checker] for checker in results.others), *others]
    head += [TITLES[BACKPROOF]] if BACKPROOF in results.only else []
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for name, faults in rows:
        cells = [name, str(len(faults))]
        columns = [
            [sum(results.found(fault, checker, setting) for fault in faults) for setting in SETTINGS_OF[checker][:2]]
            for checker in results.only
        ]
        if others:
            both = [sum(results.together(fault, setting) for fault in faults) for setting in SETTINGS]
            columns.insert(len(results.others), both)
        lines.append(f"| {' | '.join([*cells, *(' / '.join(map(str, column)) for column in columns)])} |")
    return "\n".join(lines)


def tables(results: Results) -> str:
    """Everything that stands between the marks of the page."""
    faults = results.faults
    parts = []
    if len(results.others) > 1 and BACKPROOF in results.only:
        course, careful = (sum(results.together(fault, setting) for fault in faults) for setting in SETTINGS)
        own = sum(results.found(fault, BACKPROOF, PROFILE.name) for fault in faults)
        parts.append(
            f"Of {len(faults)} faults the {len(results.others)} other checkers together find {course} on the shapes of "
            f"a course and {careful} on a careful author's list; Backproof, whose own gallery this is, finds {own} in "
            f"its profile quick."
        )
        lent = [
            f"{TITLES[checker]} {sum(results.found(fault, checker, OWN) for fault in faults)}"
            for checker in results.others
            if OWN in SETTINGS_OF[checker]
        ]
        parts.append(f"On the cases that Backproof asks they find more, each alone: {', '.join(lent)}.")
    parts += ["## By layer", by_checker(results)]
    groups = list(dict.fromkeys([*(group for group, _ in NEEDS.values()), "plain"]))
    rows = [(group, [fault for fault in faults if group in fault.groups]) for group in groups]
    first = "Each cell: found on the course's shapes / on the careful list."
    parts += ["## By what a case must have", first]
    parts.append(by_condition(results, "group", [row for row in rows if row[1]]))
    rows = [(NEEDS[need][1], [fault for fault in faults if need in fault.needs]) for need in NEEDS]
    parts.append(by_condition(results, "what the fault needs", [row for row in rows if row[1]]))
    parts += ["## False alarms", *alarms(results)]
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "jax"))
    parts.append(f"Measured with {versions}, Python {sys.version.split()[0]}.")
    return "\n\n".join(parts)


def alarms(results: Results) -> list[str]:
    """Which right implementations each accused, and what Backproof did not find."""
    lines = []
    for checker in results.only:
        for setting in SETTINGS_OF[checker]:
            names = [c.name for c in results.right if results.of(c, checker, setting).found]
            if names:
                lines.append(f"- {TITLES[checker]}, {setting}: {', '.join(names)}")
            missed = [f.name for f in results.faults if checker == BACKPROOF and not results.found(f, checker, setting)]
            if missed:
                lines.append(f"- {TITLES[checker]}, {setting}, does not find: {', '.join(missed)}")
    return ["\n".join(lines) or "None."]


def write(found: str) -> None:
    """Puts the tables into their place on the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of the names of faults; all, if none is given")
    parser.add_argument("--only", nargs="+", choices=list(TITLES), default=list(TITLES), help="these checkers")
    parser.add_argument("--layer", choices=list(LAYER), help="faults of this layer")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    options = parser.parse_args()
    if options.write and (options.names or options.layer or len(options.only) < len(TITLES)):
        parser.error("--write is of everything: leave out --only, --layer and the names")
    torch.set_num_threads(1)
    in_layer = [fault for fault in FAULTS if options.layer in (None, fault.layer)]
    faults = [fault for fault in in_layer if not options.names or any(name in fault.name for name in options.names)]
    right = {(base.spec, base.layer): base for fault in faults if (base := faulty(fault).base) is not None}
    if not options.names:
        for each in EQUIVALENTS:
            for layer in layers_of(each.adapter):
                if options.layer in (None, layer):
                    spec = specification_of(each.adapter)
                    right.setdefault((spec, layer), Candidate(each.name, layer, spec))
    start = process_time()
    only = [checker for checker in TITLES if checker in options.only]
    found = tables(run(faults, list(right.values()), only))
    print(f"\n{found}\n\n{process_time() - start:.0f} CPU seconds in all")
    if options.write:
        write(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
