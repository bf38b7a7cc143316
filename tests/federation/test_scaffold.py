"""SCAFFOLD through Flower messages, beside a loop written by hand; and what its two sides need."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from torch import nn
from torch.utils.data import TensorDataset

from tests.federation.apps import final_weights, update_reply
from utils.federation import Scaffold, scaffold_client, scaffold_correction, serve, simulate
from utils.learning import train

RATE, STEPS, CLIENTS = 0.3, 4, 5
ALL = {"fraction_evaluate": 0.0}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2))


def data_of(number):
    """A client's own four examples, unlike the others': mostly of one label."""
    generator = torch.Generator().manual_seed(number)
    labels = torch.tensor([number % 2] * 3 + [1 - number % 2])
    return TensorDataset(torch.randn(4, 3, generator=generator) + number, labels)


def app(mods=(scaffold_client,), corrected=True, steps=STEPS, asked=None):
    """All examples in one batch: the order in which they are drawn changes nothing."""
    client, model = ClientApp(mods=list(mods)), net()

    @client.train()
    def train_client(message, context):
        number = context.node_config["partition-id"]
        if asked is not None:
            asked.append(number)
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        penalty = scaffold_correction(message) if corrected else None
        train(model, data_of(number), epochs=STEPS, lr=RATE, momentum=0.0, penalty=penalty)
        metrics = {"num-examples": 1 + number} | ({} if steps is None else {"steps": steps})
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)}
        return Message(RecordDict(content), reply_to=message)

    return client


def run_of(client, strategy, rounds=3, config=None):
    config = {"lr": RATE} if config is None else config
    server = serve(strategy, ArrayRecord(net().state_dict()), rounds, train_config=config)
    return simulate(server, client, CLIENTS, workers=1, progress=False)


def by_hand(cohorts, server_rate=1.0):
    """Algorithm 1 of the paper, option II, as it stands there; plain torch."""
    x = [w.detach().clone() for w in net().parameters()]
    c = [torch.zeros_like(w) for w in x]
    own = [[torch.zeros_like(w) for w in x] for _ in range(CLIENTS)]
    for cohort in cohorts:
        moves, changes = [], []
        for i in cohort:
            images, labels = data_of(i).tensors
            y = [w.clone().requires_grad_() for w in x]
            for _ in range(STEPS):
                loss = F.cross_entropy(F.linear(images, y[0], y[1]), labels)
                gradients = torch.autograd.grad(loss, y)
                with torch.no_grad():
                    for w, g, mine, everyones in zip(y, gradients, own[i], c, strict=True):
                        w -= RATE * (g - mine + everyones)
            y = [w.detach() for w in y]
            new = [
                mine - everyones + (before - after) / (STEPS * RATE)
                for mine, everyones, before, after in zip(own[i], c, x, y, strict=True)
            ]
            moves.append([after - before for before, after in zip(x, y, strict=True)])
            changes.append([n - mine for n, mine in zip(new, own[i], strict=True)])
            own[i] = new
        size = len(cohort)
        x = [w + server_rate * sum(m) / size for w, *m in zip(x, *moves, strict=True)]
        c = [w + size / CLIENTS * sum(d) / size for w, *d in zip(c, *changes, strict=True)]
    return x


def close(run, weights):
    found = final_weights(run).values()
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(found, weights, strict=True))


@pytest.mark.parametrize("server_rate", [1.0, 0.5])
def test_it_is_the_papers_algorithm(server_rate):
    run = run_of(app(), Scaffold(CLIENTS, server_learning_rate=server_rate, **ALL))
    expected = by_hand([range(CLIENTS)] * 3, server_rate)
    assert close(run, expected)
    assert not close(run, by_hand([range(CLIENTS)] * 3, server_rate * 1.2))


def test_it_is_so_where_few_take_part():
    asked = []
    run = run_of(app(asked=asked), Scaffold(CLIENTS, fraction_train=0.4, **ALL), rounds=6)
    cohorts = [asked[i : i + 2] for i in range(0, 12, 2)]
    assert len({i for cohort in cohorts for i in cohort}) > 2
    assert close(run, by_hand(cohorts))


def test_its_first_round_is_that_of_fedavg_with_equal_weights():
    """No gradient is known yet: c and all c_i are zero."""
    run = run_of(app(), Scaffold(CLIENTS, **ALL), rounds=1)
    plain = run_of(app(mods=()), FedAvg(**ALL), rounds=1)
    mean = by_hand([range(CLIENTS)])
    assert close(run, mean)
    assert not close(plain, mean)  # FedAvg weighs by examples


def test_from_the_second_round_on_the_correction_tells():
    run = run_of(app(), Scaffold(CLIENTS, **ALL), rounds=2)
    uncorrected = run_of(app(corrected=False), Scaffold(CLIENTS, **ALL), rounds=2)
    assert not close(run, final_weights(uncorrected).values())


def test_it_costs_twice_the_bytes_both_ways():
    size = lambda run: run.traffic.groupby("direction")["bytes"].sum()  # noqa: E731
    start = ArrayRecord({"w": torch.zeros(100_000)})

    def same(message, context):
        arrays = {n: a.numpy() for n, a in message.content["arrays"].items()}
        return update_reply(message, arrays, steps=1)

    runs = []
    for mods, strategy in (([scaffold_client], Scaffold(2, **ALL)), ([], FedAvg(**ALL))):
        client = ClientApp(mods=mods)
        client.train()(same)
        server = serve(strategy, start, 2, train_config={"lr": 0.1})
        runs.append(size(simulate(server, client, 2, workers=1, progress=False)))
    assert (runs[0] / runs[1]).to_dict() == pytest.approx({"up": 2, "down": 2}, abs=0.01)


def test_a_run_goes_on_where_it_was_killed(tmp_path):
    """The server's c and the clients' c_i are kept with the model."""

    def until(rounds, folder, stop_after=None):
        def judge(round_, arrays):
            if round_ == stop_after:
                raise KeyboardInterrupt
            return MetricRecord({"round": round_})

        start = ArrayRecord(net().state_dict())
        strategy = Scaffold(CLIENTS, **ALL)
        server = serve(strategy, start, rounds, train_config={"lr": RATE}, evaluate_fn=judge)
        return simulate(server, CLIENT, CLIENTS, workers=1, progress=False, checkpoint=folder)

    whole = until(4, None)
    with pytest.raises(KeyboardInterrupt):
        until(4, tmp_path / "run", stop_after=3)
    resumed = until(4, tmp_path / "run")
    assert resumed.resumed == 2
    for name, values in final_weights(whole).items():
        assert np.array_equal(final_weights(resumed)[name], values)


CLIENT = app()  # one and the same: a checkpoint compares its code


@pytest.mark.parametrize(
    ("client", "strategy", "config", "expected"),
    [
        (app(), FedAvg(**ALL), None, "holds no c; scaffold_client needs Scaffold at the server"),
        (app(), Scaffold(CLIENTS, **ALL), {"rate": 0.1}, "configuration holds no 'lr'"),
        (app(steps=None), Scaffold(CLIENTS, **ALL), None, "metrics hold no 'steps'"),
        (app(steps=0), Scaffold(CLIENTS, **ALL), None, "steps is 0"),
    ],
)
def test_what_is_missing_is_said(client, strategy, config, expected):
    with pytest.raises(Exception, match=expected):
        run_of(client, strategy, config=config)


def test_a_client_without_the_mod_is_refused_at_once():
    with pytest.raises(Exception, match="control/"):
        run_of(app(mods=()), Scaffold(CLIENTS, **ALL))


def test_integers_cannot_be_corrected():
    start = ArrayRecord({"w": torch.zeros(2), "seen": torch.zeros((), dtype=torch.int64)})
    server = serve(Scaffold(2, **ALL), start, 1, train_config={"lr": 0.1})
    with pytest.raises(ValueError, match="'seen' is of int64"):
        simulate(server, app(), 2, workers=1, progress=False)


def test_evaluation_passes_through():
    client, seen = app(), []

    @client.evaluate()
    def evaluate(message, context):
        seen.append(set(message.content["arrays"]))
        metrics = MetricRecord({"num-examples": 1, "score": 0.5})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    run_of(client, Scaffold(CLIENTS), rounds=1)
    assert seen
    assert all(names == {"0.weight", "0.bias"} for names in seen)
