"""Train a classifier."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

from utils.arguments import function, number, seed_number, whole_number
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

    Batch norm needs more than one example: in a model with such layers, a last batch of one
    joins the batch before it.

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
        ValueError: for values out of range, an empty data set, labels that the model's outputs
            do not cover, or a batch norm that gets a single number a channel.
        TypeError: if ``penalty`` or ``on_epoch`` is no function.
    """
    epochs, batch_size = (
        whole_number("epochs", epochs, 1),
        whole_number("batch_size", batch_size, 1),
    )
    lr, momentum = number("lr", lr, above=0), number("momentum", momentum, least=0, most=1)
    examples = "lambda model: 0.01 * model[1].weight.norm()", "lambda epoch, loss: print(loss)"
    for name, given, example in zip(
        ("penalty", "on_epoch"), (penalty, on_epoch), examples, strict=True
    ):
        if given is not None:
            function(name, given, example)
    inputs, labels = on_device_of(model, dataset)
    batch_size = min(batch_size, len(labels))
    with evaluation_mode(model):
        check_labels(labels, classes=logits_of(model, inputs[:2]).shape[1])
    has_batch_norm = any(isinstance(module, _BatchNorm) for module in model.modules())
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    model.train()
    losses = []
    for epoch in range(1, epochs + 1):
        total = 0.0
        batches = torch.randperm(len(labels)).to(labels.device).split(batch_size)
        if has_batch_norm and len(batches[-1]) == 1:
            batches = (*batches[:-2], torch.cat(batches[-2:]))
        for batch in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(logits_of(model, inputs[batch]), labels[batch])
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
    torch.manual_seed(seed_number(seed))
    model = DigitClassifier()
    train(model, dataset, epochs=epochs)
    return model
