"""The signature of a forward, and what it declares."""

from __future__ import annotations

import functools
import sys
import textwrap
import typing
from collections.abc import Callable
from typing import Any

import pytest

from backproof.conformance.adapter.signature import SignatureError, check_positional, read_signature
from backproof.conformance.spec.contract import Contract, Option, Signature

MODES = ("zeros", "reflect", "replicate", "circular")
LINEAR = Contract("linear", ("x", "w", "b"), 2)
CONV = Contract(
    "conv",
    ("x", "w", "b"),
    2,
    (
        Option("stride", 1, "axes"),
        Option("padding", 0, "pairs"),
        Option("dilation", 1, "axes"),
        Option("groups", 1),
        Option("padding_mode", "zeros", "literal", MODES),
    ),
)
BATCHNORM = Contract(
    "batchnorm",
    ("x", "gamma", "beta"),
    1,
    (Option("eps", 1e-5), Option("training", True), Option("momentum", 0.1)),
    ("running_mean", "running_var"),
)
CONTRACTS = {"linear": LINEAR, "conv": CONV, "batchnorm": BATCHNORM}

PREAMBLE = """
import functools, typing, collections.abc
from typing import *
Pair = int | tuple[int, int]
Chain = "Pair"
Stride = NewType("Stride", int)
"""


def define(source: str, **names: Any) -> dict[str, Any]:
    """The names that a module of this source has."""
    namespace: dict[str, Any] = {"__name__": "candidate", **names}
    exec(compile(PREAMBLE + textwrap.dedent(source), "candidate.py", "exec", dont_inherit=True), namespace)
    return namespace


def read(parameters: str, layer: str = "conv") -> Signature:
    name = f"{layer}_forward"
    return read_signature(define(f"def {name}({parameters}): ...")[name], CONTRACTS[layer], name)


def spellings(option: str, annotation: str) -> tuple[str, ...]:
    return read(f"x, w, {option}: {annotation}").spellings[option]


def refusal(parameters: str, layer: str = "conv") -> str:
    with pytest.raises(SignatureError) as caught:
        read(parameters, layer)
    sentence = str(caught.value)
    assert sentence.startswith(f"{layer}_forward")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("layer", "parameters", "arrays", "nullable", "by_keyword"),
    [
        ("linear", "x, w", "x w", "", ""),
        ("linear", "x, w, b", "x w b", "", ""),
        ("linear", "x, w, b=None", "x w b", "b", ""),
        ("linear", "x, w, b=0", "x w b", "", ""),
        ("linear", "inputs, weights, /, b=None", "x w b", "b", ""),
        ("linear", "a, b", "x w", "", ""),
        ("linear", "x, w=None, b=None", "x w b", "b", ""),
        ("linear", "x, w, b, /", "x w b", "", ""),
        ("linear", "x, w, *, b", "x w b", "", "b"),
        ("linear", "x, w, *, b=None", "x w b", "b", "b"),
        ("linear", "*arrays", "x w b", "", ""),
        ("linear", "x, *rest", "x w b", "", ""),
        ("linear", "x, w, *rest, b=None", "x w b", "b", "b"),
        ("linear", "x, w, **options", "x w", "", ""),
        ("conv", "x, w, stride=1, b=None", "x w b", "b", "b"),
        ("conv", "x, w, workspace=None, b=None", "x w b", "b", "b"),
        ("conv", "x, w, b, stride=1, *rest", "x w b", "", ""),
        ("batchnorm", "x", "x", "", ""),
        ("batchnorm", "x, beta", "x beta", "", ""),
        ("batchnorm", "x, gamma=None, beta=None", "x gamma beta", "gamma beta", ""),
        ("batchnorm", "x, gamma, beta=None", "x gamma beta", "beta", ""),
        ("batchnorm", "x, gamma, *, beta", "x gamma beta", "", "beta"),
        ("batchnorm", "x, *, beta, gamma", "x gamma beta", "", "gamma beta"),
        ("batchnorm", "x, *rest, gamma", "x gamma beta", "", "gamma"),
        ("batchnorm", "x, eps, gamma, beta", "x gamma beta", "", "gamma beta"),
    ],
)
def test_arrays(layer: str, parameters: str, arrays: str, nullable: str, by_keyword: str) -> None:
    signature = read(parameters, layer)
    assert signature.arrays == tuple(arrays.split())
    assert signature.nullable == set(nullable.split())
    assert signature.by_keyword == set(by_keyword.split())


@pytest.mark.parametrize(
    ("layer", "parameters", "options", "state", "left_alone"),
    [
        ("linear", "x, w", "", False, ""),
        ("linear", "x, w, dtype=None, device='cpu'", "", False, "dtype device"),
        ("linear", "x, w, **options", "", False, ""),
        ("conv", "x, w, groups, stride", "stride groups", False, ""),
        ("conv", "x, w, *, workspace=None, dilation=1", "dilation", False, "workspace"),
        ("conv", "x, w, **options", "stride padding dilation groups padding_mode", False, ""),
        ("conv", "*arrays, **options", "stride padding dilation groups padding_mode", False, ""),
        ("batchnorm", "x, momentum, training, eps", "eps training momentum", False, ""),
        ("batchnorm", "x, running_var, running_mean", "", True, ""),
        ("batchnorm", "x, running_mean, **others", "eps training momentum", True, ""),
        ("batchnorm", "x, *, training=True", "training", False, ""),
    ],
)
def test_options_state_and_what_is_left_alone(
    layer: str, parameters: str, options: str, state: bool, left_alone: str
) -> None:
    signature = read(parameters, layer)
    assert signature.options == tuple(options.split())
    assert signature.state is state
    assert signature.left_alone == tuple(left_alone.split())


@pytest.mark.parametrize(
    ("annotation", "stride", "padding"),
    [
        ("int", "int", "int"),
        ("Optional[int]", "int", "int"),
        ("int | None", "int", "int"),
        ("Annotated[int, 'positive']", "int", "int"),
        ("Annotated[Optional[int], 'positive']", "int", "int"),
        ("Stride", "int", "int"),
        ("'int'", "int", "int"),
        ("'Optional[\"int\"]'", "int", "int"),
        ("Any", "axes", "axes"),
        ("object", "axes", "axes"),
        ("None", "axes", "axes"),
        ("tuple", "axes", "axes"),
        ("Tuple", "axes", "axes"),
        ("tuple[()]", "axes", "axes"),
        ("tuple[int, int]", "axes", "axes"),
        ("tuple[int, ...]", "axes", "axes"),
        ("list[int]", "axes", "axes"),
        ("Sequence[int]", "axes", "axes"),
        ("Literal[1, 2]", "axes", "axes"),
        ("SupportsIndex", "axes", "axes"),
        ("Pair", "int axes", "int axes"),
        ("Chain", "int axes", "int axes"),
        ("'Chain'", "int axes", "int axes"),
        ("tuple[int, int] | int", "int axes", "int axes"),
        ("Union[tuple[int, int], list[int], None, int]", "int axes", "int axes"),
        ("Union['Tuple[int, ...]', int]", "int axes", "int axes"),
        ("int | Any", "int axes", "int axes"),
        ("tuple[tuple[int, int], ...]", None, "pairs"),
        ("list[tuple[int, int]]", None, "pairs"),
        ("Sequence[Sequence[int]]", None, "pairs"),
        ("Tuple[Tuple[int, int], Tuple[int, int]]", None, "pairs"),
        ("Iterable[Collection[int]]", None, "pairs"),
        ("tuple['tuple[int, int]', ...]", None, "pairs"),
        ("tuple[Optional[tuple[int, int]], ...]", None, "pairs"),
        ("tuple[tuple, tuple]", None, "pairs"),
        ("tuple[Pair, Pair]", None, "axes pairs"),
        ("tuple[tuple[int, int], ...] | tuple[int, ...] | int", None, "int axes pairs"),
        ("list[tuple[int, int]] | int", None, "int pairs"),
    ],
)
def test_forms_of_numbers(annotation: str, stride: str | None, padding: str) -> None:
    assert spellings("padding", annotation) == tuple(padding.split())
    for option in ("stride", "dilation"):
        if stride is None:
            assert "sequence of sequences" in refusal(f"x, w, {option}: {annotation}")
        else:
            assert spellings(option, annotation) == tuple(stride.split())


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("str", MODES),
        ("Any", MODES),
        ("Optional[str]", MODES),
        ("Literal['zeros']", ("zeros",)),
        ("Literal['circular', 'zeros']", ("zeros", "circular")),
        ("Literal['circular', None]", ("circular",)),
        ("Optional[Literal['reflect']]", ("reflect",)),
        ("Literal['circular'] | Literal['zeros']", ("zeros", "circular")),
        ("Literal['circular'] | str", MODES),
        ("'Literal[\"reflect\"]'", ("reflect",)),
    ],
)
def test_forms_of_strings(annotation: str, expected: tuple[str, ...]) -> None:
    assert spellings("padding_mode", annotation) == expected


def test_without_an_annotation() -> None:
    signature = read("x, w, stride=1, padding=0, groups=1, padding_mode='zeros'")
    assert signature.spellings == {"stride": ("axes",), "padding": ("axes",), "padding_mode": MODES}


def test_options_that_are_not_named_have_the_default_forms() -> None:
    expected = {"stride": ("axes",), "padding": ("axes",), "dilation": ("axes",), "padding_mode": MODES}
    assert read("x, w, **options: int").spellings == expected


def test_other_annotations_are_not_read() -> None:
    signature = read("x: 'nowhere', w: str, b: 'nothing' = None, groups: str = 1, other: 'none' = 2")
    assert signature.options == ("groups",)
    assert signature.spellings == {}


@pytest.mark.parametrize(
    ("layer", "parameters", "parts"),
    [
        ("conv", "", "no room for x ; by position, in the order x, w, b"),
        ("conv", "x", "no room for w ; x, w, b"),
        ("conv", "x, *, w", "no room for w"),
        ("conv", "*, x, w", "no room for x"),
        ("conv", "b, x, w", "has b where x must stand ; x, w, b"),
        ("conv", "x, b, w", "has b where w must stand"),
        ("conv", "x, b", "has b where w must stand"),
        ("conv", "a, stride", "has stride where w must stand"),
        ("conv", "x, stride, w", "has stride where w must stand"),
        ("batchnorm", "gamma, x", "has gamma where x must stand ; x, gamma, beta"),
        ("batchnorm", "x, beta, gamma", "takes beta, gamma, but ; as gamma, beta"),
        ("conv", "x, w, strides", "unknown parameter 'strides' ; nearest known name: 'stride' ; default"),
        ("conv", "x, w, *, bias", "unknown parameter 'bias' ; 'b'"),
        ("conv", "x, w, *, mode", "'mode' ; 'padding_mode'"),
        ("batchnorm", "x, epsilon", "'epsilon' ; 'eps'"),
        ("batchnorm", "x, running_variance", "'running_variance' ; 'running_var'"),
        ("linear", "x, w, B", "'B' ; 'b'"),
        ("conv", "x, w, stride, /", "stride by position only ; wrap it in a def"),
        ("batchnorm", "x, running_mean, running_var, /", "running_mean by position only ; wrap it in a def"),
        ("conv", "x, w, other=1, b=None, /", "b by position only ; directly after"),
        ("conv", "x, w, stride=1, *rest", "has stride before *rest ; b would land ; put stride after *rest"),
        ("batchnorm", "x, beta, *rest", "has beta before *rest ; gamma would land"),
        ("batchnorm", "x, running_mean", "running_mean without running_var ; both or neither"),
        ("batchnorm", "x, running_var=None", "running_var without running_mean"),
        ("conv", "x, w, stride: str", "`str` of stride ; allows str ; one int or a tuple of ints"),
        ("conv", "x, w, stride: float", "`float` of stride ; allows float"),
        ("conv", "x, w, stride: bool", "`bool` of stride ; allows bool"),
        ("conv", "x, w, dilation: int | bool", "`int | bool` of dilation ; allows bool"),
        ("conv", "x, w, padding: Union[int, str]", "Union[int, str]` of padding ; allows str"),
        ("conv", "x, w, padding: 'int | str'", "`int | str` of padding ; allows str"),
        ("conv", "x, w, padding: Literal['same']", "of padding ; allows str"),
        ("conv", "x, w, padding: tuple[float, ...]", "`tuple[float, ...]` of padding ; allows float"),
        ("conv", "x, w, stride: 'Size'", "`Size` of stride cannot be evaluated ; NameError ; 'Size'"),
        ("conv", "x, w, stride: Optional['Size']", "Size ; of stride cannot be evaluated ; NameError"),
        ("conv", "x, w, stride: 'int |'", "`int |` of stride cannot be evaluated ; SyntaxError"),
        ("conv", "x, w, padding_mode: int", "`int` of padding_mode ; allows int ; a string"),
        ("conv", "x, w, padding_mode: str | bool", "allows bool ; a string"),
        (
            "conv",
            "x, w, padding_mode: Literal['zero']",
            "allows 'zero' ; zeros, reflect ; nearest is 'zeros'",
        ),
        ("conv", "x, w, padding_mode: Literal['zeros', 1]", "allows 1 ; zeros, reflect"),
    ],
)
def test_refusals(layer: str, parameters: str, parts: str) -> None:
    sentence = refusal(parameters, layer)
    for part in parts.split(" ; "):
        assert part in sentence


def test_an_annotation_that_refers_to_itself() -> None:
    forward = define("Loop = 'Loop'\ndef conv_forward(x, w, stride: Loop): ...")["conv_forward"]
    with pytest.raises(SignatureError, match=r"`Loop` of stride cannot be evaluated \(RecursionError"):
        read_signature(forward, CONV, "conv_forward")


FUTURE = """
from __future__ import annotations
import functools
from typing import *

def conv_forward(x: Nowhere, w, stride: Pair = 1, padding: int = 0, other: Missing = 3): ...

Pair = int | tuple[int, int]

def wrapped(function):
    @functools.wraps(function)
    def wrapper(*arguments, **options):
        return function(*arguments, **options)
    return wrapper

class Layer:
    Size = int
    def conv_forward(self, x, w, stride: Size = 1): ...
    @staticmethod
    def static(x, w, stride: Size = 1): ...
    @classmethod
    def of_class(cls, x, w, stride: Size = 1): ...
    def __call__(self, x, w, stride: Size = 1): ...
    bound = functools.partialmethod(conv_forward, stride=2)

def closure():
    Local = int
    def conv_forward(x, w, stride: Local = 1):
        return Local
    return conv_forward
"""


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("conv_forward", ("int", "axes")),
        ("functools.partial(conv_forward)", ("int", "axes")),
        ("functools.partial(conv_forward, stride=2)", ("int", "axes")),
        ("wrapped(conv_forward)", ("int", "axes")),
        ("wrapped(functools.partial(conv_forward, padding=1))", ("int", "axes")),
        ("functools.partial(wrapped(wrapped(conv_forward)), padding=1)", ("int", "axes")),
        ("functools.lru_cache(conv_forward)", ("int", "axes")),
        ("Layer().conv_forward", ("int",)),
        ("functools.partial(Layer().conv_forward)", ("int",)),
        ("Layer().static", ("int",)),
        ("Layer().of_class", ("int",)),
        ("Layer()", ("int",)),
        ("Layer().bound", ("int",)),
        ("closure()", ("int",)),
    ],
)
def test_annotations_that_are_strings(expression: str, expected: tuple[str, ...]) -> None:
    namespace: dict[str, Any] = {"__name__": "candidate"}
    exec(compile(FUTURE, "candidate.py", "exec", dont_inherit=True), namespace)
    signature = read_signature(eval(expression, namespace), CONV, "conv_forward")
    assert signature.spellings["stride"] == expected


def test_what_a_partial_binds_by_position_is_gone() -> None:
    def conv_forward(mode: str, x: Any, w: Any, b: Any = None, stride: int = 1) -> None: ...

    signature = read_signature(functools.partial(conv_forward, "fast"), CONV, "conv_forward")
    assert signature.arrays == ("x", "w", "b")
    assert signature.options == ("stride",)
    signature = read_signature(functools.partial(conv_forward, "fast", b=None), CONV, "conv_forward")
    assert signature.by_keyword == {"b"}
    assert signature.nullable == {"b"}


def type_alias(name: str, value: Any, parameters: tuple[Any, ...] = ()) -> Any:
    extensions = pytest.importorskip("typing_extensions") if sys.version_info < (3, 12) else typing
    return extensions.TypeAliasType(name, value, type_params=parameters)


def test_type_statements() -> None:
    item = typing.TypeVar("item")
    pair = type_alias("pair", int | tuple[int, int])
    spatial = type_alias("spatial", item | tuple[item, ...], (item,))

    def conv_forward(x: Any, w: Any, stride: Any, padding: Any) -> None: ...

    conv_forward.__annotations__.update(stride=pair | None if sys.version_info >= (3, 12) else pair)
    conv_forward.__annotations__.update(padding=spatial[int])
    signature = read_signature(conv_forward, CONV, "conv_forward")
    assert signature.spellings == {"stride": ("int", "axes"), "padding": ("int", "axes")}


@pytest.mark.parametrize("function", [max, iter, type("Silent", (), {"__signature__": 3})()])
def test_an_unreadable_signature_says_what_to_do(function: Callable[..., Any]) -> None:
    with pytest.raises(SignatureError, match=r"conv_forward has no readable signature.*wrap it in a def"):
        read_signature(function, CONV, "conv_forward")
    with pytest.raises(SignatureError, match=r"conv_backward has no readable signature.*wrap it in a def"):
        check_positional(function, ("dout", "cache"), "conv_backward")


@pytest.mark.parametrize("parameters", ["dout, cache", "*given", "a, b, /", "dout, cache, other=1, *, more=2"])
def test_a_backward_that_can_be_called(parameters: str) -> None:
    check_positional(define(f"def f({parameters}): ...")["f"], ("dout", "cache"), "conv_backward")


@pytest.mark.parametrize("parameters", ["", "dout", "dout, *, cache", "dout, cache, x", "dout, cache, *, x"])
def test_a_backward_that_cannot_be_called(parameters: str) -> None:
    backward = define(f"def f({parameters}): ...")["f"]
    with pytest.raises(SignatureError, match=r"conv_backward cannot be called as conv_backward\(dout, cache\)"):
        check_positional(backward, ("dout", "cache"), "conv_backward")
