"""What the suite says of the cause of each fault of the gallery.

    python benchmarks/diagnosis.py                         all faults, on quick
    python benchmarks/diagnosis.py --layer conv            those of a layer
    python benchmarks/diagnosis.py NAME ...                those whose names have one of these parts
    python benchmarks/diagnosis.py --spec mypkg.adapter    any other adapter, all of its items
    python benchmarks/diagnosis.py --unnamed               only those of which no item is explained
    python benchmarks/diagnosis.py --unseen                faults whose author had not read the catalogue (unseen.py)

For every fault its cause as the gallery has it, and for each of its failing items what the suite tells: sentences of
known mistakes, or where the error sits. A reader says which are right. At the end how long explaining took: an item may
take 3 s and a run 15 s, of the work that `backproof.conformance.explaining.clock` counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from statistics import median
from time import perf_counter

from unseen import UNSEEN, Unseen

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.explain import Explainer
from backproof.conformance.judging.failure import failures
from backproof.conformance.judging.runner import PartRunner
from backproof.plugins.gallery import FAULTS, Fault
from backproof.reference import CONTRACTS, LAYERS

LAYER = {layer.name: layer for layer in LAYERS}
FAULT: dict[str, Fault | Unseen] = {fault.name: fault for fault in (*FAULTS, *UNSEEN)}


@dataclass(frozen=True)
class Told:
    """What is told of one item."""

    item: str
    kind: str
    sentences: tuple[str, ...]
    site: tuple[str, ...]
    step: str | None
    region: str | None
    seconds: float


def runners(spec: str, layers: Sequence[str], profile: str) -> Iterator[PartRunner]:
    """Every part of an adapter in every dtype."""
    adapter = load(spec, CONTRACTS)
    for name, implementation in adapter.implementations.items():
        for part in LAYER[name].parts(implementation.settings) if name in layers else ():
            for dtype in adapter.settings["dtypes"]:
                yield PartRunner(LAYER[name], part, dtype, adapter, PROFILES[profile], 0)


def told(spec: str, layers: Sequence[str], checks: Sequence[str], profile: str) -> list[Told]:
    """What the suite says of the failing items; of all of them, if no checks are given."""
    found, explainer = [], Explainer(PROFILES[profile])
    for runner in runners(spec, layers, profile):
        for check in runner.checks:
            if (checks and check not in checks) or not runner.item_cases(check).failed:
                continue
            start = perf_counter()
            examples: list[Counterexample] = explainer.counterexamples(failures(runner, runner.item(check)))
            seconds = perf_counter() - start
            item = f"{runner.part.title}::{check}::{runner.dtype}"
            found += [Told(item, e.discrepancy.kind, e.diagnosis, e.site, e.step, e.region, seconds) for e in examples]
    return found


def of_fault(name: str, profile: str, everything: bool) -> list[Told]:
    """What is said of one fault: of the items named for it, or of every one."""
    fault = FAULT[name]
    return told(fault.spec, [fault.layer], () if everything else fault.caught_by, profile)


def chosen(names: Sequence[str], layer: str | None, unseen: bool) -> list[Fault | Unseen]:
    """The faults that are asked for."""
    everything: Sequence[Fault | Unseen] = UNSEEN if unseen else FAULTS
    in_layer = [fault for fault in everything if layer in (None, fault.layer)]
    return [fault for fault in in_layer if not names or any(name in fault.name for name in names)]


def print_told(items: Sequence[Told]) -> None:
    for each in items:
        print(f"    {each.item} ({each.kind}, {each.seconds:.1f} s){f' [{each.region}]' if each.region else ''}")
        for sentence in each.sentences:
            print(f"        {sentence}")
        if each.step:
            print(f"        ({each.step})")
        for sentence in each.site:
            print(f"        ? {sentence}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--layer", choices=list(LAYER))
    parser.add_argument("--profile", default="quick", choices=list(PROFILES))
    parser.add_argument("--spec", help="an adapter that is not in the gallery")
    parser.add_argument("--everything", action="store_true", help="all failing items, not those named for the fault")
    parser.add_argument("--unnamed", action="store_true")
    parser.add_argument("--unseen", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.spec:
        print_told(told(options.spec, list(LAYER), (), options.profile))
        return 0
    faults = chosen(options.names, options.layer, options.unseen)
    ask = partial(of_fault, profile=options.profile, everything=options.everything)
    if options.processes == 1:
        results = map(ask, [fault.name for fault in faults])
    else:
        pool = ProcessPoolExecutor(options.processes, get_context("spawn"))
        results = pool.map(ask, [fault.name for fault in faults], chunksize=4)
    named, longest, runs = 0, 0.0, []
    for fault, items in zip(faults, results, strict=True):
        explained = any(each.sentences for each in items)
        named += explained
        by_item = {each.item: each.seconds for each in items}
        longest = max([longest, *by_item.values()])
        runs.append(sum(by_item.values()))
        if not (options.unnamed and explained):
            print(f"{'' if explained else '-- '}{fault.layer} {fault.name}: {fault.cause}", flush=True)
            print_told(items)
    print(
        f"{named} of {len(faults)} explained; longest item {longest:.1f} s; "
        f"a run's items together: median {median(runs):.1f} s, longest {max(runs):.1f} s"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
