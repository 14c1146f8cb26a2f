"""Mistakes that a layer of any kind can make with what it keeps from one call to the next, each written once.

A fault derives from one of them and then from the right implementation that it changes; what the mistake concerns is
said in the class statement:

    class returns_dx_in_a_workspace(ReturnsAWorkspace, Plain, gradient=0)
"""

from __future__ import annotations

from functools import wraps

import numpy as np

from backproof.plugins.gallery.fault import layers_of
from backproof.plugins.gallery.memory import as_it_lies


class EveryLayer:
    """Comes between the caller and the forward and backward of the right implementation behind it."""

    def __init_subclass__(cls, **settings):
        super().__init_subclass__()
        for name, value in settings.items():
            setattr(cls, name, value)
        for layer in layers_of(cls):
            setattr(cls, f"{layer}_forward", forward_around(getattr(cls, f"{layer}_forward")))
            setattr(cls, f"{layer}_backward", backward_around(getattr(cls, f"{layer}_backward")))

    def cached(self, cache):
        """What is handed out as the cache."""
        return cache

    def back(self, right, cache):
        """The gradients as a list; `right` gives the right ones of a right cache."""
        return right(cache)


def forward_around(right):
    @wraps(right)
    def forward(self, *arguments, **options):
        out, cache, *statistics = right(self, *arguments, **options)
        return out, self.cached(cache), *statistics

    return forward


def backward_around(right):
    @wraps(right)
    def backward(self, dout, cache):
        return self.back(lambda right_cache: list(right(self, dout, right_cache)), cache)

    return backward


def part_of(cache, part):
    return getattr(cache, part) if isinstance(part, str) else cache[part]


def with_part(cache, part, value):
    """The cache with one of its parts exchanged."""
    return cache._replace(**{part: value}) if isinstance(part, str) else (*cache[:part], value, *cache[part + 1 :])


class EmptiesItsCache(EveryLayer):
    """The backward takes what it needs out of the cache."""

    def cached(self, cache):
        return [cache]

    def back(self, right, cache):
        return right(cache.pop())


class AddsToTheLastBackward(EveryLayer):
    """A gradient is added to that of the last backward on the same cache, which is turned around along some axes."""

    turned = ()

    def cached(self, cache):
        return [cache, None]

    def back(self, right, cache):
        gradients, last = right(cache[0]), cache[1]
        if last is not None:
            gradients[self.gradient] = np.flip(last, self.turned) + gradients[self.gradient]
        cache[1] = gradients[self.gradient].copy()
        return gradients


class ClearsTheDxThatItReturned(EveryLayer):
    """The cache holds one array for dx, which every backward clears, fills and returns."""

    def cached(self, cache):
        return cache, []

    def back(self, right, cache):
        cache, held = cache
        dx, *others = right(cache)
        held += [] if held else [np.empty_like(dx)]
        held[0].fill(0)
        held[0] += dx
        return held[0], *others


class ReturnsAWorkspace(EveryLayer):
    """A gradient is a view of a workspace of the object, which the next backward writes to."""

    workspace = np.zeros(0)

    def back(self, right, cache):
        gradients = right(cache)
        gradient = gradients[self.gradient]
        if self.workspace.size < gradient.size:
            self.workspace = np.zeros(gradient.size)
        gradients[self.gradient] = self.workspace[: gradient.size].reshape(gradient.shape)
        gradients[self.gradient][...] = gradient
        return gradients


class KeptOnTheObject(EveryLayer):
    """A part of the cache is kept on the object, where the next forward replaces it."""

    def cached(self, cache):
        self.last = part_of(cache, self.part)
        return cache

    def back(self, right, cache):
        return right(with_part(cache, self.part, self.last))


class KeptInOneBuffer(EveryLayer):
    """A part of the cache lies in a buffer of the object, which the next forward of the same shape fills again."""

    def cached(self, cache):
        self.buffers = getattr(self, "buffers", {})
        part = part_of(cache, self.part)
        buffer = self.buffers.setdefault(part.shape, np.zeros_like(part))
        buffer[...] = part
        return with_part(cache, self.part, buffer)


class ReadFromItsBuffer(EveryLayer):
    """The backward reads a part of the cache without regard to its strides."""

    def back(self, right, cache):
        return right(with_part(cache, self.part, as_it_lies(part_of(cache, self.part))))
