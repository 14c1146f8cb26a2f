"""The layers as an adapter writes them: arrays, options and settings of each, with their defaults.

Read without NumPy, so that an adapter is loaded, and a bad one refused, before anything heavy is imported.
"""

from __future__ import annotations

from backproof.conformance.spec.contract import Contract, Option, Setting

LAYOUTS = ("channels_first", "channels_last")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

LINEAR = Contract(
    layer="linear",
    arrays=("x", "w", "b"),
    unnamed=2,
    settings={
        "weight": Setting("io", "choice", ("io", "oi")),
        "ranks": Setting((2,), "at_least", minimum=2),
        "empty_batch": Setting(True, "flag"),
    },
)

CONV = Contract(
    layer="conv",
    arrays=("x", "w", "b"),
    unnamed=2,
    options=(
        Option("stride", 1, "axes"),
        Option("padding", 0, "pairs"),
        Option("dilation", 1, "axes"),
        Option("groups", 1),
        Option("padding_mode", "zeros", "literal", PADDING_MODES),
    ),
    settings={
        "spatial_dims": Setting((2,), "subset", (1, 2, 3)),
        "layout": Setting("channels_first", "choice", LAYOUTS),
        "empty_batch": Setting(True, "flag"),
    },
)

BATCHNORM = Contract(
    layer="batchnorm",
    arrays=("x", "gamma", "beta"),
    unnamed=1,
    options=(Option("eps", 1e-5), Option("training", True), Option("momentum", 0.1)),
    state=("running_mean", "running_var"),
    nonnegative=("running_var",),
    settings={
        "spatial_dims": Setting((0,), "subset", (0, 1, 2, 3)),
        "layout": Setting("channels_first", "choice", LAYOUTS),
        "eps": Setting(1e-5, "positive"),
        "fixed_momentum": Setting(0.1, "fraction"),
        "momentum": Setting("new", "choice", ("new", "old")),
        "running_var": Setting("unbiased", "choice", ("unbiased", "biased")),
        "parameters": Setting("same", "choice", ("same", "float32")),
        "empty_batch": Setting(False, "flag"),
    },
)

CONTRACTS = (LINEAR, CONV, BATCHNORM)
