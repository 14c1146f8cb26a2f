"""The one boundary: every call of the candidate goes through here, on arrays by name."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backproof.conformance.adapter.load import Adapter, Implementation
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.results import Problem

_OWN = str(Path(__file__).parent.parent) + os.sep

#: Makes the array that is passed, in the candidate's layout, from its name and the values.
Allocate = Callable[[str, Array], Array]


class Refused(Exception):
    """The candidate raised NotImplementedError."""


class Crashed(Exception):
    """The candidate raised; `problem` is the failure that it is."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(eq=False)
class Forward:
    """One forward: its results by tensor, its cache, and the arrays that were passed, kept until the case is over."""

    results: dict[str, Array | Problem]
    cache: Any
    passed: Mapping[str, Array | None]
    #: False where the forward returned no cache to go backward with.
    complete: bool = True
    kept: list[Any] = field(default_factory=list)


class Candidate:
    """One layer of an adapter. Arrays go in fresh, writable and C-contiguous and come back as NumPy arrays."""

    def __init__(self, adapter: Adapter, implementation: Implementation, layer: Layer) -> None:
        self.adapter = adapter
        self.implementation = implementation
        self.layer = layer
        self.signature = implementation.signature
        self._from_numpy = adapter.from_numpy
        self._gradients = tuple(f"d{name}" for name in self.signature.arrays)
        self._permuted = layer.permutation.__func__ is not Layer.permutation  # type: ignore[attr-defined]

    @property
    def reusable_cache(self) -> bool:
        """Whether one cache may serve several backwards."""
        return bool(self.adapter.settings["reusable_cache"])

    def forward(self, case: Case, *, allocate: Allocate | None = None) -> Forward:
        """Calls the forward on copies of the case's arrays; `allocate` makes the copies, `np.array` by default.

        Raises Refused and Crashed.
        """
        signature, state = self.signature, self.layer.contract.state if self.signature.state else ()
        passed: dict[str, Array | None] = {}
        positional: list[Any] = []
        keywords = self._options(case)
        for name in (*signature.arrays, *state):
            passed[name] = array = self._copy(name, case.arrays[name], allocate)
            native = array if array is None or self._from_numpy is None else self._native(array)
            if name in signature.by_keyword or name in state:
                keywords[name] = native
            else:
                positional.append(native)
        returned = self._call("forward", self.implementation.forward, positional, keywords)
        kept = [*positional, *keywords.values()]
        return self._read_forward(returned, passed, keywords, kept, case)

    def backward(
        self,
        case: Case,
        forward: Forward,
        *,
        dout: Array | None = None,
        allocate: Allocate | None = None,
    ) -> dict[str, Array | Problem | None]:
        """Pulls the case's dout (or another) back through the cache; None stands for the gradient of a None.

        Raises Refused and Crashed.
        """
        upstream = self._copy("dout", case.arrays["dout"] if dout is None else dout, allocate)
        assert upstream is not None
        native = upstream if self._from_numpy is None else self._native(upstream)
        returned = self._call("backward", self.implementation.backward, [native, forward.cache], {})
        forward.kept += [native, upstream]
        return self._read_backward(returned, case)

    def in_data_format(self, tensor: str, array: Array) -> Array:
        """A tensor of the references as the candidate has it."""
        if not self._permuted:
            return array
        axes = self.layer.permutation(tensor, array.ndim, self.implementation.settings)
        return array if axes is None else np.asarray(array.transpose(axes))

    def in_reference(self, tensor: str, array: Array) -> Array:
        """A tensor of the candidate as the references have it."""
        if not self._permuted:
            return array
        axes = self.layer.permutation(tensor, array.ndim, self.implementation.settings)
        return array if axes is None else np.asarray(array.transpose(np.argsort(axes)))

    def _copy(self, name: str, array: Array | None, allocate: Allocate | None) -> Array | None:
        if array is None:
            return None
        array = self.in_data_format(name, array)
        return np.array(array, order="C") if allocate is None else allocate(name, array)

    def accepts(self, array: Array) -> bool:
        """Whether from_numpy takes an array in this layout; always, where the adapter has none."""
        try:
            if self._from_numpy is not None:
                self._native(array)
        except Crashed:
            return False
        return True

    def _native(self, array: Array) -> Any:
        assert self._from_numpy is not None
        return self._call("from_numpy", self._from_numpy, [array], {})

    def _options(self, case: Case) -> dict[str, Any]:
        spellings, options = case.configuration.spellings, case.options
        return {
            name: written(options[name], spellings[name]) if name in spellings else options[name]
            for name in self.signature.options
        }

    def _call(self, what: str, function: Callable[..., Any], positional: list[Any], keywords: dict[str, Any]) -> Any:
        # What a call does to the filters or to NumPy's error state ends with it.
        try:
            with warnings.catch_warnings(), np.errstate():
                return function(*positional, **keywords)
        except NotImplementedError as error:
            if what in ("forward", "backward"):
                raise Refused(words(error)) from error
            raise Crashed(self._crash(what, error)) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise Crashed(self._crash(what, error)) from error

    def _crash(self, what: str, error: BaseException) -> Problem:
        name = what if what.endswith("numpy") else f"{self.layer.name}_{what}"
        text = " ".join(words(error).split())
        reason = type(error).__name__ + (f": {text}" if text else "")
        return Problem("crash", f"{name} raised {reason}{'' if reason.endswith('.') else '.'}", own_traceback(error))

    def _read_forward(
        self,
        returned: Any,
        passed: dict[str, Array | None],
        keywords: dict[str, Any],
        kept: list[Any],
        case: Case,
    ) -> Forward:
        state = self.layer.contract.state if self.signature.state else ()
        name = f"{self.layer.name}_forward"
        lengths = (2, 2 + len(self.layer.contract.state)) if self.layer.contract.state else (2,)
        if not isinstance(returned, tuple | list) or len(returned) not in lengths:
            allowed = " or ".join(["out, cache", "out, cache, " + ", ".join(self.layer.contract.state)][: len(lengths)])
            problem = Problem("result", f"{name} returned {describe(returned)}, must return a tuple of {allowed}.")
            return Forward({"out": problem}, None, passed, complete=False, kept=kept)
        # Copies: what the forward gave is judged, whatever a backward does to its buffers.
        results = {"out": self._copied("out", returned[0])}
        for k, array in enumerate(state, 2):
            # What was returned counts, else what the arrays that were passed hold now.
            results[array] = self._copied(array, returned[k] if len(returned) > 2 else keywords[array])
        return Forward(results, returned[1], passed, kept=kept)

    def _copied(self, tensor: str, native: Any) -> Array | Problem:
        result = self._array(tensor, native)
        return result if isinstance(result, Problem) else result.copy()

    def _read_backward(self, returned: Any, case: Case) -> dict[str, Array | Problem | None]:
        name, gradients = f"{self.layer.name}_backward", self._gradients
        absent = {f"d{array}" for array in self.signature.arrays if case.arrays[array] is None}
        items: dict[str, Any]
        if isinstance(returned, Mapping):
            items = dict(returned)
            missing = [gradient for gradient in gradients if gradient not in items and gradient not in absent]
            found = {g: Problem("result", f"{name} returned a dict without {g!r}.") for g in missing}
        elif isinstance(returned, tuple | list):
            extra = list(returned[len(gradients) :])
            if len(returned) < len(gradients) or any(item is not None for item in extra):
                sentence = (
                    f"{name} returned {len(returned)} results, must return {len(gradients)}: {', '.join(gradients)}."
                )
                return {g: Problem("result", sentence) for g in gradients if g not in absent}
            items, found = dict(zip(gradients, returned, strict=False)), {}
        else:
            sentence = (
                f"{name} returned {describe(returned)}, must return a tuple, list or dict of {', '.join(gradients)}."
            )
            return {g: Problem("result", sentence) for g in gradients if g not in absent}
        return {g: None if g in absent else found.get(g) or self._array(g, items[g]) for g in gradients}

    def _array(self, tensor: str, native: Any) -> Array | Problem:
        """The result as a NumPy array, in the candidate's layout."""
        if type(native) is not np.ndarray or self.adapter.to_numpy is not None:
            converted = self._converted(tensor, native)
            if isinstance(converted, Problem):
                return converted
            native = converted
        if native.dtype.kind == "O":
            return Problem("result", f"{tensor} is an array of Python objects, must be an array of numbers.")
        return np.asarray(native)

    def _converted(self, tensor: str, native: Any) -> Array | Problem:
        to_numpy = self.adapter.to_numpy
        if to_numpy is not None and native is not None:
            try:
                native = self._call("to_numpy", to_numpy, [native], {})
            except Crashed as crash:
                return crash.problem
        if isinstance(native, np.ndarray):
            return np.asarray(native)
        if not isinstance(native, np.generic):
            for convert, method in ((np.from_dlpack, "__dlpack__"), (np.asarray, "__array__")):
                if hasattr(native, method):
                    try:
                        return np.asarray(convert(native))
                    except Exception as error:
                        failed = error
            if hasattr(native, "__dlpack__") or hasattr(native, "__array__"):
                sentence = f"{tensor} could not be read as a NumPy array ({failed}); give the adapter a to_numpy."
                return Problem("crash", sentence, own_traceback(failed))
        return Problem("result", f"{tensor} is {describe(native)}, must be an array.")


def written(value: Any, spelling: str) -> Any:
    """An option as the annotation wants it: one int, an int an axis, or (low, high) an axis."""
    if spelling == "pairs":
        return value
    if spelling == "int":
        first = value[0]
        return first[0] if isinstance(first, tuple) else first
    return tuple([item[0] for item in value]) if isinstance(value[0], tuple) else value


def words(error: BaseException) -> str:
    """What an exception says; its type alone where it can't say anything."""
    try:
        return str(error)
    except Exception:
        return ""


def describe(value: Any) -> str:
    """What came back, in words."""
    if value is None:
        return "None"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, bool | int | float | complex | np.generic):
        return f"the scalar {value!r}"
    if isinstance(value, np.ndarray):
        return f"one array of shape {value.shape}"
    if isinstance(value, str):
        return "a string"
    return f"an object of type {type(value).__name__}"


def own_traceback(error: BaseException) -> str:
    """The candidate's own traceback, without the frames of Backproof."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_OWN)]
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return ("Traceback (most recent call last):\n" if frames else "") + "".join(lines)
