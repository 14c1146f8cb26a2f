"""Where a fault shows, as the suite tells it, against where the gallery knows that it shows.

    python benchmarks/regions.py                     every fault
    python benchmarks/regions.py --layer conv        those of one layer
    python benchmarks/regions.py NAME ...            some of them
    python benchmarks/regions.py --part 2/8          every eighth, from the second
    python benchmarks/regions.py --unseen            faults whose author had not read the catalogue (unseen.py)

Each fault is judged on quick at seed 0 by the first item that is named for it, and the rule of its region found. Rule
and trigger are then compared on held cases, which were never asked: drawn at another seed and swept, with dense numbers
behind which hardly a fault hides. "equal": rule and trigger say the same of every held case. "as it fails": the rule
says of every held case whether the item fails, and the trigger does not. Exit status 1 where fewer than 90 % are one or
the other, or a rule is contradicted by its own counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from time import process_time

import numpy as np
from unseen import UNSEEN, Unseen

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.draw import drawn
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.cases.sweep import swept
from backproof.conformance.explaining.counterexample import EVERYWHERE, SOMEHOW_EVERYWHERE
from backproof.conformance.explaining.region import RegionSearch, dense
from backproof.conformance.explaining.rules import Rule
from backproof.conformance.judging.properties import property_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.judging.runner import PartRunner, quiet
from backproof.conformance.spec import memory_layouts as layouts
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy, Status
from backproof.plugins.gallery import FAULTS, Fault
from backproof.plugins.gallery.conditions import ALWAYS
from backproof.plugins.gallery.runner import runners
from backproof.reference import CONTRACTS, LAYERS

LAYER = {layer.name: layer for layer in LAYERS}
FAULT: dict[str, Fault | Unseen] = {fault.name: fault for fault in (*FAULTS, *UNSEEN)}
#: The seed of held cases, and how many are drawn and swept of each rank.
HELD_SEED, DRAWN, SWEPT = 424242, 200, 120
#: What must be equal, or as it fails.
SHARE = 0.9


@dataclass
class Row:
    """One fault: the rule that was found and how it compares."""

    name: str
    item: str
    rule: str | None
    trigger: str
    evidence: tuple[int, int] = (0, 0)
    inside: int = 0
    configurations: bool = False
    asked: int = 0
    held: int = 0
    verdict: str = "none"
    contradicted: int = 0
    differs: list[str] = field(default_factory=list)
    seconds: float = 0.0


def judge_of(runner: PartRunner, check: str, kinds: frozenset[str]) -> Callable[[Case, Reference], bool | None]:
    """Whether a case fails the item in one of these kinds; None where it says nothing of it."""
    property_ = property_of(check).judge

    def judge(case: Case, reference: Reference) -> bool | None:
        found = property_(case, runner.candidate, reference).get(check)
        if isinstance(found, Discrepancy):
            return True if found.kind in kinds else None
        return False if found is Status.RIGHT else None

    return judge


def held(runner: PartRunner, check: str) -> Iterator[tuple[Case, Reference]]:
    """Cases of the item with dense numbers, other than those that are asked; of an item that has a list, its list."""
    if property_of(check).is_listed:
        for reference in runner.references:
            yield from ((case, reference) for case in runner._listed(check, reference))
        return
    generator = np.random.Generator(np.random.PCG64(HELD_SEED))
    layer = runner.layer
    decks = layouts.Decks(layer.contract.state, layer.has_meaning, generator)
    for reference in runner.references:
        sweep = swept(layer, reference.space, PROFILES["default"])
        chosen = [sweep[k] for k in sorted(generator.permutation(len(sweep))[:SWEPT])]
        for case in (*drawn(layer, reference.space, DRAWN, HELD_SEED), *chosen):
            found = dense(reference, case.configuration, generator)
            if found is None or found.configuration.elements > 60_000:
                continue
            if check == "memory_layout":
                found = decks.arrange(found)
                if not found.layouts:
                    continue
            yield found, reference


def compare(fault: Fault | Unseen, runner: PartRunner, check: str) -> Row:
    """The rule of one item, against the trigger."""
    item_cases = runner.item_cases(check)
    kinds = frozenset(discrepancy.kind for _, _, discrepancy in item_cases.failed)
    failed = sorted((case for case, _, _ in item_cases.failed), key=lambda case: case.key)
    judge, start = judge_of(runner, check, kinds), process_time()
    with quiet(runner.warned):
        search = RegionSearch(
            runner.references, judge, seconds=60, arranged=check == "memory_layout", closed=check == "rejection"
        )
        rule = search.rule(failed[0], failed, item_cases.passed)
        row = Row(fault.name, f"{runner.title}::{check}", None if rule is None else rule.words, fault.trigger.words)
        row.asked, row.seconds = search.asked, process_time() - start
        if rule is not None:
            row.evidence = (rule.failed, rule.passed)
            row.inside, row.configurations = rule.inside, rule.configurations
            if not rule.configurations and not rule.inside:
                held_against = zip(search.labelled.cases, search.labelled.failed, strict=True)
                row.contradicted = sum(rule.holds(case) != bad for case, bad in held_against)
            weigh(fault, runner, check, rule, judge, row)
    return row


def weigh(
    fault: Fault | Unseen,
    runner: PartRunner,
    check: str,
    rule: Rule,
    judge: Callable[[Case, Reference], bool | None],
    row: Row,
) -> None:
    """On the held cases."""
    everywhere = fault.trigger.holds is ALWAYS.holds
    unlike: list[str] = []
    wrong = 0
    for case, reference in held(runner, check):
        said, known = rule.holds(case), fault.trigger(case)
        row.held += 1
        if said != known:
            fails = judge(case, reference)
            wrong += fails is not None and said != fails
            unlike.append(f"rule {said}, trigger {known}, fails {fails}: {told(case)}")
    row.differs = unlike[:3]
    if not unlike or (everywhere and rule.words in (EVERYWHERE, SOMEHOW_EVERYWHERE)):
        row.verdict = "equal"
    else:
        row.verdict = "differs" if wrong else "as it fails"
        row.differs.insert(0, f"{len(unlike)} of {row.held}, {wrong} of them wrong")


def told(case: Case) -> str:
    configuration = case.configuration
    parameters = {name: value for name, value in configuration.parameters.items() if not name.endswith("_form")}
    return f"{parameters} {dict(case.layouts) or ''}"


def row_of(name: str) -> Row:
    """One fault, by the first item that is named for it, in the first part where it fails."""
    fault = FAULT[name]
    check = fault.caught_by[0]
    for runner in runners(load(fault.spec, CONTRACTS), LAYER[fault.layer], PROFILES["quick"], 0):
        if check in runner.checks and runner.item_cases(check).failed:
            return compare(fault, runner, check)
    return Row(fault.name, check, None, fault.trigger.words, verdict="passes")


def show(rows: Sequence[Row]) -> int:
    """Prints the share, and the status."""
    good = [row for row in rows if row.verdict in ("equal", "as it fails")]
    contradicted = [row for row in rows if row.contradicted]
    counts = {
        verdict: sum(row.verdict == verdict for row in rows) for verdict in ("equal", "as it fails", "differs", "none")
    }
    seconds = sorted(row.seconds for row in rows)
    print(f"{len(rows)} faults: {counts}, {100 * len(good) / max(1, len(rows)):.1f} % equal or as it fails")
    print(f"seconds of a rule: half {seconds[len(seconds) // 2]:.2f}, most {seconds[-1]:.2f}")
    print(f"contradicted by their own counts: {[row.name for row in contradicted]}")
    return int(len(good) < SHARE * len(rows) or bool(contradicted))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--layer", choices=tuple(LAYER))
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--unseen", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    first, step = map(int, options.part.split("/"))
    everything: Sequence[Fault | Unseen] = UNSEEN if options.unseen else FAULTS
    in_layer = [fault.name for fault in everything if options.layer in (None, fault.layer)]
    names = [name for name in in_layer if not options.names or name in options.names][first - 1 :: step]
    rows = []
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for row in map(row_of, names) if options.processes == 1 else pool.map(row_of, names):
            rows.append(row)
            print(
                f"{row.verdict:12} {row.name} ({row.item.split('::', 1)[1]})\n"
                f"    rule     {row.rule}  ({row.evidence[0]} failed, {row.evidence[1]} passed, {row.inside} of them "
                f"inside, of {'configurations' if row.configurations else 'cases'}; {row.asked} asked, "
                f"{row.seconds:.2f} s)\n    trigger  {row.trigger}",
                *(f"    {line}" for line in row.differs),
                sep="\n",
                flush=True,
            )
    return show(rows)


if __name__ == "__main__":
    sys.exit(main())
