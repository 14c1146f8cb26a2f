"""The textbook: every layer as the literature writes it, in plain loops and numbered steps, on NumPy alone.

Nothing here is fast, and nothing is clever: these pages are what a reader checks with a finger, and what the
quicker references are held against.

    from backproof.reference import textbook

    out, cache = textbook.conv_forward(x, w, b, stride=2, padding=1)
    dx, dw, db = textbook.conv_backward(dout, cache)

`numerical` has the central differences that need no derivative at all, `graph` the scalar computational graph
that shows where the rules for the layers come from.
"""

from __future__ import annotations

from backproof.reference.textbook import graph
from backproof.reference.textbook.batchnorm import batchnorm_backward, batchnorm_forward
from backproof.reference.textbook.conv import conv_backward, conv_forward, conv_steps
from backproof.reference.textbook.linear import linear_backward, linear_forward
from backproof.reference.textbook.numerical import gradient_check, numerical_gradient

__all__ = [
    "batchnorm_backward",
    "batchnorm_forward",
    "conv_backward",
    "conv_forward",
    "conv_steps",
    "gradient_check",
    "graph",
    "linear_backward",
    "linear_forward",
    "numerical_gradient",
]
