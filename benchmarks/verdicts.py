"""Whether two versions of Backproof judge alike: what fails, in which kinds, and by which counterexamples.

    python benchmarks/verdicts.py record FOLDER [--profile quick] [--seed 0] [--part K/N] [NAME ...]
    python benchmarks/verdicts.py compare BEFORE AFTER

`record` judges each fault and right implementation of the gallery, torch and examples/wrong.py, and writes a JSON
report of each into the folder; what is there already is left, so that it can be stopped and resumed, and shared among
processes. Explaining a failure is bounded by the number of its steps instead of by seconds, so that a busy machine
records what an idle one does. `compare` prints every difference between two folders, paths and times aside, and exits
with 1 where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: What a look at the clock counts for, in seconds.
STEP = 0.002
#: Keys whose values are another in every run.
OTHERWISE = frozenset({"duration_s", "reproduce", "again", "impl", "backproof"})


class Steps:
    """A clock that goes by the number of times that it is looked at."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> float:
        """Seconds."""
        self.count += 1
        return self.count * STEP


def specs() -> dict[str, str]:
    """What is judged, by name."""
    from backproof.plugins.gallery import EQUIVALENTS, FAULTS

    gallery = {entry.name: entry.spec for entry in (*FAULTS, *EQUIVALENTS)}
    return {**gallery, "torch": "backproof.plugins.torch_adapter", "wrong": str(ROOT / "examples" / "wrong.py")}


def record(options: argparse.Namespace) -> int:
    """Writes the reports that are not there yet."""
    import pytest

    from backproof.conformance.explaining import budget

    clock, folder = Steps(), options.folder.absolute()
    budget.thread_time = budget.monotonic = clock
    folder.mkdir(parents=True, exist_ok=True)
    part, parts = map(int, options.part.split("/"))
    everything = specs()
    names = options.names or [name for k, name in enumerate(everything) if k % parts == part]
    for name in names:
        report, start = folder / f"{name}.json", time.perf_counter()
        if report.exists():
            continue
        clock.count = 0
        # Each in a folder of its own: no failing case is kept from one to the next.
        with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
            arguments = [
                f"--impl={everything[name]}",
                f"--impl-profile={options.profile}",
                f"--impl-seed={options.seed}",
            ]
            with contextlib.redirect_stdout(io.StringIO()) as output:
                status = pytest.main([*arguments, "--impl-report=report.json", "-p", "no:cacheprovider", "--tb=no"])
            if not Path("report.json").exists():
                print(output.getvalue(), file=sys.stderr)
                return 1
            report.write_bytes(Path("report.json").read_bytes())
        print(f"{name}: status {int(status)}, {time.perf_counter() - start:.1f} s", flush=True)
    return 0


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """What is not the same, and where; keys may have been added."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in OTHERWISE:
                continue
            if key in after:
                yield from differences(value, after[key], f"{where}.{key}")
            else:
                yield f"{where}.{key} is gone"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for k, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{where}[{one['id'] if isinstance(one, dict) and 'id' in one else k}]")
    elif before != after and not where.endswith(".traceback"):
        yield f"{where}: {str(before)[:200]} -> {str(after)[:200]}"


def compare(options: argparse.Namespace) -> int:
    """Prints what the two folders do not have alike."""
    same, changed = 0, 0
    for file in sorted(options.before.glob("*.json")):
        other = options.after / file.name
        if not other.exists():
            print(f"{file.stem}: not recorded in {options.after}")
            changed += 1
            continue
        found = list(differences(json.loads(file.read_text()), json.loads(other.read_text())))
        if found:
            print("\n    ".join([f"{file.stem}:", *found]))
        changed, same = changed + bool(found), same + (not found)
    print(f"{same} are the same, {changed} differ.")
    return int(changed > 0)


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("record")
    first.add_argument("folder", type=Path)
    first.add_argument("names", nargs="*")
    first.add_argument("--profile", default="quick")
    first.add_argument("--seed", type=int, default=0)
    first.add_argument("--part", default="0/1", metavar="K/N")
    first.set_defaults(run=record)
    second = commands.add_parser("compare")
    second.add_argument("before", type=Path)
    second.add_argument("after", type=Path)
    second.set_defaults(run=compare)
    options = parser.parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
