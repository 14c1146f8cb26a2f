"""Next to each of some right implementations that look wrong, one that is wrong: it differs by one term."""

from __future__ import annotations

from math import prod

import numpy as np

from backproof.plugins.gallery.batchnorm.gradients import centred_elsewhere
from backproof.plugins.gallery.conditions import (
    channel_axes,
    of_dtype,
    several_pixels,
    several_taps,
    shape,
    training,
    when,
)
from backproof.plugins.gallery.equivalents.batchnorm import adds_the_vanishing_term, tracks_the_biased_variance
from backproof.plugins.gallery.equivalents.conv import multiplies_columns, turns_the_kernel_over_the_spread_dout
from backproof.plugins.gallery.equivalents.conv_transforms import (
    convolves_by_fft,
    multiplies_four_times_for_two_outputs,
)
from backproof.plugins.gallery.equivalents.linear import sums_in_blocks, sums_in_float64
from backproof.plugins.gallery.fault import fault


@when("a sum of five terms or more, no multiple of four, in the case or without its first sample")
def broken_off(case):
    (batch, *leading, inputs), outputs = shape(case, "x"), shape(case, "w")[-1]
    sums = inputs, outputs, batch * prod(leading), (batch - 1) * prod(leading), prod(leading)
    return any(terms > 4 and terms % 4 for terms in sums)


@when("a channel with variance")
def spread_out(case):
    return bool((np.ptp(case.array("x"), axis=channel_axes(case)) > 0).any() and case.options["momentum"] > 0)


@when("a number that float32 does not hold")
def long_numbers(case):
    return any((a != a.astype(np.float32)).any() for a in case.arrays.values() if a is not None)


# --- batch norm ----------------------------------------------------------------------------------------------


@fault("dx identities", training & centred_elsewhere, source="own: the mean of x for that of x - mean")
class takes_the_mean_of_x_for_that_of_deviations(adds_the_vanishing_term):
    """dmean has a part that comes through the variance, with the mean of x in the place of that of x - mean."""

    def through_variance(self, kept):
        return -2 * kept.x.mean(axis=0)


@fault("running_var", training & spread_out, source="own: the unbiased variance is tracked")
class tracks_the_unbiased_variance_instead(tracks_the_biased_variance):
    """The running variance is that of the batch divided by m - 1; it is declared to be divided by m."""

    biased = False


# --- linear --------------------------------------------------------------------------------------------------


@fault("out dx dw db identities", broken_off, source="own: the rest of a blocked sum")
class forgets_what_is_behind_the_last_block(sums_in_blocks):
    """Sums run over whole blocks of four terms, and what is left behind the last of them is not added."""

    def total(self, terms):
        return super().total(terms[: len(terms) // 4 * 4] if len(terms) > 4 else terms)


@fault("out dx dw db", of_dtype("float64") & long_numbers, source="own: an accumulator that is too short")
class sums_float64_in_float32(sums_in_float64):
    """float64 is added up in float32."""

    def total(self, terms):
        return terms.sum(axis=0, dtype=np.float32).astype(terms.dtype)


# --- conv ----------------------------------------------------------------------------------------------------


@fault("dw identities", several_taps, source="own: a loop over taps that ends early")
class leaves_the_last_tap_of_dw_out(multiplies_columns):
    """The gradient of the kernel's last tap is never written and stays zero."""

    def dw(self, dout, padded, g):
        dw = super().dw(dout, padded, g)
        if dw[0, 0].size > 1:
            dw[(..., *[-1] * len(g.kernel))] = 0
        return dw


@fault("dx identities", several_taps, source="own: the kernel as it is")
class lays_the_kernel_over_the_spread_dout(turns_the_kernel_over_the_spread_dout):
    """dx is a convolution of dout between zeros, with the kernel as it is and not turned by 180 degrees."""

    def turned(self, w):
        return w


@fault("dw identities", several_pixels, source="own: a spectrum that is not conjugated")
class multiplies_by_the_spectrum_of_dout_as_it_is(convolves_by_fft):
    """dw multiplies the spectra of x and dout without conjugating the second: a convolution, not a correlation."""

    def conjugated_dout(self, dout):
        return dout


@fault("out dx identities", several_taps, source="own: a sign of Winograd's transformation")
class adds_one_of_the_four_products(multiplies_four_times_for_two_outputs):
    """Every second output has one of the four products with the wrong sign."""

    def second(self, m):
        return m[1] - m[2] + m[3]
