"""Axes of a linear layer that people exchange, flatten or put back in another order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, permutations

import numpy as np

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.mistakes.linear_rows import Rows, changed, made

TRANSPOSED = (
    made(
        "{tensor} is transposed: the two factors of the product, x and dout, are exchanged.",
        "dw",
        lambda rows: {"dw": rows.dout.T @ rows.x},
    ),
    made(
        "{tensor} multiplies dout with w the wrong way round: a transposition of w is missing, or one too many.",
        "dx",
        lambda rows: {"dx": rows.stacked(rows.dout @ rows.w)} if rows.sizes[1] == rows.sizes[2] else None,
    ),
    made(
        "{tensor} multiplies x with w the wrong way round: a transposition of w is missing, or one too many.",
        "out",
        lambda rows: {"out": rows.stacked(rows.x @ rows.w.T + rows.bias)} if rows.sizes[1] == rows.sizes[2] else None,
    ),
    made(
        "{tensor} is transposed: the two factors of the product, x and dout, are exchanged.",
        "dw",
        lambda rows: {"dw": rows.dout.T @ rows.x} if rows.sizes[1] == rows.sizes[2] else None,
    ),
    made("{tensor} is transposed.", "out", lambda rows: {"out": (rows.x @ rows.w + rows.bias).T}),
    made("{tensor} is transposed.", "dx", lambda rows: {"dx": (rows.dout @ rows.w.T).T}),
    made(
        "{tensor} is computed with w reshaped to its transpose's shape, not transposed.",
        "dx",
        lambda rows: {"dx": rows.stacked(rows.dout @ rows.w.reshape(rows.w.shape[::-1]))},
    ),
    made(
        "{tensor} is reshaped from its transpose's shape, not transposed.",
        "dw",
        lambda rows: {"dw": (rows.dout.T @ rows.x).reshape(rows.w.shape)},
    ),
)


def _reshaped(rows: Rows) -> Rows:
    """w as (outputs, inputs) is reshaped to (inputs, outputs)."""
    return rows._replace(w=rows.w.T.reshape(rows.w.shape))


def _of_reshaped(rows: Rows) -> dict[str, Array]:
    found = _reshaped(rows).results()
    return {**found, "dw": found["dw"].reshape(rows.w.shape[::-1]).T}


RESHAPED = (
    made(
        "w, which is outputs x inputs, is reshaped to inputs x outputs for {tensor}, not transposed.",
        "out dx dw",
        _of_reshaped,
    ),
    made(
        "{tensor} is reshaped to outputs x inputs, not transposed.",
        "dw",
        lambda rows: {"dw": (rows.x.T @ rows.dout).reshape(rows.w.shape[::-1]).T},
    ),
)

GRADIENTS = ("dx", "dw", "db")


def _exchanged(tensor: str, other: str) -> Mistake:
    """A gradient in another's place."""

    def gives(case: Case, right: Results) -> Results | None:
        return {tensor: right[other]} if {tensor, other} <= right.keys() else None

    sentence = f"{{tensor}} is what {other} should be: the gradients are returned in another order than dx, dw, db."
    return Mistake(sentence, (tensor,), gives)


ORDERS = tuple(_exchanged(tensor, other) for tensor, other in permutations(GRADIENTS, 2))


def _stacks(rows: Rows) -> bool:
    return len(rows.lead) > 1


def _gathered(rows: Rows, array: Array) -> Array:
    """The rows with the second leading axis before the first."""
    return rows.stacked(array).swapaxes(0, 1).reshape(array.shape)


def _handed_back(rows: Rows, array: Array) -> Array:
    """Rows taken for ones whose second leading axis comes first, brought into the order of the first."""
    first, second, *rest = rows.lead
    return array.reshape(second, first, *rest, array.shape[1]).swapaxes(0, 1).reshape(array.shape)


def _by_columns(rows: Rows, array: Array) -> Array:
    """The rows read as the columns of a matrix that is as long as a row."""
    return array.reshape(array.shape[::-1]).T


def _fortran(rows: Rows, array: Array) -> Array:
    """The leading axes flattened with the first running fastest."""
    axes = (*range(len(rows.lead))[::-1], len(rows.lead))
    return rows.stacked(array).transpose(axes).reshape(array.shape)


Flatten = Callable[[Rows, Array], Array]

#: Ways to flatten that put whole rows into another order, and ways that mix up their entries.
REORDERED: tuple[Flatten, ...] = (_gathered, _handed_back, _fortran)
SCRAMBLED: tuple[tuple[Flatten, str], ...] = (
    (_by_columns, "with its rows read as columns (reshape(D, -1).T where reshape(-1, D) is needed)"),
)
SEVERAL = "where there are several leading axes"


def _put_back(rows: Rows, flatten: Flatten) -> dict[str, Array] | None:
    """The results of rows, brought into their shape in another order."""
    found = rows.results()
    flat = {name: found[name].reshape(-1, found[name].shape[-1]) for name in ("out", "dx")}
    return {name: rows.stacked(flatten(rows, a)) for name, a in flat.items()} if _stacks(rows) else None


def _reordered(flatten: Flatten) -> tuple[Mistake, ...]:
    """Which of two arrays has its rows in another order does not show in their product."""
    return (
        made(
            f'{{tensor}} has its rows in another order {SEVERAL}: these are exchanged on the way, as order="F" does.',
            "out dx",
            lambda rows: _put_back(rows, flatten),
        ),
        changed(
            f"{{tensor}} multiplies rows of x by rows of dout that belong to others {SEVERAL}: these are exchanged "
            "when one of the two is flattened.",
            "dw",
            lambda rows: rows._replace(x=flatten(rows, rows.x)) if _stacks(rows) else None,
        ),
    )


def _scrambled(flatten: Flatten, words: str) -> tuple[Mistake, ...]:
    return (
        changed(
            f"x is flattened {words} {SEVERAL}.",
            "out dw",
            lambda rows: rows._replace(x=flatten(rows, rows.x)) if _stacks(rows) else None,
        ),
        changed(
            f"dout is flattened {words} {SEVERAL}.",
            "dx dw db",
            lambda rows: rows._replace(dout=flatten(rows, rows.dout)) if _stacks(rows) else None,
        ),
        made(
            f"{{tensor}} is put back into its shape {words} {SEVERAL}.", "out dx", lambda rows: _put_back(rows, flatten)
        ),
    )


READ = (
    *(mistake for flatten in REORDERED for mistake in _reordered(flatten)),
    *(mistake for flatten, words in SCRAMBLED for mistake in _scrambled(flatten, words)),
)

LEFT_FLAT = (
    made(
        "{tensor} is left flattened: it has one leading axis where x has several.",
        "out dx",
        lambda rows: (
            {name: a.reshape(-1, a.shape[-1]) for name, a in rows.results().items() if name in ("out", "dx")}
            if _stacks(rows)
            else None
        ),
    ),
)


def _strided(array: Array, pitch: int) -> Array:
    """Rows read so many entries apart, starting again at the array's end."""
    places = np.arange(len(array))[:, None] * pitch + np.arange(array.shape[1])
    return np.take(array, places, mode="wrap") if array.size else array


PITCHES = (
    changed(
        "{tensor} finds the n-th row of x at n times the number of outputs, not of inputs.",
        "out dw",
        lambda rows: rows._replace(x=_strided(rows.x, rows.sizes[2])),
    ),
    changed(
        "{tensor} finds the n-th row of dout at n times the number of inputs, not of outputs.",
        "dx dw db",
        lambda rows: rows._replace(dout=_strided(rows.dout, rows.sizes[1])),
    ),
    changed(
        "{tensor} finds the rows of w as far apart as there are inputs, not outputs.",
        "out dx",
        lambda rows: rows._replace(w=_strided(rows.w, rows.sizes[1])),
    ),
)

#: The axes of each tensor, by name.
AXES = {
    "out": ("samples", "outputs"),
    "dx": ("samples", "inputs"),
    "dw": ("inputs", "outputs"),
    "db": ("outputs",),
}


def _flips(tensor: str) -> tuple[Mistake, ...]:
    axes = AXES[tensor]
    subsets = [subset for count in range(1, 1 + len(axes)) for subset in combinations(range(len(axes)), count)]

    def flipped(subset: tuple[int, ...]) -> Callable[[Rows], dict[str, Array]]:
        def make(rows: Rows) -> dict[str, Array]:
            result = rows.results().get(tensor, np.zeros(rows.sizes[2]))
            flat = result.reshape(-1, result.shape[-1]) if tensor in ("out", "dx") else result
            return {tensor: np.flip(flat, subset).reshape(result.shape)}

        return make

    return tuple(
        made(
            f"{{tensor}} is right but for its order: turned around along its {' and '.join(axes[k] for k in subset)}.",
            tensor,
            flipped(subset),
        )
        for subset in subsets
    )


FLIPS = tuple(mistake for tensor in AXES for mistake in _flips(tensor))

ORDERED = (*TRANSPOSED, *RESHAPED, *ORDERS, *LEFT_FLAT, *READ, *PITCHES, *FLIPS)
