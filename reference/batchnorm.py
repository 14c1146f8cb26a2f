"""Batch norm: xhat = (x - mean) / sqrt(var + eps), out = gamma * xhat + beta, for every channel by itself.

In training mean and var are those of the batch, over all axes but the channels', var the biased one; in eval they are
the running statistics and constants of the differentiation. With m elements a channel and sums over them,

    dbeta = sum dout        dgamma = sum dout * xhat
    dx = gamma / sqrt(var + eps) * (dout - dbeta / m - xhat * dgamma / m)        in training
    dx = gamma / sqrt(var + eps) * dout                                          in eval

(Ioffe and Szegedy, Batch Normalization, 2015, algorithm 1 and the equations of section 3, with the path through the
mean worked in.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array, Case, Configuration
from backproof.conformance.spec.layer import Identity, Program, Space
from backproof.conformance.spec.mistake import Mistake
from backproof.conformance.spec.probe import Probe
from backproof.conformance.spec.traits import Traits
from backproof.reference import batchnorm_algebra, conditioning, coordinates, invalid_cases
from backproof.reference.batchnorm_cases import BatchNormCases, elements_a_channel
from backproof.reference.bilinear import fitting, padded


class BatchNorm(BatchNormCases):
    """x is (N, C, *S), gamma, beta and the running statistics (C,); `rank` is the number of spatial axes.

    Beside the items of every layer it has identities, stability, edges (an empty batch, one element a channel) and
    rejection; linearity is one of every layer's. It has no relations: a part of the batch has other statistics.
    """

    def updates_state(self, case: Case) -> bool:
        """In training."""
        return bool(case.options["training"])

    def evaluate(self, case: Case) -> dict[str, Array]:
        """The formulas above."""
        x, gamma, beta, dout = case.array("x"), case.wide.get("gamma"), case.wide.get("beta"), case.array("dout")
        axes, column = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
        options, m = case.options, elements_a_channel(case.configuration)
        running_mean, running_var = case.wide.get("running_mean"), case.wide.get("running_var")
        tensors: dict[str, Array] = {}
        if options["training"] and m == 0:
            mean, var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
            if running_mean is not None and running_var is not None:
                tensors |= {"running_mean": running_mean, "running_var": running_var}
        elif options["training"]:
            mean = x.sum(axis=axes) / m
            var = np.square(x - mean.reshape(column)).sum(axis=axes) / m
            if running_mean is not None and running_var is not None:
                new = options["momentum"] if options["weighs"] == "new" else 1 - options["momentum"]
                bessel = m / max(m - 1, 1) if options["running_var"] == "unbiased" else 1.0
                tensors["running_mean"] = (1 - new) * running_mean + new * mean
                tensors["running_var"] = (1 - new) * running_var + new * bessel * var
        else:
            mean, var = case.array("running_mean"), case.array("running_var")
            tensors |= {"running_mean": mean, "running_var": var}
        scale = (1 / np.sqrt(var + options["eps"])).reshape(column)
        xhat = (x - mean.reshape(column)) * scale
        dbeta, dgamma = dout.sum(axis=axes), (dout * xhat).sum(axis=axes)
        dx = dout
        if options["training"] and m:
            dx = dout - dbeta.reshape(column) / m - xhat * (dgamma.reshape(column) / m)
        dx, out = scale * dx, xhat
        if gamma is not None:
            dx, out = gamma.reshape(column) * dx, gamma.reshape(column) * xhat
            tensors["dgamma"] = dgamma
        if beta is not None:
            out = out + beta.reshape(column)
            tensors["dbeta"] = dbeta
        return {"out": out, "dx": dx, **tensors}

    def tolerances(self, case: Case, expected: Mapping[str, Array], space: Space) -> dict[str, Array | float | None]:
        """Rounding errors carried through the formulas, see `conditioning`."""
        wide = space.settings["parameters"] == "float32" and space.precision.low
        return conditioning.tolerances(case, expected, wide_parameters=wide)

    def program(self, case: Case) -> Program:
        """x and dout as (C, m), padded; a mask says which elements are there."""
        x, gamma, beta, dout = case.array("x"), case.wide.get("gamma"), case.wide.get("beta"), case.array("dout")
        options, m, channels = case.options, elements_a_channel(case.configuration), x.shape[1]
        c, n = fitting(self.size_classes, (channels, m))
        moved = np.moveaxis(x, 1, 0)
        vectors = np.zeros((4, c))
        vectors[3] = 1.0
        for row, (name, plain) in enumerate(
            (("gamma", 1.0), ("beta", 0.0), ("running_mean", 0.0), ("running_var", 1.0))
        ):
            vector = case.wide.get(name)
            vectors[row, :channels] = plain if vector is None else vector
        mask = np.zeros((c, n))
        mask[:channels, :m] = 1.0
        new = options["momentum"] if options["weighs"] == "new" else 1 - options["momentum"]
        bessel = m / max(m - 1, 1) if options["running_var"] == "unbiased" else 1.0
        numbers = np.array([options["eps"], float(options["training"] and m > 0), new, max(m, 1), bessel])
        arguments = (
            padded(moved.reshape(channels, m), (c, n)),
            *vectors,
            mask,
            numbers,
            padded(np.moveaxis(dout, 1, 0).reshape(channels, m), (c, n)),
        )

        def unpack(outcome: Sequence[Array]) -> dict[str, Array]:
            out, running_mean, running_var, dx, dgamma, dbeta = outcome
            tensors = {
                name: np.moveaxis(a[:channels, :m].reshape(moved.shape), 0, 1) for name, a in (("out", out), ("dx", dx))
            }
            vectors = {
                "dgamma": (gamma, dgamma),
                "dbeta": (beta, dbeta),
                "running_mean": (case.wide.get("running_mean"), running_mean),
                "running_var": (case.wide.get("running_var"), running_var),
            }
            return tensors | {name: a[:channels] for name, (there, a) in vectors.items() if there is not None}

        return Program((c, n), arguments, unpack)

    def definition(
        self,
        x: Any,
        gamma: Any,
        beta: Any,
        running_mean: Any,
        running_var: Any,
        mask: Any,
        numbers: Any,
        dout: Any,
    ) -> Any:
        """out = gamma (x - mean) / sqrt(var + eps) + beta, with the statistics of the batch or the running ones."""
        import jax
        from jax import numpy as jnp

        eps, training, new, m, bessel = numbers

        def forward(x: Any, gamma: Any, beta: Any) -> Any:
            mean = jnp.sum(x * mask, axis=1) / m
            var = jnp.sum(((x - mean[:, None]) * mask) ** 2, axis=1) / m
            updated = (
                jnp.where(training > 0, (1 - new) * running_mean + new * mean, running_mean),
                jnp.where(training > 0, (1 - new) * running_var + new * bessel * var, running_var),
            )
            mean = jnp.where(training > 0, mean, running_mean)
            var = jnp.where(training > 0, var, running_var)
            xhat = (x - mean[:, None]) / jnp.sqrt(var + eps)[:, None]
            return gamma[:, None] * xhat + beta[:, None], updated

        out, pullback, updated = jax.vjp(forward, x, gamma, beta, has_aux=True)
        return (out, *updated, *pullback(dout))

    def identities(
        self, case: Case, tensors: Mapping[str, Array], tolerances: Mapping[str, Array | float]
    ) -> Iterator[Identity]:
        """In training, for every channel: sum(dx) = 0, sum(dx xhat) = gamma dgamma eps / (var + eps)^(3/2)."""
        return batchnorm_algebra.identities(case, tensors, tolerances)

    def extremes(self, space: Space) -> Iterator[Case]:
        """A mean of many standard deviations, and no variance at all."""
        return batchnorm_algebra.extremes(self, space)

    def invalid_cases(self, space: Space) -> Iterator[Case]:
        """An eps that is not positive, a size of zero that is not the batch's, dout of another shape."""
        return invalid_cases.batchnorm(self, space)

    def coordinates(self, tensor: str, case: Case) -> dict[str, Array]:
        """The names of the axes."""
        return coordinates.batchnorm(tensor, case)

    def axis_names(self, tensor: str, configuration: Configuration) -> tuple[str, ...]:
        """The letters of the literature."""
        return coordinates.batchnorm_axes(tensor, configuration)

    def unread(self, case: Case, tensor: str | None) -> frozenset[str]:
        """The running statistics in training, which are updated and decide nothing but themselves."""
        updates = case.options["training"] and tensor is not None and tensor not in self.contract.state
        return frozenset(self.contract.state if updates else ())

    def mistakes(self) -> Sequence[Mistake]:
        """The catalogue of mistakes."""
        from backproof.reference.mistakes import batchnorm as catalogue

        return catalogue.MISTAKES

    def probes(self) -> Sequence[Probe]:
        """Causes that only this layer can have."""
        from backproof.reference.probes import batchnorm as own

        return own.PROBES

    def traits(self) -> Traits:
        """Facts about its cases."""
        from backproof.reference.traits import batchnorm as vocabulary

        return vocabulary.TRAITS

    def permutation(self, tensor: str, dimensions: int, settings: Mapping[str, Any]) -> tuple[int, ...] | None:
        """ "channels_last" moves the channels behind the spatial axes."""
        if settings["layout"] == "channels_last" and dimensions > 2 and tensor in ("x", "dx", "out", "dout"):
            return (0, *range(2, dimensions), 1)
        return None


LAYER = BatchNorm()
