"""CONFORMANCE: what an adapter declares beside its signatures."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

from backproof.conformance.adapter.declaration import DeclarationError, read_declaration
from backproof.conformance.spec.contract import Contract, Setting

LAYOUT = Setting("channels_first", "choice", ("channels_first", "channels_last"))
LINEAR = Contract(
    "linear",
    ("x", "w", "b"),
    2,
    settings={
        "weight": Setting("io", "choice", ("io", "oi")),
        "ranks": Setting((2,), "at_least", minimum=2),
        "empty_batch": Setting(True, "flag"),
    },
)
CONV = Contract(
    "conv",
    ("x", "w", "b"),
    2,
    settings={"spatial_dims": Setting((2,), "subset", (1, 2, 3)), "layout": LAYOUT},
)
BATCHNORM = Contract(
    "batchnorm",
    ("x", "gamma", "beta"),
    1,
    settings={
        "layout": LAYOUT,
        "eps": Setting(1e-5, "positive"),
        "fixed_momentum": Setting(0.1, "fraction"),
    },
)
CONTRACTS = (LINEAR, CONV, BATCHNORM)
GENERAL = {"dtypes": ("float64",), "exact": True, "rejects": False, "reusable_cache": True}
LAYERS: dict[str, dict[str, Any]] = {
    "linear": {"weight": "io", "ranks": (2,), "empty_batch": True},
    "conv": {"spatial_dims": (2,), "layout": "channels_first"},
    "batchnorm": {"layout": "channels_first", "eps": 1e-5, "fixed_momentum": 0.1},
}


def refusal(constant: object) -> str:
    with pytest.raises(DeclarationError) as caught:
        read_declaration(constant, CONTRACTS)
    sentence = str(caught.value)
    assert sentence.startswith("CONFORMANCE")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("constant", [{}, OrderedDict(), {"conv": {}, "linear": {}}])
def test_the_defaults(constant: object) -> None:
    assert read_declaration(constant, CONTRACTS) == (GENERAL, LAYERS)


def test_keys_replace_their_defaults_one_by_one() -> None:
    given = {"rejects": True, "conv": {"layout": "channels_last"}}
    general, layers = read_declaration(given, CONTRACTS)
    assert general == {**GENERAL, "rejects": True}
    assert layers == {**LAYERS, "conv": {"spatial_dims": (2,), "layout": "channels_last"}}
    assert given == {"rejects": True, "conv": {"layout": "channels_last"}}


@pytest.mark.parametrize(
    ("layer", "key", "given", "expected"),
    [
        ("", "dtypes", ["float32", "float64"], ("float32", "float64")),
        ("", "dtypes", ("bfloat16",), ("bfloat16",)),
        ("", "exact", False, False),
        ("linear", "weight", "oi", "oi"),
        ("linear", "ranks", [4, 2, 3], (4, 2, 3)),
        ("conv", "spatial_dims", (3, 1), (3, 1)),
        ("batchnorm", "eps", 1, 1.0),
        ("batchnorm", "eps", 1e-12, 1e-12),
        ("batchnorm", "fixed_momentum", 0, 0.0),
        ("batchnorm", "fixed_momentum", 1, 1.0),
    ],
)
def test_allowed_values(layer: str, key: str, given: object, expected: object) -> None:
    general, layers = read_declaration({layer: {key: given}} if layer else {key: given}, CONTRACTS)
    read = (layers[layer] if layer else general)[key]
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("constant", "parts"),
    [
        (None, "CONFORMANCE is None ; must be a dict"),
        (["float32"], "CONFORMANCE is ['float32'] ; must be a dict"),
        ({"conv": "channels_last"}, "conv is 'channels_last' ; must be a dict"),
        ({"conv": None}, "conv is None ; must be a dict"),
        ({"dtype": ("float32",)}, "unknown key dtype; ; nearest is dtypes ; rejects, reusable_cache, linear"),
        ({"conv2d": {}}, "unknown key conv2d; ; nearest is conv,"),
        ({"layout": "channels_last"}, "unknown key layout; ; nearest is conv.layout"),
        ({"eps": 1e-3}, "unknown key eps; ; nearest is batchnorm.eps"),
        ({"conv": {"layuot": 1}}, "unknown key conv.layuot; ; nearest is conv.layout ; in conv allowed are"),
        ({"conv": {"weight": "oi"}}, "unknown key conv.weight; ; nearest is linear.weight"),
        ({"conv": {"dtypes": ()}}, "unknown key conv.dtypes; ; nearest is dtypes"),
        ({3: 4}, "unknown key 3;"),
        ({"dtypes": "float32"}, "dtypes is 'float32', ; a tuple of one or more ; 'float64', 'float32'"),
        ({"dtypes": ()}, "dtypes is (), ; a tuple of one or more"),
        ({"dtypes": ("float23",)}, "dtypes is ('float23',) ; nearest is 'float32'"),
        ({"dtypes": ("float32", "float32")}, "dtypes is ('float32', 'float32') ; different"),
        ({"dtypes": {"float32"}}, "dtypes is {'float32'} ; a tuple"),
        ({"dtypes": (["float32"],)}, "dtypes is (['float32'],)"),
        ({"exact": 1}, "exact is 1, but must be True or False"),
        ({"exact": "False"}, "exact is 'False', but must be True or False"),
        ({"rejects": None}, "rejects is None, but must be True or False"),
        ({"conv": {"spatial_dims": 2}}, "conv.spatial_dims is 2, ; members of 1, 2, 3"),
        ({"conv": {"spatial_dims": (0,)}}, "conv.spatial_dims is (0,), ; members of 1, 2, 3"),
        ({"conv": {"spatial_dims": (True,)}}, "conv.spatial_dims is (True,),"),
        ({"conv": {"spatial_dims": (2.0,)}}, "conv.spatial_dims is (2.0,),"),
        ({"conv": {"spatial_dims": [2, 2]}}, "conv.spatial_dims is [2, 2], ; different"),
        ({"conv": {"layout": "channel_last"}}, "conv.layout is 'channel_last' ; nearest is 'channels_last'"),
        ({"conv": {"layout": "NHWC"}}, "conv.layout is 'NHWC' ; one of 'channels_first', 'channels_last'"),
        ({"conv": {"layout": ("channels_last",)}}, "conv.layout is ('channels_last',) ; one of"),
        ({"conv": {"layout": None}}, "conv.layout is None"),
        ({"linear": {"ranks": (1,)}}, "linear.ranks is (1,), ; each at least 2"),
        ({"linear": {"ranks": 2}}, "linear.ranks is 2, ; a tuple"),
        ({"linear": {"ranks": (2, 2)}}, "linear.ranks is (2, 2), ; different"),
        ({"linear": {"ranks": (True, 2)}}, "linear.ranks is (True, 2)"),
        ({"linear": {"ranks": ()}}, "linear.ranks is ()"),
        ({"batchnorm": {"eps": 0}}, "batchnorm.eps is 0, but must be a finite number above 0"),
        ({"batchnorm": {"eps": True}}, "batchnorm.eps is True"),
        ({"batchnorm": {"eps": "1e-5"}}, "batchnorm.eps is '1e-5'"),
        ({"batchnorm": {"eps": float("nan")}}, "batchnorm.eps is nan"),
        ({"batchnorm": {"eps": float("inf")}}, "batchnorm.eps is inf"),
        ({"batchnorm": {"eps": 10**400}}, "batchnorm.eps is 1000"),
        ({"batchnorm": {"fixed_momentum": 1.5}}, "batchnorm.fixed_momentum is 1.5 ; from 0 to 1"),
        ({"batchnorm": {"fixed_momentum": -0.1}}, "batchnorm.fixed_momentum is -0.1 ; from 0 to 1"),
        ({"batchnorm": {"fixed_momentum": False}}, "batchnorm.fixed_momentum is False"),
    ],
)
def test_refusals(constant: object, parts: str) -> None:
    sentence = refusal(constant)
    for part in parts.split(" ; "):
        assert part in sentence


def test_a_layer_without_settings_allows_none() -> None:
    with pytest.raises(DeclarationError, match=r"unknown key pool\.size.*no keys"):
        read_declaration({"pool": {"size": 2}}, (Contract("pool", ("x",), 1),))
