"""Runs right implementations through every item at many seeds; any failure is a false alarm.

python benchmarks/false_alarms.py                          torch, the textbook and the vectorised NumPy adapter
python benchmarks/false_alarms.py SPEC --seeds 20 --examples 300
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from backproof.conformance.adapter import load
from backproof.conformance.profile import PROFILES
from backproof.conformance.session import Session
from backproof.reference import CONTRACTS, LAYERS

HERE = Path(__file__).parent
RIGHT = ("backproof.plugins.torch_adapter", "backproof.plugins.numpy_adapter", f"{HERE / 'adapter.py'}")


def alarms(spec: str, seeds: int, examples: int) -> int:
    """The number of items that failed, over all seeds; prints each, and how many cases were judged."""
    adapter = load(spec, CONTRACTS)
    profile = replace(PROFILES["default"], examples=examples)
    failed, judged, start = 0, {}, perf_counter()
    for seed in range(seeds):
        session = Session(adapter, LAYERS, profile, seed)
        for item in session.items:
            verdict = session.verdict(item, session.items)
            if item.check in ("out", "dx"):
                judged[item.layer, item.check] = judged.get((item.layer, item.check), 0) + verdict.judged
            if verdict.outcome == "failed":
                failed += 1
                for found in verdict.counterexamples:
                    print(f"  seed {seed} {'::'.join(item.path)}: {found.discrepancy.message}", flush=True)
    counts = ", ".join(f"{layer} {check} {count}" for (layer, check), count in judged.items())
    print(f"{spec}: {failed} false alarms; judged {counts}; {perf_counter() - start:.0f} s", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="*", default=RIGHT)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--examples", type=int, default=300)
    options = parser.parse_args()
    if any("torch" in spec for spec in options.specs):
        import torch

        torch.set_num_threads(1)
    return min(1, sum(alarms(spec, options.seeds, options.examples) for spec in options.specs))


if __name__ == "__main__":
    sys.exit(main())
