"""The empirical epsilon: below the true one, near it, and exact where it can be worked out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from utils.attacks import audit, empirical_epsilon, empirical_mu


def gaussian_epsilon(noise: float, delta: float) -> float:
    """Epsilon of one Gaussian mechanism of sensitivity 1 (Balle and Wang 2018, theorem 8)."""
    low, high = 0.0, 100.0
    for _ in range(60):
        epsilon = (low + high) / 2
        left, right = 0.5 / noise - epsilon * noise, -0.5 / noise - epsilon * noise
        reached = norm.cdf(left) - math.exp(epsilon) * norm.cdf(right)
        low, high = (epsilon, high) if reached > delta else (low, epsilon)
    return epsilon


@pytest.mark.parametrize("delta", [0.0, 0.3])
@pytest.mark.parametrize(("confidence", "tail"), [(None, 0.025), (0.8, 0.1)])
def test_of_a_perfect_attack_it_is_the_one_that_the_trials_allow(delta, confidence, tail):
    inside, outside = np.arange(1000.0) + 5000, np.arange(1000.0)
    options = {} if confidence is None else {"confidence": confidence}
    share = tail ** (1 / 500)  # 500 of 500 found, 0 of 500 accused: Clopper and Pearson
    expected = math.log((share - delta) / (1 - share))
    assert empirical_epsilon(inside, outside, delta, **options) == pytest.approx(expected)
    assert empirical_epsilon(outside, inside, delta, **options) == 0  # the reverse says nothing


def test_what_a_threshold_promises_on_one_half_is_judged_on_the_other():
    """Perfect in the first half of the trials, useless in the second."""
    alike = np.arange(50)
    inside = np.column_stack([alike + 100, alike]).ravel()
    outside = np.column_stack([alike, alike]).ravel()
    assert empirical_epsilon(inside, outside, 0.0) == 0


@pytest.mark.parametrize("z", [1.0, 3.0])
def test_it_stays_below_the_true_one_and_comes_near(z):
    true, bounds = gaussian_epsilon(z, 1e-3), []
    for seed in range(8):
        random = np.random.default_rng(seed)
        outside = random.normal(0, z, 4000)
        bounds.append(empirical_epsilon(random.normal(1, z, 4000), outside, 1e-3))
    assert sum(bound > true for bound in bounds) <= 2  # 5% of 8 is 0.4
    assert np.median(bounds) > 0.25 * true
    random = np.random.default_rng(0)  # with a quarter of the noise, it is caught
    scores = random.normal(1, z / 4, 4000), random.normal(0, z / 4, 4000)
    assert empirical_epsilon(*scores, delta=1e-3) > true


def test_randomized_response_is_bounded_by_its_epsilon():
    random = np.random.default_rng(0)
    truthful = random.random((2, 20_000)) < 0.75  # epsilon = ln 3
    inside, outside = np.where(truthful, [[1.0], [0.0]], [[0.0], [1.0]])
    assert 0.95 * math.log(3) < empirical_epsilon(inside, outside, delta=0.0) < math.log(3)


def test_the_other_direction_is_tested_too():
    """Scores in [0, 1] where only 'was not in' can ever be certain."""
    outside = (np.random.default_rng(0).random(4000) < 0.9).astype(float)
    assert empirical_epsilon(np.ones(4000), outside, delta=0.0) > 3


def test_scores_that_say_nothing_give_zero():
    random = np.random.default_rng(0)
    assert empirical_epsilon(*random.normal(size=(2, 1000)), delta=1e-5) < 0.3
    assert empirical_epsilon(np.zeros(100), np.zeros(100), delta=1e-5) == 0
    assert empirical_epsilon(*random.normal(size=(2, 1000)), delta=0.99) == 0


def test_unusable_scores_and_probabilities_are_refused():
    good = np.arange(20.0)
    empirical_epsilon(good, good, 0)
    for bad in (np.zeros(19), np.full(50, np.nan), np.full(50, np.inf), np.zeros((50, 2)), None):
        with pytest.raises(ValueError, match="at least 20 finite numbers"):
            empirical_epsilon(good, bad, 1e-5)
    for delta in (-0.1, 1, 1.5, math.nan, None, True):
        with pytest.raises(ValueError, match=r"delta is .* at least 0 and below 1"):
            empirical_epsilon(good, good, delta)
    for confidence in (0, 1, 95, math.nan, None):
        with pytest.raises(ValueError, match=r"confidence is .* above 0 and below 1"):
            empirical_epsilon(good, good, 0, confidence)


def test_of_a_perfect_attack_mu_is_the_one_that_the_trials_allow():
    inside, outside = np.arange(1000.0) + 5000, np.arange(1000.0)
    share = 0.025 ** (1 / 500)  # 500 of 500 found, 0 of 500 accused: Clopper and Pearson
    assert empirical_mu(inside, outside) == pytest.approx(2 * norm.ppf(share))
    share = 0.1 ** (1 / 500)
    assert empirical_mu(inside, outside, confidence=0.8) == pytest.approx(2 * norm.ppf(share))
    assert empirical_mu(outside, inside) == 0


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_mu_stays_below_the_true_one_and_comes_near(mu):
    bounds = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        bounds.append(empirical_mu(random.normal(mu, 1, 4000), random.normal(0, 1, 4000)))
    assert sum(bound > mu for bound in bounds) <= 2  # 5% of 8 is 0.4
    assert np.median(bounds) > mu - 0.2


def test_a_gap_that_epsilon_cannot_see_shows_in_mu():
    """Two layers clipped apart: μ is √2, where 1 is claimed."""
    random, delta = np.random.default_rng(0), 1e-4
    scores = random.normal(math.sqrt(2), 1, 2000), random.normal(0, 1, 2000)
    assert empirical_epsilon(*scores, delta) < gaussian_epsilon(1.0, delta)
    assert empirical_mu(*scores) > 1.0


def test_mu_of_scores_that_say_nothing_is_zero_and_unusable_ones_are_refused():
    random = np.random.default_rng(0)
    assert empirical_mu(*random.normal(size=(2, 1000))) < 0.1
    assert empirical_mu(np.zeros(100), np.zeros(100)) == 0
    with pytest.raises(ValueError, match="at least 20 finite numbers"):
        empirical_mu(np.arange(20.0), np.zeros(19))
    for confidence in (0, 1, 95, math.nan, None):
        with pytest.raises(ValueError, match=r"confidence is .* above 0 and below 1"):
            empirical_mu(np.arange(20.0), np.arange(20.0), confidence)


@given(st.integers(0, 9), st.integers(0, 7), st.floats(0.5, 0.99))
def test_the_bounds_on_both_rates_are_those_of_clopper_and_pearson(found, accused, confidence):
    hits, alarms = np.arange(9) < found, np.arange(7) < accused
    least, most = audit._rates(hits * 1.0, alarms * 1.0, np.array([0.5]), confidence)
    assert least[0] == pytest.approx(binomtest(found, 9).proportion_ci(confidence).low)
    assert most[0] == pytest.approx(binomtest(accused, 7).proportion_ci(confidence).high)
