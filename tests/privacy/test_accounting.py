"""Known answers: Opacus' and Google's own tests, and values published with them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from utils.privacy import (
    ACCOUNTANTS,
    Release,
    epsilon,
    epsilon_of,
    gaussian_epsilon,
    gaussian_sigma,
    noise_multiplier_for,
)


@pytest.mark.parametrize(
    ("z", "q", "rounds", "delta", "accountant", "expected", "tolerance"),
    [
        (1.5, 0.04, 2250, 1e-5, "opacus-rdp", 7.32911117143, 1e-9),
        (1.5, 0.04, 2249, 1e-5, "opacus-prv", 6.7773957, 1e-4),
        (1.1, 256 / 60000, 14_063, 1e-5, "rdp", 2.5967, 1e-4),
        (1.1, 256 / 60000, 14_063, 1e-5, "pld", 2.3818, 1e-4),
        (1.1, 256 / 60000, 14_063, 1e-5, "opacus-prv", 2.3918, 1e-4),
        (1.0, 0.01, 1000, 1e-5, "rdp", 2.1014, 1e-4),
        (1.0, 0.01, 1000, 1e-5, "pld", 1.8282, 1e-4),
        (1.0, 0.01, 1000, 1e-5, "opacus-prv", 1.8384, 1e-4),
        (1.0, 0.1, 100, 1e-5, "rdp", 7.904, 1e-3),
        (1.0, 0.1, 100, 1e-5, "pld", 7.047, 1e-3),
        (1.0, 0.1, 100, 1e-5, "opacus-prv", 7.057, 1e-3),
        (1.0, 1.0, 1, 1e-5, "rdp", 4.7285, 1e-4),
        (1.0, 1.0, 1, 1e-5, "pld", 4.3772, 1e-4),
        (1.0, 1.0, 1, 1e-5, "opacus-prv", 4.3874, 1e-4),
        (4.530877117, 1.0, 1, 1e-6, "rdp", 1.0, 1e-5),
        (1.0, 0.1, 50, 1e-3, "pld", 3.31, 5e-3),
    ],
)
def test_known_answers(z, q, rounds, delta, accountant, expected, tolerance):
    assert epsilon(z, q, rounds, delta, accountant) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("target", "expected"), [(1.0, 3.7306), (5.0, 0.8919)])
def test_the_analytic_gaussian_mechanism(target, expected):
    assert gaussian_sigma(target, 1e-5) == pytest.approx(expected, abs=1e-4)
    assert gaussian_epsilon(gaussian_sigma(target, 1e-5), 1e-5) == pytest.approx(target)


@given(st.floats(0.3, 20), st.integers(1, 500))
def test_local_releases_meet_the_formula_of_balle_and_wang(z, releases):
    eps, sigma = gaussian_epsilon(z, 1e-5, releases), z / math.sqrt(releases)
    left = norm.cdf(1 / (2 * sigma) - eps * sigma)
    right = norm.logcdf(-1 / (2 * sigma) - eps * sigma)
    assert left - math.exp(eps + right) == pytest.approx(1e-5, rel=1e-3)


def test_without_sampling_pld_agrees_with_the_exact_composition():
    assert epsilon(2.0, 1.0, 10, 1e-5) == pytest.approx(gaussian_epsilon(2.0, 1e-5, 10), rel=1e-3)


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_more_noise_less_sampling_and_fewer_rounds_cost_less(accountant):
    base = epsilon(1.0, 0.1, 20, 1e-5, accountant)
    assert epsilon(1.5, 0.1, 20, 1e-5, accountant) < base
    assert epsilon(1.0, 0.05, 20, 1e-5, accountant) < base
    assert epsilon(1.0, 0.1, 10, 1e-5, accountant) < base
    assert epsilon(1.0, 0.1, 20, 1e-4, accountant) < base


@pytest.mark.parametrize("z", [0.02, 0.1, 0.45])
def test_little_noise_is_accounted_on_a_coarser_grid_and_still_bounded(z):
    """On the library's own grid the first takes five minutes."""
    sampled, unsampled = epsilon(z, 0.2, 8, 1e-3), epsilon(z, 1.0, 8, 1e-3)
    assert sampled < unsampled
    assert sampled < epsilon(z, 0.2, 8, 1e-3, "rdp")
    if z == 0.02:
        assert sampled == pytest.approx(7387.57, rel=1e-4)  # on the fine grid


@pytest.mark.parametrize("z", [1e-4, 1e-9])
def test_hardly_any_noise_has_an_epsilon_too(z):
    sampled = epsilon(z, 0.02, 4, 1e-3)
    assert 1e6 < sampled <= epsilon(z, 1.0, 4, 1e-3)


def test_sampling_amplifies():
    assert epsilon(1.0, 0.1, 50, 1e-3) < epsilon(1.0, 1.0, 50, 1e-3) / 5


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_the_edges(accountant):
    assert epsilon(0.0, 0.1, 5, 1e-5, accountant) == math.inf
    assert epsilon(1.0, 0.1, 0, 1e-5, accountant) == 0
    assert epsilon(1.0, 0.0, 5, 1e-5, accountant) == 0
    assert gaussian_epsilon(1.0, 1e-5, 0) == 0
    assert gaussian_epsilon(0.0, 1e-5) == math.inf


@settings(max_examples=3, deadline=None)
@given(st.floats(0.5, 8.0), st.sampled_from([0.05, 0.2, 1.0]), st.integers(1, 60))
def test_the_noise_for_a_target_reaches_it_and_hardly_more(target, q, rounds):
    z = noise_multiplier_for(target, q, rounds, 1e-5, "rdp")
    assert epsilon(z, q, rounds, 1e-5, "rdp") <= target
    assert epsilon(z * 0.998, q, rounds, 1e-5, "rdp") > target


def test_the_noise_for_a_target_with_the_default_accountant():
    z = noise_multiplier_for(2.0, 0.1, 50, 1e-3)
    assert 1.99 < epsilon(z, 0.1, 50, 1e-3) <= 2.0


def test_accounting_is_quiet(capfd, recwarn, caplog):
    for accountant in ACCOUNTANTS:
        epsilon(1.0, 0.1, 100, 1e-5, accountant)
        epsilon(20.0, 0.9, 1, 1e-2, accountant)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert not caplog.records


@pytest.mark.parametrize("accountant", ["pld", "rdp", "opacus-rdp"])
def test_epsilon_is_never_negative(accountant):
    assert epsilon(20.0, 0.1, 1, 0.5, accountant) == 0  # Opacus says -0.69


def test_an_accountant_that_cannot_tell_is_named(monkeypatch):
    get = "opacus.accountants.PRVAccountant.get_epsilon"
    monkeypatch.setattr(get, lambda self, delta: math.inf)  # as it says for z = 0.02
    with pytest.raises(ValueError, match=r"PRVAccountant cannot tell.*0.02, 0.2, 8.*'pld'"):
        epsilon(0.02, 0.2, 8, 1e-5, "opacus-prv")

    def fail(self, delta):
        raise RuntimeError("Discrete mean differs significantly from continuous mean.")

    monkeypatch.setattr(get, fail)
    with pytest.raises(ValueError, match=r"PRVAccountant cannot tell.*Discrete mean.*'pld'"):
        epsilon(1.0, 0.2, 8, 1e-5, "opacus-prv")


@pytest.mark.parametrize("accountant", ["pld", "rdp", "opacus-rdp"])
def test_different_releases_add_up(accountant):
    together = epsilon_of([Release(1.0, 0.1, 20), Release(2.0, 0.1, 20)], 1e-5, accountant)
    assert epsilon(2.0, 0.1, 40, 1e-5, accountant) < together
    assert together < epsilon(1.0, 0.1, 40, 1e-5, accountant)
    twice = epsilon_of([Release(1.0, 0.1, 20)] * 2, 1e-5, accountant)
    assert twice == epsilon(1.0, 0.1, 40, 1e-5, accountant)
    mixed = epsilon_of([Release(1.0, 0.1, 20), Release(3.0)], 1e-5, accountant)
    assert epsilon(1.0, 0.1, 20, 1e-5, accountant) < mixed < math.inf


def test_two_gaussian_releases_are_one_with_their_inverse_squares_added():
    both = epsilon_of([Release(3.0), Release(4.0)], 1e-5)
    assert both == pytest.approx(gaussian_epsilon(2.4, 1e-5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 0.1, 5, 1e-5), "noise_multiplier is -1.0"),
        ((math.nan, 0.1, 5, 1e-5), "noise_multiplier is nan"),
        (
            (1.0, 1.1, 5, 1e-5),
            "sampling_rate is 1.1; it must be a finite number at least 0",
        ),
        ((1.0, -0.1, 5, 1e-5), "sampling_rate is -0.1"),
        ((1.0, 0.1, 2.5, 1e-5), "rounds is 2.5; it must be a whole number"),
        ((1.0, 0.1, -1, 1e-5), "rounds is -1"),
        ((1.0, 0.1, 5, 0), "delta is 0; it must be a finite number above 0 and below 1"),
        ((1.0, 0.1, 5, 1), "delta is 1"),
        ((1.0, 0.1, 5, 1e-5, "moments"), "accountant is 'moments'; it must be one of: 'pld'"),
    ],
)
def test_values_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        epsilon(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_multiplier_for(0, 0.1, 5, 1e-5), "target_epsilon is 0"),
        (lambda: noise_multiplier_for(1.0, 0.1, 0, 1e-5), "nothing is released"),
        (lambda: noise_multiplier_for(1.0, 0.0, 5, 1e-5), "nothing is released"),
        (lambda: noise_multiplier_for(1e-5, 1.0, 1, 1e-12), "no noise multiplier up to 10,000"),
        (lambda: gaussian_sigma(-1.0, 1e-5), "target_epsilon is -1.0"),
        (lambda: gaussian_sigma(1.0, 2.0), "delta is 2.0"),
        (lambda: gaussian_epsilon(1.0, 1e-5, -3), "rounds is -3"),
    ],
)
def test_calls_that_make_no_sense_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_epsilon_bounds_what_a_gaussian_really_reveals():
    """P[out in S] <= e^eps P'[out in S] + delta for the most revealing half-lines S."""
    z, delta = 1.3, 1e-3
    eps = epsilon(z, 1.0, 1, delta)
    cuts = np.linspace(-8, 8, 400)
    gap = norm.sf(cuts, loc=1, scale=z) - math.exp(eps) * norm.sf(cuts, scale=z)
    assert gap.max() <= delta * (1 + 1e-6)
    assert gap.max() >= delta * 0.99  # and is tight
