"""What L4's notebooks share: the digits, a linear model, and its federated training.

Twice the same training: ``federate`` runs it as a Flower federation, client by client;
``train_crowd`` trains a whole cohort at once, which curves over settings and seeds need. The
lesson checks that both come to the same weights.
"""

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import Strategy
from torch.func import functional_call, grad, vmap
from torch.utils.data import TensorDataset

from utils.data import as_tensors, load_digits
from utils.federation import Run, classifier_app, serve, simulate
from utils.privacy import l2_norm

train_set, test_set = load_digits()
images, labels = as_tensors(train_set)
test_images, test_labels = as_tensors(test_set)
LOW, HIGH = images.min().item(), images.max().item()  # black and white
DELTA = 1e-4  # a tenth of 1 / 1,000 clients
SEEDS = [1, 2, 3]

linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
torch.nn.init.zeros_(linear[1].weight)
torch.nn.init.zeros_(linear[1].bias)
START = {name: w.detach().clone() for name, w in linear.named_parameters()}

Weights = dict[str, torch.Tensor]
Share = tuple[torch.Tensor, torch.Tensor]


def shares_of(order: torch.Tensor, clients: int) -> list[Share]:
    """Deal training images out to clients, equally many each, in this order.

    Args:
        order: numbers of training images; a multiple of ``clients``.
        clients: how many.

    Returns:
        Images ``(share, 1, 28, 28)`` and labels ``(share,)`` of each client.
    """
    chosen = order.reshape(clients, -1)
    return list(zip(images[chosen], labels[chosen], strict=True))


def shuffled(seed: int) -> torch.Tensor:
    """The numbers of all training images, in a random order."""
    return torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))


def accuracy(weights: Weights) -> float:
    """Test accuracy of the linear model with these weights."""
    with torch.no_grad():
        answers = functional_call(linear, weights, (test_images,)).argmax(dim=1)
    return (answers == test_labels).float().mean().item()


def federate(
    strategy: Strategy,
    shares: Sequence[Share],
    rounds: int,
    *,
    seed: int = 0,
    mods: Sequence = (),
    on_round: Callable[[int, ArrayRecord], None] | None = None,
    **training: float,
) -> Run:
    """Train the linear model as a Flower federation: five epochs, each one step on all images.

    Args:
        strategy: of the server.
        shares: images and labels of each client.
        rounds: of training.
        seed: of the cohorts, and of the noise.
        mods: of the client app.
        on_round: is told each round's weights, besides the test accuracy that is always measured.
        training: of ``utils.learning.train``, in place of five epochs at a rate of 0.1.
    """

    def data_of(context):
        return TensorDataset(*shares[context.node_config["partition-id"]])

    def measure(before, after):
        return {"length": l2_norm({name: (after[name] - w).numpy() for name, w in before.items()})}

    def judge(round_, arrays):
        if on_round:
            on_round(round_, arrays)
        return MetricRecord({"accuracy": accuracy(arrays.to_torch_state_dict())})

    how = {"epochs": 5, "lr": 0.1, "momentum": 0.0, "batch_size": len(shares[0][1])} | training
    client_app = classifier_app(
        lambda: copy.deepcopy(linear), data_of, measure=measure, mods=mods, **how
    )
    server_app = serve(strategy, ArrayRecord(linear.state_dict()), rounds, evaluate_fn=judge)
    return simulate(server_app, client_app, len(shares), seed=seed, progress=False)


def local_update(
    weights: Weights, images: torch.Tensor, labels: torch.Tensor, steps: int = 5, lr: float = 0.1
) -> Weights:
    """One client's training: gradient steps on all of its images. Returns the change."""

    def loss(trained):
        return F.cross_entropy(functional_call(linear, trained, (images,)), labels)

    trained = weights
    for _ in range(steps):
        slope = grad(loss)(trained)
        trained = {name: w - lr * slope[name] for name, w in trained.items()}
    return {name: trained[name] - w for name, w in weights.items()}


updates_of_all = vmap(local_update, in_dims=(None, 0, 0))  # one model, many clients' data


def train_crowd(
    shares: Sequence[Share],
    seed: int,
    z: float = 0.0,
    max_norm: float = 0.3,
    rate: float = 0.1,
    rounds: int = 50,
    *,
    answers: float = math.inf,
    turns: int | None = None,
    mixing: torch.Tensor | None = None,
) -> tuple[Weights, np.ndarray]:
    """DP-FedAvg on the linear model, a whole cohort at once.

    Args:
        shares: images and labels of each client, equally many.
        seed: of cohorts and noise.
        z: noise multiplier; 0: none.
        max_norm: clipping norm S; may be infinite.
        rate: chance of each client to take part in a round.
        rounds: of training.
        answers: a client takes part so often at most.
        turns: clients take part in turn, each in every ``turns``-th round, instead of by lot.
        mixing: ``(rounds, rounds)``: round t's noise is the sum of ``mixing[t, s]`` times the
            fresh noise of round s ≤ t; by default each round has its own.

    Returns:
        The last weights; test accuracy and median length of an update, ``(rounds, 2)``.
    """
    draw = torch.Generator().manual_seed(seed)
    images, labels = (torch.stack(column) for column in zip(*shares, strict=True))
    weights, history, answered = START, [], torch.zeros(len(images))
    number = torch.randperm(len(images), generator=draw) if turns else None
    fresh = {name: torch.zeros(rounds, *w.shape) for name, w in START.items()}
    expected = len(images) / turns if turns else rate * len(images)
    for t in range(rounds):
        by_lot = torch.rand(len(images), generator=draw) < rate
        cohort = (number % turns == t % turns) if turns else by_lot & (answered < answers)
        answered += cohort
        updates = updates_of_all(weights, images[cohort], labels[cohort])
        length = sum(u.flatten(1).square().sum(1) for u in updates.values()).sqrt()
        factor = (max_norm / length).clamp(max=1)
        new = {}
        for name, w in weights.items():
            total = torch.einsum("c,c...->...", factor, updates[name])
            if z:
                fresh[name][t] = z * max_norm * torch.randn(w.shape, generator=draw)
                mixed = fresh[name][t]
                if mixing is not None:
                    mixed = torch.einsum("s,s...->...", mixing[t, : t + 1], fresh[name][: t + 1])
                total = total + mixed
            new[name] = w + total / expected
        weights = new
        history.append((accuracy(weights), length.median().item()))
    return weights, np.array(history)


def over_seeds(z: float = 0.0, *, clients: int = 1000, **settings) -> np.ndarray:
    """Test accuracy of ``train_crowd`` by seed, ``(len(SEEDS),)``: the mean of the last 3 rounds.

    Each seed deals the training images out anew, and draws cohorts and noise anew.

    Args:
        z: noise multiplier.
        clients: that the 4,000 images are dealt out to.
        settings: of ``train_crowd``.
    """
    runs = [train_crowd(shares_of(shuffled(s), clients), s, z, **settings) for s in SEEDS]
    return np.array([history[-3:, 0].mean() for _, history in runs])
