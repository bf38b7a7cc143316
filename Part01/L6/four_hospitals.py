"""What L6's notebooks share: heart patients made ready, dealt into folds, and how to judge."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import TensorDataset

from utils.data import load_hearts

HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
NUMBERS = ("age", "blood pressure", "cholesterol", "highest pulse", "ST depression")
WORDS = {  # the answers that each question allows
    "sex": ("female", "male"),
    "chest pain": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
    "high blood sugar": ("no", "yes"),
    "resting ECG": ("normal", "st-t abnormality", "lv hypertrophy"),
    "exercise pain": ("no", "yes"),
}
FEATURES = len(NUMBERS) + sum(map(len, WORDS.values()))
FOLDS = 5
RESAMPLES = 1000


@cache
def repaired() -> dict[str, pd.DataFrame]:
    """The patients of each hospital; a cholesterol or a blood pressure of 0 was not measured."""
    hospitals = load_hearts()
    for patients in hospitals.values():
        for column in ("blood pressure", "cholesterol"):
            patients.loc[patients[column] == 0, column] = np.nan
    return hospitals


def encode(
    patients: pd.DataFrame, mean: Mapping[str, float], deviation: Mapping[str, float]
) -> torch.Tensor:
    """Columns as a network takes them: float32 ``(patients, FEATURES)``.

    Numbers lose the mean and are divided by the deviation; one that is missing becomes 0, the
    mean. Words become a 1 among zeros; one that is missing, zeros only.
    """
    numbers = [
        ((patients[c] - mean[c]) / deviation[c]).fillna(0.0).to_numpy(float) for c in NUMBERS
    ]
    words = [
        (patients[column] == word).to_numpy(float) for column in WORDS for word in WORDS[column]
    ]
    return torch.tensor(np.stack([*numbers, *words], axis=1), dtype=torch.float32)


def as_dataset(
    patients: pd.DataFrame, mean: Mapping[str, float], deviation: Mapping[str, float]
) -> TensorDataset:
    """Encoded patients, and who is sick: int64, 0 or 1."""
    return TensorDataset(
        encode(patients, mean, deviation), torch.tensor(patients["sick"].to_numpy())
    )


def fold_of(patients: pd.DataFrame, seed: int) -> np.ndarray:
    """To which of five folds each patient belongs, the sick spread evenly; ``(patients,)``."""
    dealt, sick = np.zeros(len(patients), int), patients["sick"]
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for fold, (_, inside) in enumerate(splitter.split(sick, sick)):
        dealt[inside] = fold
    return dealt


Predictor = Callable[[pd.DataFrame], np.ndarray]


def cross_validated(
    fit: Callable[[dict[str, pd.DataFrame], int], Mapping[str, Predictor]], seeds: Sequence[int]
) -> dict[str, np.ndarray]:
    """Predictions for every patient, by models that were trained without that patient.

    Args:
        fit: from the training patients of each hospital and a seed to a predictor for each
            hospital, which gives each of its patients a probability of being sick.
        seeds: one set of five folds each.

    Returns:
        For each hospital the probabilities, ``(seeds, patients)``.
    """
    hospitals = repaired()
    found = {name: np.full((len(seeds), len(p)), np.nan) for name, p in hospitals.items()}
    for row, seed in enumerate(seeds):
        folds = {name: fold_of(patients, seed) for name, patients in hospitals.items()}
        for fold in range(FOLDS):
            train = {name: p[folds[name] != fold] for name, p in hospitals.items()}
            for name, predict in fit(train, FOLDS * seed + fold).items():
                inside = folds[name] == fold
                found[name][row, inside] = predict(hospitals[name][inside])
    return found


class Estimate(NamedTuple):
    """A number, and the ends of its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def auc(probabilities: np.ndarray, sick: np.ndarray) -> np.ndarray:
    """How often a sick patient gets the higher probability of a sick and a healthy one.

    Args:
        probabilities: ``(…, patients)``.
        sick: ``(patients,)``, 0 or 1.

    Returns:
        ``(…,)``; ties count one half.
    """
    ranks, sick = rankdata(probabilities, axis=-1), sick.astype(bool)
    ill, well = sick.sum(), (~sick).sum()
    return (ranks[..., sick].sum(axis=-1) - ill * (ill + 1) / 2) / (ill * well)


def brier(probabilities: np.ndarray, sick: np.ndarray) -> np.ndarray:
    """Mean squared distance of the probabilities from what was the case: lower is better."""
    return ((probabilities - sick) ** 2).mean(axis=-1)


def excess(probabilities: np.ndarray, sick: np.ndarray) -> np.ndarray:
    """Mean probability minus the share that was sick: 0 is calibrated in the large."""
    return probabilities.mean(axis=-1) - sick.mean(axis=-1)


def estimate(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    hospital: str,
    probabilities: np.ndarray,
    minus: np.ndarray | None = None,
) -> Estimate:
    """A measure at one hospital, averaged over seeds, with a 95% interval over patients.

    The patients are drawn again a thousand times, the sick and the healthy apart (bootstrap);
    with ``minus`` both predictions are measured on the same draws: a difference in pairs.

    Args:
        measure: ``auc``, ``brier`` or ``excess``.
        hospital: whose patients.
        probabilities: ``(seeds, patients)``, as ``cross_validated`` makes them.
        minus: another model's.
    """
    sick = repaired()[hospital]["sick"].to_numpy()
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(sick == value) for value in (0, 1)]

    def measured(chosen: np.ndarray) -> float:
        found = measure(probabilities[:, chosen], sick[chosen]).mean()
        return found if minus is None else found - measure(minus[:, chosen], sick[chosen]).mean()

    draws = [
        measured(np.concatenate([rng.choice(group, len(group)) for group in groups]))
        for _ in range(RESAMPLES)
    ]
    return Estimate(float(measured(np.arange(len(sick)))), *np.quantile(draws, [0.025, 0.975]))
