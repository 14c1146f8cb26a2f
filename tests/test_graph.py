"""The scalar computational graph: every node by itself, and the rules for walking many of them."""

from __future__ import annotations

import doctest
import math

import pytest

from backproof.reference.textbook import graph
from backproof.reference.textbook.graph import (
    Add,
    Divide,
    Multiply,
    Node,
    Subtract,
    Variable,
    backpropagate,
    evaluate,
    topological_order,
)


def test_examples_of_the_page() -> None:
    failed, attempted = doctest.testmod(graph)
    assert failed == 0
    assert attempted >= 8


@pytest.mark.parametrize(
    ("operation", "value", "left", "right"),
    [
        (Add, 8.0, 1.0, 1.0),
        (Subtract, 4.0, 1.0, -1.0),
        (Multiply, 12.0, 2.0, 6.0),
        (Divide, 3.0, 0.5, -1.5),
    ],
)
def test_each_operation_at_6_and_2(operation: type[Node], value: float, left: float, right: float) -> None:
    six, two = Variable(6.0), Variable(2.0)
    node = operation(six, two)
    assert evaluate(node) == value
    gradient = backpropagate(node)
    assert (gradient[six], gradient[two]) == (left, right)
    assert gradient[node] == 1.0


def test_quotient_has_the_gradients_of_its_formula() -> None:
    a, b, c, d = (Variable(value) for value in (1.5, -2.0, 7.0, 4.0))
    quotient = (a * b + c) / d
    gradient = backpropagate(quotient)
    assert evaluate(quotient) == 1.0
    assert [gradient[node] for node in (a, b, c, d)] == [-0.5, 0.375, 0.25, -0.25]


def test_gradients_add_up_where_paths_meet() -> None:
    a, b, x = Variable(5.0), Variable(4.0), Variable(2.0)
    gradient = backpropagate(a * x + b / x)
    assert gradient[x] == 5.0 - 4.0 / 2.0**2
    assert gradient[a] == 2.0
    assert gradient[b] == 0.5


def test_one_node_on_both_sides() -> None:
    x = Variable(3.0)
    assert backpropagate(x * x)[x] == 6.0
    assert backpropagate(x + x)[x] == 2.0
    assert backpropagate(x - x)[x] == 0.0
    assert backpropagate(x / x)[x] == 0.0


def test_shared_node_is_complete_before_it_is_handed_on() -> None:
    """y = s**2 + 3 s of s = x**2: handed on too early, s would give x too little."""
    x, three = Variable(2.0), Variable(3.0)
    s = x * x
    gradient = backpropagate(s * s + three * s)
    assert gradient[s] == 2 * 4.0 + 3.0
    assert gradient[x] == 11.0 * 4.0


def test_every_node_stands_after_its_inputs_and_once() -> None:
    x = Variable(1.0)
    s = x + x
    output = (s * x) / (s + s * x)
    order = topological_order(output)
    assert len(order) == len(set(order))
    assert order[-1] is output
    for place, node in enumerate(order):
        assert all(source in order[:place] for source in node.inputs)


def test_upstream_gradient_scales_and_walking_twice_adds_nothing() -> None:
    x, y = Variable(3.0), Variable(4.0)
    product = x * y
    assert backpropagate(product, dout=-2.0)[x] == -8.0
    assert backpropagate(product, dout=0.0)[x] == 0.0
    assert backpropagate(product)[x] == backpropagate(product)[x] == 4.0


def test_variables_may_change_between_two_walks() -> None:
    x = Variable(3.0)
    cube = x * x * x
    assert (evaluate(cube), backpropagate(cube)[x]) == (27.0, 27.0)
    x.value = -1.0
    assert (backpropagate(cube)[x], cube.value) == (3.0, -1.0)


def test_a_variable_alone() -> None:
    x = Variable(3.0)
    assert evaluate(x) == 3.0
    assert backpropagate(x) == {x: 1.0}


def test_graph_deeper_than_pythons_stack() -> None:
    x = Variable(1.0)
    total: Node = x
    for _ in range(5000):
        total = total + x
    assert backpropagate(total)[x] == 5001.0


def test_exponential_series_against_its_known_derivative() -> None:
    x, one = Variable(0.5), Variable(1.0)
    term, series = one * one, one * one
    for n in range(1, 20):
        term = term * x / Variable(float(n))
        series = series + term
    assert evaluate(series) == pytest.approx(math.exp(0.5), rel=1e-14)
    assert backpropagate(series)[x] == pytest.approx(math.exp(0.5), rel=1e-14)


def test_division_by_zero_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        evaluate(Variable(1.0) / Variable(0.0))
