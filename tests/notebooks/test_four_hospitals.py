"""What L6's notebooks share: patients made ready, folds, and how to judge."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.metrics import brier_score_loss, roc_auc_score

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hearts():
    path = ROOT / "Part01/L6/four_hospitals.py"
    spec = importlib.util.spec_from_file_location("four_hospitals", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_zero_of_cholesterol_or_pressure_is_missing_and_other_zeros_stay(hearts):
    patients = pd.concat(hearts.repaired().values())
    assert (patients["cholesterol"] == 0).sum() == 0
    assert patients["cholesterol"].isna().sum() == 30 + 172  # missing, and recorded as 0
    assert patients["blood pressure"].min() == 80
    assert (patients["ST depression"] == 0).any()


def test_a_patient_is_encoded_by_the_scale_with_missing_values_at_the_mean(hearts):
    patients = pd.DataFrame(
        {
            **{key: [1.0, np.nan] for key in hearts.NUMBERS},
            "sex": ["male", "female"],
            "chest pain": ["asymptomatic", np.nan],
            "high blood sugar": ["no", "yes"],
            "resting ECG": ["normal", "normal"],
            "exercise pain": ["yes", np.nan],
        }
    )
    scale = (
        pd.Series(dict.fromkeys(hearts.NUMBERS, 3.0)),
        pd.Series(dict.fromkeys(hearts.NUMBERS, 2.0)),
    )
    encoded = hearts.encode(patients, scale)
    assert encoded.shape == (2, hearts.FEATURES)
    assert encoded.dtype == torch.float32
    assert encoded[0].tolist() == [-1.0] * 5 + [0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1]
    assert encoded[1].tolist() == [0.0] * 5 + [1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]


def test_the_scale_of_an_empty_column_is_0_and_1(hearts):
    mean, deviation = hearts.scale_of([hearts.repaired()["Switzerland"]])
    assert (mean["cholesterol"], deviation["cholesterol"]) == (0, 1)
    everyone = pd.concat(hearts.repaired().values())
    mean, deviation = hearts.scale_of(hearts.repaired().values())
    assert mean["age"] == pytest.approx(everyone["age"].mean())
    assert deviation["age"] == pytest.approx(everyone["age"].std(ddof=0))


def test_folds_are_of_like_size_hold_like_shares_of_the_sick_and_repeat(hearts):
    patients = hearts.repaired()["VA Long Beach"]
    folds = hearts.fold_of(patients, seed=3)
    assert np.bincount(folds).tolist() == [40] * 5
    sick = [patients["sick"][folds == fold].sum() for fold in range(5)]
    assert max(sick) - min(sick) <= 1
    assert (folds == hearts.fold_of(patients, seed=3)).all()
    assert (folds != hearts.fold_of(patients, seed=4)).any()


def test_nobody_is_judged_by_a_model_that_was_trained_with_them(hearts):
    sizes = {name: len(patients) for name, patients in hearts.repaired().items()}
    trained = []

    def fit(train, seed):
        trained.append(seed)
        return {
            name: lambda patients, own=own: patients.index.isin(own.index).astype(float)
            for name, own in train.items()
        }

    found = hearts.cross_validated(fit, seeds=[0, 2])
    assert trained == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    for name, met_before in found.items():
        assert met_before.shape == (2, sizes[name])
        assert (met_before == 0).all()


def test_auc_and_brier_are_scikit_learns_ties_included(hearts):
    rng = np.random.default_rng(0)
    sick = rng.integers(0, 2, 60)
    probabilities = rng.integers(0, 9, (3, 60)) / 8
    auc = [roc_auc_score(sick, row) for row in probabilities]
    assert hearts.auc(probabilities, sick) == pytest.approx(auc)
    brier = [brier_score_loss(sick, row) for row in probabilities]
    assert hearts.brier(probabilities, sick) == pytest.approx(brier)
    assert hearts.excess(probabilities, sick) == pytest.approx(probabilities.mean(1) - sick.mean())


def test_an_estimate_holds_its_value_and_an_interval_that_shrinks_in_pairs(hearts):
    sick = hearts.repaired()["Hungary"]["sick"].to_numpy()
    rng = np.random.default_rng(1)
    one = np.clip(0.4 * sick + rng.normal(0.3, 0.2, (2, len(sick))), 0, 1)
    other = np.clip(one + rng.normal(0, 0.02, one.shape), 0, 1)
    alone = hearts.estimate(hearts.auc, "Hungary", one)
    assert alone.value == pytest.approx(np.mean([roc_auc_score(sick, row) for row in one]))
    assert alone.low < alone.value < alone.high
    standard = np.sqrt(2 * 0.9 * 0.1 / min(sick.sum(), (1 - sick).sum()))
    assert 0.02 < alone.high - alone.low < 4 * standard
    paired = hearts.estimate(hearts.auc, "Hungary", one, minus=other)
    assert paired.value == pytest.approx(
        (hearts.auc(one, sick) - hearts.auc(other, sick)).mean(), abs=1e-12
    )
    assert paired.high - paired.low < (alone.high - alone.low) / 3
    assert hearts.estimate(hearts.auc, "Hungary", one, minus=one) == (0, 0, 0)
    assert str(hearts.Estimate(0.5, 0.4, 0.6)) == "0.50 [0.40, 0.60]"


def test_an_interval_over_patients_holds_the_truth_as_often_as_it_says(hearts):
    """The excess of honest probabilities is 0; 95% intervals hold that 19 times in 20."""
    sick = hearts.repaired()["Cleveland"]["sick"].to_numpy()
    rng, held = np.random.default_rng(0), 0
    for _ in range(60):
        shift = rng.normal(0, 0.3, len(sick))
        drawn = hearts.estimate(lambda p, s: p.mean(axis=-1), "Cleveland", shift[None])
        held += drawn.low <= 0 <= drawn.high
    assert 51 <= held <= 60


def test_a_question_goes_to_all_four_and_the_answers_come_by_name(hearts):
    app = ClientApp()

    @app.query()
    def number(message, context):
        asked = message.content["config"]["add"]
        n = context.node_config["partition-id"] + asked
        return Message(RecordDict({"said": MetricRecord({"n": n})}), reply_to=message)

    said = {name: reply["said"]["n"] for name, reply in hearts.ask(app, {"add": 10}).items()}
    assert said == {"Cleveland": 10, "Hungary": 11, "Switzerland": 12, "VA Long Beach": 13}
