"""Linear: out[..., c] = sum over d of x[..., d] * w[d, c], plus b[c].

Gradients of a loss with upstream gradient dout: dx = dout w^T, dw = x^T dout summed over all leading axes, db = sum of
dout over all leading axes (Goodfellow, Bengio, Courville, Deep Learning, section 6.5.6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, count, product
from math import prod
from typing import Any

import numpy as np

from backproof.conformance.cases.profile import TILE_EDGES
from backproof.conformance.spec.case import Array, Case, Configuration
from backproof.conformance.spec.layer import Identity, Layer, Part, Program, Relation, Space
from backproof.conformance.spec.mistake import Mistake
from backproof.conformance.spec.tape import Tape
from backproof.conformance.spec.traits import Traits
from backproof.reference import algebra, bilinear, coordinates, invalid_cases
from backproof.reference.bilinear import bias_choices, fitting, padded
from backproof.reference.contracts import LINEAR

LEAD = (1, 2, 3, 1, 2, 3, 4, 5, 6)
FEATURES = (1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8)
#: The most rows of a drawn case, and where a leading axis stands at the edge of a tile.
ROWS, WIDE_ROWS = 36, 288


CELLS: Mapping[str, Callable[[Configuration], bool]] = {
    "N = 1": lambda c: prod(c.shape("x")[:-1]) == 1,
    "N > 2": lambda c: prod(c.shape("x")[:-1]) > 2,
    "one input": lambda c: c.shape("w")[0] == 1,
    "one output": lambda c: c.shape("w")[1] == 1,
    "inputs = outputs": lambda c: c.shape("w")[0] == c.shape("w")[1] > 1,
    "inputs != outputs": lambda c: c.shape("w")[0] != c.shape("w")[1],
    "no bias": lambda c: c.shapes.get("b") is None,
    "tile edge": lambda c: any(s in TILE_EDGES for s in (*c.shape("x"), c.shape("w")[1])),
    "rank > 2": lambda c: c.rank > 2,
}


class Linear(Layer):
    """x is (*L, D), w (D, C), b (C,), dout and out (*L, C); `rank` is x's.

    Beside the items of every layer it has identities, relations, edges (an empty batch) and rejection; linearity is one
    of every layer's.
    """

    contract = LINEAR
    cells = CELLS
    cell_pairs = (("rank > 2", "no bias"), ("rank > 2", "tile edge"))
    size_classes = ((ROWS, 8, 8), (WIDE_ROWS, 72, 72))

    def parts(self, settings: Mapping[str, Any]) -> tuple[Part, ...]:
        """One part for all ranks."""
        return (Part("linear", None, tuple(settings["ranks"])),)

    def build(self, parameters: Mapping[str, int], space: Space) -> Configuration | None:
        """Parameters: batch0, batch1, ... (one for each leading axis), inputs, outputs, bias (0 or 1)."""
        lead = tuple(parameters[f"batch{k}"] for k in range(space.rank - 1))
        inputs, outputs, bias = parameters["inputs"], parameters["outputs"], parameters["bias"]
        if min(lead) < 0 or min(inputs, outputs) < 1 or bias not in bias_choices(space):
            return None
        shapes: dict[str, tuple[int, ...] | None] = {"x": (*lead, inputs), "w": (inputs, outputs)}
        if space.takes("b"):
            shapes["b"] = (outputs,) if bias else None
        shapes["dout"] = (*lead, outputs)
        return Configuration(parameters, shapes, {}, {}, space.rank, 0)

    def draw(self, tape: Tape, space: Space) -> Configuration:
        """Sizes to 6 and 8; in one case of eight one of them stands at the edge of a tile, the others at 3 or less.

        The last of three and more leading axes are cut down where they would make too many rows.
        """
        leading = [f"batch{k}" for k in range(space.rank - 1)]
        names = [*leading, "inputs", "outputs"]
        sizes = {name: tape.pick(LEAD if name.startswith("batch") else FEATURES) for name in names}
        bias, edge, where, wide = tape.pick(bias_choices(space)[::-1]), tape.byte(), tape.byte(), tape.byte()
        large = names[where % len(names)] if edge % 8 == 7 else None
        if large is not None:
            sizes = {name: min(size, 3) for name, size in sizes.items()}
            sizes[large] = TILE_EDGES[wide % len(TILE_EDGES)]
        room = WIDE_ROWS if large in leading else ROWS
        for name in reversed(leading):
            if name != large:
                others = prod([sizes[other] for other in leading if other != name])
                sizes[name] = max(1, min(sizes[name], room // others))
        configuration = self.build({**sizes, "bias": bias}, space)
        assert configuration is not None
        return configuration

    def base(self, space: Space) -> dict[str, int]:
        """One row, one input, one output."""
        sizes = {f"batch{k}": 1 for k in range(space.rank - 1)}
        return {**sizes, "inputs": 1, "outputs": 1, "bias": bias_choices(space)[-1]}

    def features(self, space: Space) -> list[dict[str, int]]:
        """Each size at 2 and 3, and no bias."""
        sizes = [name for name in self.base(space) if name != "bias"]
        return [{name: size} for name in sizes for size in (2, 3)] + [{"bias": bias_choices(space)[0]}]

    def large(self, space: Space, edges: Sequence[int]) -> Iterator[dict[str, int]]:
        """Every leading axis, inputs and outputs, beside sizes of 2."""
        base = self.base(space)
        small = {name: 2 for name in base if name != "bias"}
        return ({**base, **small, name: edge} for name in small for edge in edges)

    def big(self, space: Space, batches: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Iterator[dict[str, int]]:
        """Every leading axis beside features of 2; any two sizes at once."""
        base = self.base(space)
        names = [name for name in base if name != "bias"]
        for name, batch in product(names[:-2], batches):
            yield {**base, "inputs": 2, "outputs": 2, name: batch}
        for (one, other), (first, second) in product(combinations(names, 2), pairs):
            yield {**base, one: first, other: second}

    def long_sums(self, space: Space) -> Iterator[Case]:
        """Ones: out over the inputs, dx over the outputs, dw and db over every leading axis."""
        base = {**self.base(space), "inputs": 2, "outputs": 2}
        names = [name for name in base if name != "bias"]
        for name, terms in product(names, space.precision.sticking):
            found = self.build({**base, name: terms}, space)
            if found is not None:
                yield bilinear.ones(found, space.precision, self.dtypes(space))

    def ascending(self, space: Space) -> Iterator[Configuration]:
        """All shapes by their number of elements."""
        for elements in count(3):
            for lead in _leads(space.rank - 1, elements):
                rows = prod(lead)
                for inputs in range(1, elements // rows + 1):
                    for bias in bias_choices(space):
                        outputs, rest = divmod(elements - rows * inputs, inputs + bias + rows)
                        if rest or outputs < 1:
                            continue
                        sizes = {f"batch{k}": size for k, size in enumerate(lead)}
                        found = self.build({**sizes, "inputs": inputs, "outputs": outputs, "bias": bias}, space)
                        if found is not None:
                            yield found

    def fills(self, configuration: Configuration, space: Space) -> Iterator[Case]:
        """Small integers."""
        return bilinear.fills(configuration, space.precision, self.dtypes(space))

    def fill(self, configuration: Configuration, tape: Tape, space: Space) -> Case:
        """Small integers or numbers that round."""
        return bilinear.fill(configuration, tape, space.precision, self.dtypes(space))

    def edges(self, space: Space) -> Iterator[Case]:
        """Each leading axis at 0: sums over nothing are zero."""
        if not space.settings["empty_batch"]:
            return
        for axis in range(space.rank - 1):
            for inputs, outputs, bias in product((1, 3), (1, 2), bias_choices(space)):
                lead = {f"batch{k}": 0 if k == axis else 2 for k in range(space.rank - 1)}
                found = self.build({**lead, "inputs": inputs, "outputs": outputs, "bias": bias}, space)
                if found is not None:
                    yield next(iter(self.fills(found, space)))

    def with_samples(self, parameters: Mapping[str, int]) -> Mapping[str, int]:
        """Two along every leading axis, or as many as there are."""
        return {name: max(2, size) if name.startswith("batch") else size for name, size in parameters.items()}

    def evaluate(self, case: Case) -> dict[str, Array]:
        """Matrix products over the flattened leading axes."""
        x, w, b, dout = case.array("x"), case.array("w"), case.wide.get("b"), case.array("dout")
        rows, upstream = x.reshape(-1, x.shape[-1]), dout.reshape(-1, dout.shape[-1])
        out = rows @ w
        tensors = {"dx": (upstream @ w.T).reshape(x.shape), "dw": rows.T @ upstream}
        if b is not None:
            out = out + b
            tensors["db"] = upstream.sum(axis=0)
        return {"out": out.reshape(dout.shape), **tensors}

    def tolerances(self, case: Case, expected: Mapping[str, Array], space: Space) -> dict[str, Array | float | None]:
        """Sums of D terms and the bias for out, of C for dx, of all rows for dw and db."""
        inputs, outputs = case.configuration.shape("w")
        rows = prod(case.configuration.shape("x")[:-1])
        counts = {"out": inputs + 1, "dx": outputs, "dw": rows, "db": rows}
        return bilinear.tolerances(case, expected, counts, self.evaluate, bias_axis=-1, exact=space.exact)

    def program(self, case: Case) -> Program:
        """Matrices padded with zeros."""
        x, w, b, dout = case.array("x"), case.array("w"), case.wide.get("b"), case.array("dout")
        (inputs, outputs), rows = w.shape, prod(x.shape[:-1])
        n, d, c = fitting(self.size_classes, (rows, inputs, outputs))
        bias = np.zeros(outputs) if b is None else b
        arguments = (
            padded(x.reshape(rows, inputs), (n, d)),
            padded(w, (d, c)),
            padded(bias, (c,)),
            padded(dout.reshape(rows, outputs), (n, c)),
        )

        def unpack(outcome: Sequence[Array]) -> dict[str, Array]:
            out, dx, dw, db = outcome
            tensors = {
                "out": out[:rows, :outputs].reshape(dout.shape),
                "dx": dx[:rows, :inputs].reshape(x.shape),
                "dw": dw[:inputs, :outputs],
            }
            return tensors if b is None else {**tensors, "db": db[:outputs]}

        return Program((n, d, c), arguments, unpack)

    def definition(self, x: Any, w: Any, b: Any, dout: Any) -> Any:
        """out = x w + b."""
        import jax

        out, pullback = jax.vjp(lambda x, w, b: x @ w + b, x, w, b)
        return (out, *pullback(dout))

    def homogeneous(self, case: Case) -> Case:
        """A bias of zeros."""
        return algebra.homogeneous(case)

    def identities(
        self, case: Case, tensors: Mapping[str, Array], tolerances: Mapping[str, Array | float]
    ) -> Iterator[Identity]:
        """<out, dout> = <x, dx> = <w, dw>; db is the sum of dout."""
        return algebra.identities(case, tensors, tolerances, -1)

    def relations(self, case: Case, space: Space, others: Mapping[str, Space]) -> Iterator[Relation]:
        """The batch split along its first axis."""
        return algebra.split_batch(self, case, space, "batch0")

    def invalid_cases(self, space: Space) -> Iterator[Case]:
        """w or dout of another shape; a size of zero that is no batch's."""
        return invalid_cases.linear(self, space)

    def coordinates(self, tensor: str, case: Case) -> dict[str, Array]:
        """The names of the axes."""
        return coordinates.linear(tensor, case)

    def mistakes(self) -> Sequence[Mistake]:
        """The catalogue of mistakes."""
        from backproof.reference.mistakes import linear as catalogue

        return catalogue.MISTAKES

    def traits(self) -> Traits:
        """Facts about its cases."""
        from backproof.reference.traits import linear as vocabulary

        return vocabulary.TRAITS

    def permutation(self, tensor: str, dimensions: int, settings: Mapping[str, Any]) -> tuple[int, ...] | None:
        """ "oi" exchanges the axes of w."""
        return (1, 0) if settings["weight"] == "oi" and tensor in ("w", "dw") else None


def _leads(count: int, most: int) -> Iterator[tuple[int, ...]]:
    """All sizes of so many leading axes with at most so many rows together."""
    if count == 0:
        yield ()
        return
    for size in range(1, most + 1):
        for rest in _leads(count - 1, most // size):
            yield (size, *rest)


LAYER = Linear()
