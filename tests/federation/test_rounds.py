"""What a server on real machines does around its strategy, here on the simulator."""

import json

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from tests.federation.apps import client_app, client_of, final_weights, noisy_train, update_reply
from utils.federation import repeatable, run_rounds, simulate

WEIGHTS = {"w": np.zeros(2, "float32"), "b": np.zeros(3, "float32")}


def server_app(**settings):
    app = ServerApp()

    @app.main()
    def main(grid, context):
        start = ArrayRecord({name: torch.as_tensor(values) for name, values in WEIGHTS.items()})
        run_rounds(grid, FedAvg(fraction_evaluate=0.0), start, context.run_config, **settings)

    return app


def run(client, config, **settings):
    return simulate(server_app(), client, 3, run_config=config, progress=False, **settings)


def test_the_result_and_what_the_run_can_tell_lie_in_the_folder(tmp_path):
    def train(message, context):
        if client_of(context) == 1:
            return update_reply(message, {name: w * np.nan for name, w in WEIGHTS.items()})
        return update_reply(message, {name: w + 2 for name, w in WEIGHTS.items()}, loss=0.5)

    done = run(client_app(train), {"rounds": 2, "result": str(tmp_path / "new" / "folder")})
    found = np.load(tmp_path / "new" / "folder" / "model.npz")
    assert {name: found[name].tolist() for name in found} == {"w": [2, 2], "b": [2, 2, 2]}
    assert final_weights(done)["w"].tolist() == [2, 2]
    told = json.loads((tmp_path / "new" / "folder" / "run.json").read_text())
    assert told["metrics"]["train"] == {"1": {"loss": 0.5}, "2": {"loss": 0.5}}
    assert [line[:37] for line in told["failures"]] == [
        "Round 1: client 1 failed to train: up",
        "Round 2: client 1 failed to train: up",
    ]
    assert told["resumed"] == 0
    assert 0 < told["seconds"] < 60


def test_a_run_that_was_stopped_goes_on_after_the_last_round_that_it_kept(tmp_path):
    calls = []

    def train(message, context):
        calls.append(client_of(context))
        if len(calls) == 8:  # in the third round
            raise KeyboardInterrupt
        return noisy_train(message, context)

    config = {"rounds": 4, "seed": 0, "checkpoint": str(tmp_path / "kept")}
    whole = run(client_app(noisy_train, mods=[repeatable]), {"rounds": 4, "seed": 0})
    with pytest.raises(KeyboardInterrupt):
        run(client_app(train, mods=[repeatable]), config)
    result = {"result": str(tmp_path / "result")}  # where it goes is no part of what it is
    done = run(client_app(train, mods=[repeatable]), config | result)
    assert len(calls) == 8 + 3 + 3
    assert json.loads((tmp_path / "result" / "run.json").read_text())["resumed"] == 2
    for name, values in final_weights(whole).items():
        np.testing.assert_array_equal(values, final_weights(done)[name])
    assert not (tmp_path / "kept").exists()


def test_clinics_that_never_come_are_waited_for_no_longer_than_the_timeout():
    with pytest.raises(TimeoutError, match=r"3 of 4 clinics are there after 0\.1 s"):
        run(client_app(), {"rounds": 1, "clinics": 4, "timeout": 0.1})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "rounds is None; it must be a whole number"),
        ({"rounds": 1, "timeout": 0.0}, "timeout is 0.0; it must be a finite number above 0"),
        ({"rounds": 1, "clinics": 0}, "clinics is 0; it must be a whole number of at least 1"),
    ],
)
def test_a_configuration_out_of_range_is_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        run(client_app(), wrong)


def test_a_repeatable_client_draws_the_same_wherever_it_runs():
    config, plain = {"rounds": 2, "seed": 7}, client_app(noisy_train)
    here = final_weights(run(plain, config, seed=7))
    for seed in (7, 8):  # the simulator's own seed does not matter then
        there = final_weights(run(client_app(noisy_train, mods=[repeatable]), config, seed=seed))
        np.testing.assert_array_equal(here["w"], there["w"])
    other = run(client_app(noisy_train, mods=[repeatable]), config | {"seed": 8}, seed=7)
    assert not np.array_equal(here["w"], final_weights(other)["w"])
