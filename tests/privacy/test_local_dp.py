"""Local DP: what leaves a client, seen from outside."""

import json
import math

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from tests.federation.apps import client_of, server_app, update_reply
from utils.compression import CompressedStrategy, Uniform, compress_update
from utils.federation import simulate
from utils.privacy import DPFedAvg, clip_update, gaussian_epsilon, local_dp

SIZE = 20_000
MODEL = {"w": np.zeros(SIZE, "float32"), "steps": np.array(7)}
SUMMING = {"noise_multiplier": 0.0, "clipping_norm": 1e6, "sampling_rate": 1.0, "delta": 1e-3}


def outside(train, rounds=1, mods=(), strategy=None, dp=None):
    """Run two clients; every reply as it leaves them, and the run."""
    left = []

    def spy(message, context, call_next):
        reply = call_next(message, context)
        left.append(reply)
        return reply

    app = ClientApp(mods=[spy, *mods, dp or local_dp(0.5, 8.0, 1e-5, rounds=2)])
    app.train()(train)
    strategy = strategy or DPFedAvg(**SUMMING)
    run = simulate(server_app(rounds, strategy, arrays=MODEL), app, 2, progress=False)
    return left, run


def silent(message, context):
    """A client that learned nothing, and says a lot."""
    arrays = {name: array.numpy() for name, array in message.content["arrays"].items()}
    arrays["steps"] = arrays["steps"] + 99
    reply = update_reply(message, arrays, **{"num-examples": 41, "loss": 0.125})
    reply.content["note"] = ConfigRecord({"patient": "Ada"})
    return reply


def test_every_client_is_noised_on_its_own_with_twice_the_norm_and_anew_each_round():
    left, _ = outside(silent, rounds=2)
    first, second, third, _ = (reply.content["arrays"]["w"].numpy() for reply in left)
    assert gaussian_epsilon(first.std() / (2 * 0.5), 1e-5, releases=2) == pytest.approx(8, rel=0.05)
    again = third - (first + second) / 2  # the first client's noise in round 2, on the new model
    for other in (second, again):
        assert abs(np.corrcoef(first, other)[0, 1]) < 5 / math.sqrt(SIZE)


def test_only_what_the_accountant_covers_leaves():
    left, _ = outside(silent)
    for reply in left:
        assert list(reply.content) == ["arrays", "metrics"]
        assert dict(reply.content["metrics"]) == {"num-examples": 1}
        assert reply.content["arrays"]["steps"].numpy() == 7


def test_an_evaluation_is_not_answered():
    asked = ClientApp(mods=[local_dp(0.5, 8.0, 1e-5, rounds=2)])
    asked.train()(silent)
    asked.evaluate()(
        lambda message, context: Message(
            RecordDict({"m": MetricRecord({"sick": 3, "num-examples": 1})}), reply_to=message
        )
    )
    with pytest.raises(RuntimeError, match="answers nothing but train"):
        simulate(server_app(1, FedAvg(), arrays=MODEL), asked, 2, progress=False)


def test_why_a_training_failed_stays_at_the_client(caplog):
    def crash(message, context):
        if client_of(context) == 1:
            raise ValueError("patient Ada has no age")
        return silent(message, context)

    _, run = outside(crash)
    assert "the reason stays here" in run.failures[0].error
    assert "Ada" not in json.dumps([str(vars(f)) for f in run.failures])


def test_it_refuses_more_rounds_than_it_was_made_for():
    with pytest.raises(RuntimeError, match="was for 2 rounds, which are spent"):
        outside(silent, rounds=3)


@pytest.mark.parametrize("inner", [clip_update, local_dp(0.5, 8.0, 1e-5, rounds=2)])
def test_mods_in_the_wrong_order_are_told_the_right_one(inner, caplog):
    app = ClientApp(mods=[inner, compress_update(Uniform(8))])
    app.train()(silent)
    server = server_app(1, CompressedStrategy(DPFedAvg(**SUMMING)), arrays=MODEL)
    with pytest.raises(RuntimeError, match=r"mods=\[compress_update"):
        simulate(server, app, 2, progress=False)
    right = ClientApp(mods=[compress_update(Uniform(8)), inner])
    right.train()(silent)
    assert simulate(server, right, 2, progress=False).failures == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, 1e-5, 1), "clipping_norm is 0.0"),
        ((1.0, 0.0, 1e-5, 1), "target_epsilon is 0.0"),
        ((1.0, 1.0, 0.0, 1), "delta is 0.0"),
        ((1.0, 1.0, 1e-5, 0), "rounds is 0"),
        ((1.0, 1.0, 1e-5, True), "rounds is True"),
    ],
)
def test_what_is_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        local_dp(*arguments)
