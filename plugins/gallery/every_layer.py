"""Mistakes that a layer of any kind can make with what it keeps from one call to the next, each written once.

A fault derives from one of them and then from the right implementation that it changes; what the mistake concerns is
said in the class statement:

    class returns_dx_in_a_workspace(ReturnsAWorkspace, Plain, gradient=0)
"""

from __future__ import annotations

from functools import partial, wraps

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
            for step, around in (("forward", cls.forward_around), ("backward", cls.backward_around)):
                name = f"{layer}_{step}"
                setattr(cls, name, between(getattr(cls, name), around))

    def forward_around(self, forward, *arguments, **options):
        out, cache, *statistics = forward(*arguments, **options)
        return out, self.cached(cache), *statistics

    def backward_around(self, backward, dout, cache):
        return self.back(partial(backward, dout), cache)

    def cached(self, cache):
        """What is handed out as the cache."""
        return cache

    def back(self, backward, cache):
        """The gradients; `backward` gives the right ones of a right cache."""
        return backward(cache)


def between(right, around):
    """A method with the signature of the right one, which it hands on."""

    @wraps(right)
    def method(self, *arguments, **options):
        return around(self, partial(right, self), *arguments, **options)

    return method


def part_of(cache, part):
    return getattr(cache, part) if isinstance(part, str) else cache[part]


def with_part(cache, part, value):
    """The cache with one of its parts exchanged."""
    return cache._replace(**{part: value}) if isinstance(part, str) else (*cache[:part], value, *cache[part + 1 :])


class EmptiesItsCache(EveryLayer):
    """The backward takes what it needs out of the cache."""

    def cached(self, cache):
        return [cache]

    def back(self, backward, cache):
        return backward(cache.pop())


class AddsToTheLastBackward(EveryLayer):
    """A gradient is added to that of the last backward on the same cache, which is turned around along some axes."""

    turned = ()

    def cached(self, cache):
        return [cache, None]

    def back(self, backward, cache):
        gradients = list(backward(cache[0]))
        if cache[1] is not None:
            gradients[self.gradient] = np.flip(cache[1], self.turned) + gradients[self.gradient]
        cache[1] = gradients[self.gradient].copy()
        return gradients


class ClearsTheDxThatItReturned(EveryLayer):
    """The cache holds one array for dx, which every backward clears, fills and returns."""

    def cached(self, cache):
        return [cache, None]

    def back(self, backward, cache):
        dx, *others = backward(cache[0])
        if cache[1] is None:
            cache[1] = np.empty_like(dx)
        cache[1].fill(0)
        cache[1] += dx
        return cache[1], *others


class ReturnsAWorkspace(EveryLayer):
    """A gradient is a view of a workspace of the object, which the next backward writes to."""

    workspace = np.zeros(0)

    def back(self, backward, cache):
        gradients = list(backward(cache))
        right = gradients[self.gradient]
        if self.workspace.size < right.size:
            self.workspace = np.zeros(right.size)
        view = gradients[self.gradient] = self.workspace[: right.size].reshape(right.shape)
        view[...] = right
        return gradients


class KeptOnTheObject(EveryLayer):
    """A part of the cache is kept on the object, where the next forward replaces it."""

    def cached(self, cache):
        self.last = part_of(cache, self.part)
        return cache

    def back(self, backward, cache):
        return backward(with_part(cache, self.part, self.last))


class KeptInOneBuffer(EveryLayer):
    """A part of the cache lies in a buffer of the object, which the next forward of the same shape fills again."""

    def cached(self, cache):
        self.buffers = getattr(self, "buffers", {})
        right = part_of(cache, self.part)
        buffer = self.buffers.setdefault(right.shape, np.zeros_like(right))
        buffer[...] = right
        return with_part(cache, self.part, buffer)


class ReadFromItsBuffer(EveryLayer):
    """The backward reads a part of the cache without regard to its strides."""

    def back(self, backward, cache):
        return backward(with_part(cache, self.part, as_it_lies(part_of(cache, self.part))))
