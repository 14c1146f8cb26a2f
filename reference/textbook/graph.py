"""The scalar computational graph: the chain rule, one operation at a time.

Each node knows two things: its value from the values of its inputs, and the gradients of its inputs from its
own. Whatever is built of nodes can then be differentiated by walking it from the end: every node after all
that use it, so that its gradient is complete when it is handed on.

A quotient, with every gradient read off the page:

>>> a, b, c, d = Variable(2.0), Variable(3.0), Variable(2.0), Variable(4.0)
>>> f = (a * b + c) / d
>>> evaluate(f)
2.0
>>> gradient = backpropagate(f)
>>> [gradient[node] for node in (a, b, c, d)]  # b / d, a / d, 1 / d, -(a * b + c) / d**2
[0.75, 0.5, 0.25, -0.5]

A variable with two paths to the end: the gradients of both add up.

>>> a, b, x = Variable(3.0), Variable(8.0), Variable(2.0)
>>> y = a * x + b / x
>>> backpropagate(y)[x]  # a - b / x**2
1.0

The same graph at another point:

>>> x.value = 4.0
>>> evaluate(y), backpropagate(y)[x]
(14.0, 2.5)
"""

from __future__ import annotations


class Node:
    """A number in a computation: `forward` makes it of its inputs, `backward` hands its gradient to them."""

    def __init__(self, *inputs: Node) -> None:
        self.inputs = inputs
        self.value = float("nan")

    def forward(self, *values: float) -> float:
        """The value, from the values of the inputs."""
        raise NotImplementedError

    def backward(self, dout: float) -> tuple[float, ...]:
        """The gradient of each input, from the node's own."""
        raise NotImplementedError

    def __add__(self, other: Node) -> Node:
        return Add(self, other)

    def __sub__(self, other: Node) -> Node:
        return Subtract(self, other)

    def __mul__(self, other: Node) -> Node:
        return Multiply(self, other)

    def __truediv__(self, other: Node) -> Node:
        return Divide(self, other)


class Variable(Node):
    """A number from outside; it has no inputs, and its value may be changed between two evaluations."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, *values: float) -> float:
        """The value it was given."""
        return self.value

    def backward(self, dout: float) -> tuple[float, ...]:
        """Nothing: the walk ends here."""
        return ()


class Add(Node):
    """left + right."""

    def forward(self, *values: float) -> float:
        """The sum."""
        left, right = values
        return left + right

    def backward(self, dout: float) -> tuple[float, ...]:
        """Both sides get it whole."""
        return dout, dout


class Subtract(Node):
    """left - right."""

    def forward(self, *values: float) -> float:
        """The difference."""
        left, right = values
        return left - right

    def backward(self, dout: float) -> tuple[float, ...]:
        """The right side gets it with the other sign."""
        return dout, -dout


class Multiply(Node):
    """left * right."""

    def forward(self, *values: float) -> float:
        """The product."""
        left, right = values
        return left * right

    def backward(self, dout: float) -> tuple[float, ...]:
        """Each side gets it times the value of the other."""
        left, right = (node.value for node in self.inputs)
        return dout * right, dout * left


class Divide(Node):
    """left / right; a right of zero raises ZeroDivisionError."""

    def forward(self, *values: float) -> float:
        """The quotient."""
        left, right = values
        return left / right

    def backward(self, dout: float) -> tuple[float, ...]:
        """d(left / right) is 1 / right on the left, -left / right**2 on the right."""
        left, right = (node.value for node in self.inputs)
        return dout / right, -dout * left / (right * right)


def topological_order(output: Node) -> list[Node]:
    """Every node that `output` depends on, itself included, each after all of its inputs."""
    order: list[Node] = []
    seen: set[Node] = set()
    waiting = [(output, False)]
    while waiting:
        node, inputs_done = waiting.pop()
        if inputs_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting.extend((source, False) for source in node.inputs)
    return order


def evaluate(output: Node) -> float:
    """The value of `output` at the present values of its variables."""
    for node in topological_order(output):
        node.value = node.forward(*(source.value for source in node.inputs))
    return output.value


def backpropagate(output: Node, dout: float = 1.0) -> dict[Node, float]:
    """The gradient of dout * output with respect to every node that it depends on."""
    evaluate(output)
    order = topological_order(output)
    gradients = dict.fromkeys(order, 0.0)
    gradients[output] = dout
    for node in reversed(order):
        for source, gradient in zip(node.inputs, node.backward(gradients[node]), strict=True):
            gradients[source] += gradient  # another path may have been here before
    return gradients
