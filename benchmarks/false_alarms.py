"""Judges right implementations at seed after seed, in every item; whatever fails is a false alarm.

    python benchmarks/false_alarms.py                        all of them, a thousand cases a layer
    python benchmarks/false_alarms.py --cases 300 torch      one of them
    python benchmarks/false_alarms.py --full --write         the targets of docs/false-alarms.md, and its table
    python benchmarks/false_alarms.py mypkg.adapter          any other adapter that is known to be right
    python benchmarks/false_alarms.py --gallery --seeds 20   what looks wrong in the gallery and is right

A case is counted when the item `out` was judged on it, a judgement is one item's word on one case. The first seed
brings the sweep, each further one new drawn cases alone, so that no swept case is counted twice.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np

from backproof.conformance.adapter.load import Adapter, load
from backproof.conformance.cases.draw import CONFIGURATION, NUMBERS, case_from
from backproof.conformance.cases.profile import PROFILES, Profile
from backproof.conformance.explaining.explain import Explainer
from backproof.conformance.judging import runner as runner
from backproof.conformance.judging.item import Item
from backproof.conformance.judging.properties import property_of
from backproof.conformance.judging.session import Session
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer, Space
from backproof.plugins.gallery import EQUIVALENTS
from backproof.reference import CONTRACTS, LAYERS

RIGHT = Path(__file__).resolve().parent / "candidates"
PAGE = RIGHT.parent.parent / "docs" / "false-alarms.md"
#: Each table stands between two lines of the page.
TABLE = ("<!-- the table: python benchmarks/false_alarms.py --full --write -->", "<!-- the end of the table -->")
GALLERY = (
    "<!-- the gallery: python benchmarks/false_alarms.py --gallery --seeds 20 --write -->",
    "<!-- the end of the gallery -->",
)

DEFAULT = PROFILES["default"]
#: Drawn cases a layer, rank and dtype in one seed, and how many of them the items that are no tensor's get.
WIDE = replace(DEFAULT, examples=1000, others=200)
#: The textbook's loops and JAX's compilations cost more than the references do: fewer at a time.
NARROW = replace(DEFAULT, examples=100, others=40)
#: One program is compiled for each shape: many cases on few shapes.
COMPILED = replace(DEFAULT, examples=100, sweep=40, sweep_shapes=10, others=6, tile_edges=(9,))


def from_bytes(layer: Layer, space: Space, examples: int, number: int) -> list[Case]:
    """Cases of random bytes: what Hypothesis draws, without the time that it takes."""
    return _from_bytes(layer, space, examples, number, examples)


def on_few_shapes(layer: Layer, space: Space, examples: int, number: int) -> list[Case]:
    """The same, with many numbers for each configuration: a candidate that compiles does so for few shapes."""
    return _from_bytes(layer, space, examples, number, max(1, examples // 25))


def _from_bytes(layer: Layer, space: Space, examples: int, number: int, configurations: int) -> list[Case]:
    generator = np.random.default_rng(number)
    tapes = [generator.bytes(CONFIGURATION) for _ in range(configurations)]
    return [case_from(layer, space, tapes[k % configurations], generator.bytes(NUMBERS)) for k in range(examples)]


def nothing() -> None:
    """Of a candidate that is as it is."""


def on_one_thread() -> None:
    """As the tests have torch, beside other processes."""
    import torch

    torch.set_num_threads(1)


def without_programs() -> None:
    """Drops what JAX has compiled: a program for each shape, gigabytes of them."""
    import jax

    jax.clear_caches()


@dataclass(frozen=True)
class Candidate:
    """A right implementation: where it is, what is asked of it in a seed, and of how many cases a layer in all.

    `prepare` is called before it is judged, `clear` after each layer; `drawn` has its cases.
    """

    spec: str
    library: str
    full: int
    profile: Profile = WIDE
    drawn: Callable[[Layer, Space, int, int], list[Case]] = from_bytes
    prepare: Callable[[], None] = nothing
    clear: Callable[[], None] = nothing


CANDIDATES = {
    "torch": Candidate("backproof.plugins.torch_adapter", "torch", 60_000, prepare=on_one_thread),
    "vectorised": Candidate(f"{RIGHT / 'vectorised.py'}", "numpy", 80_000),
    "channels_last": Candidate(f"{RIGHT / 'vectorised.py'}:channels_last", "numpy", 12_000),
    "output_first": Candidate(f"{RIGHT / 'vectorised.py'}:output_first", "numpy", 12_000),
    "mixed": Candidate(f"{RIGHT / 'vectorised.py'}:mixed", "numpy", 12_000),
    "fourier": Candidate(f"{RIGHT / 'vectorised.py'}:fourier", "numpy", 12_000),
    "im2col": Candidate(f"{RIGHT / 'im2col.py'}", "numpy", 12_000),
    "textbook": Candidate("backproof.plugins.numpy_adapter", "numpy", 5_000, NARROW),
    "jax_lax": Candidate(f"{RIGHT / 'jax_lax.py'}", "jax", 2_000, COMPILED, on_few_shapes, clear=without_programs),
}


@dataclass
class Row:
    """What became of one layer of one candidate."""

    name: str
    layer: str
    library: str
    cases: int = 0
    judgements: int = 0
    alarms: int = 0
    refused: int = 0
    seconds: float = 0.0
    #: The dtypes in which it was judged, in their order.
    dtypes: dict[str, None] = field(default_factory=dict)

    def hear(self, session: Session, item: Item, seed: int) -> int:
        """Judges one item and prints what it finds; the number of cases that were judged."""
        verdict = Explainer(session.profile).result(session.judge(item, session.items), known=True)
        self.judgements += verdict.judged
        self.refused += verdict.unsupported
        if item.check == "out" and verdict.judged:
            self.cases += verdict.judged
            self.dtypes |= {item.dtype: None}
        if verdict.outcome == "failed":
            self.alarms += 1
            for found in verdict.counterexamples:
                print(f"FALSE ALARM: {self.name}, seed {seed}, {'::'.join(item.path)}: {found.discrepancy.message}")
                print(f"    {found.failed} failed; {found.case.configuration}; {dict(found.case.layouts)}", flush=True)
        return verdict.judged


def judge(name: str, cases: int | None, first_seed: int, seeds: int | None = None) -> list[Row]:
    """Judges one candidate, seed after seed, until every layer has its number of cases; None: the full number.

    Or at so many `seeds`, with a thousand drawn cases a layer at each, divided among its ranks and dtypes.

    Raises RuntimeError where a layer has no case that is judged.
    """
    candidate = CANDIDATES.get(name) or Candidate(name, "numpy", 20_000, DEFAULT if seeds else WIDE)
    candidate.prepare()
    runner.drawn = candidate.drawn
    adapter = load(candidate.spec, CONTRACTS)
    target = 0 if seeds else candidate.full if cases is None else cases
    rows = {layer: Row(name, layer, candidate.library) for layer in adapter.implementations}
    judged: Counter[str] = Counter()
    profile, seed = candidate.profile, first_seed
    while pending := [row for row in rows.values() if seed - first_seed < (seeds or 0) or row.cases < target]:
        for row in pending:
            asked = replace(profile, examples=1000 // places(adapter, row.layer)) if seeds else profile
            session = Session(adapter, LAYERS, asked, seed)
            before, start = row.cases, perf_counter()
            for item in session.items:
                if item.layer == row.layer and (seed == first_seed or not property_of(item.check).is_listed):
                    judged["::".join(item.path)] += row.hear(session, item, seed)
            row.seconds += perf_counter() - start
            candidate.clear()
            if row.cases == before:
                raise RuntimeError(f"{name}: no case of {row.layer} was judged with seed {seed}.")
            print(
                f"{name} {row.layer}, seed {seed}: {row.cases} cases, {row.alarms} alarms, {row.seconds:.0f} s",
                flush=True,
            )
        profile, seed = replace(candidate.profile, sweep=0, tile_edges=()), seed + 1
    for path, count in judged.items():
        if not count:
            print(f"{name}: {path} was judged on no case", flush=True)
    return list(rows.values())


def places(adapter: Adapter, name: str) -> int:
    """In how many ranks and dtypes a layer is judged."""
    layer = next(layer for layer in LAYERS if layer.name == name)
    parts = layer.parts(adapter.implementations[name].settings)
    return sum(len(part.ranks) for part in parts) * len(adapter.settings["dtypes"])


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| candidate | layer | dtypes | cases | judgements | false alarms | seconds | version |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        dtypes = "all four" if len(row.dtypes) == 4 else ", ".join(row.dtypes)
        name = row.name.rpartition(":")[2]
        lines.append(
            f"| {name} | {row.layer} | {dtypes} | {row.cases:,} | {row.judgements:,} | {row.alarms} "
            f"| {row.seconds:.0f} | {row.library} {version(row.library)} |"
        )
    return "\n".join(lines)


def write(found: str, begin: str, end: str) -> None:
    """Puts the table into its place on the page, between two lines of it."""
    page = PAGE.read_text()
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n\n{found}\n\n{end}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "candidates", nargs="*", help=f"of {', '.join(CANDIDATES)}, or an adapter; all, if none is given"
    )
    parser.add_argument("--cases", type=int, default=1000, help="judged cases a layer")
    parser.add_argument("--full", action="store_true", help="as many as the page promises, for each candidate its own")
    parser.add_argument("--gallery", action="store_true", help="the right implementations of the gallery")
    parser.add_argument("--seeds", type=int, help="so many seeds, instead of a number of cases")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=1, help="candidates that are judged at the same time")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args()
    if options.write and (options.candidates or (options.seeds == 20) != options.gallery or options.seed):
        parser.error("--write is for a whole run: --full, or --gallery --seeds 20; without names and --seed.")
    names = options.candidates or [each.spec for each in EQUIVALENTS if options.gallery] or list(CANDIDATES)
    cases = None if options.full else options.cases
    # A fresh process for each: what one candidate configures is not there for the next.
    pool = ProcessPoolExecutor(options.processes, get_context("spawn"), max_tasks_per_child=1)
    with pool:
        # The slowest first: the others are done beside it.
        order = sorted(names, key=lambda name: name != "jax_lax")
        running = {name: pool.submit(judge, name, cases, options.seed, options.seeds) for name in order}
        rows = [row for name in names for row in running[name].result()]
    found = table(rows)
    print(found)
    if options.write:
        write(found, *(GALLERY if options.gallery else TABLE))
    return min(1, sum(row.alarms for row in rows))


if __name__ == "__main__":
    sys.exit(main())
