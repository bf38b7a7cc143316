"""Judge a classifier: loss, accuracy, confusion matrix."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from utils.arguments import list_of, shown, whole_number
from utils.data.tensors import as_tensors


class Score(NamedTuple):
    """Mean cross-entropy (nats) and share of right answers (0 … 1)."""

    loss: float
    accuracy: float


def predict(model: nn.Module, dataset: Dataset, batch_size: int = 1024) -> torch.Tensor:
    """Logits ``(n, classes)`` for every example, on the CPU, the model in evaluation mode."""
    batch_size = whole_number("batch_size", batch_size, 1)
    inputs, _ = on_device_of(model, dataset)
    batches = inputs.split(min(batch_size, len(inputs)))
    with evaluation_mode(model):
        return torch.cat([logits_of(model, batch) for batch in batches]).cpu()


def evaluate(model: nn.Module, dataset: Dataset) -> Score:
    """Loss and accuracy of a classifier on a data set, which it leaves untouched."""
    logits, labels = predict(model, dataset), as_tensors(dataset)[1]
    check_labels(labels, classes=logits.shape[1])
    return Score(
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=(logits.argmax(1) == labels).float().mean().item(),
    )


def ensemble_accuracy(models: Iterable[nn.Module], dataset: Dataset) -> float:
    """Accuracy where the mean of the models' probabilities decides (L1 writes it out)."""
    if isinstance(models, nn.Module):  # a Sequential is a list of its layers
        raise ValueError("models is one model; it must be a list of models")
    probabilities = [
        predict(model, dataset).softmax(dim=1) for model in list_of("models", models, "models")
    ]
    if len({p.shape for p in probabilities}) != 1:
        raise ValueError(
            f"the models' outputs are {[p.shape[1] for p in probabilities]}: at least one model is "
            "needed, and the same number of outputs from each"
        )
    labels = as_tensors(dataset)[1]
    check_labels(labels, classes=probabilities[0].shape[1])
    answers = torch.stack(probabilities).mean(dim=0).argmax(dim=1)
    return (answers == labels).float().mean().item()


def confusion_matrix(model: nn.Module, dataset: Dataset) -> torch.Tensor:
    """Counts, int64 ``(classes, classes)``: row = true label, column = predicted label."""
    logits, labels = predict(model, dataset), as_tensors(dataset)[1]
    classes = logits.shape[1]
    check_labels(labels, classes)
    pairs = labels * classes + logits.argmax(1)
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def on_device_of(model: nn.Module, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """All inputs and labels, where the model lies.

    Raises:
        ValueError: if that is no model, or of another precision than the inputs.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model is {shown(model)}; it must be a torch.nn.Module, made by calling its class"
        )
    inputs, labels = as_tensors(dataset)
    weight = next(model.parameters(), inputs)  # a model without weights takes anything
    if inputs.is_floating_point() and weight.is_floating_point() and inputs.dtype != weight.dtype:
        raise ValueError(
            f"the model's weights are {weight.dtype}, the inputs {inputs.dtype}; convert one of "
            "them, for example with model.float()"
        )
    return inputs.to(weight.device), labels.to(weight.device)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """No gradients, no dropout, no batch statistics; then each part's mode as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def logits_of(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """The model's outputs ``(n, classes)``; a wrong shape is named.

    Raises:
        ValueError: if the model does not take such inputs, or returns something else.
    """
    shape = tuple(inputs.shape)
    try:
        logits = model(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:  # from torch's depths
        hint = "; batch norm needs more than one example a batch" if shape[0] == 1 else ""
        raise ValueError(
            f"the model does not take inputs of shape {shape}: {error}{hint}"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(inputs):
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"the model made {found} of inputs of shape {shape}; it must return logits (n, classes)"
        )
    return logits


def check_labels(labels: torch.Tensor, classes: int) -> None:
    """Refuse labels that the model's outputs do not cover.

    Raises:
        ValueError: with the labels found.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"labels run from {low} to {high}, but the model has {classes} outputs, for "
            f"labels 0 to {classes - 1}"
        )
