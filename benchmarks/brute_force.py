"""What the smallest case is in which a fault shows, by trying all smaller ones.

Sizes, options and numbers come from loops of this file's own, what is right from the textbook, and comparisons are made
here: only the list of memory layouts is shared with the suite. Float64 alone, where integers leave nothing to round.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from math import prod
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from unseen import Unseen

from backproof.conformance.spec import memory_layouts as layouts
from backproof.plugins.gallery import Fault
from backproof.reference import textbook

ARRAYS = ("x", "w", "b", "gamma", "beta")
STATE = ("running_mean", "running_var")
OPTIONS = ("stride", "padding", "dilation", "groups", "padding_mode", "eps", "training", "momentum")
MODES = ("zeros", "reflect", "replicate", "circular")

#: The items that are decided here; the lists (edges, stability, rejection) begin with the smallest there are, and what
#: holds results against each other in several calls has no truth of its own.
DECIDED = ("out", *(f"d{array}" for array in ARRAYS), *STATE, "purity", "repeatability", "memory_layout")
#: Settings that the textbook does not have.
OTHER_CONVENTIONS = ("momentum", "running_var", "parameters", "eps", "fixed_momentum")

#: So much further from the plain options than the report a smaller convolution is sought: their number has no end.
FURTHER = 2
ANY = 10**6

#: Numbers that leave something to round.
FRACTIONS = (-2.7, -1.1, -0.3, 0.1, 0.9, 1.7)

#: (elements, excess), and an item and the kind in which it fails.
Size = tuple[int, int]
Failure = tuple[str, str]
#: Size, kernel, stride, dilation, padding and output of one axis.
Axis = tuple[Any, ...]


class Question(NamedTuple):
    """Shapes of all arrays, options as the textbook takes them, and (elements, excess)."""

    shapes: dict[str, Any]
    options: dict[str, Any]
    size: Size


class Written(NamedTuple):
    """How a forward takes its arrays and options."""

    parameters: Mapping[str, inspect.Parameter]

    def __contains__(self, name: object) -> bool:
        return name in self.parameters or any(p.kind is p.VAR_KEYWORD for p in self.parameters.values())

    def spelling(self, option: str) -> str:
        """Whether one int stands for all axes, one for each, or a pair for each."""
        annotation = str(getattr(self.parameters.get(option), "annotation", ""))
        if annotation == "int" or option not in ("stride", "dilation", "padding"):
            return "one"
        pairs = option == "padding" and (annotation == "Pairs" or annotation.startswith("tuple[tuple"))
        return "pairs" if pairs else "each"

    def value(self, option: str, value: Any) -> Any:
        """The value of an option as it is written."""
        if option not in ("stride", "dilation", "padding") or self.spelling(option) == "pairs":
            return value
        each = tuple(low for low, _ in value) if option == "padding" else tuple(value)
        return each[0] if self.spelling(option) == "one" else each

    def modes(self) -> list[str]:
        """The padding modes, the plainest first."""
        if "padding_mode" not in self:
            return ["zeros"]
        annotated = str(getattr(self.parameters.get("padding_mode"), "annotation", ""))
        return [mode for mode in MODES if "Literal" not in annotated or mode in annotated]

    def may_be_none(self, name: str) -> bool:
        """Whether None is allowed for an array."""
        return name in self.parameters and self.parameters[name].default is None


def written(fault: Fault | Unseen) -> Written:
    """How the forward of a fault takes its arrays and options."""
    return Written(inspect.signature(getattr(fault.adapter(), f"{fault.layer}_forward")).parameters)


def settings(fault: Fault | Unseen) -> Mapping[str, Any]:
    """What a fault declares of its layer."""
    found: Mapping[str, Any] = getattr(fault.adapter, "CONFORMANCE", {}).get(fault.layer, {})
    return found


def is_decidable(fault: Fault | Unseen) -> bool:
    """Whether there is a truth for it here: in float64, with the textbook's conventions."""
    return fault.dtypes == ("float64",) and not any(key in settings(fault) for key in OTHER_CONVENTIONS)


def questions(fault: Fault | Unseen, rank: int, most: int, complexity: int = ANY) -> Iterator[Question]:
    """Every configuration of at most so many elements; `rank` is that of linear's x, elsewhere of the pixels.

    Of conv's those whose options are at most so far from the plain ones.
    """
    taken = written(fault)
    if fault.layer == "linear":
        return linear_questions(taken, rank, most)
    if fault.layer == "conv":
        return conv_questions(taken, rank, most, complexity)
    return batchnorm_questions(taken, rank, most)


def linear_questions(taken: Written, rank: int, most: int) -> Iterator[Question]:
    """Every linear layer."""
    for *lead, inputs, outputs in product(range(1, most), repeat=rank + 1):
        if (prod(lead) + outputs) * inputs + prod(lead) * outputs <= most:
            yield from linear_question(taken, (*lead, inputs), outputs, most)


def linear_question(taken: Written, shape: tuple[int, ...], outputs: int, most: int) -> Iterator[Question]:
    """With a bias, and without one where that is allowed."""
    for biased in biases(taken):
        shapes: dict[str, Any] = {"x": shape, "w": (shape[-1], outputs), "dout": (*shape[:-1], outputs)}
        yield from within(most, with_bias(taken, shapes, outputs, biased), {}, 0)


def biases(taken: Written) -> tuple[bool, ...]:
    """Whether there may be a bias."""
    return (False,) if "b" not in taken else (True, False) if taken.may_be_none("b") else (True,)


def with_bias(taken: Written, shapes: dict[str, Any], outputs: int, biased: bool) -> dict[str, Any]:
    """The shapes with that of the bias, if the forward takes one."""
    return shapes if "b" not in taken else {**shapes, "b": (outputs,) if biased else None}


def within(most: int, shapes: dict[str, Any], options: dict[str, Any], complexity: int) -> Iterator[Question]:
    """The question, if it has at most so many elements."""
    counted = [shape for name, shape in shapes.items() if name not in STATE and shape is not None]
    elements = sum(map(prod, counted))
    if elements <= most:
        yield Question(shapes, options, (elements, complexity))


def conv_questions(taken: Written, rank: int, most: int, complexity: int) -> Iterator[Question]:
    """Every convolution."""
    together = [name for name in ("stride", "padding", "dilation") if name in taken and taken.spelling(name) == "one"]
    modes = taken.modes()
    for each in several(sorted(axes_within(taken, most), key=spread_of), rank, most, complexity):
        sizes, kernels, strides, dilations, pads, outs = zip(*each, strict=True)
        spread = {"stride": strides, "dilation": dilations, "padding": pads}
        if any(len(set(spread[name])) > 1 for name in together):
            continue
        for mode, groups in product(modes, range(1, 5 if "groups" in taken else 2)):
            widest = {"reflect": -1, "circular": 0}.get(mode)
            if widest is not None and any(max(pad) > n + widest for pad, n in zip(pads, sizes, strict=True)):
                continue
            options = {**spread, "groups": groups, "padding_mode": mode}
            for batch, channels, filters in widths(groups, sizes, kernels, most):
                x, w = (batch, groups * channels, *sizes), (groups * filters, channels, *kernels)
                asked = conv_question(taken, x, w, outs, options, most)
                yield from (question for question in asked if question.size[1] <= complexity)


def several(
    axes: Sequence[Axis], rank: int, most: int, complexity: int, sizes: tuple[int, int, int] = (1, 1, 1)
) -> Iterator[tuple[Axis, ...]]:
    """So many axes, the plainest first, as long as their x, w and out, which begin with these sizes, are small."""
    if not rank:
        yield ()
        return
    for axis in axes:
        if spread_of(axis) > complexity:
            return
        grown = tuple(size * axis[place] for size, place in zip(sizes, (0, 1, 5), strict=True))
        if sum(grown) <= most:
            for rest in several(axes, rank - 1, most, complexity - spread_of(axis), grown):
                yield (axis, *rest)


def spread_of(axis: Axis) -> int:
    """How far the options of an axis are from the plain ones."""
    _, _, stride, dilation, pads, _ = axis
    return int(stride - 1 + dilation - 1 + sum(pads))


def widths(groups: int, sizes: Sequence[int], kernels: Sequence[int], most: int) -> Iterator[tuple[int, int, int]]:
    """Batch, channels and filters of a group, as far as x and w together have at most so many elements."""
    for channels in range(1, most):
        x, w = groups * channels * prod(sizes), groups * channels * prod(kernels)
        if x + w > most:
            return
        for batch in range(1, most // x + 1):
            for filters in range(1, (most - batch * x) // w + 1):
                yield batch, channels, filters


def conv_question(
    taken: Written, x: tuple[int, ...], w: tuple[int, ...], outs: Sequence[int], options: dict[str, Any], most: int
) -> Iterator[Question]:
    """With a bias, and without one where that is allowed."""
    complexity = sum(options["stride"]) + sum(options["dilation"]) - 2 * len(outs) + sum(map(sum, options["padding"]))
    complexity += options["groups"] - 1 + (options["padding_mode"] != "zeros")
    for biased in biases(taken):
        shapes: dict[str, Any] = {"x": x, "w": w, "dout": (x[0], w[0], *outs)}
        yield from within(most, with_bias(taken, shapes, w[0], biased), options, complexity)


def axes_within(taken: Written, most: int) -> Iterator[Axis]:
    """Size, kernel, stride, dilation, padding and output of one axis."""
    strides, dilations = (range(1, 5 if name in taken else 2) for name in ("stride", "dilation"))
    for size, kernel, stride, dilation in product(range(1, most), range(1, 6), strides, dilations):
        widest = dilation * (kernel - 1) + 3 if "padding" in taken else 0
        for low, high in product(range(widest + 1), repeat=2):
            room = size + low + high - dilation * (kernel - 1) - 1
            if low != high and taken.spelling("padding") != "pairs":
                continue
            if room >= 0 and size + kernel + room // stride + 1 <= most:
                yield size, kernel, stride, dilation, (low, high), room // stride + 1


def batchnorm_questions(taken: Written, rank: int, most: int) -> Iterator[Question]:
    """Every batch norm with at least two elements a channel in training."""
    modes = (True, False) if "training" in taken else (True,)
    epsilons = (1e-5, 1.0, 0.1, 1e-3, 1e-8, 1e-12) if "eps" in taken else (1e-5,)
    momenta = (0.1, 0.5, 0.9) if "momentum" in taken else (0.1,)
    for batch, channels, *pixels in product(range(1, most), repeat=2 + rank):
        if 2 * batch * channels * prod(pixels) > most:
            continue
        for training, eps, momentum in product(modes, epsilons, momenta):
            if not training or batch * prod(pixels) > 1:
                options = {"training": training, "eps": eps, "momentum": momentum}
                yield from batchnorm_question(taken, (batch, channels, *pixels), options, most)


def batchnorm_question(taken: Written, x: tuple[int, ...], options: dict[str, Any], most: int) -> Iterator[Question]:
    """With gamma and beta, and without where that is allowed."""
    complexity = (options["eps"] != 1e-5) + (options["momentum"] != 0.1) + (not options["training"])
    present = [
        (None,) if name not in taken else (True, False) if taken.may_be_none(name) else (True,)
        for name in ("gamma", "beta")
    ]
    for there in product(*present):
        shapes: dict[str, Any] = {"x": x, "dout": x}
        for name, is_there in zip(("gamma", "beta"), there, strict=True):
            shapes |= {} if is_there is None else {name: x[1:2] if is_there else None}
        if "running_mean" in taken:
            shapes |= dict.fromkeys(STATE, x[1:2])
        yield from within(most, shapes, options, complexity)


def smallest(fault: Fault) -> Iterator[Question]:
    """The case that the gallery calls the smallest: in each way in which the arrays that it does not name may be."""
    assert fault.smallest is not None
    taken, given = written(fault), dict(fault.smallest)
    x = given.pop("x")
    if fault.layer == "linear":
        return linear_question(taken, x, given["w"][1], 10**6)
    if fault.layer == "batchnorm":
        options = {"training": True, "eps": 1e-5, "momentum": 0.1, **given}
        return batchnorm_question(taken, x, {name: options[name] for name in ("training", "eps", "momentum")}, 10**6)
    w, rank = given["w"], len(x) - 2
    plain = {"stride": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank}
    options = {**plain, "groups": 1, "padding_mode": taken.modes()[0], **given}
    axes = zip(x[2:], w[2:], options["stride"], options["dilation"], options["padding"], strict=True)
    outs = [(n + sum(pads) - d * (k - 1) - 1) // s + 1 for n, k, s, d, pads in axes]
    return conv_question(taken, x, w, outs, {name: options[name] for name in OPTIONS[:5]}, 10**6)


def fills(question: Question, layer: str) -> Iterator[dict[str, Any]]:
    """Zeros and ones, small integers, and fractions, three times each."""
    for seed, values in product(range(3), ((0, 1), (-3, -2, -1, 1, 2, 3), FRACTIONS)):
        generator = np.random.default_rng(seed)
        arrays = {
            name: None if shape is None else generator.choice(values, shape).astype(float)
            for name, shape in question.shapes.items()
        }
        if "running_var" in arrays:
            arrays["running_var"] = np.abs(arrays["running_var"])
        if layer == "batchnorm" and question.options["training"]:
            axes = (0, *range(2, arrays["x"].ndim))
            if (abs(arrays["x"].mean(axes)) > 100 * arrays["x"].std(axes)).any():
                continue
        yield arrays


def repeated(array: Any) -> Iterator[Any]:
    """An array, and those with its first entries along one axis, its last, its pixels or everywhere: expanded ones."""
    yield array
    for axes in {(0,), (array.ndim - 1,), tuple(range(2, array.ndim)), tuple(range(array.ndim))} - {()}:
        yield np.array(np.broadcast_to(first(array, axes), array.shape))


def first(array: Any, axes: tuple[int, ...]) -> Any:
    """The entries at 0 along these axes."""
    return array[tuple([slice(0, 1) if axis in axes else slice(None) for axis in range(array.ndim)])]


class Judge:
    """Calls a candidate and says which items it fails, and in which kind."""

    def __init__(self, fault: Fault | Unseen) -> None:
        self.layer, self.adapter = fault.layer, fault.adapter()
        self.taken = written(fault)
        self.channels_last = settings(fault).get("layout") == "channels_last"
        self.output_first = settings(fault).get("weight") == "oi"
        self.exact = False
        #: Items that take many calls are decided only where they are asked for.
        self.wanted = {*fault.caught_by, *fault.sometimes}

    def failures(self, question: Question, arrays: dict[str, Any]) -> set[Failure]:
        """Item and kind of every failure."""
        integral = all((np.rint(a) == a).all() for a in arrays.values() if a is not None)
        self.exact = integral and self.layer != "batchnorm"
        with np.errstate(all="ignore"):
            truth = self.truth(question.options, arrays)
            passed = self.native(arrays)
            before = {name: a.copy() for name, a in passed.items() if a is not None}
            gradients = [f"d{name}" for name in ARRAYS if name in arrays]
            try:
                out, kept, *state = self.forward(passed, question.options)
            except Exception:
                return {("out", "crash")}
            found = {("out", kind) for kind in self.differ(out, truth["out"])}
            state = state or [passed[name] for name in STATE if name in passed]
            for name, result in zip(STATE, state, strict=False):
                kinds = self.differ(result, truth[name])
                found |= {(name, kind if question.options["training"] else "state") for kind in kinds}
            try:
                first = self.backward(passed, kept)
            except Exception:
                return found | {(name, "crash") for name in gradients if arrays[name[1:]] is not None}
            first = [first.get(name) for name in gradients] if isinstance(first, dict) else list(first)
            if len(first) < len(gradients):
                return found | {(name, "result") for name in gradients if arrays[name[1:]] is not None}
            for name, result in zip(gradients, first, strict=False):
                if arrays[name[1:]] is not None:
                    found |= {(name, kind) for kind in self.differ(result, truth[name])}
            if any((before[name] != passed[name]).any() for name in before if name not in STATE):
                found.add(("purity", "mutation"))
            if "repeatability" in self.wanted:
                found |= {("repeatability", kind) for kind in self.unsteady(question, arrays, first)}
            if "memory_layout" in self.wanted:
                found |= {("memory_layout", kind) for kind in self.laid_out(question, arrays)}
            return found

    def unsteady(self, question: Question, arrays: dict[str, Any], plain: Any) -> Iterator[str]:
        """A second backward, one of another dout, and one after other forwards.

        Those are of other numbers, of one sample, of twice as many, and of plain options.
        """
        passed = self.native(arrays)
        kept = self.forward(passed, question.options)[1]
        with suppress(Exception):
            self.backward({**passed, "dout": passed["dout"].copy()}, kept)
        yield from self.differently(passed, kept, plain)
        turned = {**arrays, "dout": 3 * arrays["dout"][::-1] + 1}
        own = self.backward(self.native(turned), self.forward(self.native(turned), question.options)[1])
        yield from self.differently(self.native(turned), kept, own.values() if isinstance(own, dict) else own)

        others = [({name: None if a is None else 3 * a[::-1] + 1 for name, a in arrays.items()}, question.options)]
        for times in (0, 2):
            shape = (times * len(arrays["x"]) or 1, *arrays["x"].shape[1:])
            others.append(({**arrays, "x": np.arange(1.0, prod(shape) + 1).reshape(shape)}, question.options))
        unspread = {name: tuple(1 for _ in question.options[name]) for name in ("stride",) if name in question.options}
        others.append((arrays, {**question.options, **unspread}))
        for other, options in others:
            passed = self.native(arrays)
            kept = self.forward(passed, question.options)[1]
            with suppress(Exception):
                self.forward(self.native(other), options)
            yield from self.differently(passed, kept, plain)

    def differently(self, passed: dict[str, Any], kept: Any, plain: Any) -> Iterator[str]:
        """How a backward differs from the plain call's, if it does."""
        try:
            again = self.backward(passed, kept)
        except Exception:
            yield "crash"
            return
        pairs = zip(plain, again.values() if isinstance(again, dict) else again, strict=False)
        if any(isinstance(a, np.ndarray) and any(self.differ(b, a)) for a, b in pairs):
            yield "state"

    def laid_out(self, question: Question, arrays: dict[str, Any]) -> Iterator[str]:
        """The same arrays, one of them in another layout."""
        for name, array in arrays.items():
            for values in () if array is None or self.channels_last else repeated(array):
                asked = {**arrays, name: values}
                plain = self.results(self.native(asked), question.options)
                for layout in layouts.choices(name, values.ndim, STATE):
                    view = layouts.laid_out(values, layout)
                    if not layouts.is_effective(values, layout) or (view != values).any():
                        continue
                    try:
                        results = self.results({**self.native(asked), name: view}, question.options)
                    except Exception:
                        yield "crash"
                        continue
                    pairs = zip(plain, results, strict=False)
                    if any(isinstance(a, np.ndarray) and any(self.differ(b, a)) for a, b in pairs):
                        yield "value"

    def results(self, passed: dict[str, Any], options: dict[str, Any]) -> list[Any]:
        """The output and every gradient."""
        out, kept, *_ = self.forward(passed, options)
        gradients = self.backward(passed, kept)
        return [out, *(gradients.values() if isinstance(gradients, dict) else gradients)]

    def truth(self, options: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
        """Every result, by the textbook."""
        forward = getattr(textbook, f"{self.layer}_forward")
        known = inspect.signature(forward).parameters
        given = {**options, **{name: a for name, a in arrays.items() if name != "dout"}}
        out, kept, *state = forward(**{name: value for name, value in given.items() if name in known})
        gradients = getattr(textbook, f"{self.layer}_backward")(arrays["dout"], kept)
        names = ("dx", "dgamma", "dbeta") if self.layer == "batchnorm" else ("dx", "dw", "db")
        named = {"out": out, **dict(zip(names, gradients, strict=True)), **dict(zip(STATE, state, strict=False))}
        if self.channels_last:
            named |= {name: np.moveaxis(named[name], 1, -1) for name in ("out", "dx")}
        if self.output_first:
            named["dw"] = named["dw"].T
        return named

    def native(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """Copies of the arrays, as the candidate takes them."""
        copies = {name: None if a is None else a.copy() for name, a in arrays.items()}
        if self.channels_last:
            copies |= {name: np.moveaxis(copies[name], 1, -1).copy() for name in ("x", "dout")}
        if self.output_first:
            copies["w"] = copies["w"].T.copy()
        return copies

    def forward(self, arrays: dict[str, Any], options: dict[str, Any]) -> Any:
        """Calls the candidate's forward."""
        given = {name: self.taken.value(name, value) for name, value in options.items() if name in self.taken}
        state = {name: arrays[name] for name in STATE if name in arrays}
        inputs = [arrays[name] for name in ARRAYS if name in arrays]
        return getattr(self.adapter, f"{self.layer}_forward")(*inputs, **state, **given)

    def backward(self, arrays: dict[str, Any], kept: Any) -> Any:
        """Calls the candidate's backward."""
        return getattr(self.adapter, f"{self.layer}_backward")(arrays["dout"], kept)

    def differ(self, got: Any, expected: Any) -> Iterator[str]:
        """In which kind two results differ, if they do."""
        if not isinstance(got, np.ndarray):
            yield "result"
        elif got.shape != expected.shape:
            yield "shape"
        elif got.dtype != expected.dtype:
            yield "dtype"
        elif not np.isfinite(got[np.isfinite(expected)]).all():
            yield "nonfinite"
        else:
            tolerance = 0.0 if self.exact else 1e-11 * (1 + np.abs(expected).max(initial=0.0))
            if (np.abs(got - expected) > tolerance).any():
                yield "value"


def minima(
    fault: Fault | Unseen, ranks: Sequence[int], reported: Mapping[Failure, Size], seconds: float
) -> dict[Failure, tuple[Size, bool]]:
    """For each reported failure the size of the smallest case that fails alike, and whether all smaller were tried.

    That of the report itself where none smaller fails, and no entry where the report does not fail here.
    """
    judge, most = Judge(fault), max(size for size in reported.values())
    asked: list[Question] = []
    until = perf_counter() + seconds
    for rank in ranks:
        for question in questions(
            fault, rank, most[0], max(complexity for _, complexity in reported.values()) + FURTHER
        ):
            if question.size <= most:
                asked.append(question)
            if perf_counter() > until:
                return {failure: (size, False) for failure, size in reported.items()}
    found: dict[Failure, tuple[Size, bool]] = {}
    waiting = dict(reported)
    for question in sorted(asked, key=lambda question: question.size):
        waiting = {failure: size for failure, size in waiting.items() if question.size <= size}
        if not waiting:
            break
        if perf_counter() > until:
            found |= {failure: (size, False) for failure, size in waiting.items()}
            break
        for arrays in fills(question, fault.layer):
            for failure in judge.failures(question, arrays) & waiting.keys():
                found[failure] = (question.size, True)
                del waiting[failure]
    return found
