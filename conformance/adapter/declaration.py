"""Reads CONFORMANCE, the constant in which an adapter declares what no signature can say."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeGuard

from backproof.conformance.spec.contract import GENERAL_SETTINGS, Contract, Setting


class DeclarationError(ValueError):
    """CONFORMANCE has a key or value that is not allowed; the message is one sentence that names the key."""


def read_declaration(
    constant: object, contracts: Sequence[Contract]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the general settings and those of each layer, with the defaults filled in.

    Raises DeclarationError for an unknown key and for a value of another type or outside of what is allowed.
    """
    layers = {contract.layer: contract.settings for contract in contracts}
    given = _mapping(constant, "CONFORMANCE")
    _check_keys(given, [*GENERAL_SETTINGS, *layers], "", layers)
    general = _filled(given, GENERAL_SETTINGS, "")
    each: dict[str, dict[str, Any]] = {}
    for layer, settings in layers.items():
        given_here = _mapping(given.get(layer, {}), f"CONFORMANCE: {layer}")
        _check_keys(given_here, list(settings), f"{layer}.", layers)
        each[layer] = _filled(given_here, settings, f"{layer}.")
    return general, each


def _mapping(value: object, name: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise DeclarationError(f"{name} is {reprlib.repr(value)}, but must be a dict.")
    return value


def _check_keys(
    given: Iterable[object], known: list[str], prefix: str, layers: Mapping[str, Mapping[str, Setting]]
) -> None:
    for key in given:
        if key not in known:
            found = f"{prefix}{key if isinstance(key, str) else repr(key)}"
            nearest = _nearest(str(key), known, prefix, layers)
            place = f"in {prefix[:-1]} " if prefix else ""
            raise DeclarationError(
                f"CONFORMANCE has the unknown key {found}; the nearest is {nearest}, and {place}allowed are "
                f"{', '.join(known) or 'no keys'}."
            )


def _nearest(key: str, known: list[str], prefix: str, layers: Mapping[str, Mapping[str, Setting]]) -> str:
    """The key that was meant: one of the same place if that comes close, else the closest of any place."""
    for name in get_close_matches(key, known, 1):
        return f"{prefix}{name}"
    places = {name: name for name in (*GENERAL_SETTINGS, *layers)}
    for layer, settings in layers.items():
        for name in settings:
            places.setdefault(name, f"{layer}.{name}")
    return places[get_close_matches(key, list(places), 1, 0.0)[0]]


def _filled(given: Mapping[Any, Any], settings: Mapping[str, Setting], prefix: str) -> dict[str, Any]:
    return {
        name: _value(given[name], setting, f"{prefix}{name}") if name in given else setting.default
        for name, setting in settings.items()
    }


def _value(found: object, setting: Setting, key: str) -> Any:
    """The value in its plain form: a tuple for a list, a float for an int where a float is asked for."""
    try:
        return _READERS[setting.kind](found, setting)
    except _NotAllowed:
        raise DeclarationError(
            f"CONFORMANCE: {key} is {reprlib.repr(found)}, but must be {_allowed(setting)}{_meant(found, setting)}."
        ) from None


class _NotAllowed(Exception):
    pass


def _choice(found: object, setting: Setting) -> Any:
    for allowed in setting.allowed:
        if isinstance(found, type(allowed)) and not isinstance(found, bool) and found == allowed:
            return allowed
    raise _NotAllowed


def _subset(found: object, setting: Setting) -> tuple[Any, ...]:
    return _different([_choice(member, setting) for member in _members(found)])


def _at_least(found: object, setting: Setting) -> tuple[int, ...]:
    members = _members(found)
    if not all(_is_number(member, int) and member >= setting.minimum for member in members):
        raise _NotAllowed
    return _different(members)


def _members(found: object) -> Sequence[Any]:
    if not isinstance(found, (tuple, list)) or not found:
        raise _NotAllowed
    return found


def _different(members: Sequence[Any]) -> tuple[Any, ...]:
    if len(set(members)) < len(members):
        raise _NotAllowed
    return tuple(members)


def _flag(found: object, _: Setting) -> bool:
    if not isinstance(found, bool):
        raise _NotAllowed
    return found


def _positive(found: object, _: Setting) -> float:
    if not (_is_number(found, int, float) and 0 < found <= sys.float_info.max):
        raise _NotAllowed
    return float(found)


def _fraction(found: object, _: Setting) -> float:
    if not (_is_number(found, int, float) and 0 <= found <= 1):
        raise _NotAllowed
    return float(found)


def _is_number(value: object, *kinds: type) -> TypeGuard[float]:
    """Whether it is one of these kinds of number; True and False are none."""
    return isinstance(value, kinds) and not isinstance(value, bool)


_READERS: Mapping[str, Callable[[object, Setting], Any]] = {
    "choice": _choice,
    "subset": _subset,
    "at_least": _at_least,
    "flag": _flag,
    "positive": _positive,
    "fraction": _fraction,
}


def _allowed(setting: Setting) -> str:
    listed = ", ".join(map(repr, setting.allowed))
    return {
        "choice": f"one of {listed}",
        "subset": f"a tuple of one or more different members of {listed}",
        "at_least": f"a tuple of one or more different ints, each at least {setting.minimum}",
        "flag": "True or False",
        "positive": "a finite number above 0",
        "fraction": "a number from 0 to 1",
    }[setting.kind]


def _meant(found: object, setting: Setting) -> str:
    """Names the allowed string that is close to a misspelt one."""
    strings = [allowed for allowed in setting.allowed if isinstance(allowed, str)]
    members = found if isinstance(found, (tuple, list)) else [found]
    for member in members:
        if isinstance(member, str) and member not in strings:
            for nearest in get_close_matches(member, strings, 1):
                return f"; the nearest is {nearest!r}"
    return ""
