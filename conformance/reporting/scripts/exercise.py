"""A script as it is written: the numbers, the two calls, the judgement, and below them what all scripts share."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backproof.conformance.adapter.candidate import Candidate, written
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.judging.properties.several_calls import other_numbers
from backproof.conformance.judging.reference import Reference
from backproof.conformance.reporting.scripts.literals import MOST_WRITTEN, WIDTH, call, dtype_of, literal
from backproof.conformance.reporting.scripts.machinery import GIVE, HEAD, REST, STORED, TAKEN, USE
from backproof.conformance.reporting.scripts.sources import sources_of
from backproof.conformance.reporting.scripts.sums import joining, side
from backproof.conformance.spec.case import Array, Case, Configuration
from backproof.conformance.spec.results import Discrepancy

#: What stands for the script's own name and for the folder of SPEC until it is written.
FILE, FOLDER = "@FILE@", "@FOLDER@"


@dataclass(frozen=True)
class Script:
    """A stand-alone script, and the arrays that stand in a file beside it, by name."""

    text: str
    arrays: Mapping[str, Array]

    def stored(self) -> bytes:
        """What the file holds."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = dict(self.arrays)
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()


@dataclass
class Exercise:
    """One counterexample on its way to a script: the `ScriptWriter` of a property."""

    spec: str
    identifier: str
    found: Counterexample
    candidate: Candidate
    #: Names of further questions of the same shapes that the adapter is asked before, in a call of their own.
    before: Sequence[str] = ()
    lines: list[str] = field(default_factory=list)
    stored: dict[str, Array] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    judge: list[str] = field(default_factory=list)
    copy: str = 'array = np.array(array, order="C")'
    imports: list[str] = field(default_factory=lambda: ["import numpy as np"])
    has_others: bool = False

    @property
    def case(self) -> Case:
        """The case that fails."""
        return self.found.case

    @property
    def reference(self) -> Reference:
        """What is right in it."""
        return self.found.reference

    @property
    def discrepancy(self) -> Discrepancy:
        """What is wrong."""
        return self.found.discrepancy

    @property
    def tensor(self) -> str:
        """The result that is wrong; "" where no single one is."""
        return self.found.discrepancy.tensor or ""

    def names(self, candidate: Candidate | None = None) -> tuple[str, ...]:
        """The arrays that a forward is passed, in this order, state included."""
        candidate = candidate or self.candidate
        return (*candidate.signature.arrays, *_state(candidate))

    def options(self, configuration: Configuration, candidate: Candidate | None = None) -> dict[str, object]:
        """The options as they are passed."""
        spellings, options = configuration.spellings, configuration.options
        return {
            name: written(options[name], spellings[name]) if name in spellings else options[name]
            for name in (candidate or self.candidate).signature.options
        }

    # Numbers

    def comment(self, text: str) -> None:
        """A line above what comes next."""
        self.lines += ["", *textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")]

    def array(self, name: str, array: Array | None) -> None:
        """Writes down an array, as a literal or, where it is large, in the file."""
        if array is None:
            self.lines.append(f"{name} = None")
            return
        array = np.ascontiguousarray(array).reshape(array.shape)
        low = self.dtype(array) == "bfloat16"
        if array.size > MOST_WRITTEN and np.ptp(array.astype(np.float64)) != 0:
            self.stored[name] = array.astype(np.float32) if low else array
            self.lines.append(f'{name} = numbers["{name}"]{".astype(bfloat16)" if low else ""}')
        else:
            self.lines += f"{name} = {literal(array, len(name) + 3)}".splitlines()

    def numbers(self, case: Case, suffix: str = "", candidate: Candidate | None = None) -> None:
        """Writes down what a case passes, with a suffix to the names; dout as well."""
        candidate = candidate or self.candidate
        for name in (*self.names(candidate), "dout"):
            array = case.arrays[name]
            self.array(f"{name}{suffix}", None if array is None else candidate.in_data_format(name, array))

    def others(self, suffix: str = "_other") -> None:
        """Other numbers of the same shapes: those of `other_of`."""
        self.has_others = True
        function, nonnegative = self.function(other_numbers), self.candidate.layer.contract.nonnegative
        self.lines += ["", ""]
        for name in (*self.names(), "dout"):
            more = ", nonnegative=True" if name in nonnegative else ""
            value = None if self.case.arrays[name] is None else f"{function}({name}{more})"
            self.lines.append(f"{name}{suffix} = {value}")

    def tolerance(
        self, name: str, tolerance: Array | float, got: Array | None = None, expected: Array | None = None
    ) -> None:
        """Writes down how far off right code may be: one number, if it finds the same entries wrong."""
        tolerance = np.asarray(tolerance, np.float64)
        largest = _rounded_up(float(tolerance.max(initial=0.0)))
        one = tolerance.size == 0 or bool((tolerance == tolerance.flat[0]).all())
        if not one and got is not None and expected is not None and got.shape == expected.shape:
            off = np.abs(got - expected)
            broad = np.broadcast_to(tolerance, off.shape) if tolerance.ndim <= off.ndim else tolerance
            one = broad.shape == off.shape and bool(((off > broad) == (off > largest)).all())
        if one:
            self.lines.append(f"{name} = {largest!r}" if largest else f"{name} = 0")
        else:
            self.array(name, tolerance)

    def dtype(self, array: Array) -> str:
        """An array's dtype as an expression."""
        if array.dtype.name == "bfloat16":
            self._import("from ml_dtypes import bfloat16")
        return dtype_of(array)

    def _import(self, line: str) -> None:
        self.imports += [] if line in self.imports else [line]

    # Functions

    def function(self, function: Callable[..., Any]) -> str:
        """Writes a function's own source, behind all that it needs of its module; its name."""
        imports, texts = sources_of(function)
        for line in imports:
            self._import(line)
        for text in texts:
            lines = text.splitlines()
            self.lines += ["", "", *lines] if lines[0] not in self.lines else []
        return function.__name__

    def sum_of(
        self,
        function: Callable[[Mapping[str, Array]], Array],
        shapes: Mapping[str, tuple[int, ...]],
        arrays: Mapping[str, Array],
    ) -> tuple[str, dict[str, Array]]:
        """A linear function of results as an expression, and its constants by name."""
        return side(function, shapes, arrays)

    def joined(
        self, function: Callable[[Sequence[Array]], Array], shapes: Sequence[tuple[int, ...]], names: Sequence[str]
    ) -> tuple[str, dict[str, Array], list[str]]:
        """How parts are put together: an expression of their names, its constants, and a function that it needs."""
        return joining(function, shapes, names)

    def taken(self) -> None:
        """Writes the function `taken`."""
        self.lines += TAKEN.rstrip().splitlines()

    # Calls

    def copies_by(self, line: str) -> None:
        """Sets the line that copies an array before it is passed."""
        self.copy = line

    def calls(self, configuration: Configuration, prefix: str = "", candidate: Candidate | None = None) -> None:
        """Writes the two calls: forward and backward, with the options of a configuration for defaults."""
        candidate = candidate or self.candidate
        if self.before and not self.has_others:
            self.others()
        layer, state = candidate.layer.name, _state(candidate)
        options = self.options(configuration, candidate)
        self.functions += [f"{layer}_forward", f"{layer}_backward"]
        taken = [*self.names(candidate), *(f"{name}={value!r}" for name, value in options.items())]
        by_keyword = candidate.signature.by_keyword
        given = [_given(name) for name in candidate.signature.arrays if name not in by_keyword]
        given += [f"{name}={_given(name)}" for name in candidate.signature.arrays if name in by_keyword]
        given += [f"{name}={name}" for name in (*state, *options)]
        lines = ["", "", *call(f"{prefix}forward", taken, "def ")]
        lines[-1] += ":"
        lines.append(f'    """{layer}_forward on copies: its results by name, and the cache."""')
        if state:
            lines.append(f"    {', '.join(state)} = {', '.join(_given(name) for name in state)}")
        lines += call(f"adapter.{layer}_forward", given, "    returned = ")
        count = len(candidate.layer.contract.state)
        lengths = f"not in (2, {2 + count})" if count else "!= 2"
        allowed = "out, cache" + (f" or out, cache, {', '.join(state)}" if state else "")
        lines += [
            f"    if not isinstance(returned, tuple | list) or len(returned) {lengths}:",
            f'        raise Wrong("{layer}_forward returned something else than {allowed}.")',
        ]
        if state:
            lines += [
                "    # What was returned counts, else what the arrays that were passed hold now.",
                f"    statistics = returned[2:] or ({', '.join(state)})",
                f"    names = {_tuple(['out', *state])}",
                "    return dict(zip(names, (returned[0], *statistics))), returned[1]",
            ]
        else:
            lines.append('    return {"out": returned[0]}, returned[1]')
        self.lines += [*lines, *self._backward(layer, prefix, candidate)]

    def _backward(self, layer: str, prefix: str, candidate: Candidate) -> list[str]:
        gradients = [f"d{name}" for name in candidate.signature.arrays]
        names, count = ", ".join(gradients), len(gradients)
        quoted = _tuple(gradients)
        return [
            "",
            "",
            f"def {prefix}backward(dout, cache):",
            f'    """{layer}_backward on a copy of dout: the gradients by name."""',
            f'    returned = adapter.{layer}_backward(give("dout", dout), cache)',
            "    if isinstance(returned, Mapping):",
            f"        return {{name: returned.get(name) for name in {quoted}}}",
            f"    if not isinstance(returned, tuple | list) or len(returned) < {count} "
            f"or any(more is not None for more in returned[{count}:]):",
            f'        raise Wrong("{layer}_backward returned something else than {names}.")',
            f"    return dict(zip({quoted}, returned))",
        ]

    def passes(self, suffix: str = "") -> str:
        """The arrays as the forward's arguments."""
        return ", ".join(f"{name}{suffix}" for name in self.names())

    def ask(self, tensors: Sequence[str], prefix: str = "", candidate: Candidate | None = None) -> None:
        """Writes a function that asks one question and gives these results of it."""
        candidate = candidate or self.candidate
        names = [*self.names(candidate), "dout"]
        what = " and ".join(tensors) or "Nothing but an error"
        self.lines += [
            "",
            "",
            f"def {prefix}ask({', '.join(names)}, **options):",
            f'    """{what} of one forward and its backward."""',
            f"    results, cache = {prefix}forward({', '.join(names[:-1])}, **options)",
        ]
        early = [t for t in tensors if t == "out" or t in _state(candidate)]
        self.lines += [f'    {t} = read("{t}", results["{t}"]).copy()' for t in early]
        late = {t: f'read("{t}", gradients["{t}"]).copy()' for t in tensors if t not in early}
        self.lines.append(f"    {'gradients = ' if late else ''}{prefix}backward(dout, cache)")
        if tensors:
            self.lines.append(f"    return {', '.join(late.get(t, t) for t in tensors)}")

    # The whole

    def script(self) -> Script:
        """The script; its file's name is filled in when it is written."""
        sentences = [self.found.discrepancy.message, *self.found.diagnosis]
        if self.found.region:
            sentences.append(f"It fails where: {self.found.region}.")
        if not self.found.steady:
            sentences.append("It does not fail every time, so it is asked twenty times.")
        said = "\n".join(textwrap.fill(_safe(sentence), WIDTH) for sentence in sentences)
        functions = list(dict.fromkeys(self.functions))
        head = HEAD.format(
            title=f"{_safe(self.identifier)} of {_safe(self.spec)}",
            sentences=said,
            file=FILE,
            use=textwrap.fill(USE.format(spec=_safe(self.spec)), WIDTH),
            imports="\n".join(f"    {line}" for line in self.imports),
            spec_text=repr(self.spec),
            folder=FOLDER,
            functions=_tuple(functions),
        )
        stored = STORED.rstrip().splitlines() if self.stored else []
        judge = ["", "", "def judge():", '    """1 if it is wrong, 0 if it is right."""', *self.earlier(), *self.judge]
        if not self.found.steady:
            judge[2] = "def judge_once():"
            judge += [
                "",
                "",
                "def judge():",
                '    """1 if one of twenty attempts is wrong."""',
                "    return int(any(judge_once() for _ in range(20)))",
            ]
        asked = ", ".join(f"{name}={name}" for name in (*self.names(), "dout"))
        rest = REST.replace("tell(ASKED)", f"tell({asked})")
        body = [
            *head.splitlines(),
            *stored,
            "",
            *self.lines,
            *judge,
            "",
            *GIVE.format(copy=self.copy).splitlines(),
            "",
            *rest.splitlines(),
        ]
        return Script("\n".join(body).rstrip() + "\n", self.stored)

    def earlier(self, when: str = "comes first") -> list[str]:
        """Calls of which nothing may be left behind."""
        if not self.before:
            return []
        lines = [f"    # A call with other numbers {when}: nothing of it may be left behind."]
        for suffix in self.before:
            lines += [
                "    with contextlib.suppress(Exception):",
                f"        backward(dout{suffix}, forward({self.passes(suffix)})[1])",
            ]
        return lines


def _state(candidate: Candidate) -> tuple[str, ...]:
    return candidate.layer.contract.state if candidate.signature.state else ()


def _given(name: str) -> str:
    return f'give("{name}", {name})'


def _tuple(names: Sequence[str]) -> str:
    """A tuple of strings as it is written."""
    inner = ", ".join(f'"{name}"' for name in names)
    return f"({inner},)" if len(names) == 1 else f"({inner})"


def _rounded_up(value: float) -> float:
    """The value with three digits, not smaller."""
    if value == 0:
        return 0.0
    rounded = float(f"{value:.3g}")
    return rounded if rounded >= value else float(f"{value * 1.006:.3g}")


def _safe(text: str) -> str:
    """The text as it may stand in a docstring."""
    return text.replace("\\", "\\\\").replace('"""', "'''")
