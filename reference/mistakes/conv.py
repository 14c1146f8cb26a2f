"""Known ways to be wrong in conv, the simplest first."""

from __future__ import annotations

from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.conv_borders import BORDERS
from backproof.reference.mistakes.conv_memory import MEMORY
from backproof.reference.mistakes.conv_orders import ORDERS
from backproof.reference.mistakes.conv_paths import on_paths
from backproof.reference.mistakes.conv_pieces import PIECES
from backproof.reference.mistakes.conv_scales import BIASES, SCALES, SHAPES
from backproof.reference.mistakes.conv_sizes import CROPS, SIZES
from backproof.reference.mistakes.conv_tiles import BLOCKED, TILED
from backproof.reference.mistakes.conv_windows import BLOCKS, WINDOWS

#: What may be wrong everywhere, or on one path alone.
ANYWHERE = (*SCALES, *BIASES, *WINDOWS, *BORDERS, *CROPS, *PIECES, *ORDERS, *MEMORY, *SHAPES, *TILED)

MISTAKES: tuple[Mistake, ...] = (*ANYWHERE, *BLOCKS, *BLOCKED, *SIZES, *on_paths(ANYWHERE))
