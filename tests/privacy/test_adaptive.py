import math

import numpy as np
import pytest

from utils.privacy.adaptive import AdaptiveNorm
from utils.randomness import random_stream


def moves(unclipped, counted, expected=20, rounds=4000, **settings):
    """What many rounds, each from S = 1, do to log S."""
    with random_stream("adaptive"):
        norms = [AdaptiveNorm(1.0, 0.5, 0.2, **settings) for _ in range(rounds)]
        for norm in norms:
            norm.adapt(unclipped, counted, expected, private=True)
    return np.log([norm.value for norm in norms])


def test_the_noise_on_the_count_has_no_drift_and_the_promised_spread():
    found = moves(10, 20, count_noise=3.0)
    assert abs(found.mean()) < 5 * found.std() / math.sqrt(4000)
    assert found.std() == pytest.approx(0.2 * 3.0 / 20, rel=5 / math.sqrt(8000))


def test_by_default_the_noise_is_a_twentieth_of_the_cohort():
    assert moves(10, 20).std() == pytest.approx(0.2 / 20, rel=5 / math.sqrt(8000))


@pytest.mark.parametrize(("unclipped", "move"), [(20, -0.1), (10, 0.0), (0, 0.1), (15, -0.05)])
def test_the_norm_moves_toward_the_target_share(unclipped, move):
    norm = AdaptiveNorm(2.0, 0.5, 0.2)
    norm.adapt(unclipped, 20, 20, private=False)
    assert math.log(norm.value / 2.0) == pytest.approx(move)


def test_clients_who_are_missing_pull_in_neither_direction():
    norm = AdaptiveNorm(2.0, 0.5, 0.2)
    norm.adapt(5, 10, 20, private=False)
    assert norm.value == pytest.approx(2.0)


def test_an_update_of_just_the_norm_counts_as_clipped():
    """So arrives whoever clips itself, after some rounding."""
    norm = AdaptiveNorm(0.3)
    assert [norm.is_unclipped(x) for x in (0.299, 0.3, 0.2999999, 0.31)] == [
        True,
        False,
        False,
        False,
    ]


def test_without_a_target_it_stays():
    norm = AdaptiveNorm(2.0)
    norm.adapt(0, 20, 20, private=True)
    assert norm.value == 2.0
    assert norm.update_noise(1.5, 20) == 1.5
