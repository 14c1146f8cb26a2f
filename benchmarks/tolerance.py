"""The tolerances from both sides: how near right code comes to its bound, and how far beyond the smallest fault lies.

python benchmarks/tolerance.py                 prints the tables
python benchmarks/tolerance.py --write         and puts them into docs/tolerance.md

One core, about three minutes; the same numbers on every run with the same versions. A ratio is |error| / bound.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from roundings import (
    Tensors,
    as_cube,
    as_rows,
    implementations,
    reference,
)

from backproof.conformance.cases.draw import CONFIGURATION, NUMBERS, case_from
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case, rounded

PAGE = Path(__file__).parent.parent / "docs" / "tolerance.md"
BEGIN, END = "<!-- benchmarks/tolerance.py --write: begin -->", "<!-- benchmarks/tolerance.py --write: end -->"
DTYPES = ("float64", "float32", "float16", "bfloat16")
PLACES = (
    ("linear", 2),
    ("linear", 3),
    ("conv", 1),
    ("conv", 2),
    ("conv", 3),
    ("batchnorm", 0),
    ("batchnorm", 2),
)
#: Terms of the longest sums of right code, and of the sum that a fault leaves one term out of.
LONG = {"float64": 2048, "float32": 2048, "float16": 4096, "bfloat16": 4096}
SHORT = {"float64": 2048, "float32": 2048, "float16": 64, "bfloat16": 64}
#: Elements a channel for the unbiased variance.
FEW = {"float64": 64, "float32": 64, "float16": 4, "bfloat16": 4}


def drawn(where: Reference, count: int, seed: int) -> Iterator[Case]:
    """So many cases of the reference, from random bytes."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        case = case_from(where.layer, where.space, generator.bytes(CONFIGURATION), generator.bytes(NUMBERS))
        if where.layer.has_meaning(case):
            yield case


def built(where: Reference, parameters: Mapping[str, int], numbers: Callable[[str, tuple[int, ...]], Array]) -> Case:
    """The case of these parameters over the plainest ones, filled by name and shape."""
    configuration = where.layer.build({**where.layer.base(where.space), **parameters}, where.space)
    assert configuration is not None, parameters
    arrays = {name: None if shape is None else numbers(name, shape) for name, shape in configuration.shapes.items()}
    return Case(configuration, where.space.dtype, rounded(arrays, where.layer.dtypes(where.space)))


# Right implementations.


def ratios(where: Reference, case: Case, tensors: Tensors) -> dict[str, float]:
    """The largest |error| / bound of each tensor that is judged; an error where there must be none is infinite."""
    right = where.expected(case)
    found = {}
    for name, expected in right.tensors.items():
        bound = right.tolerances[name]
        if bound is None:
            continue
        # Right code rounds its result to the dtype that the contract asks for.
        got = tensors[name].astype(np.dtype(where.dtype(name))).astype(np.float64)
        found[name] = ratio(got - expected, bound)
    return found


def ratio(error: Array, bound: Array | float) -> float:
    """The largest |error| / bound."""
    error, inside = np.broadcast_arrays(np.abs(error), np.asarray(bound, float))
    outside = np.where(error > 0, np.inf, 0.0)
    return float(np.divide(error, inside, out=outside, where=inside > 0).max(initial=0.0))


def hard(layer: str, dtype: str, parameters: str = "same") -> Iterator[tuple[Reference, Case]]:
    """Long sums; in batch norm means of many standard deviations and tiny variances too."""
    n, generator = LONG[dtype], np.random.default_rng(17)
    fills: dict[str, Callable[[tuple[int, ...]], Array]] = {
        "normal": generator.standard_normal,
        "equal": lambda shape: np.full(shape, generator.uniform(0.5, 2)),
        "positive": lambda shape: generator.uniform(0.1, 1, shape),
    }
    if layer == "linear":
        where = reference(layer, 2, dtype)
        for sizes in ({"inputs": n}, {"outputs": n}, {"batch0": n}):
            for draw in fills.values():
                yield where, built(where, sizes, lambda _, shape, draw=draw: draw(shape))  # type: ignore[misc]
    elif layer == "conv":
        where = reference(layer, 1, dtype)
        for sizes in (
            {"channels": n // 4, "size0": 4, "kernel0": 4},
            {"filters": n},
            {"batch": 4, "size0": n // 4},
        ):
            for draw in fills.values():
                yield where, built(where, sizes, lambda _, shape, draw=draw: draw(shape))  # type: ignore[misc]
    else:
        where = reference(layer, 0, dtype, parameters)
        kinds = ((0, 1), (1, 10), (10, 1), (99, 1), (3, 1e-3), (99, 1e-2), (0, 1e-6))
        everything = product((2, 3, 7, 64, n), range(len(eps_of(where))), kinds, (1, 0))
        for m, eps, (offset, deviation), training in everything:

            def numbers(name: str, shape: tuple[int, ...], o: float = offset, d: float = deviation) -> Array:
                z = generator.standard_normal(shape)
                if name == "running_var":
                    return np.asarray(d * d * z * z)
                return np.asarray(d * (z + o)) if name in ("x", "running_mean") else z

            case = built(where, {"batch": m, "channels": 2, "eps": eps, "training": training}, numbers)
            if where.layer.has_meaning(case):
                yield where, case
        for m, kind in product((3, n), ("equal", "positive")):
            yield where, built(where, {"batch": m, "training": 0}, lambda _, shape, draw=fills[kind]: draw(shape))  # type: ignore[misc]
        for case in where.layer.extremes(where.space):
            yield where, case


def eps_of(where: Reference) -> list[float]:
    """Every eps that is asked, by its index."""
    found: list[float] = []
    while (c := where.layer.build({**where.layer.base(where.space), "eps": len(found)}, where.space)) is not None:
        found.append(c.options["eps"])
    return found


@dataclass
class Right:
    """The worst ratio of right code: for each layer, tensor and dtype, and whose it was.

    `aside` is that of torch's convolutions in 16 bits, whose padding adds up the gradients of a pixel's copies in 16
    bits: that is not what is called right.
    """

    worst: dict[tuple[str, str, str], tuple[float, str]] = field(default_factory=dict)
    aside: dict[tuple[str, str, str], tuple[float, str]] = field(default_factory=dict)

    def add(self, layer: str, dtype: str, who: str, found: Mapping[str, float]) -> None:
        """Keeps what is worse than what was found before."""
        into = self.aside if (layer, dtype[-2:]) == ("conv", "16") and "torch" in who else self.worst
        for tensor, value in found.items():
            key = layer, tensor, dtype
            if key not in into or value > into[key][0]:
                into[key] = value, who


def right_side(count: int, dtypes: tuple[str, ...] = DTYPES, *, every: int = 1) -> Right:
    """Every right implementation over so many drawn cases of each place, and over every so many of the hard ones."""
    found = Right()
    for dtype in dtypes:
        low = dtype in ("float16", "bfloat16")
        for layer, rank in PLACES:
            for parameters in ("same", "float32") if layer == "batchnorm" and low else ("same",):
                where = reference(layer, rank, dtype, parameters)
                cases = [(where, case) for case in drawn(where, count, 3)]
                if (layer, rank) in (("linear", 2), ("conv", 1), ("batchnorm", 0)):
                    cases += islice(hard(layer, dtype, parameters), 0, None, every)
                for who, compute in implementations(layer, dtype, parameters).items():
                    for place, case in cases:
                        with np.errstate(all="ignore"):
                            tensors = compute(case)
                        if tensors is not None:
                            found.add(layer, dtype, who, ratios(place, case, tensors))
    return found


# Faults of the smallest harmful size.


def smallest(terms: Array) -> float:
    """The smallest term of at least average size."""
    sizes = np.abs(terms)
    return float(terms[np.argmin(np.where(sizes >= sizes.mean(), sizes, np.inf))])


#: Terms of each tensor's sum: layer, tensor, what makes the sum that long, and its terms.
SUMS: tuple[tuple[str, str, Callable[[int], dict[str, int]], Callable[[Case], Array]], ...] = (
    ("linear", "out", lambda n: {"inputs": n}, lambda c: c.array("x")[0] * c.array("w")[:, 0]),
    ("linear", "dx", lambda n: {"outputs": n}, lambda c: c.array("dout")[0] * c.array("w")[0]),
    ("linear", "dw", lambda n: {"batch0": n}, lambda c: c.array("x")[:, 0] * c.array("dout")[:, 0]),
    ("linear", "db", lambda n: {"batch0": n}, lambda c: c.array("dout")[:, 0]),
    (
        "conv",
        "out",
        lambda n: {"channels": n // 4, "size0": 4, "kernel0": 4},
        lambda c: (c.array("x")[0] * c.array("w")[0]).ravel(),
    ),
    ("conv", "dx", lambda n: {"filters": n}, lambda c: c.array("dout")[0, :, 0] * c.array("w")[:, 0, 0]),
    ("conv", "dw", lambda n: {"batch": 2, "size0": n // 2}, lambda c: (c.array("x") * c.array("dout")).ravel()),
    ("conv", "db", lambda n: {"batch": 2, "size0": n // 2}, lambda c: c.array("dout").ravel()),
)

Faults = dict[tuple[str, str, str], dict[str, float]]


def fault_side(seeds: int, dtypes: tuple[str, ...] = DTYPES) -> Faults:
    """The least ratio of each fault over so many cases: by layer, tensor and fault, then by dtype."""
    found: Faults = {}

    def add(layer: str, tensor: str, fault: str, dtype: str, value: float) -> None:
        cell = found.setdefault((layer, tensor, fault), {})
        cell[dtype] = min(cell.get(dtype, np.inf), value)

    for dtype in dtypes:
        for seed in range(seeds):
            generator = np.random.default_rng(seed)
            for layer, tensor, sizes, terms in SUMS:
                where = reference(layer, 2 if layer == "linear" else 1, dtype)
                case = built(where, sizes(SHORT[dtype]), lambda _, shape: generator.standard_normal(shape))  # noqa: B023
                bound = where.expected(case).tolerances[tensor]
                assert bound is not None
                add(layer, tensor, "a term left out", dtype, abs(smallest(terms(case))) / float(np.ravel(bound)[0]))
            for fault, tensor, value in normalization_faults(dtype, generator):
                add("batchnorm", tensor, fault, dtype, value)
    return found


def normalized(case: Case, **fault: Any) -> dict[str, Array]:
    """Batch norm in float64, all channels (C, m); `fault` replaces one piece of it."""
    x, up = as_rows(case.array("x")), as_rows(case.array("dout"))
    gamma, beta, eps, m = case.array("gamma")[:, None], case.array("beta")[:, None], case.options["eps"], x.shape[1]

    def sum_of(name: str, terms: Array) -> Array:
        total = terms.sum(axis=1, keepdims=True)
        if fault.get("short") == name:
            pick = max if fault.get("largest") else min
            for k, row in enumerate(terms):
                sizes = np.abs(row)
                total[k] -= row[np.argmax(sizes)] if pick is max else smallest(row)
        return np.asarray(total)

    mean = sum_of("mean", x) / m
    var = sum_of("var", np.square(x - mean)) / m
    scale = fault.get("scale", lambda var, eps: 1 / np.sqrt(var + eps))(var * fault.get("bessel", 1.0), eps)
    xhat = (x - mean) * scale
    level, slant = sum_of("level", up) / m, sum_of("slant", up * xhat) / m
    new, bessel = case.options["momentum"], fault.get("running", m / (m - 1))
    return {
        "out": as_cube(gamma * xhat + beta, case),
        "dx": as_cube(gamma * scale * (up - level - xhat * slant), case),
        "dgamma": sum_of("dgamma", up * xhat)[:, 0],
        "dbeta": sum_of("dbeta", up)[:, 0],
        "running_mean": (1 - new) * case.array("running_mean") + new * mean[:, 0],
        "running_var": (1 - new) * case.array("running_var") + new * bessel * var[:, 0],
    }


def normalization_faults(dtype: str, generator: np.random.Generator) -> Iterator[tuple[str, str, float]]:
    """Fault, tensor and ratio, on cases drawn for each: gamma dense, running statistics near those of x."""
    where = reference("batchnorm", 0, dtype)
    low = dtype in ("float16", "bfloat16")

    def drawn_for(m: int, eps: float, *, along: bool = False) -> Case:
        """x has mean 0 and variance 1, dout no part along ones and x, but for rounding; `along`: it follows x."""
        x, dout = generator.standard_normal((2, m, 4))
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        dout = dout - dout.mean(axis=0) - x * (dout * x).mean(axis=0)
        values = {"x": x, "dout": dout + (2 * x if along else 0)}
        values |= {"running_mean": np.zeros(4), "running_var": np.ones(4), "beta": np.zeros(4)}
        # The second momentum is 0.9: the new statistic weighs most.
        parameters = {"batch": m, "channels": 4, "eps": eps_of(where).index(eps), "momentum": 1}
        return built(where, parameters, lambda name, shape: values.get(name, generator.uniform(0.5, 2, shape)))

    def shown(case: Case, *tensors: str, **fault: Any) -> Iterator[tuple[str, float]]:
        right, wrong = where.expected(case), normalized(case, **fault)
        for tensor in tensors:
            bound = right.tolerances[tensor]
            yield tensor, 0.0 if bound is None else ratio(wrong[tensor] - right.tensors[tensor], bound)

    long = drawn_for(SHORT[dtype], 1e-3)
    tensors: tuple[str, ...]
    for sum_, tensors in (
        ("mean", ("out", "running_mean")),
        ("var", () if low else ("out", "running_var")),
        ("level", ("dx",)),
        ("slant", ("dx",)),
        ("dgamma", ("dgamma",)),
        ("dbeta", ("dbeta",)),
    ):
        name = {"level": "a term left out of mean(dout)", "slant": "a term left out of mean(dout xhat)"}
        title = name.get(sum_, f"a term left out of {sum_}")
        for tensor, value in shown(long, *tensors, short=sum_):
            yield title, tensor, value
    if low:
        for tensor, value in shown(long, "out", "running_var", short="var", largest=True):
            yield "the largest term left out of var", tensor, value
    plain, along = drawn_for(FEW[dtype], 0.1), drawn_for(FEW[dtype], 0.1, along=True)
    for title, scale in (
        ("1 / (sqrt(var) + eps)", lambda var, eps: 1 / (np.sqrt(var) + eps)),
        ("1 / sqrt(var) + eps", lambda var, eps: 1 / np.sqrt(var) + eps),
    ):
        for case, tensors in ((plain, ("out", "dx")), (along, ("dgamma",))):
            for tensor, value in shown(case, *tensors, scale=scale):
                yield f"{title}, eps = 0.1", tensor, value
    m = FEW[dtype]
    plain, along = drawn_for(m, 1e-3), drawn_for(m, 1e-3, along=True)
    for case, tensors in ((plain, ("out", "dx")), (along, ("dgamma",))):
        for tensor, value in shown(case, *tensors, bessel=m / (m - 1)):
            yield "unbiased variance", tensor, value
    for tensor, value in shown(plain, "running_var", running=1.0):
        yield "biased running variance", tensor, value


# Nothing for something.


def zeros_side(count: int, dtypes: tuple[str, ...] = DTYPES) -> dict[tuple[str, str, str], tuple[int, int]]:
    """In how many of the judged cases with something to find zeros are noticed: by layer, tensor and dtype."""
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for dtype in dtypes:
        for layer, rank in PLACES:
            where = reference(layer, rank, dtype)
            for case in drawn(where, count, 7):
                right = where.expected(case)
                for tensor, expected in right.tensors.items():
                    bound = right.tolerances[tensor]
                    if bound is None or not expected.any():
                        continue
                    noticed, judged = found.get((layer, tensor, dtype), (0, 0))
                    seen = bool((np.abs(expected) > bound).any())
                    found[layer, tensor, dtype] = noticed + seen, judged + 1
    return found


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def report(count: int, seeds: int) -> str:
    """The three tables, in Markdown."""
    right, faults, zeros = right_side(count), fault_side(seeds), zeros_side(count)
    keys = list(dict.fromkeys((layer, tensor) for layer, tensor, _ in right.worst))
    order = ["linear", "conv", "batchnorm"]
    keys.sort(key=lambda key: order.index(key[0]))

    def worst(layer: str, tensor: str, dtype: str) -> str:
        value, who = right.worst.get((layer, tensor, dtype), (0.0, ""))
        return f"{value:.2f} ({who})" if value else "0"

    def share(layer: str, tensor: str, dtype: str) -> str:
        noticed, judged = zeros[layer, tensor, dtype]
        return f"{judged - noticed} of {judged}"

    def least(value: float) -> str:
        return f"{value:.2f}" if value < 100 else "> 100"

    lines = ["Right code: the largest |error| / bound, and the implementation that reached it.", ""]
    lines += _table(["", *DTYPES], [[f"{la} {te}", *(worst(la, te, d) for d in DTYPES)] for la, te in keys])
    aside = [f"{te} {d}: {value:.2f}" for (_, te, d), (value, _) in sorted(right.aside.items())]
    lines += [
        "",
        f"Not counted, torch's convolutions, which add up copies of padded pixels in 16 bits: {', '.join(aside)}.",
    ]
    lines += ["", f"Faults: the least |error| / bound over {seeds} cases drawn for each.", ""]
    rows = sorted(faults.items(), key=lambda item: order.index(item[0][0]))
    lines += _table(
        ["", "fault", *DTYPES],
        [[f"{la} {te}", name, *(least(cell[d]) if d in cell else "" for d in DTYPES)] for (la, te, name), cell in rows],
    )
    lines += ["", "Zeros in the place of a result that is not zero: the judged drawn cases in which they pass.", ""]
    lines += _table(["", *DTYPES], [[f"{la} {te}", *(share(la, te, d) for d in DTYPES)] for la, te in keys])
    over = [f"{key}: {value:.2f}" for key, (value, _) in right.worst.items() if value >= 0.5]
    under = [f"{key} {d}: {value:.2f}" for key, cell in faults.items() for d, value in cell.items() if value <= 1]
    print("\n".join(["", *over, *under]) if over or under else "both sides hold", file=sys.stderr)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300, help="drawn cases of each layer, rank and dtype")
    parser.add_argument("--seeds", type=int, default=50, help="cases of each fault")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/tolerance.md")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    tables = report(options.cases, options.seeds)
    print(tables)
    if options.write:
        page = PAGE.read_text()
        before, rest = page.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
