import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg
from torch import nn
from torch.utils.data import TensorDataset

from tests.federation.apps import client_of
from utils.federation import RoundFailedError, classifier_app, serve, simulate
from utils.learning import evaluate, train
from utils.randomness import random_stream

SIZES = [20, 60]


def net():
    return nn.Linear(3, 2)


def data_of(context, seed=0):
    generator = torch.Generator().manual_seed(client_of(context) + seed)
    inputs = torch.randn(SIZES[client_of(context)], 3, generator=generator)
    return TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())


class Client:
    """A context as far as ``data_of`` is concerned."""

    def __init__(self, number):
        self.node_config = {"partition-id": number}


START = net().state_dict()


def run(config=None, **settings):
    app = classifier_app(net, data_of, **settings)
    evaluation = 1.0 if "test_data_of" in settings else 0.0
    strategy = FedAvg(fraction_evaluate=evaluation)
    server = serve(strategy, ArrayRecord(START), 1, train_config=config)
    return simulate(server, app, 2, progress=False)


def by_hand(**settings):
    updates = []
    for number in (0, 1):
        model = net()
        model.load_state_dict(START)
        with random_stream(0, "train", 1, number):
            losses = train(model, data_of(Client(number)), **settings)
        updates.append((model.state_dict(), losses[-1]))
    return updates


@pytest.mark.parametrize("by_message", [False, True])
def test_a_client_trains_as_asked_and_weighs_as_much_as_it_has(by_message):
    settings = {"epochs": 2, "lr": 0.3, "momentum": 0.0, "batch_size": 8}
    done = run(settings, epochs=5, lr=0.9) if by_message else run(**settings)
    first, second = by_hand(**settings)
    for name, array in done.result.arrays.items():
        expected = (20 * first[0][name] + 60 * second[0][name]) / 80
        np.testing.assert_allclose(array.numpy(), expected, atol=1e-6)
    rows = done.client_metrics.set_index("client").sort_index()
    assert rows["num-examples"].tolist() == SIZES
    assert rows["loss"].tolist() == pytest.approx([first[1], second[1]])


def test_it_measures_what_it_is_asked_to():
    def measure(before, after):
        return {"moved": sum((after[n] - w).abs().sum().item() for n, w in before.items())}

    rows = run(measure=measure).client_metrics.set_index("client").sort_index()
    for moved, (trained, _) in zip(rows["moved"], by_hand(), strict=True):
        expected = sum((trained[n] - w).abs().sum().item() for n, w in START.items())
        assert moved == pytest.approx(expected, rel=1e-4)
        assert moved > 0


def test_it_evaluates_only_with_test_data():
    done = run(test_data_of=lambda context: data_of(context, seed=9))
    model = net()
    model.load_state_dict(done.result.arrays.to_torch_state_dict())
    rows = done.client_metrics.query("kind == 'evaluate'").set_index("client").sort_index()
    expected = [evaluate(model, data_of(Client(i), seed=9)).accuracy for i in (0, 1)]
    assert rows["accuracy"].tolist() == pytest.approx(expected)

    deaf = classifier_app(net, data_of)
    with pytest.raises(RoundFailedError, match="failed to evaluate"):
        simulate(serve(FedAvg(), ArrayRecord(START), 1), deaf, 2, progress=False)
