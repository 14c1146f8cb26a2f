"""Loading an adapter: where it is, what it offers, and one sentence for whatever is wrong with it."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy  # noqa: F401 - its name is one that a file must not take
import pytest

from backproof.conformance.adapter.load import Adapter, AdapterError, load
from backproof.conformance.spec.contract import Contract, Option, Setting

LINEAR = Contract("linear", ("x", "w", "b"), 2, settings={"weight": Setting("io", "choice", ("io", "oi"))})
CONV = Contract("conv", ("x", "w", "b"), 2, (Option("stride", 1, "axes"), Option("groups", 1)))
BATCHNORM = Contract(
    "batchnorm",
    ("x", "gamma", "beta"),
    1,
    (Option("eps", 1e-5), Option("training", True), Option("momentum", 0.1)),
    ("running_mean", "running_var"),
)
CONTRACTS = (LINEAR, CONV, BATCHNORM)

PAIR = "def linear_forward(x, w): ...\ndef linear_backward(dout, cache): ...\n"
CLASS = """
class Layers:
    def linear_forward(self, x, w): ...
    def linear_backward(self, dout, cache): ...
"""


@pytest.fixture(autouse=True)
def _leave_the_imports_as_they_are() -> Iterator[None]:
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)


def write(folder: Path, **files: str) -> None:
    """Write modules; a double underscore in a name is a folder."""
    for name, source in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")


def refusal(spec: str, folder: Path) -> str:
    with pytest.raises(AdapterError) as caught:
        load(spec, CONTRACTS, folder)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return sentence


@pytest.mark.parametrize(
    ("spec", "stem"),
    [
        ("layers.py", "layers"),
        ("layers", "layers"),
        ("layers.py:Layers", "Layers"),
        ("layers:Layers", "Layers"),
        ("layers:instance", "Layers"),
        ("layers:Outer.instance", "Layers"),
        ("package.inner", "package.inner"),
        ("package/inner.py", "inner"),
        ("./package/inner.py", "inner"),
        ("with:colon/layers.py:Layers", "Layers"),
    ],
)
def test_where_an_adapter_is(tmp_path: Path, spec: str, stem: str) -> None:
    source = f"{PAIR}{CLASS}instance = Layers()\nclass Outer:\n    instance = instance\n"
    write(tmp_path, **{"layers": source, "package__inner": PAIR, "with:colon__layers": source})
    adapter = load(spec, CONTRACTS, tmp_path)
    assert adapter.spec == spec
    assert list(adapter.implementations) == ["linear"]
    assert adapter.missing == ("conv", "batchnorm")
    assert getattr(adapter.target, "__name__", type(adapter.target).__name__) == stem
    assert adapter.path is not None
    assert adapter.path.is_relative_to(tmp_path.resolve())


def test_an_absolute_path(tmp_path: Path) -> None:
    write(tmp_path, elsewhere__layers=PAIR)
    spec = str(tmp_path / "elsewhere" / "layers.py")
    assert load(spec, CONTRACTS, tmp_path).spec == spec


def test_what_an_adapter_holds(tmp_path: Path) -> None:
    write(
        tmp_path,
        layers="""
        import warnings
        from functools import partial
        warnings.warn("old", DeprecationWarning)
        for _ in range(2):
            warnings.warn("twice")
        CONFORMANCE = {"dtypes": ["float32"], "linear": {"weight": "oi"}}
        fast_forward = 3
        _private_forward = print
        def from_numpy(a): ...
        def batchnorm_forward(x, eps=1.0, other=2): ...
        batchnorm_backward = lambda dout, cache: None
        def linear_forward(x, w, b=None): ...
        def linear_backward(*given): ...
        """,
    )
    adapter = load("layers", CONTRACTS, tmp_path)
    assert list(adapter.implementations) == ["linear", "batchnorm"]
    assert adapter.missing == ("conv",)
    linear, batchnorm = adapter.implementations.values()
    assert linear.contract is LINEAR
    assert linear.forward is adapter.target.linear_forward
    assert linear.backward is adapter.target.linear_backward
    assert linear.signature.nullable == {"b"}
    assert linear.settings == {"weight": "oi"}
    assert batchnorm.signature.options == ("eps",)
    assert batchnorm.signature.left_alone == ("other",)
    assert adapter.settings["dtypes"] == ("float32",)
    assert adapter.settings["exact"] is True
    assert adapter.from_numpy is adapter.target.from_numpy
    assert adapter.to_numpy is None
    assert adapter.warnings == ("DeprecationWarning: old", "UserWarning: twice")
    assert adapter.path == (tmp_path / "layers.py").resolve()
    assert adapter.line == 13


def test_names_are_looked_up_on_the_object(tmp_path: Path) -> None:
    write(
        tmp_path,
        layers=f"CONFORMANCE = {{'exact': False}}\nto_numpy = 3\n{CLASS}    def to_numpy(self, a): ...\n",
    )
    adapter = load("layers:Layers", CONTRACTS, tmp_path)
    assert adapter.settings["exact"] is True
    assert adapter.to_numpy == adapter.target.to_numpy
    assert adapter.line == 5


def test_a_forward_from_elsewhere_has_no_line(tmp_path: Path) -> None:
    write(tmp_path, origin=PAIR, layers="from origin import *")
    assert load("layers.py", CONTRACTS, tmp_path).line is None


def test_names_that_a_module_makes_when_asked(tmp_path: Path) -> None:
    write(
        tmp_path,
        layers="""
        def __getattr__(name):
            if name in ("conv_forward", "conv_backward"):
                return lambda *given: None
            raise AttributeError(name)
        """,
    )
    assert list(load("layers", CONTRACTS, tmp_path).implementations) == ["conv"]


def test_the_folder_of_a_file_and_the_current_directory_are_importable(tmp_path: Path) -> None:
    write(tmp_path, inner__layers=f"import beside, current\n{PAIR}", inner__beside="", current="")
    load("inner/layers.py", CONTRACTS, tmp_path)
    assert sys.path[:2] == [str(tmp_path.resolve() / "inner"), str(tmp_path.resolve())]
    before = list(sys.path)
    load("inner/layers.py", CONTRACTS, tmp_path)
    assert sys.path == before


def test_a_file_may_define_dataclasses_that_pickle(tmp_path: Path) -> None:
    source = f"from __future__ import annotations\nimport dataclasses\n{PAIR}\n"
    source += "@dataclasses.dataclass\nclass Cache:\n    x: int\n"
    write(tmp_path, layers=source)
    cache = load("layers.py", CONTRACTS, tmp_path).target.Cache(3)
    assert dataclasses.asdict(pickle.loads(pickle.dumps(cache))) == {"x": 3}


def test_files_of_one_stem_do_not_clash(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write(tmp_path / folder, layers=f"{PAIR}where = {folder!r}\nclass Cache: ...\n")
    first = load("first/layers.py", CONTRACTS, tmp_path).target
    second = load("second/layers.py", CONTRACTS, tmp_path).target
    assert (first.where, second.where) == ("first", "second")
    for module in (first, second):
        assert isinstance(pickle.loads(pickle.dumps(module.Cache())), module.Cache)


@pytest.mark.parametrize("stem", ["numpy", "pytest", "os", "antigravity"])
def test_a_file_does_not_take_the_name_of_another_module(tmp_path: Path, stem: str) -> None:
    write(tmp_path, **{stem: PAIR})
    before = sys.modules.get(stem)
    adapter = load(f"{stem}.py", CONTRACTS, tmp_path)
    assert sys.modules.get(stem) is before
    assert adapter.target is not before
    assert sys.modules[adapter.target.__name__] is adapter.target


def test_a_file_is_read_anew(tmp_path: Path) -> None:
    for value in (1, 2):  # of one second and one length, as a byte code cache would not notice
        write(tmp_path, layers=f"{PAIR}value = {value}\n")
        assert load("layers.py", CONTRACTS, tmp_path).target.value == value


def test_warnings_of_an_import_never_raise(tmp_path: Path) -> None:
    write(tmp_path, layers=f"import warnings\nwarnings.warn('slow', RuntimeWarning)\nx = '\\\\d'\n{PAIR}")
    (tmp_path / "layers.py").write_text((tmp_path / "layers.py").read_text().replace("\\\\", "\\"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapter = load("layers.py", CONTRACTS, tmp_path)
    assert "RuntimeWarning: slow" in adapter.warnings
    assert any("invalid escape sequence" in warning for warning in adapter.warnings)


def test_an_interrupt_passes_through(tmp_path: Path) -> None:
    write(tmp_path, layers="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("layers.py", CONTRACTS, tmp_path)


def test_a_failed_import_leaves_no_module(tmp_path: Path) -> None:
    write(tmp_path, layers="1 / 0")
    refusal("layers.py", tmp_path)
    assert "layers" not in sys.modules


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("", "'' names no adapter ; mypkg.adapter ; .py"),
        ("layers.py:", "'layers.py:' names no adapter ; after a colon"),
        ("layers:", "'layers:' names no adapter"),
        (":Layers", "':Layers' names no adapter"),
        ("layers:a:b", "'layers:a:b' names no adapter"),
        ("layers:a b", "names no adapter"),
        ("./layers", "'./layers' is no name of a module ; must end in .py"),
        (".layers", "'.layers' is no name of a module"),
        ("absent.py", "absent.py does not exist ; give the file"),
        ("folder.py", "folder.py is a folder"),
        ("layer", "layer: there is no module 'layer' ; nearest: 'layers' ; none is installed"),
        ("absent.adapter", "absent.adapter: there is no module 'absent'"),
        ("package.ader", "package.ader: the package package has no module 'ader' ; nearest: 'adapter'"),
        ("layers.inner", "layers.inner: the package layers has no module 'inner'"),
        ("layers:Layer", "there is no attribute 'Layer' ; nearest: 'Layers' ; layers.py"),
        ("layers.py:Layers.inner", "layers.py:Layers.inner: there is no attribute 'inner'"),
    ],
)
def test_specifications_that_lead_nowhere(tmp_path: Path, spec: str, parts: str) -> None:
    write(tmp_path, layers=f"{PAIR}{CLASS}", package__adapter=PAIR, package____init__="")
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "folder.py").mkdir()
    sentence = refusal(spec, tmp_path)
    for part in parts.split(" ; "):
        assert part in sentence


@pytest.mark.parametrize("spec", ["broken.py", "broken"])
@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere' ; broken.py, line 1"),
        ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax ; broken.py, line 2"),
        ("if True:\nx = 1\n", "IndentationError: expected an indented block ; broken.py, line 2"),
        ("\n1 / 0", "ZeroDivisionError: division by zero ; broken.py, line 2"),
        ("def f():\n    raise ValueError('a\\nb')\nf()", "ValueError: a b ; broken.py, line 2"),
        ("raise ValueError", "raises ValueError (; broken.py, line 1"),
        ("\nimport sys\nsys.exit(3)", "SystemExit: 3 ; broken.py, line 3"),
        ("import pytest\npytest.skip('no', allow_module_level=True)", "Skipped: no"),
        ("import json\njson.loads('{')", "JSONDecodeError ; json"),
    ],
)
def test_imports_that_fail(tmp_path: Path, spec: str, source: str, parts: str) -> None:
    write(tmp_path, broken=source)
    sentence = refusal(spec, tmp_path)
    assert sentence.split(": ")[0].endswith(spec)
    for part in parts.replace("(;", "( ;").split(" ; "):
        assert part.strip() in sentence


BROKEN_CLASS = "class Layers:\n    def __init__(self): raise OSError('no device')\n"


@pytest.mark.parametrize(
    ("spec", "source", "parts"),
    [
        ("a.py:Layers", BROKEN_CLASS, "a.py:Layers: calling Layers() ; OSError: no device ; a.py, line 2"),
        (
            "a.py:Layers",
            "class Layers:\n    def __init__(self, n): ...",
            "without arguments ; TypeError ; 'n'",
        ),
        ("a.py", "x = 1", "linear_forward, conv_forward or batchnorm_forward ; at least one"),
        ("a.py", "def linearforward(): ...", "there is no linear_forward ; nearest: 'linearforward'"),
        ("a.py", CLASS, "Layers has one ; put :Layers after the module"),
        ("a.py", PAIR[:30], "linear_forward has no linear_backward beside it ; needs both"),
        ("a.py", PAIR[30:], "linear_backward has no linear_forward beside it"),
        ("a.py", PAIR[:30] + "linear_backwards = print", "no linear_backward ; nearest: 'linear_backwards'"),
        ("a.py", PAIR + "def conv2d_forward(x, w): ...", "conv2d_forward ; nearest is conv_forward"),
        ("a.py", PAIR + "def batch_norm_backward(): ...", "nearest is batchnorm_backward"),
        ("a.py", PAIR + "class Linear_forward: ...", "Linear_forward ; nearest is linear_forward"),
        ("a.py", PAIR + "from other import fast_forward", "fast_forward is the name of no layer's function"),
        ("a.py:Layers", CLASS + "    def conv2_forward(self): ...", "conv2_forward ; conv_forward"),
        ("a.py", PAIR + "linear_forward = 'x @ w'", "linear_forward is of type str and cannot be called"),
        ("a.py", PAIR + "linear_backward = None", "linear_backward is None and cannot be called"),
        ("a.py", PAIR + "def linear_forward(x): ...", "linear_forward has no room for w"),
        (
            "a.py",
            PAIR + "linear_forward = max",
            "linear_forward has no readable signature ; wrap it in a def",
        ),
        (
            "a.py",
            PAIR + "def linear_backward(dout): ...",
            "linear_backward cannot be called as ; (dout, cache)",
        ),
        ("a.py", PAIR + "CONFORMANCE = 3", "a.py: CONFORMANCE is 3 ; dict"),
        ("a.py", PAIR + "CONFORMANCE = {'linear': {'weight': 'ij'}}", "linear.weight is 'ij' ; 'io', 'oi'"),
        ("a.py", PAIR + "to_numpy = 3", "to_numpy is of type int and cannot be called"),
        ("a.py", PAIR + "from_numpy = ()", "from_numpy is of type tuple and cannot be called"),
        (
            "a.py:Layers",
            CLASS + "    @property\n    def CONFORMANCE(self): return {}['key']",
            "reading CONFORMANCE raises KeyError: 'key' ; a.py, line 6",
        ),
        (
            "a.py:Layers",
            CLASS + "    @property\n    def to_numpy(self): return self.absent",
            "reading to_numpy raises AttributeError ; 'absent'",
        ),
    ],
)
def test_adapters_that_offer_something_wrong(tmp_path: Path, spec: str, source: str, parts: str) -> None:
    write(tmp_path, a=source, other="def fast_forward(): ...")
    sentence = refusal(spec, tmp_path)
    assert "a.py" in sentence
    for part in parts.split(" ; "):
        assert part in sentence


def test_a_message_names_the_file_of_a_module(tmp_path: Path) -> None:
    write(tmp_path, package__inner="")
    sentence = refusal("package.inner", tmp_path)
    assert sentence.startswith(f"package.inner ({tmp_path.resolve() / 'package' / 'inner.py'}): ")


def test_loading_imports_no_numpy(tmp_path: Path) -> None:
    write(tmp_path, layers=PAIR)
    script = """
import sys
from backproof.conformance.adapter.load import load
from backproof.conformance.spec.contract import Contract
load("layers.py", [Contract("linear", ("x", "w", "b"), 2)])
assert not {"numpy", "jax", "hypothesis", "pytest"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


def test_the_current_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, layers=PAIR)
    monkeypatch.chdir(tmp_path)
    adapter: Adapter = load("layers", CONTRACTS)
    assert adapter.path == (tmp_path / "layers.py").resolve()
