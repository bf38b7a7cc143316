"""What L6's notebooks share: heart patients made ready, dealt into folds, and how to judge."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from matplotlib.axes import Axes
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.utils.data import TensorDataset

from utils.data import load_hearts
from utils.federation import simulate

HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
NUMBERS = ("age", "blood pressure", "cholesterol", "highest pulse", "ST depression")
WORDS = {  # the answers that each question allows
    "sex": ("female", "male"),
    "chest pain": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
    "high blood sugar": ("no", "yes"),
    "resting ECG": ("normal", "st-t abnormality", "lv hypertrophy"),
    "exercise pain": ("no", "yes"),
}
BINS = {  # of histograms
    "age": np.arange(20, 91, 5),
    "blood pressure": np.arange(0, 221, 20),
    "cholesterol": np.arange(0, 651, 25),
    "highest pulse": np.arange(40, 221, 20),
    "ST depression": np.arange(-3, 7.1, 1),
    "vessels": np.arange(0, 5),
}
PLAUSIBLE = {  # lowest and highest value of a patient that a noisy sum takes as it is
    "age": (20, 80),
    "blood pressure": (80, 200),
    "cholesterol": (100, 400),
    "highest pulse": (60, 220),
    "ST depression": (-3, 6),
}
FEATURES = len(NUMBERS) + sum(map(len, WORDS.values()))
FOLDS = 5
RESAMPLES = 1000
Scale = tuple[pd.Series, pd.Series]  # mean and deviation of each column of numbers
Predictor = Callable[[pd.DataFrame], np.ndarray]
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


@cache
def repaired() -> dict[str, pd.DataFrame]:
    """The patients of each hospital; a cholesterol or a blood pressure of 0 was not measured."""
    hospitals = load_hearts()
    for patients in hospitals.values():
        for column in ("blood pressure", "cholesterol"):
            patients.loc[patients[column] == 0, column] = np.nan
    return hospitals


def scale_of(tables: Iterable[pd.DataFrame]) -> Scale:
    """Mean and deviation of these patients' numbers; 0 and 1 where a column is empty."""
    numbers = pd.concat(tables)[list(NUMBERS)]
    return numbers.mean().fillna(0), numbers.std(ddof=0).fillna(1)


def scaled(patients: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The patients, their numbers with that mean and deviation taken out."""
    mean, deviation = scale
    return patients.assign(**{c: (patients[c] - mean[c]) / deviation[c] for c in NUMBERS})


def encode(patients: pd.DataFrame, scale: Scale) -> torch.Tensor:
    """Columns as a network takes them: float32 ``(patients, FEATURES)``.

    Numbers are scaled; one that is missing becomes 0, the mean. Words become a 1 among zeros; one
    that is missing, zeros only.
    """
    numbers = scaled(patients, scale)[list(NUMBERS)].fillna(0.0).to_numpy(float)
    words = [(patients[column] == word) for column in WORDS for word in WORDS[column]]
    both = np.hstack([numbers, np.stack(words, axis=1)])
    return torch.tensor(both, dtype=torch.float32)


def as_dataset(patients: pd.DataFrame, scale: Scale) -> TensorDataset:
    """Encoded patients, and who is sick: int64, 0 or 1."""
    return TensorDataset(encode(patients, scale), torch.tensor(patients["sick"].to_numpy()))


def fold_of(patients: pd.DataFrame, seed: int) -> np.ndarray:
    """To which of five folds each patient belongs, the sick spread evenly; ``(patients,)``."""
    dealt, sick = np.zeros(len(patients), int), patients["sick"]
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for fold, (_, inside) in enumerate(splitter.split(sick, sick)):
        dealt[inside] = fold
    return dealt


def network() -> nn.Sequential:
    """One hidden layer of 16; the output is the log-odds of being sick."""
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 1))


def predictor(model: nn.Module, scale: Scale) -> Predictor:
    """From patients to their probabilities of being sick, of a model that gives log-odds."""

    def predict(patients: pd.DataFrame) -> np.ndarray:
        with torch.no_grad():
            return model(encode(patients, scale))[:, 0].sigmoid().numpy()

    return predict


def cross_validated(
    fit: Callable[[dict[str, pd.DataFrame], int], Mapping[str, Predictor]],
    seeds: Sequence[int],
    hospitals: Mapping[str, pd.DataFrame] | None = None,
) -> dict[str, np.ndarray]:
    """Predictions for every patient, by models that were trained without that patient.

    Args:
        fit: from the training patients of each hospital and a seed to a predictor for each
            hospital, which gives each of its patients a probability of being sick.
        seeds: one random split into five folds each.
        hospitals: the patients by hospital; by default ``repaired()``.

    Returns:
        For each hospital the probabilities, ``(seeds, patients)``.
    """
    hospitals = repaired() if hospitals is None else hospitals
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
        value, low, high = (round(x, 2) + 0.0 for x in self)  # no minus before a zero
        return f"{value:.2f} [{low:.2f}, {high:.2f}]"


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
    measure: Measure,
    hospital: str,
    probabilities: np.ndarray,
    minus: np.ndarray | None = None,
) -> Estimate:
    """A measure at one hospital, averaged over seeds, with a 95% interval over patients.

    The patients are drawn again a thousand times (bootstrap); for the AUC the sick and the
    healthy apart, so that there are some of either. With ``minus`` both predictions are measured
    on the same draws: a difference in pairs. What another training would have changed is not in
    the interval.

    Args:
        measure: ``auc``, ``brier`` or ``excess``.
        hospital: whose patients.
        probabilities: ``(seeds, patients)``, as ``cross_validated`` makes them.
        minus: another model's.
    """
    sick = repaired()[hospital]["sick"].to_numpy()
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(sick == value) for value in (0, 1)]
    groups = groups if measure is auc else [np.arange(len(sick))]
    draws = np.hstack([rng.choice(group, (RESAMPLES, len(group))) for group in groups])

    def measured(chosen: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        found = measure(probabilities[:, chosen], outcome).mean(axis=0)
        return found if minus is None else found - measure(minus[:, chosen], outcome).mean(axis=0)

    # drawn apart, the healthy come first in each draw, and then the sick
    again = measured(draws, sick[draws[0]] if measure is auc else sick[draws])
    value = measured(np.arange(len(sick)), sick)
    return Estimate(float(value), *np.quantile(again, [0.025, 0.975]))


def score(measure: Measure, hospital: str, probabilities: np.ndarray) -> float:
    """A measure at one hospital, averaged over seeds: ``estimate`` without the interval."""
    return float(measure(probabilities, repaired()[hospital]["sick"].to_numpy()).mean())


def by_hospital(
    measure: Measure,
    found: Mapping[str, Mapping[str, np.ndarray]],
    names: Iterable[str],
    minus: str | None = None,
) -> dict[str, dict[str, Estimate]]:
    """Estimates by model and hospital.

    Args:
        measure: ``auc``, ``brier`` or ``excess``.
        found: by model and hospital the probabilities.
        names: of the models wanted.
        minus: a model that is subtracted, in pairs.
    """
    other = found.get(minus, {})
    return {
        name: {h: estimate(measure, h, p, other.get(h)) for h, p in found[name].items()}
        for name in names
    }


def ask(client_app: ClientApp, question: Mapping | None = None) -> dict[str, RecordDict]:
    """Send all four hospitals one *query* message, and collect what they answer.

    Args:
        client_app: with a function for queries.
        question: what the message's ``"config"`` says.
    """
    server_app, answers = ServerApp(), []

    @server_app.main()
    def main(grid, context):
        nodes, content = grid.get_node_ids(), RecordDict({"config": ConfigRecord(question or {})})
        messages = [Message(content, node, message_type="query") for node in nodes]
        found = {r.metadata.src_node_id: r.content for r in grid.send_and_receive(messages)}
        answers.extend(found[node] for node in nodes)

    simulate(server_app, client_app, len(HOSPITALS), progress=False)
    return dict(zip(HOSPITALS, answers, strict=True))


def dots_by_hospital(
    ax: Axes, estimates: Mapping[str, Mapping[str, Estimate]], xlabel: str, colors: Mapping
) -> None:
    """A row a hospital, in it a dot with its 95% interval for each model, named in the first.

    Args:
        ax: to draw on.
        estimates: by model and hospital.
        xlabel: what is measured.
        colors: by model.
    """
    for place, (model, found) in enumerate(estimates.items()):
        rows = np.arange(len(HOSPITALS)) + 0.18 * (place - (len(estimates) - 1) / 2)
        value, low, high = np.array([found[hospital] for hospital in HOSPITALS]).T
        ends, color = [value - low, high - value], colors[model]
        ax.errorbar(value, rows, xerr=ends, fmt="o", ms=5, lw=1.5, color=color)
        spot = {"xytext": (-6, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
        ax.annotate(model, (low[0], rows[0]), color=color, fontsize=8, **spot)
    ax.set(xlabel=xlabel, yticks=range(len(HOSPITALS)), yticklabels=HOSPITALS)
    ax.set_ylim(len(HOSPITALS) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
