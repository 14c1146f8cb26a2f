"""Gradient checkers and fixed-shape comparisons, each as its users call it: the other side of `checkers.py`.

What they are asked stands in `configurations.py`: the shapes of a course, or a careful author's list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import torch
from jax.test_util import check_grads

from backproof.conformance.adapter.candidate import Candidate, written
from backproof.conformance.adapter.load import Adapter
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Layer, Space
from backproof.reference.textbook import numerical_gradient

#: The course's step.
STEP = 1e-5
#: The relative error at which its notes say "you should be happy"; at more than one point right code needs more.
HAPPY = {"course": 1e-7, "careful": 1e-6}
#: rtol and atol of torch.testing.assert_close.
CLOSE = {"float64": (1e-7, 1e-7), "float32": (1.3e-6, 1e-5), "float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5)}


class Wrong(Exception):
    """A checker's own word that a candidate is wrong."""


# A candidate, as the checkers call it.


class Called:
    """A layer with its options set: functions of the arrays alone. Nothing is copied, as in a plain wrapper."""

    def __init__(self, adapter: Adapter, layer: Layer, space: Space, case: Case) -> None:
        self.layer, self.space, self.case = layer, space, case
        self.implementation = adapter.implementations[layer.name]
        self.signature = self.implementation.signature
        self.reusable = bool(adapter.settings["reusable_cache"])
        self.from_numpy = adapter.from_numpy or (lambda a: a)
        self.to_numpy = adapter.to_numpy or np.asarray
        self._candidate = Candidate(adapter, self.implementation, layer)
        spellings = case.configuration.spellings
        self.options = {
            name: written(case.options[name], spellings[name]) if name in spellings else case.options[name]
            for name in self.signature.options
        }
        state = layer.contract.state if self.signature.state else ()
        own = {name: self.own(name, a) for name, a in case.arrays.items() if a is not None}
        #: The arrays that are not None, in the candidate's layout; the running statistics; the cotangent.
        self.arrays = {name: own[name] for name in self.signature.arrays if name in own}
        self.state = {name: own[name] for name in state}
        self.dout = own["dout"]

    def own(self, tensor: str, array: Array) -> Array:
        """An array of the references as the candidate has it, C-contiguous."""
        return np.array(self._candidate.in_data_format(tensor, array), order="C")

    def forward(self, *arrays: Array) -> tuple[Array, Any]:
        """out, cache."""
        out, cache, _ = self.tracked(*arrays)
        return out, cache

    def tracked(self, *arrays: Array) -> tuple[Array, Any, dict[str, Array]]:
        """out, cache and the running statistics, of which every call gets its own."""
        given = {name: self.from_numpy(a) for name, a in zip(self.arrays, arrays, strict=True)}
        state = {name: self.from_numpy(a.copy()) for name, a in self.state.items()}
        by_keyword = self.signature.by_keyword
        positional = [given.get(name) for name in self.signature.arrays if name not in by_keyword]
        keywords = {name: given.get(name) for name in by_keyword}
        returned = self.implementation.forward(*positional, **keywords, **self.options, **state)
        out, cache, *statistics = returned
        after = dict(zip(state, statistics or state.values(), strict=True))
        return self._array(out), cache, {name: self._array(a) for name, a in after.items()}

    def backward(self, dout: Array, cache: Any) -> list[Array]:
        """A gradient for every array that is not None."""
        returned = self.implementation.backward(self.from_numpy(dout), cache)
        if not isinstance(returned, Mapping):
            returned = {f"d{name}": a for name, a in zip(self.signature.arrays, returned, strict=False)}
        return [self._array(returned[f"d{name}"]) for name in self.arrays]

    def pull(self, dout: Array, *arrays: Array) -> list[Array]:
        """The gradients by a forward of their own."""
        return self.backward(dout, self.forward(*arrays)[1])

    def _array(self, result: Any) -> Array:
        array = np.asarray(self.to_numpy(result))
        if array.dtype.kind == "O":
            raise TypeError(f"{type(result).__name__} is no array.")
        return array


# The checkers. Each raises where it finds something.


class _Function(torch.autograd.Function):
    """A candidate in torch: the wrapper of the tutorials."""

    @staticmethod
    def forward(ctx: Any, called: Called, *tensors: torch.Tensor) -> torch.Tensor:
        """Runs the candidate on the tensors' own memory."""
        ctx.called, ctx.arrays = called, [tensor.detach().numpy() for tensor in tensors]
        out, ctx.cache = called.forward(*ctx.arrays)
        return _tensor(out)

    @staticmethod
    def backward(ctx: Any, dout: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """A cache that serves one backward is made anew for each."""
        cache = ctx.cache if ctx.called.reusable else ctx.called.forward(*ctx.arrays)[1]
        return None, *map(_tensor, ctx.called.backward(dout.numpy(), cache))


def _tensor(array: Array) -> torch.Tensor:
    """The same memory, but for what torch cannot hold: negative strides."""
    return torch.from_numpy(array.copy() if any(stride < 0 for stride in array.strides) else array)


def gradcheck(called: Called, setting: str, *, fast: bool = False) -> None:
    """torch.autograd.gradcheck, with its defaults."""
    leaves = [torch.from_numpy(array.copy()).requires_grad_() for array in called.arrays.values()]
    torch.autograd.gradcheck(lambda *tensors: _Function.apply(called, *tensors), leaves, fast_mode=fast)


def gradcheck_fast(called: Called, setting: str) -> None:
    """The same with one random projection in the place of the whole Jacobian."""
    gradcheck(called, setting, fast=True)


#: The candidate behind the callbacks: with functions that never change, JAX compiles once for each shape.
_behind: list[Called] = []


def _callback_forward(*arrays: Any) -> Array:
    return _behind[-1].forward(*map(np.asarray, arrays))[0]


def _callback_backward(dout: Any, *arrays: Any) -> tuple[Array, ...]:
    return tuple(_behind[-1].pull(np.asarray(dout), *map(np.asarray, arrays)))


def jax_check_grads(called: Called, setting: str) -> None:
    """jax.test_util.check_grads with its defaults, in reverse mode, first order."""
    out = jax.ShapeDtypeStruct(called.dout.shape, called.dout.dtype)

    @jax.custom_vjp
    def layer(*arrays: Any) -> Any:
        return jax.pure_callback(_callback_forward, out, *arrays)

    def pullback(arrays: Any, dout: Any) -> Any:
        like = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays)
        return jax.pure_callback(_callback_backward, like, dout, *arrays)

    layer.defvjp(lambda *arrays: (layer(*arrays), arrays), pullback)
    logging.getLogger("jax._src.callback").disabled = True  # what a candidate raises is told as a verdict
    _behind[:] = [called]
    with jax.enable_x64(True):
        try:
            check_grads(layer, list(called.arrays.values()), order=1, modes=("rev",))
        except Exception as error:
            if "NotImplementedError" in str(error):  # JAX has made another exception of it
                raise NotImplementedError from error
            raise


def central_differences(called: Called, setting: str) -> None:
    """The notebooks' check: every gradient against central differences of the candidate's own forward."""
    arrays = [array.copy() for array in called.arrays.values()]
    gradients = called.pull(called.dout.copy(), *arrays)
    for place, (name, gradient) in enumerate(zip(called.arrays, gradients, strict=True)):

        def out(changed: Array, place: int = place) -> Array:
            return called.forward(*arrays[:place], changed, *arrays[place + 1 :])[0]

        expected = numerical_gradient(out, arrays[place], called.dout, STEP)
        # The course's rel_error; shapes that broadcast are not held against anyone.
        error = np.max(np.abs(expected - gradient) / np.maximum(1e-8, np.abs(expected) + np.abs(gradient)))
        if not error <= HAPPY[setting]:
            raise Wrong(f"d{name}: relative error {error:.1e}")


def allclose(called: Called, setting: str) -> None:
    """out, the gradients and the running statistics against a right implementation, as torch.testing.assert_close."""
    arrays = [array.copy() for array in called.arrays.values()]
    out, cache, results = called.tracked(*arrays)
    results |= {f"d{n}": g for n, g in zip(called.arrays, called.backward(called.dout.copy(), cache), strict=True)}
    right, dtypes = called.layer.evaluate(called.case), called.layer.dtypes(called.space)
    for tensor, got in {"out": out, **results}.items():
        dtype = dtypes["x" if tensor == "out" else tensor if tensor in dtypes else tensor[1:]]
        expected = called.own(tensor, right[tensor])
        rtol, atol = CLOSE[np.dtype(dtype).name]
        if got.shape != expected.shape or got.dtype != dtype:
            raise Wrong(f"{tensor} is {got.dtype}{got.shape}")
        difference = np.abs(got.astype(np.float64) - expected)
        if not (difference <= atol + rtol * np.abs(expected)).all():
            raise Wrong(f"{tensor}: off by {np.max(difference):.1e}")


@dataclass(frozen=True)
class Checker:
    """One of the others: what it is called, and in which dtypes it can be asked, the first declared being taken."""

    title: str
    check: Callable[[Called, str], None]
    dtypes: tuple[str, ...]

    def asked(self, declared: Sequence[str], setting: str) -> list[str]:
        """The dtypes in which a candidate is asked: those it declares, of a careful author all."""
        found = [dtype for dtype in self.dtypes if dtype in declared]
        return found if setting == "careful" and self.check is allclose else found[:1]


CHECKERS = {
    "gradcheck": Checker("torch gradcheck", gradcheck, ("float64",)),
    "gradcheck-fast": Checker("torch gradcheck, fast", gradcheck_fast, ("float64",)),
    "check_grads": Checker("JAX check_grads", jax_check_grads, ("float64", "float32")),
    "differences": Checker("central differences", central_differences, ("float64",)),
    "allclose": Checker("fixed-shape allclose", allclose, ("float64", "float32", "bfloat16", "float16")),
}
