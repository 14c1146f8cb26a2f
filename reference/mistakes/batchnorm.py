"""Known ways to be wrong in batch norm, the simplest first."""

from __future__ import annotations

from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes import (
    batchnorm_axes,
    batchnorm_parameters,
    batchnorm_paths,
    batchnorm_precision,
    batchnorm_relations,
    batchnorm_running,
    batchnorm_scale,
    batchnorm_statistics,
    batchnorm_tiles,
)

MISTAKES: tuple[Mistake, ...] = (
    *batchnorm_paths.MISTAKES,
    *batchnorm_parameters.MISTAKES,
    *batchnorm_scale.MISTAKES,
    *batchnorm_running.MISTAKES,
    *batchnorm_statistics.MISTAKES,
    *batchnorm_relations.MISTAKES,
    *batchnorm_axes.MISTAKES,
    *batchnorm_precision.MISTAKES,
    *batchnorm_tiles.MISTAKES,
)
