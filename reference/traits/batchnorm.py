"""Facts about a case of batch norm: its sizes and modes, and the numbers of its channels."""

from __future__ import annotations

from math import prod

import numpy as np

from backproof.conformance.spec.case import Case, Configuration
from backproof.conformance.spec.traits import Facts, Traits, compared, numbers_of, of_dout

#: A mean this many standard deviations away from zero is far.
FAR = 10.0


def _of_configuration(configuration: Configuration) -> Facts:
    batch, channels, *pixels = configuration.shape("x")
    options, elements = configuration.options, batch * prod(pixels)
    sizes = {"elements a channel": elements, "batch": batch, "channels": channels}
    facts: dict[str, bool | int | float] = {"training": bool(options["training"]), "eval": not options["training"]}
    facts |= sizes
    facts["pixels"] = prod(pixels)
    names = {0: (), 1: ("length",), 2: ("rows", "columns"), 3: ("slices", "rows", "columns")}[len(pixels)]
    of_pixels = {f"{name} of pixels": size for name, size in zip(names, pixels, strict=True)}
    facts |= of_pixels
    facts |= {f"{count} spatial axes": len(pixels) == count for count in range(4)}
    facts["spatial axes"] = len(pixels)
    facts |= {
        "eps = 1e-5": options["eps"] == 1e-5,
        "eps != 1e-5": options["eps"] != 1e-5,
        "eps < 1e-5": options["eps"] < 1e-5,
        "eps = 0": options["eps"] == 0,
        "eps <= 0": options["eps"] <= 0,
        **{f"momentum != {m}": options["momentum"] != m for m in (0.1, 0.5, 0.9)},
        **{f"momentum = {m}": options["momentum"] == m for m in (0.1, 0.5, 0.9)},
        "one element a channel": elements == 1,
        "an empty batch": batch == 0,
        "several images": batch > 1 and len(pixels) > 0,
        "single pixels": len(pixels) > 0 and prod(pixels) == 1,
    }
    facts["eps"] = float(options["eps"])
    facts |= compared({**sizes, **of_pixels}, ("batch", "channels", *of_pixels))
    facts["entries of x"] = elements * channels
    facts |= of_dout(configuration.shape("dout"), configuration.shape("x"))
    return facts


def _of_numbers(case: Case) -> Facts:
    facts: dict[str, bool | int | float] = dict(numbers_of(case.wide))
    x, dout = case.array("x"), case.array("dout")
    if not x.size or x.shape != dout.shape:
        return facts
    rest = (0, *range(2, x.ndim))
    mean = x.mean(axis=rest)
    from_mean = x - x.mean(axis=rest, keepdims=True)
    var = np.square(from_mean).mean(axis=rest)
    eps, gamma, training = case.options["eps"], case.wide.get("gamma"), case.options["training"]
    used_mean, used_var = (mean, var) if training else (case.array("running_mean"), case.array("running_var"))
    sum_dout, sum_dout_x = dout.sum(axis=rest), (from_mean * dout).sum(axis=rest)
    flat = np.ptp(x, axis=rest) == 0
    std = np.sqrt(var)
    facts |= {
        "a channel with variance": not bool(flat.all()),
        "a channel without variance": bool(flat.any() if training else (used_var == 0).any()),
        "every channel without variance": bool(flat.all()),
        "a mean other than 0": bool(mean.any()),
        "a variance other than 1": bool((var + eps != 1).any()),
        "a normalizing mean other than 0": bool(used_mean.any()),
        "a normalizing variance other than 1": bool((used_var + eps != 1).any()),
        "a channel with sum(dout) other than 0": bool(sum_dout.any()),
        "a channel with sum(dout xhat) other than 0": bool(sum_dout_x.any()),
        f"|mean| > {FAR:g} std": bool((np.abs(mean) > FAR * std).any()),
        "statistics that float32 rounds": any(bool((a.astype(np.float32) != a).any()) for a in (mean, var)),
        "a running variance that float16 does not hold": bool(
            "running_var" in case.wide and (case.array("running_var") >= 65520).any()
        ),
        "parameters of another dtype than x": any(
            a is not None and a.dtype != case.precision.dtype for a in case.arrays.values()
        ),
        "largest |mean| / std": float((np.abs(mean) / np.maximum(std, 1e-300)).max()),
    }
    if gamma is not None and gamma.shape == sum_dout.shape:
        facts["a channel with sum(dout) and gamma other than 0"] = bool((sum_dout * gamma).any())
        facts["a channel with sum(dout xhat) and gamma other than 0"] = bool((sum_dout_x * gamma).any())
    return facts


TRAITS = Traits(_of_configuration, _of_numbers)
