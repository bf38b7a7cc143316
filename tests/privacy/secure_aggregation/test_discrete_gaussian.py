"""Whole-number noise: its distribution, and what a sum of it is worth."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy.stats import chisquare

from tests.privacy.secure_aggregation.apps import federate
from utils.privacy import epsilon, gaussian_epsilon
from utils.privacy.secure_aggregation import DistributedNoise, Terms, discrete_gaussian
from utils.privacy.secure_aggregation.discrete_gaussian import _coin, _discrete_laplace


def probabilities(variance, reach):
    x = np.arange(-reach, reach + 1)
    p = np.exp(-(x**2) / (2 * variance))
    return x, p / p.sum()


def seeded(seed=0):
    return np.random.default_rng(seed).bytes


@pytest.mark.parametrize("variance", [0.1, 0.5, 1.0, 7.3, 100.0])
def test_each_number_comes_as_often_as_it_should(variance):
    drawn = discrete_gaussian(variance, 200_000, seeded())
    x, p = probabilities(variance, math.ceil(6 * math.sqrt(variance)) + 2)
    often = p * len(drawn) >= 5
    counts = np.array([(drawn == value).sum() for value in x[often]])
    rest = len(drawn) - counts.sum()
    expected = p[often] * len(drawn)
    left = max(len(drawn) - expected.sum(), 1e-9)
    assert rest <= left + 6 * math.sqrt(left) + 6
    assert chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-4


def test_known_variances():
    """Below σ² = 1 the discrete Gaussian is narrower than its parameter; above, it is alike."""
    for variance, known in ((0.1, 0.013297), (0.5, 0.498979), (1.0, 0.9999998)):
        x, p = probabilities(variance, 50)
        assert (p * x**2).sum() == pytest.approx(known, abs=1e-6)
        drawn = discrete_gaussian(variance, 300_000, seeded(1))
        assert drawn.var() == pytest.approx(known, abs=0.008)
    drawn = discrete_gaussian(2.5e14, 100_000, seeded(2))
    assert drawn.std() == pytest.approx(math.sqrt(2.5e14), rel=0.012)
    assert abs(drawn.mean()) < 5 * math.sqrt(2.5e14 / 100_000)
    assert (drawn % 7 == 0).mean() == pytest.approx(1 / 7, abs=0.006)  # no grid of floats


def test_the_discrete_laplace_is_one():
    drawn = _discrete_laplace(3, 300_000, seeded())
    x = np.arange(-15, 16)
    p = np.exp(-np.abs(x) / 3) * (1 - math.exp(-1 / 3)) / (1 + math.exp(-1 / 3))
    counts = np.array([(drawn == value).sum() for value in x])
    assert chisquare(counts, p / p.sum() * counts.sum()).pvalue > 1e-4
    assert counts.sum() / len(drawn) == pytest.approx(p.sum(), abs=0.002)


def test_a_coin_is_decided_exactly_where_floats_cannot_tell():
    """The first 53 bits are those of exp(-1/2) itself: what comes next decides."""
    with mpmath.workprec(200):
        place = int(mpmath.floor(mpmath.exp(-mpmath.mpf(1) / 2) * 2**53))
    ones, zeros = (lambda n: b"\xff" * n), (lambda n: bytes(n))
    assert [_coin(place, 53, Fraction(1, 2), more) for more in (zeros, ones)] == [True, False]
    assert [_coin(place + i, 53, Fraction(1, 2), ones) for i in (-1, 1)] == [True, False]
    assert _coin(2**53 - 1, 53, Fraction(0), ones)  # a chance of 1
    exact = sum(_coin(i, 4, Fraction(1), zeros) for i in range(16))
    assert exact == 6  # exp(-1) · 16 = 5.89: with zeros to come, 0 to 5 are below


def test_noise_comes_from_the_system_unless_a_source_is_given():
    np.random.seed(0)
    first = discrete_gaussian(100.0, 50)
    np.random.seed(0)
    assert not np.array_equal(first, discrete_gaussian(100.0, 50))
    assert np.array_equal(*(discrete_gaussian(100.0, 50, seeded(3)) for _ in range(2)))


@pytest.mark.parametrize("variance", [0, -1, math.nan, math.inf, "1", 1e20])
def test_variances_out_of_range_are_refused(variance):
    with pytest.raises(ValueError, match="variance is"):
        discrete_gaussian(variance, 3)


# What a sum is worth -----------------------------------------------------------------------------


def renyi_of_sum(variance, clients, shift, order):
    """Rényi divergence of a sum of discrete Gaussians from the same sum, shifted: by counting."""
    reach = 60
    _, p = probabilities(variance, reach)
    total = p
    for _ in range(clients - 1):
        total = np.convolve(total, p)
    low = total[: len(total) - shift], total[shift:]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(low[0] > 1e-290, low[0] * (low[0] / low[1]) ** (order - 1), 0.0)
    return math.log(np.nansum(terms[low[0] > 1e-250])) / (order - 1)


@pytest.mark.parametrize(("variance", "clients"), [(0.3, 2), (0.5, 3), (1.0, 2), (1.0, 10)])
def test_the_bound_holds_for_sums_that_can_be_counted(variance, clients):
    """Theorem 1 of arXiv:2102.06387 for one number: e²/2 times the order bounds the divergence."""
    noise = DistributedNoise(1.0, 1.0, clients)
    # steps such that one client's variance is the one wanted: S · scale + √1 = √(n · variance)
    scale = math.sqrt(clients * variance) - 1
    if scale <= 0:
        scale = 1e-9
        noise = DistributedNoise(math.sqrt(clients * variance) / (1 + 1e-9), 1.0, clients)
    assert noise.variance(1, scale) == pytest.approx(variance)
    sensitivity = noise.clipping_norm * scale + 1
    bound = 1 / noise.multiplier_of_sum(clients, 1, scale)
    for order in (1.5, 2, 5):
        true = renyi_of_sum(variance, clients, max(1, math.floor(sensitivity)), order)
        assert true <= order * bound**2 / 2 + 1e-9


def test_small_variances_cost_a_correction_and_large_ones_none():
    small = DistributedNoise(1.0, 1.0, 10)
    little = small.multiplier_of_sum(10, 1, 1e-9)  # a variance of 0.1 a client
    assert little < 0.9
    # by hand: τ = 10 Σ exp(-0.2 π² k/(k+1)), e² = 1 + τ/2 at Δ = 1
    tau = 10 * sum(math.exp(-0.2 * math.pi**2 * k / (k + 1)) for k in range(1, 10))
    assert little == pytest.approx(1 / min(math.sqrt(1 + tau / 2), 1 + tau), rel=1e-6)
    large = DistributedNoise(1.3, 1.0, 20)
    assert large.multiplier_of_sum(20, 153_600, 1e6) == pytest.approx(1.3, rel=1e-12)


def test_drop_outs_take_their_noise_along():
    noise = DistributedNoise(1.0, 1.0, 20)
    z = [noise.multiplier_of_sum(n, 1000, 1e6) for n in (20, 14, 5)]
    assert z == pytest.approx([1.0, math.sqrt(14 / 20), 0.5])
    spent = [epsilon(one, 1.0, 1, 1e-5, "rdp") for one in z]
    assert spent[0] < spent[1] < spent[2]
    # the accountant's upper bound is not far from the exact value of a Gaussian
    assert gaussian_epsilon(1.0, 1e-5) <= spent[0] <= 1.15 * gaussian_epsilon(1.0, 1e-5)


def test_the_sum_has_the_noise_that_was_promised_and_clients_are_clipped():
    size, clients = 30_000, 8
    noise = DistributedNoise(0.7, 2.0, clients)
    terms = Terms(clip=2.0, max_clients=clients, noise=noise)
    updates = np.zeros((clients, size))
    updates[:, 0] = 5.0  # beyond the norm of 2
    whole = federate(updates, terms=terms)
    total = whole.weights["w"] * clients
    assert total[1:].std() == pytest.approx(0.7 * 2.0, rel=0.02)
    assert total[0] == pytest.approx(2.0 * clients, abs=6 * 1.4)
    half = federate(updates, terms=terms, lost={0: ("masked update", False), 1: ("keys", False)})
    assert (half.weights["w"] * 6)[1:].std() == pytest.approx(1.4 * math.sqrt(6 / 8), rel=0.02)
    again = federate(updates, terms=terms)
    assert not np.allclose(again.weights["w"], whole.weights["w"])  # not from the run's seed


@pytest.mark.parametrize("values", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1.5)])
def test_noise_out_of_range_is_refused(values):
    with pytest.raises(ValueError, match="it must be"):
        DistributedNoise(*values)
