"""What L2's notebooks share: hospitals, a federation of them in one call, differences in pairs."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from flwr.app import ArrayRecord, MetricRecord
from flwr.clientapp.typing import Mod
from flwr.serverapp.strategy import FedAvg, Strategy
from scipy import stats
from torch.utils.data import ConcatDataset, Dataset, Subset

from utils import data
from utils.federation import Run, classifier_app, serve, simulate
from utils.learning import DigitClassifier, evaluate, train
from utils.randomness import random_stream

MISSING = {"A": {1, 3, 7}, "B": {2, 5, 8}, "C": {4, 6, 9}}


def deal_out(missing: Sequence[Iterable[int]], seed: int) -> dict[str, list[Subset]]:
    """``"train"`` and ``"test"`` images for each hospital, without the digits that it misses."""
    both = zip(("train", "test"), data.load_digits(), strict=True)
    return {part: data.split_hospitals(digits, missing, seed) for part, digits in both}


def dealt_again(hospitals: Sequence[Dataset], seed: int) -> list[Subset]:
    """The same images in hospitals of the same sizes, but who holds which is drawn by lot."""
    together = ConcatDataset(hospitals)
    order = torch.randperm(len(together), generator=torch.Generator().manual_seed(seed))
    shares = order.split([len(hospital) for hospital in hospitals])
    return [Subset(together, share.tolist()) for share in shares]


def accuracy(weights: Mapping[str, torch.Tensor], images: Dataset) -> float:
    """Accuracy of a digit classifier with these weights, 0 … 1."""
    model = DigitClassifier()
    model.load_state_dict(weights)
    return evaluate(model, images).accuracy


def federate(
    hospitals: Sequence[Dataset],
    *,
    seed: int,
    rounds: int,
    epochs: int = 5,
    strategy: type[Strategy] = FedAvg,
    mods: Iterable[Mod] = (),
    measure: Callable | None = None,
    judged_on: Mapping[str, Dataset] | None = None,
    **options: object,
) -> Run:
    """The federation that L2 writes out: all hospitals, every round, from new weights.

    Args:
        hospitals: each client's training images.
        seed: of the first weights and of every client's shuffling.
        rounds: how many.
        epochs: local epochs.
        strategy: its class.
        mods: of the clients.
        measure: more metrics of a client, from the weights received and those trained.
        judged_on: what the server tests its model on after each round, by name: column
            ``server/…`` of the run's metrics.
        options: of the strategy.
    """
    client_app = classifier_app(
        DigitClassifier,
        lambda context: hospitals[context.node_config["partition-id"]],
        mods=mods,
        measure=measure,
        epochs=epochs,
    )

    def judge(round_: int, arrays: ArrayRecord) -> MetricRecord:
        weights = arrays.to_torch_state_dict()
        return MetricRecord({name: accuracy(weights, d) for name, d in (judged_on or {}).items()})

    server_app = serve(
        lambda context: strategy(fraction_evaluate=0.0, **options),
        lambda: ArrayRecord(DigitClassifier().state_dict()),
        rounds,
        evaluate_fn=judge,
    )
    return simulate(server_app, client_app, len(hospitals), seed=seed, progress=False)


def train_pooled(hospitals: Sequence[Dataset], *, seed: int, epochs: int) -> DigitClassifier:
    """A model of all the hospitals' images, from the weights that ``federate`` begins with."""
    with random_stream(seed):
        model = DigitClassifier()
        train(model, ConcatDataset(hospitals), epochs=epochs)
    return model


def paired_difference(ones: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Mean of ``ones - others``, pair by pair, and half its 95% interval (Student's t).

    Each pair shares images, first weights and seed, so that what differs within a pair is what is
    compared; what differs between pairs (an easy deal, a lucky start) cancels.

    Raises:
        ValueError: for fewer than two pairs, or lists of unequal length.
    """
    if len(ones) != len(others) or len(ones) < 2:
        raise ValueError(
            f"{len(ones)} and {len(others)} values; two lists of one length are needed, of two "
            "pairs or more"
        )
    differences = np.subtract(ones, others)
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return float(differences.mean()), float(half)
