"""How much is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Profile:
    """The numbers of cases, for each layer, rank and dtype. They are fixed: no clock decides what is judged.

    `examples` drawn cases and `sweep` configurations with every fill for the tensors; `others` of each for the items
    that are no tensor's. `sweep_shapes` bounds the different shapes of the sweep, for candidates that compile for each;
    `tile_edges` are the sizes at which it puts every axis in turn, `big_pairs` those at which it puts two at once and
    `big_batches` those at which it puts the batch, the others tiny.
    After a failure `search_seconds` and `search_cases` bound the search for anything smaller; explaining an item takes
    `item_seconds` at most, and all items of a run `run_seconds`.
    """

    name: str
    examples: int
    sweep: int
    sweep_shapes: int
    others: int
    tile_edges: tuple[int, ...]
    big_batches: tuple[int, ...] = ()
    big_pairs: tuple[tuple[int, int], ...] = ()
    search_cases: int = 40_000
    search_seconds: float = 2.0
    item_seconds: float = 3.0
    run_seconds: float = 15.0


#: Sizes around the edges of the tiles that kernels work in.
TILE_EDGES = (7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "quick": Profile("quick", examples=60, sweep=100, sweep_shapes=24, others=14, tile_edges=(8, 17, 65)),
        "default": Profile("default", examples=200, sweep=500, sweep_shapes=300, others=40, tile_edges=TILE_EDGES),
        "deep": Profile(
            "deep",
            examples=4000,
            sweep=4000,
            sweep_shapes=2000,
            others=600,
            tile_edges=TILE_EDGES,
            big_batches=(1025, 65537),
            big_pairs=((33, 65), (65, 33)),
            search_cases=400_000,
            search_seconds=20.0,
            item_seconds=30.0,
            run_seconds=300.0,
        ),
    }
)
