"""The smallest-first sweep: a plain configuration with one, two or three features added, with every fixed fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from backproof.conformance.cases.profile import Profile
from backproof.conformance.spec.case import Case, Configuration, signature_of_shapes
from backproof.conformance.spec.layer import Layer, Space

#: Features that are put together at most.
DEPTH = 3


def swept(layer: Layer, space: Space, profile: Profile) -> list[Case]:
    """The cases of at most so many configurations as the profile says, smallest first, of at most so many shapes.

    Behind them, with the first fill alone, those in which one size stands at each of the profile's edges of tiles and
    those in which two sizes are large or the batch is; and in a format of 16 bits the long sums.

    All single features come before any pair, all pairs before any triple; where a level has more than fit, every so
    many of it are taken, in the order of their sizes.
    """
    most = profile.sweep
    chosen: list[Configuration] = []
    seen: set[tuple[object, ...]] = set()
    for depth in range(DEPTH + 1):
        level = sorted(_level(layer, space, depth, seen), key=lambda c: c.size)
        room = most - len(chosen)
        if len(level) > room:
            level = [level[k * len(level) // room] for k in range(room)] if room > 0 else []
        chosen += level
        if len(chosen) >= most:
            break
    shapes: set[tuple[object, ...]] = set()
    cases: list[Case] = []
    for configuration in sorted(chosen, key=lambda c: c.size):
        shape = signature_of_shapes(configuration)
        if shape in shapes or len(shapes) < profile.sweep_shapes:
            shapes.add(shape)
            cases += [case for case in layer.fills(configuration, space) if layer.has_meaning(case)]
    large = layer.large(space, profile.tile_edges) if profile.tile_edges else ()
    for parameters in (*large, *layer.big(space, profile.big_batches, profile.big_pairs)):
        configuration_ = layer.build(parameters, space)
        if configuration_ is not None:
            cases.append(next(iter(layer.fills(configuration_, space))))
    return cases + (list(layer.long_sums(space)) if space.precision.low else [])


def _level(layer: Layer, space: Space, depth: int, seen: set[tuple[object, ...]]) -> Iterator[Configuration]:
    """The configurations with meaning of exactly so many features that no earlier one gave."""
    base = layer.base(space)
    for features in combinations(layer.features(space), depth):
        parameters = _together(base, features)
        if parameters is None or (key := tuple(parameters.values())) in seen:
            continue
        seen.add(key)
        configuration = layer.build(parameters, space)
        if configuration is not None:
            yield configuration


def _together(base: Mapping[str, int], features: Sequence[Mapping[str, int]]) -> dict[str, int] | None:
    """The parameters with all features set; None where two of them want different values."""
    parameters = dict(base)
    claimed: dict[str, int] = {}
    for feature in features:
        for name, value in feature.items():
            if claimed.setdefault(name, value) != value:
                return None
            parameters[name] = value
    return parameters
