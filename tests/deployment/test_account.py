"""A clinic's own account of epsilon, in the language model's app: it decides, not the server."""

import importlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.app import ConfigRecord, Context, RecordDict

from tests.deployment.lesson import federation
from utils.privacy import BudgetSpentError, Ledger, epsilon

federation.apps_of("patients")  # puts the project on Python's path
account = importlib.import_module("patients_app.account")
ASKED = {"noise-multiplier": 1.0, "sampling-rate": 0.02, "steps": 4, "max-norm": 1.0}


def trained(folder, budget=2.0, **asked):
    """Ask the clinic for one round; how often its training function was called, and its ledger."""
    own = {"data-folder": str(folder)} | ({} if budget is None else {"epsilon": budget})
    context = Context(run_id=1, node_id=1, node_config=own, state=RecordDict(), run_config={})
    message = SimpleNamespace(content=RecordDict({"config": ConfigRecord(ASKED | asked)}))
    calls = []

    def train(message, context):
        calls.append((Path(folder) / "ledger.json").exists())
        return "reply"

    assert account.within_budget(message, context, train) == "reply"
    return calls


def spent(folder):
    return json.loads((folder / "ledger.json").read_text())["releases"]


def test_a_round_is_entered_before_it_is_trained_and_rounds_add_up(tmp_path):
    assert trained(tmp_path) == [True]
    assert trained(tmp_path, steps=2) == [True]
    assert spent(tmp_path) == [[1.0, 0.02, 4], [1.0, 0.02, 2]]
    assert not list(tmp_path.glob("*.new"))


def test_what_would_pass_its_epsilon_is_refused_in_a_later_run_too(tmp_path):
    one = epsilon(1.0, 0.02, 4, account.DELTA)
    two = epsilon(1.0, 0.02, 8, account.DELTA)
    assert one < two
    budget = (one + two) / 2
    trained(tmp_path, budget)
    with pytest.raises(BudgetSpentError, match="would pass the budget"):
        trained(tmp_path, budget)
    assert spent(tmp_path) == [[1.0, 0.02, 4]]


def test_without_noise_it_does_not_train_and_nothing_is_spent(tmp_path):
    with pytest.raises(ValueError, match="with noise only"):
        trained(tmp_path, **{"noise-multiplier": 0.0})
    assert not (tmp_path / "ledger.json").exists()


def test_runs_that_ask_at_once_are_entered_one_after_another(tmp_path, monkeypatch):
    class SlowLedger(Ledger):
        def spend(self, *release):
            super().spend(*release)
            time.sleep(0.05)  # the others read meanwhile, if they may

    monkeypatch.setattr(account, "Ledger", SlowLedger)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: trained(tmp_path), range(4)))
    assert spent(tmp_path) == [[1.0, 0.02, 4]] * 4


def test_an_epsilon_without_a_folder_for_the_ledger_is_refused():
    with pytest.raises(ValueError, match="needs a data-folder"):
        trained("")


@pytest.mark.parametrize(
    "asked",
    [
        {"noise-multiplier": -1.0},
        {"noise-multiplier": float("nan")},
        {"noise-multiplier": 1e-6},
        {"sampling-rate": 2.0},
        {"steps": -4},
    ],
    ids=str,
)
def test_a_server_that_asks_for_a_round_that_costs_nothing_is_refused(tmp_path, asked):
    with pytest.raises((ValueError, BudgetSpentError)):
        trained(tmp_path, **asked)
    assert not (tmp_path / "ledger.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"releases": 3}'])
def test_a_ledger_that_cannot_be_read_stops_the_clinic_and_is_kept(tmp_path, text):
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(ValueError, match=r"ledger.json cannot be read"):
        trained(tmp_path)
    assert (tmp_path / "ledger.json").read_text() == text


def test_a_clinic_that_names_no_epsilon_trains_as_it_is_asked(tmp_path):
    assert trained(tmp_path, budget=None, **{"noise-multiplier": 0.0}) == [False]
