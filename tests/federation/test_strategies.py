"""What a strategy needs in order to start, said at once; schedules; a served app."""

import sys

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg, FedProx
from flwr.serverapp.strategy.strategy_utils import sample_nodes
from torch import nn

from tests.federation.apps import client_app, final_weights, server_app, update_reply
from utils.federation import (
    RoundFailedError,
    ScheduledFedAvg,
    classifier_app,
    cosine,
    serve,
    simulate,
)

MODEL = ArrayRecord([np.zeros(2, "f4")])


@pytest.mark.parametrize("share", [10, 1.5, -0.1, float("nan"), True, "all", None])
@pytest.mark.parametrize("name", ["fraction_train", "fraction_evaluate"])
def test_a_share_of_the_clients_lies_between_0_and_1(name, share):
    strategy = FedAvg()
    setattr(strategy, name, share)
    with pytest.raises(ValueError, match=rf"{name} is {share!r}; it is a share"):
        simulate(server_app(1, strategy), client_app(), 3)


@pytest.mark.parametrize("name", ["min_available_nodes", "min_train_nodes", "min_evaluate_nodes"])
def test_a_strategy_that_waits_for_more_clients_than_there_are_is_told(name):
    with pytest.raises(ValueError, match=rf"{name} is 5, but the simulation has 3 clients"):
        simulate(server_app(1, FedAvg(**{name: 5})), client_app(), 3)


def test_so_is_one_that_samples_for_itself():
    class Greedy(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            return sample_nodes(grid, 2, 4)

    with pytest.raises(ValueError, match="asks for 4 clients, but the simulation has 3"):
        simulate(server_app(1, Greedy()), client_app(), 3)


def test_an_evaluation_of_the_old_form_is_told_before_the_first_round():
    asked = []

    def train(message, context):
        asked.append(1)
        return update_reply(message, {})

    with pytest.raises(TypeError, match=r"returned a tuple.*MetricRecord"):
        simulate(server_app(2, evaluate_fn=lambda r, a: (0.5, {})), client_app(train), 2)
    assert not asked


def test_weights_that_are_no_record_are_told():
    app = serve(FedAvg(), lambda: {"w": np.zeros(2)}, 1)
    with pytest.raises(TypeError, match=r"the function start made is a dict; wrap.*ArrayRecord"):
        simulate(app, client_app(), 2)


@pytest.mark.filterwarnings("ignore")
def test_the_old_api_is_told_the_new():
    with pytest.raises(TypeError, match=r"without a main function.*@app.main"):
        simulate(ServerApp(), client_app(), 2)
    with pytest.raises(TypeError, match=r"not a ClientApp with functions.*@app.train"):
        simulate(server_app(), ClientApp(client_fn=lambda context: None), 2)
    with pytest.raises(TypeError, match="not a ClientApp"):
        simulate(server_app(), lambda message, context: None, 2)


def test_a_schedule_sends_each_round_its_own_settings():
    seen = []

    def train(message, context):
        config = message.content["config"]
        seen.append((config["server-round"], config["lr"], config["layers"]))
        return update_reply(message, {n: a.numpy() for n, a in message.content["arrays"].items()})

    strategy = ScheduledFedAvg(lambda r: {"lr": 1.0 / r}, fraction_evaluate=0.0)
    simulate(server_app(3, strategy), client_app(train), 2)
    assert seen[::2] == [(1, 1.0, [1, 2]), (2, 0.5, [1, 2]), (3, 1 / 3, [1, 2])]


def test_a_cosine_begins_at_the_top_and_ends_at_zero():
    schedule = cosine(0.8, 4)
    assert [schedule(r)["lr"] for r in (1, 3, 5, 9)] == pytest.approx([0.8, 0.4, 0, 0])
    rates = [schedule(r)["lr"] for r in range(1, 6)]
    assert rates == sorted(rates, reverse=True)
    for wrong in ((0, 4), (float("inf"), 4), (1.0, 0), (1.0, 2.5)):
        with pytest.raises(ValueError, match=r"lr is|num_rounds is"):
            cosine(*wrong)


def test_a_served_strategy_starts_from_the_runs_own_random_stream():
    draws = []

    def start():
        draws.append(np.random.rand())
        return MODEL

    app = serve(
        lambda context: FedProx(proximal_mu=context.run_config["mu"]),
        start,
        1,
        train_config={"epochs": 2},
        evaluate_fn=lambda r, a: MetricRecord({"sum": float(a["0"].numpy().sum())}),
    )

    def train(message, context):
        assert message.content["config"]["epochs"] == 2
        assert message.content["config"]["proximal-mu"] == 0.25
        return update_reply(message, {"0": message.content["arrays"]["0"].numpy() + 3})

    for seed in (1, 1, 2):
        run = simulate(app, client_app(train), 2, seed=seed, run_config={"mu": 0.25})
    assert final_weights(run)["0"].tolist() == [3, 3]
    assert run.metrics["server/sum"].tolist() == [0, 6]
    assert draws[0] == draws[1] != draws[2]


def one(**settings):
    return serve(*({"strategy": FedAvg(), "start": MODEL, "rounds": 1} | settings).values())


@pytest.mark.parametrize(
    ("careless", "message"),
    [
        (lambda: one(strategy="fedavg"), "strategy is 'fedavg'; it must be a strategy"),
        (lambda: one(strategy=FedAvg), "strategy is <class.*; it must be a strategy"),
        (lambda: one(start=nn.Linear(2, 2)), r"start is a Linear; wrap.*ArrayRecord\(model"),
        (lambda: one(start={"w": np.zeros(2)}), r"start is a dict; wrap"),
        (lambda: one(start=ArrayRecord()), "holds no array"),
        (lambda: one(rounds=2.5), "rounds is 2.5"),
        (
            lambda: serve(FedAvg(), MODEL, 1, train_config={"lr": np.float32(1)}),
            r"'lr' is a.*float",
        ),
        (lambda: serve(FedAvg(), MODEL, 1, evaluate_fn=3), "evaluate_fn is 3"),
        (
            lambda: serve(
                FedAvg(), MODEL, 1, evaluate_fn=lambda r, a: MetricRecord({"acc": np.float32(1)})
            ),
            r"evaluate_fn: .*'acc' is a numpy.float32",
        ),
        (lambda: one(strategy=FedAvg(min_train_nodes="2")), "min_train_nodes is '2'"),
        (lambda: one(strategy=ScheduledFedAvg(None)), "schedule is None"),
        (lambda: one(strategy=ScheduledFedAvg(lambda r: None)), "schedule gave None for round 1"),
        (lambda: classifier_app(nn.Linear(2, 2), len), "make_model is Linear"),
        (lambda: classifier_app(len, [1, 2]), r"data_of is \[1, 2\]"),
        (lambda: classifier_app(len, len, epoch=3), r"\['epoch'\] are no settings of train"),
    ],
)
def test_careless_arguments_get_one_sentence(careless, message):
    with pytest.raises((TypeError, ValueError), match=message):
        simulate(careless(), client_app(), 2, progress=False)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda message, context: sys.exit(1), "SystemExit: 1"),
        (lambda message, context: message, "returned a message that answers none"),
        (lambda message, context: {"w": 1}, r"returned dict, not a flwr.app.Message"),
        (lambda message, context: update_reply(message, {}, acc=None), "'acc' is a NoneType"),
        (
            lambda message, context: Message(
                RecordDict({"a": MODEL, "b": MODEL}), reply_to=message
            ),
            "holds 2 ArrayRecords, although one was sent",
        ),
    ],
)
def test_careless_clients_are_failures_with_a_reason(answer, message):
    with pytest.raises(RoundFailedError, match=message):
        simulate(serve(FedAvg(), MODEL, 1), client_app(answer), 2, progress=False)
