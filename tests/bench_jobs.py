"""Three federated jobs for ``make bench``, as a module, so that any process can import them."""

from functools import cache
from typing import NamedTuple

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import nn
from torch.utils.data import Subset

import utils  # noqa: F401  (before torchvision)
from utils.data import load_digits
from utils.federation import serve
from utils.learning import train

State = dict[str, torch.Tensor]


def convolutional(width: int, hidden: int) -> nn.Module:
    """Two convolutions and two linear layers for 28 × 28 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, width, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(98 * width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


class Job(NamedTuple):
    """What each client of a cohort does in each round."""

    width: int
    hidden: int
    clients: int
    images: int
    epochs: int
    rounds: int

    def model(self) -> nn.Module:
        """A new model."""
        return convolutional(self.width, self.hidden)


JOBS = {
    "lesson": Job(4, 32, clients=10, images=400, epochs=2, rounds=1),
    "small": Job(4, 16, clients=50, images=20, epochs=1, rounds=2),
    "large": Job(32, 512, clients=50, images=20, epochs=1, rounds=1),
    "crowd": Job(4, 16, clients=1000, images=4, epochs=1, rounds=1),
}

digits = cache(load_digits)  # once a process


def train_client(name: str, client: int, weights: State) -> State:
    """A client's work, with nothing but torch."""
    job = JOBS[name]
    model = job.model()
    model.load_state_dict(weights)
    own = [(client * job.images + i) % 4000 for i in range(job.images)]
    train(model, Subset(digits()[0], own), epochs=job.epochs)
    return model.state_dict()


def mean(states: list[State]) -> State:
    """The plain average."""
    return {name: sum(state[name] for state in states) / len(states) for name in states[0]}


client_app = ClientApp()


@client_app.train()
def train_message(message, context):
    weights = message.content["arrays"].to_torch_state_dict()
    name, client = context.run_config["job"], context.node_config["partition-id"]
    arrays = ArrayRecord(train_client(name, client, weights))
    content = {"arrays": arrays, "metrics": MetricRecord({"num-examples": JOBS[name].images})}
    return Message(RecordDict(content), reply_to=message)


def server_app(name: str) -> ServerApp:
    """FedAvg over all clients of a job."""
    job = JOBS[name]
    strategy = FedAvg(fraction_evaluate=0.0)
    return serve(strategy, lambda: ArrayRecord(job.model().state_dict()), job.rounds)
