"""Train a classifier."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from utils.learning.evaluation import check_labels, evaluation_mode, logits_of, on_device_of
from utils.learning.models import DigitClassifier


def train(
    model: nn.Module,
    dataset: Dataset,
    *,
    epochs: int = 1,
    lr: float = 0.01,
    momentum: float = 0.9,
    batch_size: int = 32,
    penalty: Callable[[nn.Module], torch.Tensor] | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a classifier in place with SGD on the cross-entropy.

    Batches are shuffled by torch's global generator, so seed that for a repeatable run.

    Args:
        model: maps inputs ``(n, …)`` to logits ``(n, classes)``; trained where it lies.
        dataset: any data set of (input, label).
        epochs: passes over the data, at least 1.
        lr: learning rate, > 0.
        momentum: of SGD, 0 … 1. The optimizer's state starts empty at every call.
        batch_size: examples a step, at least 1; the last batch of an epoch may be smaller.
        penalty: of the model, a scalar that is added to each step's loss (not to those returned).
        on_epoch: called after each epoch with its number (from 1) and its mean loss.

    Returns:
        The mean training loss of each epoch.

    Raises:
        ValueError: for values out of range, an empty data set, or labels that the model's
            outputs do not cover.
    """
    if epochs < 1 or batch_size < 1 or not 0 < lr < math.inf or not 0 <= momentum <= 1:
        raise ValueError(
            f"epochs={epochs}, batch_size={batch_size}, lr={lr}, momentum={momentum}: epochs and "
            "batch_size must be at least 1, lr above 0 and finite, momentum 0 to 1"
        )
    inputs, labels = on_device_of(model, dataset)
    with evaluation_mode(model):
        check_labels(labels, classes=logits_of(model, inputs[:2]).shape[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    model.train()
    losses = []
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in torch.randperm(len(labels)).to(labels.device).split(batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs[batch]), labels[batch])
            (loss + penalty(model) if penalty else loss).backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(labels))
        if on_epoch:
            on_epoch(epoch, losses[-1])
    return losses


def train_classifier(dataset: Dataset, *, seed: int = 0, epochs: int = 10) -> DigitClassifier:
    """A new digit classifier, initialized and trained from one seed with the course's settings.

    Seeds torch's global generator; the arguments are those of ``train``.
    """
    torch.manual_seed(seed)
    model = DigitClassifier()
    train(model, dataset, epochs=epochs)
    return model
