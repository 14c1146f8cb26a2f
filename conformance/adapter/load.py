"""Finds the adapter that a specification names and checks that it can be called as the contracts say."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import pkgutil
import sys
import traceback
import types
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from backproof.conformance.adapter.declaration import DeclarationError, read_declaration
from backproof.conformance.adapter.signature import (
    SignatureError,
    check_positional,
    read_signature,
    underlying_function,
)
from backproof.conformance.spec.contract import Contract, Signature


class AdapterError(Exception):
    """The adapter cannot be judged; the message is one clear sentence that names the file and the thing."""


#: Modules that Backproof imports when it first needs them: an adapter's file of such a name must not become them.
RESERVED = frozenset({"jax", "jaxlib", "ml_dtypes", "hypothesis", "numpy"})


@dataclass(frozen=True)
class Implementation:
    """One layer of an adapter; `settings` are its keys of CONFORMANCE, with the defaults filled in."""

    contract: Contract
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    signature: Signature
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Adapter:
    """What a specification names: a module, an object in it, or an instance of a class in it.

    `path` is the module's file and `line` the first line of the first forward that is defined there, each
    None where it is not known. `implementations` are by layer, in the order of the contracts, and `missing`
    are the layers without one. `settings` are the general keys of CONFORMANCE, with the defaults filled in.
    `warnings` are those of the adapter's import, each once, as "Category: text".
    """

    spec: str
    target: Any
    path: Path | None
    line: int | None
    implementations: Mapping[str, Implementation]
    missing: tuple[str, ...]
    settings: Mapping[str, Any]
    from_numpy: Callable[[Any], Any] | None
    to_numpy: Callable[[Any], Any] | None
    warnings: tuple[str, ...]


def load(spec: str, contracts: Sequence[Contract], directory: Path | None = None) -> Adapter:
    """Import what `spec` names and read the layers that it offers.

    `directory` stands for the current directory: it becomes importable, and a file is looked up from it.
    Raises AdapterError, and nothing else, for whatever is wrong with the adapter.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module, attribute = _import(spec, (directory or Path.cwd()).resolve())
        file = getattr(module, "__file__", None)
        path = Path(file) if file else None
        where = spec if path is None or path.name in spec else f"{spec} ({path})"
        offer = _Offer(_target(module, attribute, where), where, contracts)
        general, of_layers = offer.settings()
        implementations = offer.implementations(of_layers)
        from_numpy, to_numpy = offer.conversion("from_numpy"), offer.conversion("to_numpy")
    return Adapter(
        spec=spec,
        target=offer.target,
        path=path,
        line=_first_line(path, [each.forward for each in implementations.values()]),
        implementations=implementations,
        missing=tuple(each.layer for each in contracts if each.layer not in implementations),
        settings=general,
        from_numpy=from_numpy,
        to_numpy=to_numpy,
        warnings=tuple(dict.fromkeys(f"{each.category.__name__}: {each.message}" for each in caught)),
    )


def _import(spec: str, directory: Path) -> tuple[types.ModuleType, str]:
    """The module that a specification names, and the attribute after its colon ("" for none)."""
    location, attribute = _split(spec)
    is_valid = attribute is None or all(part.isidentifier() for part in attribute.split("."))
    if not location or not is_valid:
        raise AdapterError(
            f"{spec!r} names no adapter: give a module (mypkg.adapter) or a file that ends in .py, either "
            "with an attribute after a colon (mypkg.adapter:fused)."
        )
    if location.endswith(".py"):
        return _import_file(directory / os.path.expanduser(location), directory), attribute or ""
    return _import_module(location, directory), attribute or ""


def _split(spec: str) -> tuple[str, str | None]:
    """What stands before the colon of the attribute, and after it; a path may have colons of its own."""
    if spec.endswith(".py"):
        return spec, None
    if ".py:" in spec:
        stem, _, attribute = spec.rpartition(".py:")
        return f"{stem}.py", attribute
    location, colon, attribute = spec.partition(":")
    return location, attribute if colon else None


def _import_file(path: Path, directory: Path) -> types.ModuleType:
    path = path.resolve()
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise AdapterError(f"{path} {found}: give the file of an adapter, or a module such as mypkg.adapter.")
    _put_first(path.parent, directory)
    name = _module_name(path)
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None  # of a loader there always is one
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        with _reporting("its import", str(path)):
            # Not by the loader: it takes byte code for current if file and byte code are of the same second.
            exec(loader.source_to_code(loader.get_data(str(path)), str(path)), vars(module))
    except BaseException:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
        raise
    return sys.modules.get(name, module)


def _module_name(path: Path) -> str:
    """The file's stem, or a name of its own where the stem is another module's."""
    stem = path.stem
    loaded = getattr(sys.modules.get(stem), "__file__", None)
    if loaded is not None and Path(loaded).resolve() == path:
        return stem
    if stem in sys.modules or stem in sys.stdlib_module_names or stem in RESERVED or "." in stem:
        return f"{stem.replace('.', '_')}_{zlib.crc32(os.fsencode(path)):08x}"
    return stem


def _import_module(name: str, directory: Path) -> types.ModuleType:
    if name.startswith(".") or "/" in name or os.sep in name:
        raise AdapterError(f"{name!r} is no name of a module, and the name of a file must end in .py.")
    _put_first(directory)
    with _reporting("its import", name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # it is there, and imports what is not
            raise AdapterError(_no_module(name, error.name, directory)) from None


def _no_module(name: str, missing: str, directory: Path) -> str:
    package, _, last = missing.rpartition(".")
    if package:
        folders = getattr(sys.modules.get(package), "__path__", [])
        absent = f"{name}: the package {package} has no module {last!r}"
    else:
        folders = [str(directory)]
        absent = f"{name}: there is no module {last!r} in {directory}, and none is installed"
    nearest = _close(last, [module.name for module in pkgutil.iter_modules(folders)])
    return f"{absent}{nearest}: give a module that can be imported, or a file that ends in .py."


def _put_first(*folders: Path) -> None:
    first = list(dict.fromkeys(map(str, folders)))
    sys.path[:] = [*first, *(entry for entry in sys.path if entry not in first)]
    importlib.invalidate_caches()


@contextmanager
def _reporting(doing: str, where: str) -> Iterator[None]:
    """Turn whatever the adapter's own code raises, an exit included, into one sentence."""
    try:
        yield
    except (AdapterError, KeyboardInterrupt):
        raise
    except BaseException as error:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        said = f"{type(error).__name__}: {' '.join(str(text).split())}".removesuffix(": ")
        raise AdapterError(f"{where}: {doing} raises {said}{_place(error)}.") from None


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f" ({error.filename}, line {error.lineno})"
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = (__file__, importlib.__file__)
    for file, line in reversed(frames):
        if file not in own and not file.startswith("<frozen"):
            return f" ({file}, line {line})"
    return ""


def _target(module: types.ModuleType, attribute: str, where: str) -> Any:
    target: Any = module
    for name in filter(None, attribute.split(".")):
        with _reporting(f"reading {name}", where):
            if not hasattr(target, name):
                nearest = _close(name, _public(target), 0.0)
                raise AdapterError(f"{where}: there is no attribute {name!r}{nearest}.")
            target = getattr(target, name)
    if isinstance(target, type):
        with _reporting(f"calling {attribute}(), as a class is called without arguments,", where):
            return target()
    return target


_ABSENT = object()


class _Offer:
    """The names of an adapter, held against those of the contracts."""

    def __init__(self, target: Any, where: str, contracts: Sequence[Contract]) -> None:
        self.target = target
        self._where = where
        self._contracts = contracts
        self._expected = [f"{each.layer}_{side}" for side in ("forward", "backward") for each in contracts]
        with _reporting("reading its names", where):
            self._names = _public(target)

    def settings(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        constant = self._get("CONFORMANCE")
        try:
            return read_declaration({} if constant is _ABSENT else constant, self._contracts)
        except DeclarationError as error:
            raise self._error(str(error)) from None

    def implementations(self, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Implementation]:
        self._check_names()
        found = {
            contract.layer: self._implementation(contract, settings[contract.layer])
            for contract in self._contracts
            if self._has_pair(contract)
        }
        if not found:
            raise self._error(self._no_layer())
        return found

    def conversion(self, name: str) -> Callable[[Any], Any] | None:
        function = self._get(name)
        if function is _ABSENT or function is None:
            return None
        if not callable(function):
            raise self._error(f"{name} is {_a(function)} and cannot be called: make it a function of one array.")
        return function  # type: ignore[no-any-return]

    def _implementation(self, contract: Contract, settings: Mapping[str, Any]) -> Implementation:
        forward, backward = f"{contract.layer}_forward", f"{contract.layer}_backward"
        try:
            signature = read_signature(self._function(forward), contract, forward)
            check_positional(self._function(backward), ("dout", "cache"), backward)
        except SignatureError as error:
            raise self._error(str(error)) from None
        return Implementation(contract, self._function(forward), self._function(backward), signature, settings)

    def _has_pair(self, contract: Contract) -> bool:
        pair = [f"{contract.layer}_forward", f"{contract.layer}_backward"]
        there = [name for name in pair if self._get(name) is not _ABSENT]
        for lacking in pair:
            if there and lacking not in there:
                nearest = _close(lacking, [name for name in self._names if name not in self._expected])
                raise self._error(f"{there[0]} has no {lacking} beside it{nearest}: a layer needs both.")
        return bool(there)

    def _check_names(self) -> None:
        layers = [contract.layer for contract in self._contracts]
        for name in self._names:
            stem, _, side = name.rpartition("_")
            if side not in ("forward", "backward") or not stem or name in self._expected:
                continue
            if callable(self._get(name)):
                nearest = get_close_matches(stem.lower(), layers, 1, 0.0)[0]
                raise self._error(
                    f"{name} is the name of no layer's function; the nearest is {nearest}_{side}: rename it, "
                    "or put an underscore before it if it is no layer."
                )

    def _no_layer(self) -> str:
        *others, last = (f"{contract.layer}_forward" for contract in self._contracts)
        expected = f"{', '.join(others)} or {last}" if others else last
        for name in self._names:
            with suppress(Exception):  # of objects that are not the adapter
                held = getattr(self.target, name)
                if any(hasattr(held, wanted) for wanted in self._expected):
                    return f"there is no {expected}, but {name} has one: put :{name} after the module."
        near = next(filter(None, (_close(wanted, self._names) for wanted in self._expected)), "")
        return f"there is no {expected}{near}: an adapter has at least one of them, beside its backward."

    def _function(self, name: str) -> Callable[..., Any]:
        function = self._get(name)
        if not callable(function):
            raise self._error(f"{name} is {_a(function)} and cannot be called: make it a function.")
        return function  # type: ignore[no-any-return]

    def _get(self, name: str) -> Any:
        with _reporting(f"reading {name}", self._where):
            try:
                return getattr(self.target, name)
            except AttributeError:
                if name in self._names:
                    raise  # it is there, and its property has failed
                return _ABSENT

    def _error(self, sentence: str) -> AdapterError:
        return AdapterError(f"{self._where}: {sentence}")


def _public(target: object) -> list[str]:
    return [name for name in dir(target) if not name.startswith("_")]


def _close(name: str, names: Sequence[str], cutoff: float = 0.6) -> str:
    return "".join(f" (nearest: {near!r})" for near in get_close_matches(name, names, 1, cutoff))


def _a(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _first_line(path: Path | None, forwards: Sequence[Callable[..., Any]]) -> int | None:
    for forward in forwards:
        code = getattr(underlying_function(forward), "__code__", None)
        if path is not None and code is not None and Path(code.co_filename) == path:
            return int(code.co_firstlineno)
    return None
