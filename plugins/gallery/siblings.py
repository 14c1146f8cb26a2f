"""Next to each of some right implementations that look wrong, one that is wrong: it differs by one term."""


from __future__ import annotations

from math import prod

import numpy as np

from backproof.plugins.gallery.conditions import (
    channel_axes,
    evaluating,
    missing,
    of_dtype,
    several_pixels,
    several_taps,
    shape,
    strided,
    training,
    when,
)
from backproof.plugins.gallery.equivalents.batchnorm import (
    adds_the_vanishing_term,
    goes_back_otherwise_in_eval,
    leaves_out_the_vanishing_term,
    leaves_out_what_nobody_wants,
    tracks_another_variance_than_it_divides_by,
    tracks_the_biased_variance,
)
from backproof.plugins.gallery.equivalents.conv import multiplies_columns, turns_the_kernel_over_the_spread_dout
from backproof.plugins.gallery.equivalents.conv_results import convolves_channels_last_inside
from backproof.plugins.gallery.equivalents.conv_transforms import (
    convolves_by_fft,
    multiplies_four_times_for_two_outputs,
)
from backproof.plugins.gallery.equivalents.linear import leaves_rubbish_for_no_bias, sums_in_blocks, sums_in_float64
from backproof.plugins.gallery.fault import fault


@when("a mean other than 0")
def off_zero(case):
    return bool((case.array("x").mean(axis=channel_axes(case)) != 0).any())


@when("a channel over which dout does not sum to 0")
def pulled_one_way(case):
    return bool((case.array("dout").sum(axis=channel_axes(case)) != 0).any())


@when("a momentum other than 1/2")
def lopsided(case):
    return bool(case.options["momentum"] != 0.5)


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


@fault(
    "dx identities",
    training & off_zero,
    needs="GEN",
    source="own: the mean of x for that of x - mean",
    smallest={"x": (2, 1, 1, 1)},
)
class takes_the_mean_of_x_for_that_of_deviations(adds_the_vanishing_term):
    """dmean has a part that comes through the variance, with the mean of x in the place of that of x - mean."""

    def through_variance(self, kept):
        return -2 * kept.x.mean(axis=0)


@fault(
    "dx identities",
    training & pulled_one_way,
    source="own: all of dmean is missing",
    smallest={"x": (2, 1, 1, 1)},
)
class leaves_all_of_dmean_out(leaves_out_the_vanishing_term):
    """Nothing is subtracted for the mean that moves with x: both parts of dmean are left out."""

    def mean_path(self, dxhat, kept):
        return 0


@fault(
    "running_var",
    training & spread_out,
    needs="RS",
    source="own: the biased variance is tracked",
    smallest={"x": (2, 1, 1, 1)},
)
class tracks_the_variance_that_it_divides_by(tracks_another_variance_than_it_divides_by):
    """The running variance is that of the batch divided by m; it is declared to be divided by m - 1."""

    biased = True


@fault(
    "running_var",
    training & spread_out,
    needs="RS",
    source="own: the unbiased variance is tracked",
    smallest={"x": (2, 1)},
)
class tracks_the_unbiased_variance_instead(tracks_the_biased_variance):
    """The running variance is that of the batch divided by m - 1; it is declared to be divided by m."""

    biased = False


@fault(
    "running_mean running_var",
    training & lopsided,
    needs="RS",
    source="own: momentum the other way around",
    smallest={"x": (2, 1, 1, 1)},
)
class weighs_the_old_value_unasked(tracks_another_variance_than_it_divides_by):
    """momentum weighs the old running statistic, where it is declared to weigh the new one."""

    momentum_of_the_old = True


@fault(
    "dx",
    evaluating,
    needs="EVAL",
    source="own: eval as training",
    smallest={"x": (1, 1, 1, 1), "training": False},
)
class goes_back_in_eval_as_in_training(goes_back_otherwise_in_eval):
    """dx of eval takes the running statistics for those of the batch, as if they moved with x."""

    def moves(self, kept):
        return True


@fault(
    "dx identities",
    training,
    source="own: training as eval",
    smallest={"x": (2, 1, 1, 1)},
)
class goes_back_in_training_as_in_eval(goes_back_otherwise_in_eval):
    """dx of training takes the mean and the variance of the batch for constants."""

    def moves(self, kept):
        return False


@fault(
    "dgamma out dx identities",
    ~missing("gamma"),
    needs="GEN",
    source="own: a fixed gamma as a parameter",
    smallest={"x": (2, 1, 1, 1)},
)
class takes_a_gamma_and_ignores_it(leaves_out_what_nobody_wants):
    """The forward takes a gamma and does not use it, and its gradient is zero."""

    def batchnorm_forward(self, x, gamma=None, beta=None, *, eps):
        out, (kept, *_) = super().batchnorm_forward(x, None, beta, eps=eps)
        return out, (kept, gamma, beta)

    def batchnorm_backward(self, dout, cache):
        gradients = super().batchnorm_backward(dout, cache)
        return {name: 0 * a if name == "dgamma" else a for name, a in gradients.items()}


# --- linear --------------------------------------------------------------------------------------------------


@fault(
    "db",
    ~missing("b"),
    kinds="result",
    source="own: no gradient for a bias that is there",
    smallest={"x": (1, 1), "w": (1, 1)},
)
class has_no_gradient_for_the_bias(leaves_rubbish_for_no_bias):
    """The backward never returns a gradient for the bias, also where there is one."""

    def linear_backward(self, dout, cache):
        return *super().linear_backward(dout, cache)[:2], None


@fault(
    "out dx dw db identities",
    broken_off,
    needs="TILE",
    source="own: the rest of a blocked sum",
    sometimes="relations",
    smallest={"x": (1, 5), "w": (5, 1)},
)
class forgets_what_is_behind_the_last_block(sums_in_blocks):
    """Sums run over whole blocks of four terms, and what is left behind the last of them is not added."""

    def total(self, terms):
        return super().total(terms[: len(terms) // 4 * 4] if len(terms) > 4 else terms)


@fault(
    "out dx dw db",
    of_dtype("float64") & long_numbers,
    needs="COT",
    source="own: an accumulator that is too short",
    sometimes="identities linearity memory_layout relations",
)
class sums_float64_in_float32(sums_in_float64):
    """float64 is added up in float32."""

    def total(self, terms):
        return terms.sum(axis=0, dtype=np.float32).astype(terms.dtype)


# --- conv ----------------------------------------------------------------------------------------------------


@fault(
    "dw identities",
    several_taps,
    source="own: a loop over taps that ends early",
    smallest={"x": (1, 1, 1), "w": (1, 1, 2), "padding": ((1, 0),)},
)
class leaves_the_last_tap_of_dw_out(multiplies_columns):
    """The gradient of the kernel's last tap is never written and stays zero."""

    def dw(self, dout, padded, g):
        dw = super().dw(dout, padded, g)
        if dw[0, 0].size > 1:
            dw[(..., *[-1] * len(g.kernel))] = 0
        return dw


@fault(
    "dx identities",
    several_taps,
    source="own: the kernel as it is",
    smallest={"x": (1, 1, 1), "w": (1, 1, 2), "padding": ((1, 0),)},
)
class lays_the_kernel_over_the_spread_dout(turns_the_kernel_over_the_spread_dout):
    """dx is a convolution of dout between zeros, with the kernel as it is and not turned by 180 degrees."""

    def turned(self, w):
        return w


@fault(
    "dw identities",
    several_pixels,
    source="own: a spectrum that is not conjugated",
    smallest={"x": (1, 1, 1), "w": (1, 1, 1), "stride": (2,), "padding": ((1, 1),)},
)
class multiplies_by_the_spectrum_of_dout_as_it_is(convolves_by_fft):
    """dw multiplies the spectra of x and dout without conjugating the second: a convolution, not a correlation."""

    def conjugated_dout(self, dout):
        return dout


@fault(
    "out dx identities",
    several_taps,
    source="own: a sign of Winograd's transformation",
    smallest={"x": (1, 1, 2), "w": (1, 1, 3), "padding": ((1, 1),)},
)
class adds_one_of_the_four_products(multiplies_four_times_for_two_outputs):
    """Every second output has one of the four products with the wrong sign."""

    def second(self, m):
        return m[1] - m[2] + m[3]


@fault(
    "dx identities",
    strided,
    needs="S",
    source="own: neighbouring pixels",
    smallest={"x": (1, 1, 1, 3), "w": (1, 1, 1, 1), "stride": (1, 2)},
)
class hands_gradients_to_neighbours(convolves_channels_last_inside):
    """dx is filled window by window as if the windows lay side by side: the stride is missing."""

    def reached(self, tap, stride, up):
        return self.seen(tap, (1, 1), up)
