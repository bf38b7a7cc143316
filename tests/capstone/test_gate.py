"""The gate's arithmetic and the patients' ledger, against known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.capstone.gate import PatientLedger, guarded, shares
from utils.privacy import gaussian_epsilon

RECEIVED = {"a": np.array([1.0, 2.0]), "b": np.zeros((2, 2))}


def moved(by):
    return {name: values + by for name, values in RECEIVED.items()}


def test_without_noise_it_is_the_mean_of_clipped_changes_over_registered_records():
    updates = [moved(0.1), moved(5.0)]  # of lengths 0.1 * sqrt(6) and 5 * sqrt(6)
    out = guarded(RECEIVED, updates, 1.0, 0.0, 4, np.random.default_rng(0))
    expected = (0.1 + 1 / np.sqrt(6)) / 4
    for name, values in RECEIVED.items():
        np.testing.assert_allclose(out[name] - values, expected, rtol=1e-5)


def test_the_noise_on_the_sum_has_standard_deviation_z_times_s():
    received = {"w": np.zeros(200_000)}
    out = guarded(received, [], 3.0, 2.0, 10, np.random.default_rng(1))["w"] * 10
    assert abs(out.std() - 6.0) < 0.05
    assert abs(out.mean()) < 0.05


def test_nobody_there_and_everybody_failing_look_alike():
    args = (1.0, 1.0, 5)
    nobody = guarded(RECEIVED, [], *args, np.random.default_rng(2))
    still = guarded(RECEIVED, [RECEIVED], *args, np.random.default_rng(2))
    for name in RECEIVED:
        np.testing.assert_array_equal(nobody[name], still[name])


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=6), st.floats(0.1, 5))
def test_one_patient_moves_the_sum_by_at_most_s(changes, most):
    updates = [moved(change) for change in changes]
    both = [
        guarded(RECEIVED, some, most, 0.0, 1, np.random.default_rng(0))
        for some in (updates, updates[1:])
    ]
    apart = np.sqrt(sum(((both[0][n] - both[1][n]) ** 2).sum() for n in RECEIVED))
    assert apart <= most * (1 + 1e-4) + 1e-4


def test_arrays_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        guarded(RECEIVED, [moved(1.0) | {"a": np.zeros(3)}], 1, 1, 1, np.random.default_rng(0))


def test_an_update_of_ones_own_counts_once_and_a_mixed_one_twice():
    assert shares([[1, 1, 1], [2], [2], [3, 4]]) == {1: 1, 2: 2, 3: 2, 4: 2}


@given(st.lists(st.floats(0.5, 5), min_size=1, max_size=6))
def test_releases_compose_as_one_gaussian(noises):
    ledger = PatientLedger(1e-4, 1e6)
    for z in noises:
        ledger.spend({7: 1.0}, z)
    together = sum(1 / z**2 for z in noises) ** -0.5
    assert ledger.epsilon == pytest.approx(gaussian_epsilon(together, 1e-4), rel=1e-6)


def test_ten_rounds_of_the_lessons_noise_are_the_lessons_epsilon():
    ledger = PatientLedger(1e-4, 8.0)
    for _ in range(10):
        ledger.spend({1: 1.0, 2: 1.0}, 1.9)
    assert ledger.epsilon == pytest.approx(gaussian_epsilon(1.9, 1e-4, 10))


def test_six_copies_are_worth_a_sixth_of_the_noise():
    ledger = PatientLedger(1e-4, 1e6)
    ledger.spend({1: 6.0, 2: 1.0}, 6.0)
    assert ledger.epsilon == pytest.approx(gaussian_epsilon(1.0, 1e-4))


def test_what_would_pass_the_promise_is_not_entered():
    ledger = PatientLedger(1e-4, 3.0)
    before = ledger.spend({1: 1.0}, 2.0)
    with pytest.raises(ValueError, match=r"ε = .* and its settings promise 3"):
        ledger.spend({1: 4.0}, 2.0)
    assert ledger.epsilon == before > 0


def test_nothing_released_is_nothing_spent():
    assert PatientLedger(1e-4, 1.0).epsilon == 0
