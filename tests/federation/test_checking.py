"""One policy for bad replies, on any Grid: refused by name, counted, the round goes on."""

import random

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flowers
from flwr.serverapp.strategy import FedAdam, FedAvg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.federation.apps import client_app, client_of, final_weights, server_app, update_reply
from utils.federation import DivergedError, RoundFailedError, checked, serve, simulate
from utils.federation.grids import InProcessGrid, SimulatedClient
from utils.federation.recording import GridAround


def plus_one(message):
    return {name: a.numpy() + 1 for name, a in message.content["arrays"].items()}


def spoil(change, client=1):
    """Clients that add 1, except one whose update or metrics are changed."""

    def train(message, context):
        arrays, metrics = plus_one(message), {"num-examples": 1, "loss": 0.5}
        if client_of(context) == client:
            arrays, metrics = change(arrays, metrics)
        reply = update_reply(message, arrays)
        reply.content["metrics"] = MetricRecord(metrics)
        return reply

    return client_app(train)


def with_w(values):
    return lambda a, m: (a | {"w": values}, m)


def with_metrics(**new):
    return lambda a, m: (a, m | new)


SPOILT = {
    "NaN": (with_w(np.array([np.nan, 0], "f4")), "'w' holds NaN or infinity in 1"),
    "infinity": (with_w(np.array([np.inf, -np.inf], "f4")), "'w' holds NaN or infinity in 2"),
    "missing": (lambda a, m: ({"w": a["w"]}, m), "missing ['b'], unexpected none"),
    "extra": (lambda a, m: (a | {"z": a["w"]}, m), "missing none, unexpected ['z']"),
    "shape": (with_w(np.ones((1, 2), "f4")), "'w' has shape (1, 2), but (2,)"),
    "dtype": (with_w(np.ones(2, "i8")), "'w' has dtype int64, but float32"),
    "zero weight": (with_metrics(**{"num-examples": 0}), "the weight 'num-examples' is 0"),
    "negative weight": (with_metrics(**{"num-examples": -3}), "the weight 'num-examples' is -3"),
    "NaN weight": (with_metrics(**{"num-examples": np.nan}), "the weight 'num-examples' is nan"),
    "no weight": (lambda a, m: (a, {"loss": 0.5}), "lack the weight 'num-examples'"),
    "other metrics": (with_metrics(f1=0.5), "all clients must report alike"),
    "a list of another length": (with_metrics(loss=[0.5]), "all clients must report alike"),
}


@pytest.mark.parametrize(("change", "message"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_reply_is_refused_with_its_senders_name(change, message):
    run = simulate(server_app(1), spoil(change), 3)
    assert len(run.failures) == 1
    assert str(run.failures[0]).startswith("Round 1: client 1 failed to train: update refused: ")
    assert message in run.failures[0].error
    assert final_weights(run)["w"].tolist() == [1, 1]
    trained = run.client_metrics[run.client_metrics["kind"] == "train"]
    assert sorted(trained["client"]) == [0, 2]


def test_finite_values_pass_whose_squares_are_not():
    run = simulate(server_app(1), spoil(with_w(np.array([1e30, -1e30], "f4"))), 3)
    assert not run.failures


def test_the_strategys_own_weight_key_is_checked():
    strategy = FedAvg(fraction_evaluate=0.0, weighted_by_key="patients")

    def train(message, context):
        return update_reply(message, plus_one(message), patients=client_of(context))

    run = simulate(server_app(1, strategy), client_app(train), 3)
    assert "the weight 'patients' is 0" in run.failures[0].error


@pytest.mark.parametrize("scalar", [np.float32(0.5), torch.tensor(0.5)])
def test_a_metric_that_is_no_plain_number_is_named_with_its_key(scalar):
    run = simulate(server_app(1), spoil(with_metrics(accuracy=scalar)), 3)
    assert len(run.failures) == 1
    assert run.failures[0].client == 1
    assert "'accuracy' is a" in run.failures[0].error
    assert "float(x)" in run.failures[0].error


class Late(GridAround):
    """Like a network: replies come in any order, and those of the last client never."""

    def send_and_receive(self, messages, *, timeout=None):
        replies = list(self.grid.send_and_receive(list(messages), timeout=timeout))[:-1]
        random.shuffle(replies)
        return replies


@pytest.fixture
def a_network():
    simulate(server_app(1), client_app(), 2)  # tells this process who it is

    def around(app, clients=4):
        return Late(InProcessGrid(SimulatedClient(app, clients, 0, {})))

    return around


def start(app, grid):
    app(grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={}))


MODEL = ArrayRecord([np.zeros(2, "f4"), np.zeros(3, "f4")])


def test_a_served_strategy_is_safe_on_any_grid(a_network, caplog):
    """No simulator anywhere: the app brings the check along."""
    seen = []

    def train(message, context):
        arrays = plus_one(message)
        if client_of(context) == 1:
            arrays["0"] = np.array([np.nan, 1], "f4")
        return update_reply(message, arrays)

    def evaluate_fn(round_, arrays):
        seen.append(arrays["0"].numpy().tolist())

    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=4)
    start(serve(strategy, MODEL, 2, evaluate_fn=evaluate_fn), a_network(client_app(train)))
    assert seen == [[0, 0], [1, 1], [2, 2]]
    said = [record.getMessage() for record in caplog.records if "failed to train" in record.message]
    assert sum("client 1001 failed to train: update refused: '0' holds NaN" in s for s in said) >= 1
    assert sum("failed to train: no reply within the timeout" in s for s in said) == 2


def test_replies_are_handed_on_in_the_order_of_the_messages(a_network):
    def train(message, context):
        return update_reply(message, plus_one(message), number=client_of(context))

    grid = checked(a_network(client_app(train), clients=9))
    content = RecordDict({"arrays": MODEL, "config": ConfigRecord({"server-round": 3})})
    nodes = list(grid.get_node_ids())
    replies = list(grid.send_and_receive([Message(content, node, "train") for node in nodes]))
    assert [r.content["metrics"]["number"] for r in replies if r.has_content()] == list(range(8))
    assert replies[8].has_error()
    assert grid.failures[0].round == 3


def test_what_is_pushed_and_pulled_is_checked_too(a_network):
    def train(message, context):
        return update_reply(message, {"0": np.full(2, np.nan, "f4"), "1": np.zeros(3, "f4")})

    grid = checked(a_network(client_app(train)).grid)
    with pytest.raises(RoundFailedError, match="'0' holds NaN"):
        grid.pull_messages(
            grid.push_messages([Message(RecordDict({"arrays": MODEL}), 1000, "train")])
        )


def test_a_grid_is_checked_once_only(a_network):
    grid = checked(a_network(client_app()))
    assert checked(grid) is grid


FLOWERS = [
    (flowers.FedAvg, {}),
    (flowers.FedAvgM, {}),
    (flowers.FedAdagrad, {}),
    (flowers.FedAdam, {}),  # sends float64 from round 2 on
    (flowers.FedYogi, {}),
    (flowers.FedMedian, {}),
    (flowers.FedProx, {"proximal_mu": 0.1}),
    (flowers.FedTrimmedAvg, {}),
    (flowers.Krum, {}),
    (flowers.MultiKrum, {}),
    (flowers.Bulyan, {}),
    (flowers.QFedAvg, {"client_learning_rate": 1.0}),  # float64, too
]


@pytest.mark.parametrize(
    ("strategy", "settings"), FLOWERS, ids=lambda x: getattr(x, "__name__", "")
)
def test_flowers_own_strategies_run_as_they_are(strategy, settings):
    run = simulate(server_app(3, strategy(**settings)), client_app(in_singles), 5, progress=False)
    assert run.failures == []
    assert run.metrics.index.tolist() == [1, 2, 3]
    assert not np.array_equal(final_weights(run)["w"], [0, 0])


def test_bytes_in_an_array_may_grow():
    """So do Flower's strategies for boosted trees send models."""

    def grow(message, context):
        tree = message.content["arrays"]["0"].numpy()
        return update_reply(message, {"0": np.append(tree, np.uint8(client_of(context)))})

    class Longest(FedAvg):
        def aggregate_train(self, server_round, replies):
            return next(iter(replies)).content["arrays"], MetricRecord()

    start = {"0": np.zeros(0, "uint8")}
    run = simulate(server_app(3, Longest(), arrays=start), client_app(grow), 2, progress=False)
    assert run.failures == []
    assert final_weights(run)["0"].shape == (3,)


def in_singles(message, context):
    arrays = {name: a.numpy().astype("f4") + 1 for name, a in message.content["arrays"].items()}
    return update_reply(message, arrays, train_loss=0.5)


def test_an_integer_buffer_that_was_averaged_goes_out_as_an_integer_again():
    """BatchNorm's counter, which FedAvg turns into float64."""
    seen = []

    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def train(message, context):
        counter = message.content["arrays"]["1.num_batches_tracked"]
        seen.append((counter.dtype, int(counter.numpy())))
        model = Net()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        model(torch.randn(5, 3))
        return update_reply(message, {n: w.numpy() for n, w in model.state_dict().items()})

    arrays = {name: w.numpy() for name, w in Net().state_dict().items()}
    run = simulate(server_app(3, arrays=arrays), client_app(train), 2)
    assert run.failures == []
    assert seen == [("int64", n) for n in (0, 0, 1, 1, 2, 2)]
    assert final_weights(run)["1.num_batches_tracked"].dtype == np.int64


def test_a_model_that_diverges_at_the_server_is_not_blamed_on_clients():
    strategy = FedAdam(eta=1e308, beta_1=0.0, beta_2=0.0)
    with pytest.raises(DivergedError, match=r"diverged at the server.*'[wb]'.*eta of FedAdam"):
        simulate(server_app(6, strategy), client_app(in_singles), 2)


def test_where_all_diverge_at_once_the_servers_rate_is_suspected():
    explode = lambda message, context: update_reply(  # noqa: E731
        message, {n: np.full(a.shape, np.nan, "f4") for n, a in message.content["arrays"].items()}
    )
    arrays = {"w": np.full(2, -7e20, "f4"), "b": np.zeros(3, "f4")}
    with pytest.raises(RoundFailedError, match=r"largest weight is 7e\+20.*server's learning rate"):
        simulate(server_app(1, arrays=arrays), client_app(explode), 2)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=6))
def test_every_bad_reply_is_counted_and_every_good_one_used(bad):
    def train(message, context):
        number = client_of(context)
        arrays = {name: a.numpy() + number for name, a in message.content["arrays"].items()}
        if bad[number]:
            arrays["w"][0] = np.inf
        return update_reply(message, arrays)

    if all(bad):
        with pytest.raises(RoundFailedError):
            simulate(server_app(1), client_app(train), len(bad), progress=False)
        return
    run = simulate(server_app(1), client_app(train), len(bad), progress=False)
    assert sorted(f.client for f in run.failures) == np.flatnonzero(bad).tolist()
    expected = np.mean([i for i, spoilt in enumerate(bad) if not spoilt])
    np.testing.assert_allclose(final_weights(run)["w"], expected, rtol=1e-6)
