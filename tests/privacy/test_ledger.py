import json

import pytest

from utils.privacy import BudgetSpentError, Ledger, Release, epsilon, epsilon_of


def test_it_adds_up_what_was_spent():
    ledger = Ledger(1e-5)
    assert ledger.epsilon == 0
    ledger.spend(1.0, 0.1, times=20)
    ledger.spend(2.0, 0.1)
    assert ledger.epsilon == epsilon_of([Release(1.0, 0.1, 20), Release(2.0, 0.1)], 1e-5)
    assert ledger.epsilon_after(1) == epsilon(1.0, 0.1, 20, 1e-5)


def test_what_would_pass_the_budget_is_refused_and_not_entered():
    ledger = Ledger(1e-3, budget=epsilon(1.0, 1.0, 3, 1e-3))
    for _ in range(3):
        assert ledger.affords(1.0, 1.0)
        ledger.spend(1.0)
    assert not ledger.affords(1.0, 1.0)
    with pytest.raises(BudgetSpentError, match="would pass the budget"):
        ledger.spend(1.0)
    assert len(ledger.releases) == 3
    assert not ledger.affords(0.0, 1.0)


def test_it_goes_on_where_it_was():
    first, second = Ledger(1e-5), Ledger(1e-5)
    first.spend(1.0, 0.1)
    second.restore(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    for ledger in (first, second):
        ledger.spend(0.7, 0.2)
    assert first.epsilon == second.epsilon


def test_a_ledger_under_another_promise_is_refused():
    for other in (Ledger(1e-6), Ledger(1e-5, accountant="rdp")):
        with pytest.raises(ValueError, match="epsilon would be wrong"):
            other.restore(Ledger(1e-5).state())


@pytest.mark.parametrize(("delta", "warned"), [(1e-3, True), (2e-3, True), (9e-4, False)])
def test_a_delta_of_one_unit_or_more_is_warned_about(delta, warned, recwarn):
    Ledger(delta, units=1000)
    assert len(recwarn.list) == warned


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"delta": 1}, "delta is 1"), ({"budget": -1}, "budget"), ({"units": 0}, "units is 0")],
)
def test_settings_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Ledger(**{"delta": 1e-5} | wrong)


@pytest.mark.parametrize("state", [None, {}, {"delta": 1e-5}])
def test_what_is_no_ledgers_state_is_refused(state):
    with pytest.raises(ValueError, match="no ledger's state"):
        Ledger(1e-5).restore(state)


@pytest.mark.parametrize("release", [(-1.0,), ("1",), (1.0, 2.0), (1.0, 1.0, 0.5)])
def test_a_release_out_of_range_is_not_entered(release):
    ledger = Ledger(1e-5)
    with pytest.raises(ValueError, match="it must be a"):
        ledger.spend(*release)
    assert ledger.releases == []
