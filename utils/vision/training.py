"""Train a classifier, and judge it: loss, accuracy, confusion matrix."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from utils.vision.model import DigitClassifier


class Score(NamedTuple):
    """Mean cross-entropy (nats) and share of right answers (0 … 1)."""

    loss: float
    accuracy: float


def as_tensors(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """All examples of any data set as two tensors.

    Small images train several times faster in one block than one by one through a
    DataLoader. Data sets of tensors, their subsets and concatenations are sliced; others are
    read item by item.

    Returns:
        Inputs ``(n, …)`` and labels ``(n,)``, int64.

    Raises:
        ValueError: if the data set is empty, or does not yield (input, label) pairs.
    """
    if len(dataset) == 0:
        raise ValueError("the data set is empty; did a label filter leave nothing?")
    if isinstance(dataset, Subset):
        inputs, labels = as_tensors(dataset.dataset)
        indices = torch.as_tensor(dataset.indices)
        return inputs[indices], labels[indices]
    if isinstance(dataset, ConcatDataset):
        parts = [as_tensors(part) for part in dataset.datasets if len(part)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    if isinstance(dataset, TensorDataset):
        columns = dataset.tensors
    else:
        columns = next(iter(DataLoader(dataset, batch_size=len(dataset))))
    if len(columns) != 2 or not all(isinstance(column, torch.Tensor) for column in columns):
        raise ValueError("the data set must yield pairs of (input tensor, integer label)")
    return columns[0], columns[1].long()


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
    inputs, labels = _on_device_of(model, dataset)
    with _evaluation_mode(model):
        _check_labels(labels, classes=_logits(model, inputs[:2]).shape[1])
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


def predict(model: nn.Module, dataset: Dataset, batch_size: int = 1024) -> torch.Tensor:
    """Logits ``(n, classes)`` for every example, on the CPU, the model in evaluation mode."""
    inputs, _ = _on_device_of(model, dataset)
    with _evaluation_mode(model):
        return torch.cat([_logits(model, batch) for batch in inputs.split(batch_size)]).cpu()


def evaluate(model: nn.Module, dataset: Dataset) -> Score:
    """Loss and accuracy of a classifier on a data set, which it leaves untouched."""
    logits, labels = predict(model, dataset), as_tensors(dataset)[1]
    _check_labels(labels, classes=logits.shape[1])
    return Score(
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=(logits.argmax(1) == labels).float().mean().item(),
    )


def ensemble_accuracy(models: Iterable[nn.Module], dataset: Dataset) -> float:
    """Accuracy where the mean of the models' probabilities decides (L1 writes it out)."""
    probabilities = torch.stack([predict(model, dataset).softmax(dim=1) for model in models])
    answers = probabilities.mean(dim=0).argmax(dim=1)
    return (answers == as_tensors(dataset)[1]).float().mean().item()


def confusion_matrix(model: nn.Module, dataset: Dataset) -> torch.Tensor:
    """Counts, int64 ``(classes, classes)``: row = true label, column = predicted label."""
    logits, labels = predict(model, dataset), as_tensors(dataset)[1]
    classes = logits.shape[1]
    _check_labels(labels, classes)
    pairs = labels * classes + logits.argmax(1)
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _on_device_of(model: nn.Module, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    device = next(model.parameters()).device
    inputs, labels = as_tensors(dataset)
    return inputs.to(device), labels.to(device)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """No gradients, no dropout, no batch statistics; then each part's mode as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _logits(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    try:
        return model(inputs)
    except RuntimeError as error:  # torch reports a wrong shape from its depths
        raise ValueError(
            f"the model does not take inputs of shape {tuple(inputs.shape[1:])}: {error}"
        ) from error


def _check_labels(labels: torch.Tensor, classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"labels run from {low} to {high}, but the model has {classes} outputs, for "
            f"labels 0 to {classes - 1}"
        )
