"""Nine speakers, each saying the same two vowels over and over.

Japanese Vowels (Kudo, Toyama, Shimbo 1999, doi:10.24432/C5NS47, CC BY 4.0): 640 real recordings
of /ae/ by nine men, as 12 coefficients of the spectrum (LPC cepstrum) in 7 to 29 frames. The
files ship in the package aeon.
"""

from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from utils.packaged import packaged

COEFFICIENTS, FRAMES = 12, 29
_COUNTS = {"TRAIN": 270, "TEST": 370}


def load_voices() -> tuple[TensorDataset, TensorDataset]:
    """The authors' training and test recordings.

    Returns:
        Two data sets of (recording, speaker): float32 ``(12, 29)``, coefficients by frames,
        zero after the recording's last frame; int64 in 0 … 8. 30 training recordings a speaker,
        24 to 88 for testing.

    Raises:
        ModuleNotFoundError, FileNotFoundError: if the package or a file is missing.
        ValueError: if a file is not what it should be.
    """
    train, test = (_read(part, count) for part, count in _COUNTS.items())
    return train, test


def _read(part: str, count: int) -> TensorDataset:
    name = f"datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts"
    path = packaged("aeon", name, "--no-deps aeon==1.6.0")
    try:
        recordings, speakers = read_ts(path)
        if len(recordings) != count:
            raise ValueError(f"it holds {len(recordings)} recordings, not {count}")
        padded = torch.zeros(count, COEFFICIENTS, FRAMES)
        for row, recording in zip(padded, recordings, strict=True):
            row[:, : recording.shape[1]] = recording
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"'{path.name}' of the package aeon cannot be used: {error}") from None
    return TensorDataset(padded, torch.tensor(speakers) - 1)


def read_ts(path: Path) -> tuple[list[torch.Tensor], list[int]]:
    """Read a ``.ts`` file: after ``@data`` a line a series, its dimensions and label by colons.

    Returns:
        Each series, float32 ``(dimensions, length)``, and each label.

    Raises:
        ValueError: if a line is none of that, with its number.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if start is None:
        raise ValueError("it has no line '@data'")
    series, labels = [], []
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if not line.strip():
            continue
        *dimensions, label = line.split(":")
        try:
            rows = [[float(value) for value in row.split(",")] for row in dimensions]
            series.append(torch.tensor(rows))
            labels.append(int(label))
        except ValueError as error:
            raise ValueError(f"line {number} is no series with a label ({error})") from None
        if series[-1].ndim != 2 or not series[-1].isfinite().all():
            raise ValueError(f"line {number} is no series of finite numbers")
    return series, labels
