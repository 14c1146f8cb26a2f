"""Which named conditions the cases must hit, and how often they did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from backproof.conformance.spec import memory_layouts
from backproof.conformance.spec.case import Case, Configuration
from backproof.conformance.spec.layer import Layer, Space


def cells_of(layer: Layer, configuration: Configuration) -> frozenset[str]:
    """The names of the layer's cells that this configuration lies in."""
    return frozenset(name for name, holds in layer.cells.items() if holds(configuration))


def cells(layer: Layer, cases: Iterable[Case]) -> Counter[str]:
    """In how many cases each cell of the layer is hit, and each pair of cells that real bugs needed together."""
    counts: Counter[str] = Counter(dict.fromkeys(layer.cells, 0))
    counts.update({f"{one} and {other}": 0 for one, other in layer.cell_pairs})
    known: dict[Configuration, frozenset[str]] = {}
    for case in cases:
        configuration = case.configuration
        if configuration not in known:
            known[configuration] = cells_of(layer, configuration)
        hit = known[configuration]
        counts.update(hit)
        counts.update(f"{one} and {other}" for one, other in layer.cell_pairs if one in hit and other in hit)
    return counts


def layouts(
    layer: Layer,
    spaces: Sequence[Space],
    judged: Mapping[tuple[str, str], int],
    refused: Mapping[tuple[str, str], int],
) -> Counter[str]:
    """In how many cases each array lay in each memory layout that `from_numpy` takes: "dout: negative stride"."""
    asked: dict[str, int] = {}
    for space in spaces:
        configuration = layer.build(layer.base(space), space)
        for name, shape in {} if configuration is None else configuration.shapes.items():
            choices = () if shape is None else memory_layouts.choices(name, len(shape), layer.contract.state)
            asked |= {f"{name}: {layout}": 0 for layout in choices if not refused.get((name, layout))}
    return Counter(asked | {f"{name}: {layout}": n for (name, layout), n in judged.items()})
