"""What a verdict costs, as ratios measured in one run.

    python benchmarks/speed.py            all tables; needs torch for one of them

Absolute times depend on the machine; each ratio divides medians of runs that took turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import jax
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jax import lax
from jax import numpy as jnp

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import load
from backproof.conformance.cases.draw import cases, drawn
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.cases.sweep import swept
from backproof.conformance.judging import oracle
from backproof.conformance.judging.properties import PROPERTIES, TENSORS, Property, property_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer, Space
from backproof.conformance.spec.memory_layouts import Decks
from backproof.reference import CONTRACTS, LAYERS

ADAPTER = str(Path(__file__).parent / "candidates" / "im2col.py")
IMPORT = "import jax, numpy, hypothesis, pytest; jax.numpy.zeros(3) + 1"
SETTINGS = {
    "max_examples": 500,
    "phases": [Phase.generate],
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
}


def place(name: str, rank: int, dtype: str = "float64", spec: str = ADAPTER) -> tuple[Candidate, Reference]:
    """The layer of `candidates/im2col.py` as a candidate, and the reference for one rank and dtype."""
    adapter = load(spec, CONTRACTS)
    layer = next(layer for layer in LAYERS if layer.name == name)
    implementation = adapter.implementations[name]
    space = Space(implementation.signature, implementation.settings, rank, dtype)
    return Candidate(adapter, implementation, layer), Reference(layer, space)


class Stored(Candidate):
    """A candidate that costs nothing: it answers with arrays that it holds already."""

    answers: dict[str, np.ndarray]

    def _call(self, what, function, positional, keywords):
        if what == "forward":
            state = [self.answers[name] for name in self.layer.contract.state if name in self.answers]
            return (self.answers["out"], None, *state)
        return [self.answers.get(gradient) for gradient in self._gradients]


def per_case(strategy: st.SearchStrategy, body: Callable) -> float:
    """Seconds a case of a Hypothesis run."""

    @seed(0)
    @settings(**SETTINGS)
    @given(strategy)
    def run(value) -> None:
        body(value)

    start = perf_counter()
    run()
    return (perf_counter() - start) / SETTINGS["max_examples"]


def in_turn(first: Callable[[], float], second: Callable[[], float], rounds: int = 5) -> tuple[float, float, float]:
    """The medians of both and of their ratio, measured alternately after one warm-up of each."""
    first(), second()
    pairs = [(first(), second()) for _ in range(rounds)]
    ratios = [a / b for a, b in pairs]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), statistics.median(ratios)


def judged_case() -> None:
    """A case of the tensor items against a bare draw."""
    bare = st.tuples(*[st.integers(1, 8)] * 14)
    print("\na judged case (draw, stored answers, both references, comparison) / bare draw of 14 integers")
    for name, rank in (("linear", 2), ("conv", 1), ("conv", 2), ("conv", 3), ("batchnorm", 0), ("batchnorm", 2)):
        candidate, reference = place(name, rank, "float32")
        stored = Stored(candidate.adapter, candidate.implementation, candidate.layer)

        def judge(case: Case, reference: Reference = reference, stored: Stored = stored) -> None:
            reference.confirm(case)
            right = reference.expected(case)
            stored.answers = {name: a.astype(case.precision.dtype) for name, a in right.tensors.items()}
            TENSORS.judge(case, stored, reference)

        whole, draw, ratio = in_turn(
            lambda reference=reference, judge=judge: per_case(cases(reference.layer, reference.space), judge),
            lambda: per_case(bare, lambda value: None),
        )
        print(f"  {name:9} rank {rank}: {1e3 * whole:.2f} ms / {1e3 * draw:.2f} ms = {ratio:.2f}")


def further_items(count: int = 60) -> None:
    """What a case of each further item costs, candidate included, as a multiple of one of the tensors'."""
    print("\na case of each further item / a case of the tensors (the NumPy adapter's calls included, drawing not)")
    for name, rank in (("linear", 2), ("conv", 2), ("batchnorm", 2)):
        adapter = load(ADAPTER, CONTRACTS)
        layer = next(layer for layer in LAYERS if layer.name == name)
        part = next(p for p in layer.parts(adapter.implementations[name].settings) if rank in p.ranks)
        heard = PartRunner(
            layer, replace(part, ranks=(rank,)), "float32", adapter, PROFILES["quick"], 0, lambda *_: None
        )
        chosen = drawn(layer, heard.references[0].space, count, 0)

        def one_by_one(
            property_: Property, pairs: Sequence[tuple[Reference, Case]], candidate: Candidate = heard.candidate
        ) -> float:
            start = perf_counter()
            for reference, case in pairs:
                fresh = Reference(reference.layer, reference.space)
                if property_ is TENSORS:
                    fresh.confirm(case)
                property_.judge(case, candidate, fresh)
            return (perf_counter() - start) / len(pairs)

        decks = Decks(layer.contract.state, layer.has_meaning, np.random.default_rng(0))
        laid = [decks.arrange(case) for case in chosen]
        told = []
        for check in heard.checks:
            if check in PROPERTIES:
                pairs = [(heard.references[0], case) for case in (laid if check == "memory_layout" else chosen)]
                pairs = (
                    list(heard.asked(check))
                    if property_of(check).is_listed
                    else [pair for pair in pairs if pair[1].layouts or check != "memory_layout"]
                )
                tensor_pairs = [(heard.references[0], case) for case in chosen]
                _, _, ratio = in_turn(
                    lambda check=check, pairs=pairs, one=one_by_one: one(PROPERTIES[check], pairs),
                    lambda pairs=tensor_pairs, one=one_by_one: one(TENSORS, pairs),
                )
                told.append(f"{check} {ratio:.1f}")
        print(f"  {name:9} rank {rank}: {', '.join(told)}")


def lax_forward(case: Case) -> Callable:
    """The convolution of the case's options, of x, w and b."""
    o = case.options

    def forward(x, w, b):
        out = lax.conv_general_dilated(
            x, w, o["stride"], o["padding"], None, o["dilation"], feature_group_count=o["groups"]
        )
        return out + b.reshape(-1, *[1] * (x.ndim - 2))

    return forward


def lax_vjp(case: Case) -> Callable[[], None]:
    """jax.vjp of the same layer on the case's own shapes, compiled for them."""
    forward = lax_forward(case)

    @jax.jit
    def program(x, w, b, dout):
        out, pullback = jax.vjp(forward, x, w, b)
        return (out, *pullback(dout))

    def run() -> None:
        with jax.enable_x64(True):
            [np.asarray(a) for a in program(*(case.array(name) for name in ("x", "w", "b", "dout")))]

    return run


def oracle_against_vjp(count: int = 25) -> None:
    """The oracle against one compilation a shape, over the default profile's drawn cases."""
    print("\njax.vjp compiled for each shape / the JAX oracle, median over drawn cases of the default profile")
    for rank in (1, 2):
        _, reference = place("conv", rank)
        chosen = drawn(reference.layer, reference.space, PROFILES["default"].examples, 0)
        for case in chosen:
            oracle.tensors(reference.layer, case)
        mine, theirs = [], []
        for case in chosen:
            start = perf_counter()
            oracle.tensors(reference.layer, case)
            mine.append(perf_counter() - start)
        for case in chosen[:: max(1, len(chosen) // count)]:
            start = perf_counter()
            lax_vjp(case)()
            theirs.append(perf_counter() - start)
        one, other = statistics.median(mine), statistics.median(theirs)
        print(f"  conv{rank}d: {1e3 * other:.0f} ms / {1e3 * one:.3f} ms = {other / one:.0f}")


def against_gradient_checkers(count: int = 8) -> None:
    """The same conv2d cases judged by others."""
    try:
        import torch
    except ImportError:
        print("\ntorch.autograd.gradcheck: torch is not installed")
        return
    from jax.test_util import check_grads

    torch.set_num_threads(1)
    candidate, reference = place("conv", 2)
    chosen = [c for c in drawn(reference.layer, reference.space, 200, 1) if c.configuration.elements < 300][:count]

    def ours() -> float:
        start = perf_counter()
        for case in chosen:
            fresh = Reference(reference.layer, reference.space)
            fresh.confirm(case)
            TENSORS.judge(case, candidate, fresh)
        return perf_counter() - start

    def torch_function(case: Case) -> Callable:
        o = case.options
        sides = [side for pair in reversed(o["padding"]) for side in pair]
        functional = torch.nn.functional
        return lambda x, w, b: functional.conv2d(
            functional.pad(x, sides), w, b, o["stride"], 0, o["dilation"], o["groups"]
        )

    def gradcheck(fast: bool) -> float:
        start = perf_counter()
        for case in chosen:
            leaves = [torch.tensor(case.array(name), requires_grad=True) for name in ("x", "w", "b")]
            torch.autograd.gradcheck(torch_function(case), leaves, fast_mode=fast)
        return perf_counter() - start

    def grads() -> float:
        start = perf_counter()
        with jax.enable_x64(True):
            for case in chosen:
                check_grads(
                    lax_forward(case), [jnp.asarray(case.array(n)) for n in ("x", "w", "b")], order=1, modes=["rev"]
                )
        return perf_counter() - start

    print(f"\ngradient checkers on the same {count} conv2d shapes / a judged case of ours")
    for name, other in (
        ("torch gradcheck, slow", lambda: gradcheck(False)),
        ("torch gradcheck, fast", lambda: gradcheck(True)),
        ("jax check_grads", grads),
    ):
        theirs, mine, ratio = in_turn(other, ours, rounds=3)
        print(f"  {name}: {1e3 * theirs / count:.1f} ms / {1e3 * mine / count:.2f} ms = {ratio:.0f}")


def sweep() -> None:
    """Checks a second of the sweep: cases times tensors."""
    print("\nchecks a second in the sweep (a check: one tensor of one case; candidate and NumPy reference included)")
    for name, rank in (("linear", 2), ("conv", 1), ("conv", 2), ("batchnorm", 0)):
        candidate, reference = place(name, rank)
        layer: Layer = reference.layer
        chosen = swept(layer, reference.space, replace(PROFILES["default"], sweep_shapes=10**6, tile_edges=()))
        start = perf_counter()
        for case in chosen:
            TENSORS.judge(case, candidate, reference)
        seconds = perf_counter() - start
        count = len(chosen) * len(layer.tensors(candidate.signature))
        print(f"  {name:9} rank {rank}: {count / seconds:.0f} checks a second")


def wall(arguments: list[str], folder: str) -> float:
    """Seconds of a whole process."""
    start = perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=False, capture_output=True)
    return perf_counter() - start


def verdicts() -> None:
    """Wall times of whole verdicts against importing what they need."""
    print("\nwhole runs (linear, conv1d, conv2d, batchnorm with 0 and 2 spatial axes; float64 and float32)")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_own.py").write_text("def test_own():\n    pass\n")
        plain = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_own.py"]
        without = [*plain, "-p", "no:backproof"]
        one, other, _ = in_turn(lambda: wall(plain, folder), lambda: wall(without, folder), rounds=7)
        print(f"  pytest with the plugin, no --impl: {1e3 * one:.0f} ms, without it {1e3 * other:.0f} ms", end="")
        print(f": {1e3 * (one - other):+.0f} ms")
        start = ["-m", "pytest", "-q", "--collect-only", f"--impl={ADAPTER}"]
        one, base, ratio = in_turn(lambda: wall(start, folder), lambda: wall(["-c", IMPORT], folder))
        print(f"  collection with --impl / imports: {one:.2f} s / {base:.2f} s = {ratio:.2f}")
        for profile in ("quick", "default"):
            run = ["-m", "pytest", "-q", f"--impl={ADAPTER}", f"--impl-profile={profile}"]
            one, base, ratio = in_turn(
                lambda run=run: wall(run, folder), lambda: wall(["-c", IMPORT], folder), rounds=3
            )
            print(f"  verdict, {profile} / imports: {one:.2f} s / {base:.2f} s = {ratio:.1f}")


if __name__ == "__main__":
    judged_case()
    further_items()
    oracle_against_vjp()
    against_gradient_checkers()
    sweep()
    verdicts()
