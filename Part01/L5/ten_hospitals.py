"""Ten hospitals that train a digit classifier, and the bill: what L5's notebooks share."""

from dataclasses import dataclass
from functools import cache

import datasets
import numpy as np
import pandas as pd
import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg
from flwr_datasets.partitioner import DirichletPartitioner
from torch.utils.data import Subset

from utils import compression, learning
from utils.compression.codecs import Codec
from utils.data import labels_of, load_digits
from utils.federation import Run, classifier_app, serve, simulate
from utils.randomness import random_stream

CLIENTS, SEEDS, TARGET = 10, (1, 2, 3), 0.9
TRAINING = {"lr": 0.1, "momentum": 0.0}


@cache
def deal_out(seed: int) -> tuple[list[Subset], Subset]:
    """Ten hospitals' images, 3,600 together (Dirichlet(1)), and 400 public ones."""
    train_set, _ = load_digits()
    order = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(seed)).tolist()
    private, digits = order[400:], labels_of(train_set)
    partitioner = DirichletPartitioner(CLIENTS, "label", 1.0, self_balancing=False, seed=seed)
    partitioner.dataset = datasets.Dataset.from_dict(
        {"index": private, "label": digits[private].tolist()}
    )
    parts = [partitioner.load_partition(i)["index"][:] for i in range(CLIENTS)]
    return [Subset(train_set, part) for part in parts], Subset(train_set, order[:400])


def first_model(seed: int, pretrained: bool = False) -> ArrayRecord:
    """The same weights for whoever asks: new ones, or trained on the public images."""
    with random_stream("first model", seed):
        model = learning.DigitClassifier()
        if pretrained:
            learning.train(model, deal_out(seed)[1], epochs=20, **TRAINING)
    return ArrayRecord(model.state_dict())


@cache
def _tested(*weights: bytes) -> float:
    """Test accuracy of weights; ten clients that received the same are tested once."""
    model = learning.DigitClassifier()
    shapes = [w.shape for w in model.state_dict().values()]
    arrays = [np.frombuffer(w, np.float32).copy() for w in weights]
    tensors = [torch.from_numpy(a).reshape(s) for a, s in zip(arrays, shapes, strict=True)]
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    return learning.evaluate(model, load_digits()[1]).accuracy


def accuracy_on_arrival(received: dict, trained: dict) -> dict[str, float]:
    """What a client measures before it trains: how good is the model that reached it?"""
    return {"received": _tested(*(w.numpy().tobytes() for w in received.values()))}


class DeliveringFedAvg(FedAvg):
    """FedAvg that sends all clients the model once more when training is over."""

    def __init__(self, rounds: int, **options: object) -> None:
        super().__init__(**options)
        self.rounds = rounds

    def configure_evaluate(self, server_round, arrays, config, grid):  # noqa: D102
        if server_round < self.rounds:
            return []
        return super().configure_evaluate(server_round, arrays, config, grid)


@dataclass
class Measured:
    """One federation, once for each seed."""

    runs: list[Run]

    @property
    def accuracy(self) -> np.ndarray:
        """Test accuracy (seeds, rounds) of each round's model as it reaches the clients."""
        pairs = [
            (run.metrics["train/received"], run.metrics["clients/accuracy"]) for run in self.runs
        ]
        return np.array([[*came.iloc[1:], last.iloc[-1]] for came, last in pairs])

    @property
    def megabytes(self) -> np.ndarray:
        """Traffic (seeds, rounds): all up to a round, and its model's delivery to all clients."""
        return np.array([_megabytes(run.traffic) for run in self.runs])

    @property
    def to_target(self) -> np.ndarray:
        """Megabytes (seeds,) until the target is first reached; NaN if it is not."""
        pairs = zip(self.accuracy >= TARGET, self.megabytes, strict=True)
        return np.array([mb[reached][0] if reached.any() else np.nan for reached, mb in pairs])

    @property
    def final(self) -> np.ndarray:
        """Accuracy (seeds,): mean of the last two rounds."""
        return self.accuracy[:, -2:].mean(axis=1)


def _megabytes(traffic: pd.DataFrame) -> np.ndarray:
    training = traffic[traffic["kind"] == "train"].groupby("round")["bytes"].sum().cumsum()
    down = traffic[traffic["direction"] == "down"]
    a_message = down.groupby(["kind", "round"])["bytes"].mean()
    deliveries = [*a_message["train"].iloc[1:], a_message["evaluate"].iloc[-1]]
    return (training.to_numpy() + CLIENTS * np.array(deliveries)) / 1e6


def federate(
    up: Codec | None = None,
    down: Codec | None = None,
    *,
    changes: bool = False,
    error_feedback: bool = False,
    epochs: int = 2,
    cohort: int = CLIENTS,
    rounds: int = 10,
    pretrained: bool = False,
) -> Measured:
    """One federation a seed.

    Args:
        up: how clients encode their updates; None: 32 bits a number.
        down: how the server encodes what it sends; only together with ``up``.
        changes: ``down`` encodes the model's changes, not the model; clients make the first
            model themselves, from the seed.
        error_feedback: clients add what they left out to their next update.
        epochs: local ones.
        cohort: clients a round.
        rounds: of training; after them, all clients are sent the final model.
        pretrained: start from a model trained on 400 public images.
    """

    def start(seed: int) -> ArrayRecord:
        return first_model(seed, pretrained)

    def run(seed: int) -> Run:
        strategy = DeliveringFedAvg(rounds, fraction_train=cohort / CLIENTS)
        mods = []
        if up is not None:
            held = (lambda context: start(seed)) if changes else None
            mods = [compression.compress_update(up, error_feedback, held=held)]
            strategy = compression.CompressedStrategy(
                strategy, down, held=start(seed) if changes else None
            )
        client_app = classifier_app(
            learning.DigitClassifier,
            lambda context: deal_out(seed)[0][context.node_config["partition-id"]],
            test_data_of=lambda context: load_digits()[1],
            measure=accuracy_on_arrival,
            mods=mods,
            epochs=epochs,
            **TRAINING,
        )
        server_app = serve(strategy, start(seed), rounds)
        return simulate(server_app, client_app, CLIENTS, seed=seed, progress=False)

    return Measured([run(seed) for seed in SEEDS])


def bill(runs: dict[str, Measured], base: str = "fp32") -> pd.DataFrame:
    """MB to the target (mean ± sd over seeds), how that compares with a base, where it ends."""
    plain, rows = runs[base].to_target.mean(), {}
    for name, run in runs.items():
        reached = ~np.isnan(run.to_target)
        cost, saving = f"{reached.sum()} of {len(SEEDS)} seeds", ""
        if reached.all():
            cost = f"{run.to_target.mean():.2f} ± {run.to_target.std(ddof=1):.2f}"
            saving = f"{plain / run.to_target.mean():.1f} x"
        total = run.megabytes[:, -1].mean()
        rows[name] = [cost, saving, f"{run.final.mean():.3f}", f"{total:.2f}"]
    columns = [f"MB to {TARGET:.0%}", "saving", "final accuracy", "MB in all"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
