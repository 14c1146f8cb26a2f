"""Whether the scripts do what they say: on every fault of the gallery and on its right base, with NumPy alone.

    python benchmarks/reproductions.py                       every fault, on quick
    python benchmarks/reproductions.py NAME ...              some of them
    python benchmarks/reproductions.py --explain             with the counterexamples made as small as a run makes them
    python benchmarks/reproductions.py --python venv/bin/python --keep folder

Every failing item of a fault is written as scripts, one for each kind of failure. Each is run on the fault, where it
must exit with 1, and on the right implementation that the fault is a change of, where it must exit with 0. The scripts
run in a process without Backproof's own dependencies: `--python` names an interpreter that has only NumPy, ml_dtypes
and the gallery; without it modules such as JAX and Hypothesis are kept from being imported. Exit status 1: a script
does something else, or an item that fails has no script.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.explaining.explain import counterexamples
from backproof.conformance.reporting.scripts import Reproductions
from backproof.plugins.gallery import FAULTS, Fault
from backproof.plugins.gallery.runner import runners
from backproof.reference import CONTRACTS, LAYERS

LAYER = {layer.name: layer for layer in LAYERS}
FAULT = {fault.name: fault for fault in FAULTS}

#: Reads jobs, lists of [file, SPEC or null], and runs each in a process of its own, in which nothing but NumPy and the
#: gallery has been imported; prints [exit status, the last line of what it says].
RUNNER = """
import importlib.abc, io, json, os, runpy, sys, contextlib
import numpy

class Kept(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first in ("jax", "jaxlib", "hypothesis", "pytest", "torch", "rich", "jinja2") or name in (
            "backproof.conformance", "backproof.reference"):
            raise ImportError(f"{name} is imported, and only NumPy is there")

sys.meta_path.insert(0, Kept())
import backproof.plugins.gallery
for line in sys.stdin:
    file, spec = json.loads(line)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said, status = io.StringIO(), 99
        sys.argv = [file] + ([spec] if spec else [])
        sys.path[0] = os.path.dirname(file)
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                runpy.run_path(file, run_name="__main__")
        except SystemExit as end:
            status = end.code
        except BaseException as error:
            said.write(f"{type(error).__name__}: {error}")
        text = said.getvalue().strip()[-300:]
        os.write(writing, json.dumps([status, text]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        print(stream.read().decode(), flush=True)
    os.waitpid(child, 0)
"""


@dataclass
class Tried:
    """One counterexample: its script, None if there is none, and what it came to on the fault and on the base."""

    fault: str
    check: str
    kind: str
    script: Path | None
    on_fault: int | None = None
    on_base: int | None = None
    said: str = ""

    @property
    def is_right(self) -> bool:
        """Whether it tells the two apart."""
        return (self.on_fault, self.on_base) == (1, 0)


def written(folder: Path, explain: bool, name: str) -> list[Tried]:
    """Writes the scripts of every item that fails."""
    fault, tried = FAULT[name], []
    reproductions = Reproductions(folder, fault.spec)
    for runner in runners(load(fault.spec, CONTRACTS), LAYER[fault.layer], PROFILES["quick"], 0):
        for check in runner.checks:
            if check in (*fault.caught_by, *fault.sometimes) and runner.item_cases(check).failed:
                found = counterexamples(runner, check, known=not explain)
                item = f"backproof::{runner.part.title}::{check}::{runner.dtype}"
                files = reproductions.write(item, check, found, runner.candidate)
                tried += [
                    Tried(name, check, str(each.discrepancy.kind), file)
                    for each, file in zip(found, files, strict=True)
                ]
    return tried


def run(python: str, tried: Sequence[Tried]) -> None:
    """Runs every script twice."""
    jobs = [(each, spec) for each in tried if each.script for spec in (None, FAULT[each.fault].base_spec)]
    asked = "".join(json.dumps([str(each.script), spec]) + "\n" for each, spec in jobs)
    done = subprocess.run([python, "-c", RUNNER], input=asked, capture_output=True, text=True, check=True)
    for (each, spec), line in zip(jobs, done.stdout.splitlines(), strict=True):
        status, said = json.loads(line)
        if spec is None:
            each.on_fault = status
        else:
            each.on_base = status
        if status != (1 if spec is None else 0):
            each.said += f"\n    {'base' if spec else 'fault'}: {said}"


def show(faults: Sequence[Fault], options: argparse.Namespace) -> int:
    """Prints what every script comes to that is not as it must be, and the share of those that are."""
    start = perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        task, names = partial(written, folder, options.explain), [fault.name for fault in faults]
        if options.processes == 1:
            lists = [task(name) for name in names]
        else:
            with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
                lists = list(pool.map(task, names))
        tried = [each for found in lists for each in found]
        run(options.python, tried)
    for each in tried:
        if not each.is_right:
            told = f"{each.on_fault} on the fault, {each.on_base} on its base" if each.script else "no script"
            print(f"{each.fault} {each.check} ({each.kind}): {told}{each.said}")
    silent = [fault.name for fault, found in zip(faults, lists, strict=True) if not found]
    if silent:
        print(f"nothing fails on quick: {', '.join(silent)}")
    right, kinds = sum(each.is_right for each in tried), Counter(each.check for each in tried)
    whole = sum(all(each.is_right for each in found) for found in lists if found)
    print(
        f"{right} of {len(tried)} scripts exit with 1 on the fault and with 0 on its base "
        f"({100 * right / max(1, len(tried)):.1f} %), all of them for {whole} of {len(lists) - len(silent)} faults; "
        f"{perf_counter() - start:.0f} s"
    )
    print(", ".join(f"{check} {count}" for check, count in kinds.most_common()))
    return int(right < len(tried))


def main() -> int:
    """Runs some faults or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="faults; all, if none is given")
    parser.add_argument("--explain", action="store_true", help="make the counterexamples small first")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="what runs the scripts")
    parser.add_argument("--keep", help="the folder for the scripts; else they are gone at the end")
    options = parser.parse_args()
    unknown = set(options.names) - FAULT.keys()
    if unknown:
        parser.error(f"the gallery has no fault called {', '.join(sorted(unknown))}.")
    return show([fault for fault in FAULTS if not options.names or fault.name in options.names], options)


if __name__ == "__main__":
    sys.exit(main())
