"""What the suite sees of the gallery of faults.

    python benchmarks/gallery.py matrix                      fault by item, on quick: what escapes
    python benchmarks/gallery.py matrix --right              and what is right and accused
    python benchmarks/gallery.py matrix --profile quick --profile default --write
    python benchmarks/gallery.py power --write               how likely each fault is found, over many seeds
    python benchmarks/gallery.py minimal --write             the counterexamples, against every smaller case there is
    python benchmarks/gallery.py minimal --unseen            those of faults that the gallery does not have (unseen.py)
    python benchmarks/gallery.py measure NAME ... --write    kinds, smallest case and further items of faults, measured
    python benchmarks/gallery.py lists --write               what is right, and what is not there
    python benchmarks/gallery.py exact --seeds 20 --write    every item's verdict at seed after seed
    python benchmarks/gallery.py matrix NAME ...             of some faults alone

Each fault is judged in its own layer alone, on the cases that its right base is asked, and neither shrunk nor
explained. A fault is found when every item that is named for it fails; `--write` puts the tables into docs/gallery.md,
and what is measured into plugins/gallery/measured.json; measured.py says what a measurement leaves there as it is.
Exit status 1: `matrix`: an item misses a fault for which it is named, or fails away from its trigger, or a right
implementation is accused; `exact`: an item fails that is not named; `power`: a fault is found at less than 99 % of the
seeds, quick aside; `minimal`: a counterexample that is said to be proved is not the smallest; `measure`: an item misses
a fault for which it is named, or fails at every seed and is not named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from statistics import median
from time import perf_counter
from typing import TypeVar

from brute_force import DECIDED, is_decidable, minima
from gallery_page import PAGE, lists, matrix_table, write_table
from measured import MEASURED, joined, write_lines
from unseen import UNSEEN, Unseen

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.explain import counterexamples
from backproof.conformance.judging.properties import PROPERTIES, property_of
from backproof.conformance.judging.runner import PartRunner
from backproof.plugins.gallery import EQUIVALENTS, FAULTS, OUT_OF_SCOPE, Fault
from backproof.plugins.gallery.conditions import ALWAYS
from backproof.plugins.gallery.fault import Measured
from backproof.plugins.gallery.runner import STAGES, Admits, GalleryRunner, everything, runners
from backproof.reference import CONTRACTS, LAYERS

LAYER = {layer.name: layer for layer in LAYERS}
FAULT = {fault.name: fault for fault in FAULTS}
UNSEEN_FAULT = {fault.name: fault for fault in UNSEEN}
EQUIVALENT = {equivalent.name: equivalent for equivalent in EQUIVALENTS}
#: Where the sweep does not find a fault, and where it does: so many seeds say how likely it is found.
SEEDS, FEW_SEEDS = 50, 5

#: A process takes a family: no one of them may take much longer than the others.
MOST_OF_A_FAMILY = 16

#: The names of faults of one right base, which share its cases.
Family = tuple[str, ...]

S, T = TypeVar("S"), TypeVar("T")


@dataclass
class Row:
    """One fault on one profile and seed: of each item that fails, the number of cases that it took."""

    name: str
    found: dict[str, int] = field(default_factory=dict)
    #: Items that fail though they are not named for it; those that are named and pass.
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    #: Items that fail where nothing should, away from the trigger, and how many of the cases there were judged for the
    #: items that are named; None: it has no trigger to be kept from.
    away: list[str] = field(default_factory=list)
    asked_away: int | None = None
    seconds: float = 0.0
    #: Elements of the first case that fails.
    elements: int = 0


def families(faults: Iterable[Fault]) -> list[Family]:
    """The faults by their right bases, at most so many together; the largest families first."""
    order = sorted(faults, key=lambda fault: (fault.layer, fault.base_spec))
    groups = (list(group) for _, group in groupby(order, key=lambda fault: (fault.layer, fault.base_spec)))
    parts = [
        group[start : start + MOST_OF_A_FAMILY] for group in groups for start in range(0, len(group), MOST_OF_A_FAMILY)
    ]
    return sorted((tuple(fault.name for fault in part) for part in parts), key=len, reverse=True)


def of_base(fault: Fault, profile: str, seed: int) -> tuple[PartRunner, ...]:
    """The runners of its right base."""
    return runners(load(fault.base_spec, CONTRACTS), LAYER[fault.layer], PROFILES[profile], seed)


def gallery_runners(
    fault: Fault, bases: Iterable[PartRunner], stages: Sequence[str] = STAGES, admitted: Admits = everything
) -> Iterator[GalleryRunner]:
    """The runners of a fault, on its base's cases or some of them."""
    adapter = load(fault.spec, CONTRACTS)
    return (GalleryRunner(adapter, base, admitted, stages) for base in bases)


def judged(fault: Fault, bases: Sequence[PartRunner], stages: Sequence[str] = STAGES, seed: int = 0) -> Row:
    """Every item's verdict on a fault: in how many cases it fails. At a `seed` other than 0 the lists are left out."""
    row, start = Row(fault.name), perf_counter()
    failed: dict[str, int] = {}
    for runner in gallery_runners(fault, bases, stages):
        for check in (
            runner.checks if not seed else [check for check in runner.checks if not property_of(check).is_listed]
        ):
            item_cases = runner.item_cases(check)
            if item_cases.failed:
                failed.setdefault(check, len(item_cases.failed))
    row.seconds = perf_counter() - start
    row.found = failed
    row.wrong = [check for check in failed if check not in fault.caught_by and check not in fault.sometimes]
    row.missed = [check for check in fault.caught_by if check not in failed]
    return row


def first(fault: Fault, bases: Iterable[PartRunner], checks: Sequence[str], stages: Sequence[str] = STAGES) -> Row:
    """How soon these items find a fault; each stops at its first failure."""
    row, start, waiting, asked = Row(fault.name), perf_counter(), list(checks), 0
    for runner in gallery_runners(fault, bases, stages):
        here = [check for check in waiting if check in runner.checks]
        for check, found in runner.first_failures(here).items():
            if found is not None:
                count, case = found
                row.found[check] = asked + count
                row.elements = row.elements or case.configuration.elements
                waiting.remove(check)
        asked += sum(len(cases) for stage in (runner.swept, runner.drawn) for _, cases in stage)
        if not waiting:
            break
    row.missed, row.seconds = waiting, perf_counter() - start
    return row


def matrix(profile: str, seed: int, family: Family) -> list[Row]:
    """For each fault how soon it is found, and what fails away from its trigger."""
    faults = [FAULT[name] for name in family]
    bases = of_base(faults[0], profile, seed)
    for base in bases:  # what is right is not the fault's time
        for check in base.checks:
            base.item_cases(check)
    rows = []
    for fault in faults:
        rows.append(row := first(fault, bases, fault.caught_by))
        if fault.trigger.holds is not ALWAYS.holds:
            keep_away(fault, bases, row)
    return rows


def keep_away(fault: Fault, bases: Sequence[PartRunner], row: Row) -> None:
    """Asks a fault only what lies outside of its trigger."""
    row.asked_away = 0
    for runner in gallery_runners(fault, bases, admitted=lambda case: not fault.trigger(case)):
        row.away += [check for check in runner.checks if runner.item_cases(check).failed]
        row.asked_away += sum(runner.item_cases(check).judged for check in fault.caught_by if check in runner.checks)


def accused(profile: str, seed: int, name: str) -> list[str]:
    """What is said of a right implementation."""
    equivalent = EQUIVALENT[name]
    adapter = load(equivalent.spec, CONTRACTS)
    return [
        f"{equivalent.name} is right and fails {runner.title}::{check}: {item_cases.failed[0][2].message}"
        for layer in equivalent.layers
        for runner in runners(adapter, LAYER[layer], PROFILES[profile], seed)
        for check in runner.checks
        if (item_cases := runner.item_cases(check)).failed
    ]


def show_matrix(faults: Sequence[Fault], options: argparse.Namespace) -> int:
    """Prints what became of each fault, and writes the table."""
    by_profile: dict[str, dict[str, Row]] = {}
    complaints: list[str] = []
    for profile in options.profile:
        start = perf_counter()
        rows = [
            row for rows in spread(partial(matrix, profile, options.seed), families(faults), options) for row in rows
        ]
        by_profile[profile] = {row.name: row for row in rows}
        for row in rows:
            complaints += [f"{row.name} escapes {check} on {profile}" for check in row.missed]
            complaints += [f"{row.name} fails {check} on {profile} away from its trigger" for check in row.away]
        found = sum(not row.missed for row in by_profile[profile].values())
        least = sorted(max(row.found.values(), default=0) for row in by_profile[profile].values())
        print(
            f"{profile}: {found} of {len(faults)} faults found by all items named for them; half of them within "
            f"{median(least):.0f} cases; {perf_counter() - start:.0f} s"
        )
        bare = [row.name for row in rows if row.asked_away == 0]
        free = sum(row.asked_away is None for row in rows)
        print(
            f"{profile}: {len(rows) - free - len(bare)} pass in the cases away from their triggers; {len(bare)} have "
            f"no such case ({', '.join(bare) or 'none'}), {free} show in every case or by how it is asked"
        )
        if options.right:
            said = [
                line for lines in spread(partial(accused, profile, options.seed), EQUIVALENT, options) for line in lines
            ]
            print(f"{profile}: {len(EQUIVALENTS)} right implementations, {len(said)} accusations")
            complaints += said
    for complaint in complaints:
        print(complaint)
    if options.write:
        write_table("matrix", matrix_table(faults, by_profile))
    return min(1, len(complaints))


@dataclass
class Power:
    """Of one fault on one profile: at how many seeds it is found by all items, and which items the sweep decides."""

    name: str
    profile: str
    swept: bool
    found: int = 0
    seeds: int = 0
    missed: dict[int, list[str]] = field(default_factory=dict)


def power(profile: str, seeds: int, family: Family) -> list[Power]:
    """What the sweep finds holds for every seed; the rest is tried."""
    faults = [FAULT[name] for name in family]
    bases = of_base(faults[0], profile, 0)
    found: dict[str, Power] = {}
    left: dict[str, list[str]] = {}
    for fault in faults:
        # How arrays lie in memory is drawn, of the swept cases too.
        steady = [check for check in fault.caught_by if check != "memory_layout"]
        row = first(fault, bases, steady, ("sweep",))
        left[fault.name] = [check for check in fault.caught_by if check not in row.found]
        found[fault.name] = Power(fault.name, profile, swept=not left[fault.name])
    for seed in range(seeds):
        wanted = [fault for fault in faults if left[fault.name] or seed < FEW_SEEDS]
        if not wanted:
            break
        bases = of_base(faults[0], profile, seed)
        for fault in wanted:
            checks = left[fault.name] or fault.caught_by
            stages = STAGES if any(check in PROPERTIES for check in checks) or not left[fault.name] else ("drawn",)
            row, tried = first(fault, bases, checks, stages), found[fault.name]
            tried.seeds += 1
            tried.found += not row.missed
            if row.missed:
                tried.missed[seed] = row.missed
    return list(found.values())


def show_power(faults: Sequence[Fault], options: argparse.Namespace) -> int:
    """Prints the faults that some seed misses, and writes the table."""
    lines = [
        "| profile | faults | found by the sweep, so at every seed | found at every seed tried | the others |",
        "|---|---:|---:|---:|---|",
    ]
    weak = 0
    for profile in options.profile:
        start = perf_counter()
        rows = [
            row for rows in spread(partial(power, profile, options.seeds), families(faults), options) for row in rows
        ]
        others = [row for row in rows if row.found < row.seeds]
        for row in others:
            print(f"{profile}: {row.name} is found at {row.found} of {row.seeds} seeds; missed: {row.missed}")
        told = ", ".join(f"`{row.name}` {row.found}/{row.seeds}" for row in others) or "none"
        swept = sum(row.swept for row in rows)
        lines.append(
            f"| {profile} | {len(rows)} | {swept} | {len(rows) - swept - sum(not r.swept for r in others)} | {told} |"
        )
        print(lines[-1], f"{perf_counter() - start:.0f} s")
        if profile != "quick":
            weak += sum(row.found < 0.99 * row.seeds for row in rows)
    if options.write:
        write_table("power", "\n".join(lines))
    return min(1, weak)


def exact(profile: str, seeds: int, family: Family) -> list[str]:
    """What is wrong at any seed: items that miss a fault, or that are not named for it."""
    complaints = []
    for seed in range(seeds):
        bases = of_base(FAULT[family[0]], profile, seed)
        for fault in map(FAULT.__getitem__, family):
            # The sweep and the lists are the same for every seed, and memory layouts are not.
            row = judged(fault, bases, STAGES if seed == 0 or "memory_layout" in fault.caught_by else ("drawn",), seed)
            complaints += [f"{fault.name} fails {check} at seed {seed}, not named for it" for check in row.wrong]
            missed = [check for check in row.missed if not seed or not property_of(check).is_listed]
            lost = first(fault, bases, missed).missed if missed else []
            complaints += [f"{fault.name} escapes {check} at seed {seed}" for check in lost]
    # A run of many seeds takes long: what is known of a family is told when it is done.
    print(f"{profile}: {len(family)} of {FAULT[family[0]].base.__name__}", *complaints, sep="\n    ", flush=True)
    return complaints


def show_exact(faults: Sequence[Fault], options: argparse.Namespace) -> int:
    """Prints every verdict that is not as it should be, and writes how many there are."""
    said: list[str] = []
    lines = ["| profile | faults | seeds | verdicts that are not as named |", "|---|---:|---:|---:|"]
    for profile in options.profile:
        start = perf_counter()
        found = [
            line
            for lines in spread(partial(exact, profile, options.seeds), families(faults), options)
            for line in lines
        ]
        lines.append(f"| {profile} | {len(faults)} | {options.seeds} | {len(found)} |")
        print(lines[-1], f"{perf_counter() - start:.0f} s")
        said += found
    if options.write:
        write_table("exact", "\n".join(lines))
    return min(1, len(said))


@dataclass
class Shown:
    """One counterexample: its size as (elements, excess), and that of the smallest case that fails alike.

    `known` is False where not all smaller ones could be tried.
    """

    name: str
    check: str
    kind: str
    size: tuple[int, int]
    least: tuple[int, int] | None
    known: bool
    proved: bool
    seconds: float


def minimal(seconds: float, name: str) -> list[Shown]:
    """The counterexample of every item that fails, in each kind."""
    fault: Fault | Unseen = FAULT.get(name) or UNSEEN_FAULT[name]
    shown = []
    for runner in of_itself(fault):
        start, reported = perf_counter(), {}
        for check in (*fault.caught_by, *sorted(fault.sometimes)):
            for found in counterexamples(runner, check, causes=False) if check in runner.checks else ():
                reported[check, str(found.discrepancy.kind)] = found
        took = perf_counter() - start
        decided = {key: found.case.configuration.size for key, found in reported.items() if key[0] in DECIDED}
        least = minima(fault, runner.part.ranks, decided, seconds) if decided and is_decidable(fault) else {}
        for (check, kind), found in reported.items():
            smallest, known = least.get((check, kind), (None, False))
            size = found.case.configuration.size
            shown.append(Shown(name, check, kind, size, smallest, known, found.proved, took / len(reported)))
    # All faults take long: what is known of one is told when it is done.
    tried = sum(each.known for each in shown)
    print(
        f"{name}: {len(shown)} counterexamples, all smaller tried of {tried}", *above(shown), sep="\n    ", flush=True
    )
    return shown


def above(shown: Iterable[Shown]) -> list[str]:
    """The counterexamples that are not the smallest."""
    return [
        f"{each.name} {each.check} {each.kind}: {each.size} reported, {each.least} fails too"
        for each in shown
        if each.known and each.least is not None and each.size > each.least
    ]


def of_itself(fault: Fault | Unseen) -> tuple[PartRunner, ...]:
    """The runners of a fault on quick, as a user has them."""
    return runners(load(fault.spec, CONTRACTS), LAYER[fault.layer], PROFILES["quick"], 0)


def show_minimal(faults: Sequence[Fault], options: argparse.Namespace) -> int:
    """Prints the counterexamples that are not the smallest, and writes the figures."""
    names = [fault.name for fault in (UNSEEN if options.unseen else faults)]
    shown = [each for found in spread(partial(minimal, options.seconds), names, options) for each in found]
    known = [each for each in shown if each.known]
    larger = [each for each in known if each.least is not None and each.size > each.least]
    ratios = [each.size[0] / each.least[0] for each in known if each.least is not None]
    lines = [
        "| counterexamples | of faults | all smaller tried | the smallest | median size, smallest = 1 | proved |",
        "|---:|---:|---:|---:|---:|---:|",
        f"| {len(shown)} | {len({each.name for each in shown})} | {len(known)} | {len(known) - len(larger)} "
        f"({100 * (1 - len(larger) / max(1, len(known))):.1f} %) | {median(ratios or [1]):.2f} "
        f"| {sum(each.proved for each in shown)} |",
    ]
    print(*lines, sep="\n")
    if options.write and not options.unseen:
        write_table("minimal", "\n".join(lines))
    return min(1, sum(each.proved for each in larger))


def measure(first_seed: int, seeds: int, name: str) -> tuple[Measured, list[str]]:
    """What is measured of a fault on quick, and what is wrong with the items that it names."""
    fault, failed, kinds = FAULT[name], [], set()
    for seed in range(first_seed, first_seed + seeds):
        judged_cases = [
            (check, runner.item_cases(check))
            for runner in gallery_runners(fault, of_base(fault, "quick", seed))
            for check in runner.checks
        ]
        failed.append({check for check, cases in judged_cases if cases.failed})
        if seed == first_seed:
            kinds = {str(discrepancy.kind) for _, cases in judged_cases for *_, discrepancy in cases.failed}
    check = fault.caught_by[0]
    shown = [
        found.case
        for runner in of_itself(fault)
        if check in runner.checks
        for found in counterexamples(runner, check, causes=False)
    ]
    return joined(fault, kinds, failed, shown)


def show_measure(faults: Sequence[Fault], options: argparse.Namespace) -> int:
    """Prints what is measured otherwise than the file says, and writes it there."""
    names = [fault.name for fault in faults]
    found = spread(partial(measure, options.seed, options.seeds), names, options)
    changed = {fault.name: line for fault, (line, _) in zip(faults, found, strict=True) if line != fault.measured}
    said = [line for _, complaints in found for line in complaints]
    print(f"{len(names)} faults measured, {len(changed)} otherwise than {MEASURED.name} says")
    print(*[f"{name}: {line}" for name, line in changed.items()], *said, sep="\n")
    if options.write:
        write_lines(changed, FAULT)
    return min(1, len(said))


def show_lists(faults: Sequence[Fault], options: argparse.Namespace) -> int:
    """Prints how many right implementations there are and how much is not there, and writes both."""
    print(f"{len(faults)} faults, {len(EQUIVALENTS)} right implementations, {len(OUT_OF_SCOPE)} entries left out")
    for name, table in lists().items() if options.write else ():
        write_table(name, table, "lists")
    return 0


def spread(function: Callable[[S], T], tasks: Iterable[S], options: argparse.Namespace) -> list[T]:
    """What the function gives of each task, in so many processes."""
    if options.processes == 1:
        return [function(task) for task in tasks]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        return list(pool.map(function, tasks))


COMMANDS = {
    "matrix": show_matrix,
    "power": show_power,
    "exact": show_exact,
    "minimal": show_minimal,
    "measure": show_measure,
    "lists": show_lists,
}


def main() -> int:
    """Runs one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("names", nargs="*", help="faults; all, if none is given")
    parser.add_argument("--profile", action="append", choices=("quick", "default"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, help=f"{SEEDS}, in measure {FEW_SEEDS}")
    parser.add_argument("--seconds", type=float, default=20.0, help="for all smaller cases of one fault, in minimal")
    parser.add_argument("--right", action="store_true", help="in matrix: the right implementations too")
    parser.add_argument("--unseen", action="store_true", help="in minimal: the faults of unseen.py")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"put the tables into {PAGE.name}, measurements into {MEASURED.name}",
    )
    options = parser.parse_intermixed_args()
    options.profile = options.profile or ["quick"]
    options.seeds = options.seeds or (FEW_SEEDS if options.command == "measure" else SEEDS)
    unknown = set(options.names) - FAULT.keys()
    if unknown:
        parser.error(f"the gallery has no fault called {', '.join(sorted(unknown))}.")
    faults = [fault for fault in FAULTS if not options.names or fault.name in options.names]
    return COMMANDS[options.command](faults, options)


if __name__ == "__main__":
    sys.exit(main())
