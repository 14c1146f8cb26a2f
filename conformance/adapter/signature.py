"""Reads what a layer supports off the signature of its forward."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Reversible, Sequence
from difflib import get_close_matches
from inspect import Parameter
from typing import Any

from backproof.conformance.spec.contract import Contract, Option, Signature


class SignatureError(ValueError):
    """A function of an adapter cannot be called as the contract says; the message is one sentence."""


def read_signature(forward: Callable[..., Any], contract: Contract, where: str) -> Signature:
    """Read the signature of a forward; `where` names it in messages.

    Raises SignatureError where the signature cannot be read, does not fit the contract, or has an annotation
    that no value can be drawn for.
    """
    call = _Call(_parameters(forward, where), contract, where)
    arrays, by_keyword = call.arrays()
    options = tuple(option for option in contract.options if call.takes(option.name))
    evaluate = _evaluator(forward)
    return Signature(
        arrays=arrays,
        nullable=frozenset(name for name in arrays if call.is_nullable(name)),
        by_keyword=by_keyword,
        options=tuple(option.name for option in options),
        state=call.takes_state(),
        spellings={
            option.name: _Annotation(option, call.annotation(option.name), evaluate, where).spellings()
            for option in options
            if option.reading != "plain"
        },
        left_alone=call.left_alone(),
    )


def underlying_function(function: Callable[..., Any]) -> object:
    """The function whose parameters `function` shows: behind partials, wrappers, methods and objects."""
    return _unwrapped(function)[0]


def check_positional(function: Callable[..., Any], expected: Sequence[str], where: str) -> None:
    """Check that a function can be called with these arguments by position, and nothing else.

    Raises SignatureError where it cannot, or where its signature cannot be read.
    """
    try:
        inspect.Signature(_parameters(function, where)).bind(*expected)
    except TypeError as error:
        raise SignatureError(f"{where} cannot be called as {where}({', '.join(expected)}): {error}.") from None


def _parameters(function: Callable[..., Any], where: str) -> list[Parameter]:
    try:
        if sys.version_info >= (3, 14):  # annotations are evaluated here, one by one, and not by inspect
            import annotationlib

            signature = inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
        else:
            signature = inspect.signature(function)
    except Exception:
        raise SignatureError(
            f"{where} has no readable signature, like most built-in and compiled functions: wrap it in a def "
            "whose parameters say what it takes."
        ) from None
    return list(signature.parameters.values())


class _Call:
    """How the arrays, options and state of a contract reach the parameters of a forward."""

    def __init__(self, parameters: list[Parameter], contract: Contract, where: str) -> None:
        self._contract = contract
        self._where = where
        self._positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._spread = next((f"*{p.name}" for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._takes_every_option = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._leading = self._positional[: contract.unnamed]
        keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        self._named = {p.name: p for p in self._positional[contract.unnamed :] + keyword_only}
        self._known = (
            *contract.arrays[contract.unnamed :],
            *(option.name for option in contract.options),
            *contract.state,
        )
        self._check_leading()
        self._check_named()
        self._check_order()

    def takes(self, option: str) -> bool:
        return option in self._named or self._takes_every_option

    def annotation(self, option: str) -> object:
        return self._named[option].annotation if option in self._named else Parameter.empty

    def is_nullable(self, array: str) -> bool:
        return array in self._named and self._named[array].default is None

    def left_alone(self) -> tuple[str, ...]:
        return tuple(name for name in self._named if name not in self._known)

    def takes_state(self) -> bool:
        taken = [name for name in self._contract.state if self.takes(name)]
        lacking = [name for name in self._contract.state if not self.takes(name)]
        if taken and lacking:
            raise self._error(f"takes {taken[0]} without {lacking[0]}: take both or neither")
        return bool(taken)

    def arrays(self) -> tuple[tuple[str, ...], frozenset[str]]:
        """The arrays taken, and those of them that go by keyword."""
        unnamed = self._contract.unnamed
        arrays = list(self._contract.arrays[:unnamed])
        by_keyword = set()
        by_position = len(self._leading)
        for name in self._contract.arrays[unnamed:]:
            next_one = self._positional[by_position] if by_position < len(self._positional) else None
            if name in self._named:
                arrays.append(name)
                if next_one is self._named[name]:
                    by_position += 1
                elif self._named[name].kind is Parameter.POSITIONAL_ONLY:
                    raise self._error(f"takes {name} by position only: put it directly after the other arrays")
                else:
                    by_keyword.add(name)
            elif self._spread:
                arrays.append(name)
                if next_one:
                    raise self._error(
                        f"has {next_one.name} before {self._spread}, where {name} would land in it: put "
                        f"{next_one.name} after {self._spread}"
                    )
        return tuple(arrays), frozenset(by_keyword)

    def _check_leading(self) -> None:
        expected = self._contract.arrays[: self._contract.unnamed]
        rule = f"the arrays go by position, in the order {', '.join(self._contract.arrays)}"
        keeps_names = any(p.name in expected for p in (*self._leading, *self._named.values()))
        for array, parameter in zip(expected, self._leading, strict=False):
            # In f(a, b) the second array is the weight and may be called so; in f(x, b) it is the bias.
            is_array = parameter.name in self._contract.arrays
            if parameter.name in self._known and (keeps_names or not is_array):
                raise self._error(f"has {parameter.name} where {array} must stand: {rule}")
        if len(self._leading) < len(expected) and not self._spread:
            raise self._error(f"has no room for {expected[len(self._leading)]}: {rule}")

    def _check_named(self) -> None:
        for name, parameter in self._named.items():
            if name not in self._known and parameter.default is Parameter.empty:
                nearest = f" (nearest known name: {_nearest(name, self._known)!r})" if self._known else ""
                raise self._error(
                    f"has an unknown parameter {name!r}{nearest} without a default: rename it or give it one"
                )
            is_option = name in self._known and name not in self._contract.arrays
            if is_option and parameter.kind is Parameter.POSITIONAL_ONLY:
                raise self._error(f"takes {name} by position only, but options go by keyword: wrap it in a def")

    def _check_order(self) -> None:
        found = [p.name for p in self._positional if p.name in self._named and p.name in self._contract.arrays]
        right = [name for name in self._contract.arrays if name in found]
        if found != right:
            raise self._error(f"takes {', '.join(found)}, but the arrays go by position, as {', '.join(right)}")

    def _error(self, sentence: str) -> SignatureError:
        return SignatureError(f"{self._where} {sentence}.")


class _Annotation:
    """The annotation of one option, read for the forms in which its value may be written."""

    def __init__(self, option: Option, annotation: Any, evaluate: Callable[[str], object], where: str) -> None:
        self._option = option
        self._annotation = annotation
        self._evaluate = evaluate
        self._where = where

    def spellings(self) -> tuple[str, ...]:
        choices = self._option.choices
        is_literal = self._option.reading == "literal"
        plainest_first = choices if is_literal else ("int", "axes", "pairs")
        read = self._strings if is_literal else self._shapes
        alternatives = [] if self._annotation is Parameter.empty else self._alternatives(self._annotation)
        found = {spelling for alternative in alternatives for spelling in read(alternative)}
        return tuple(spelling for spelling in plainest_first if spelling in found) or (
            choices if is_literal else ("axes",)
        )

    def _strings(self, alternative: object) -> set[str]:
        choices = self._option.choices
        if typing.get_origin(alternative) is not typing.Literal:
            self._refuse(alternative, int, float, bool)
            return set(choices)
        values = [value for value in typing.get_args(alternative) if value is not None]
        for value in values:
            if value not in choices:
                nearest = _nearest(str(value), choices)
                raise self._error(
                    f"allows {value!r}, but it is one of {', '.join(choices)}; the nearest is {nearest!r}"
                )
        return {choice for choice in choices if choice in values}

    def _shapes(self, alternative: object) -> set[str]:
        self._refuse(alternative, str, float, bool)
        if alternative is int:
            return {"int"}
        arguments = typing.get_args(alternative) if _is_sequence(alternative) else ()
        items = [item for each in arguments if each is not ... for item in self._alternatives(each)]
        for item in items:
            self._refuse(item, str, float, bool)
        if self._option.reading == "axes" and any(map(_is_sequence, items)):
            raise self._error("holds a sequence of sequences, but it is one int, or one for each axis")
        return {"pairs" if _is_sequence(item) else "axes" for item in items} or {"axes"}

    def _refuse(self, alternative: object, *refused: type) -> None:
        is_literal = typing.get_origin(alternative) is typing.Literal
        kinds = [type(value) for value in typing.get_args(alternative)] if is_literal else [alternative]
        for kind in refused:
            if kind in kinds:
                expected = "a string" if self._option.reading == "literal" else "one int or a tuple of ints"
                raise self._error(f"allows {kind.__name__}, but it is {expected}")

    def _alternatives(self, annotation: object) -> list[object]:
        """The members of a union, or the annotation alone; None aside, strings and aliases followed."""
        try:
            return list(_members(annotation, self._evaluate))
        except Exception as error:
            raise self._error(
                f"cannot be evaluated ({type(error).__name__}: {error}): correct it or leave it out"
            ) from None

    def _error(self, sentence: str) -> SignatureError:
        annotation = getattr(self._annotation, "__forward_arg__", self._annotation)
        quoted = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        return SignatureError(f"{self._where}: the annotation `{quoted}` of {self._option.name} {sentence}.")


def _members(annotation: Any, evaluate: Callable[[str], object]) -> Iterator[object]:
    origin = typing.get_origin(annotation)
    if isinstance(annotation, str):
        yield from _members(evaluate(annotation), evaluate)
    elif isinstance(annotation, typing.ForwardRef):
        yield from _members(evaluate(annotation.__forward_arg__), evaluate)
    elif origin is typing.Annotated:
        yield from _members(annotation.__origin__, evaluate)
    elif isinstance(annotation, typing.NewType):
        yield from _members(annotation.__supertype__, evaluate)
    elif _is_alias(annotation):
        yield from _members(annotation.__value__, evaluate)
    elif _is_alias(origin):
        yield from _members(origin.__value__[typing.get_args(annotation)], evaluate)
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _members(member, evaluate)
    elif annotation is not None and annotation is not types.NoneType:
        yield annotation


def _is_alias(annotation: object) -> bool:
    """Whether a `type` statement made it; by name, as Python 3.11 has none of its own."""
    return type(annotation).__name__ == "TypeAliasType"


def _is_sequence(annotation: object) -> bool:
    kind = typing.get_origin(annotation) or annotation
    if not isinstance(kind, type) or issubclass(kind, (str, bytes)):
        return False
    return issubclass(kind, Sequence) or kind in (Iterable, Collection, Container, Reversible)


def _evaluator(forward: Callable[..., Any]) -> Callable[[str], object]:
    """What evaluates the annotations of a forward that are strings, where it was defined."""
    function, owner = _unwrapped(forward)
    if not isinstance(function, types.FunctionType):
        return lambda expression: eval(expression, {})
    inner: dict[str, Any] = {}
    for kind in reversed(owner.__mro__ if owner else ()):
        inner.update(vars(kind))
    for parameter in (*getattr(owner, "__type_params__", ()), *getattr(function, "__type_params__", ())):
        inner[parameter.__name__] = parameter
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if cell != types.CellType():  # an empty cell has no contents to ask for
            inner[name] = cell.cell_contents
    return lambda expression: eval(expression, function.__globals__, inner)


def _unwrapped(forward: Any) -> tuple[object, type | None]:
    """The function whose parameters inspect.signature shows, and the class that it belongs to, if any."""
    owner = None
    while True:
        if isinstance(forward, functools.partial):
            forward = forward.func
        elif inspect.ismethod(forward):
            owner = forward.__self__ if isinstance(forward.__self__, type) else type(forward.__self__)
            forward = forward.__func__
        elif hasattr(forward, "__wrapped__"):
            forward = forward.__wrapped__
        elif isinstance(forward, type):
            owner, forward = forward, vars(forward).get("__init__")
        elif not inspect.isroutine(forward) and inspect.isfunction(type(forward).__call__):
            owner, forward = type(forward), type(forward).__call__
        else:
            return forward, owner or _enclosing_class(forward)


def _enclosing_class(function: object) -> type | None:
    """The class at module level in whose body a static method was defined."""
    found = None
    for name in getattr(function, "__qualname__", "").split(".")[:-1]:
        found = (vars(found) if found else getattr(function, "__globals__", {})).get(name)
        if not isinstance(found, type):
            return None
    return found


def _nearest(name: str, names: Sequence[str]) -> str:
    return get_close_matches(name, names, 1, 0.0)[0]
