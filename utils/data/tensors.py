"""Data sets as tensors."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from utils.arguments import list_of, shown, whole_number


def as_tensors(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """All examples of any data set as two tensors.

    Small images train several times faster in one block than one by one through a
    DataLoader. Data sets of tensors, their subsets and concatenations are sliced; others are
    read item by item.

    Returns:
        Inputs ``(n, …)`` and labels ``(n,)``, int64.

    Raises:
        ValueError: if the data set is empty, has no length, or does not yield pairs of an input
            tensor and a whole number.
    """
    none = isinstance(dataset, str | bytes | type | Mapping | torch.Tensor | np.ndarray)
    if none or not all(hasattr(dataset, a) for a in ("__len__", "__getitem__")):
        raise ValueError(
            f"the data set is {shown(dataset)}; it must be a Dataset with a length, of (input, "
            "label) pairs (of a DataLoader: its .dataset; of tensors: TensorDataset(x, y))"
        )
    if len(dataset) == 0:
        raise ValueError("the data set is empty; did a label filter leave nothing?")
    if isinstance(dataset, Subset):
        return _chosen(*as_tensors(dataset.dataset), torch.as_tensor(dataset.indices))
    if isinstance(dataset, ConcatDataset):
        parts = [as_tensors(part) for part in dataset.datasets if len(part)]
        shapes = {tuple(inputs.shape[1:]) for inputs, _ in parts}
        if len(shapes) > 1:
            raise ValueError(
                f"the inputs of the joined data sets differ in shape: {sorted(shapes)}"
            )
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    columns = dataset.tensors if isinstance(dataset, TensorDataset) else _read(dataset)
    kinds = [isinstance(c, torch.Tensor) for c in columns] if isinstance(columns, Sequence) else []
    if kinds != [True, True]:
        raise ValueError("the data set must yield pairs of (input tensor, integer label)")
    return columns[0], whole_labels(columns[1])


def whole_labels(labels: torch.Tensor | Iterable[int]) -> torch.Tensor:
    """The labels as int64 ``(n,)``; floats are taken if they are whole.

    Raises:
        ValueError: if they are no vector of whole numbers.
    """
    if not isinstance(labels, torch.Tensor):
        whole = [whole_number("a label", x, 0) for x in list_of("labels", labels, "whole numbers")]
        return torch.tensor(whole, dtype=torch.int64)
    if labels.ndim != 1 or not torch.equal(labels, labels.long().to(labels.dtype)):
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; they must be a vector of "
            "whole numbers"
        )
    return labels.long()


def _chosen(
    inputs: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        return inputs[indices], labels[indices]
    except IndexError as error:
        raise ValueError(f"a subset does not fit its data set of {len(labels)}: {error}") from error


def _read(dataset: Dataset) -> object:
    try:
        return next(iter(DataLoader(dataset, batch_size=len(dataset))))
    except (RuntimeError, TypeError, KeyError, IndexError) as error:  # torch cannot stack them
        raise ValueError(
            "the data set must yield pairs of (input tensor, integer label), all of one shape: "
            f"{error}"
        ) from error


def labels_of(dataset: Dataset) -> torch.Tensor:
    """All labels of a data set, int64 ``(n,)``."""
    return as_tensors(dataset)[1]
