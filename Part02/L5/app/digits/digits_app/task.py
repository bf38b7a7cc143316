"""What a clinic holds, and where it lies."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context
from torch.utils.data import Dataset, TensorDataset

from utils.data import as_tensors, load_digits, missing_digits, split_hospitals
from utils.privacy.secure_aggregation import Terms

# Where updates are masked: what clinics and server must agree on beforehand.
TERMS = Terms(clip=1.0, max_clients=20, max_weight=4000)


@cache
def deal_out(count: int) -> list[Dataset]:
    """Training digits of so many clinics, at least 2; two clinics know each digit."""
    return split_hospitals(load_digits()[0], missing_digits(count, known_by=2))


def save(own: Dataset, folder: Path) -> None:
    """Write one clinic's digits into its folder: two NumPy files."""
    images, labels = as_tensors(own)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", images.numpy())
    np.save(folder / "labels.npy", labels.numpy())


def load(folder: Path) -> Dataset:
    """Read them back."""
    files = folder / "images.npy", folder / "labels.npy"
    return TensorDataset(*(torch.as_tensor(np.load(file)) for file in files))


def own_data(context: Context) -> Dataset:
    """A clinic's digits: from its own folder; in a simulation, where it has none, dealt out."""
    if folder := context.node_config.get("data-folder"):
        return load(Path(folder))
    return deal_out(context.node_config["num-partitions"])[context.node_config["partition-id"]]
