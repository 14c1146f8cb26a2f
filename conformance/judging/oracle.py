"""The second opinion: JAX differentiates the layer's definition, in float64, one compiled program for all shapes.

JAX is imported when the oracle is first asked, and left as it is found: float64 holds inside the oracle's own calls
only, on the CPU. Where nothing else has imported JAX it is confined to the CPU, so that no accelerator is taken.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Layer


def tensors(layer: Layer, case: Case) -> dict[str, Array]:
    """Every tensor of the case in float64, by `jax.vjp` of the layer's definition."""
    program = layer.program(case)
    with _float64():
        outcome = _compiled(layer)(*program.arguments)
        return program.unpack([np.asarray(a) for a in outcome])


@cache
def _compiled(layer: Layer) -> Any:
    # One function object a layer: JAX keeps its programs by function and by the shapes of the size class.
    return _jax().jit(layer.definition)


@cache
def _jax() -> Any:
    confine = "jax" not in sys.modules
    path = list(sys.path)
    # An adapter's folder stands first on the path, and may hold a jax.py of its own.
    sys.path[:] = [folder for folder in path if not Path(folder, "jax.py").exists()]
    try:
        import jax
    finally:
        sys.path[:] = path

    if confine:
        jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]
    return jax


@cache
def _cpu() -> Any:
    try:
        return _jax().devices("cpu")[0]
    except RuntimeError:  # JAX was set up without its CPU platform.
        return None


@contextmanager
def _float64() -> Iterator[None]:
    """JAX as the oracle needs it, whatever the adapter has configured."""
    jax = _jax()
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with (
        enable(True),
        jax.default_device(_cpu()),
        jax.numpy_rank_promotion("allow"),
        jax.transfer_guard("allow"),
        jax.debug_nans(False),
    ):
        yield
