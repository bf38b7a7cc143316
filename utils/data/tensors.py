"""Data sets as tensors."""

import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset


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


def labels_of(dataset: Dataset) -> torch.Tensor:
    """All labels of a data set, int64 ``(n,)``."""
    return as_tensors(dataset)[1]
