"""The success of a membership attack, calibrated: known distributions, intervals that cover."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from utils.attacks import log_odds, membership


def test_log_odds_are_exact_also_where_the_loss_is_zero():
    probabilities = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]], requires_grad=True)
    odds = log_odds(probabilities.log(), torch.tensor([1, 0]))
    assert odds == pytest.approx([0, math.log(9)], abs=1e-6)
    assert odds.dtype == np.float64
    assert log_odds(torch.tensor([[100.0, 0, 0]]), [0]) == pytest.approx([100 - math.log(2)])


def test_logits_and_labels_that_do_not_belong_together_are_refused():
    logits = torch.zeros(2, 3)
    for bad_logits, labels, said in [
        (None, [0, 1], "logits are None"),
        (torch.zeros(3), [0, 1], "must be a tensor"),
        (torch.zeros(2, 1), [0, 0], "2 classes or more"),
        (logits, [0], "1 labels for 2 rows"),
        (logits, torch.tensor([0, 3]), "labels run from 0 to 3"),
        (logits, torch.tensor([0.5, 1]), "vector of whole numbers"),
        (logits, [0, 1.0], "a label is 1.0"),
        (logits, "01", "labels is '01'"),
        (torch.zeros(0, 3), [], "0 labels for 0 rows"),
    ]:
        with pytest.raises(ValueError, match=said):
            log_odds(bad_logits, labels)


def test_auc_and_tpr_of_known_distributions():
    random = np.random.default_rng(0)
    result = membership(random.normal(1, 1, 4000), random.normal(0, 1, 4000), resamples=100)
    assert result.auc == pytest.approx(0.7602, abs=0.02)  # Phi(1 / sqrt 2)
    assert result.tpr == pytest.approx(0.0923, abs=0.03)  # 1 - Phi(2.326 - 1)
    assert result.auc_interval[0] < result.auc < result.auc_interval[1]
    assert result.auc_interval[1] - result.auc_interval[0] == pytest.approx(0.021, abs=0.005)
    assert result.tpr_interval[0] <= result.tpr <= result.tpr_interval[1]


@given(
    arrays(np.int64, st.integers(20, 40), elements=st.integers(-5, 5)),
    arrays(np.int64, st.integers(20, 40), elements=st.integers(-5, 5)),
)
@settings(max_examples=30, deadline=None)
def test_the_auc_is_that_of_sklearn_also_with_ties(members, strangers):
    truth = np.r_[np.ones(len(members)), np.zeros(len(strangers))]
    expected = roc_auc_score(truth, np.r_[members, strangers])
    assert membership(members, strangers, resamples=2).auc == pytest.approx(expected)


def test_perfect_and_reversed_scores():
    low, high = np.arange(50.0), np.arange(50.0) + 100
    assert membership(high, low, resamples=10) == (1, (1, 1), 1, (1, 1))
    assert membership(low, high, resamples=10) == (0, (0, 0), 0, (0, 0))


def test_exactly_the_asked_share_of_strangers_may_be_accused():
    strangers = np.random.default_rng(0).permutation(200)
    for fpr, allowed in [(None, 2), (0.01, 2), (0.0, 0), (0.29, 58), (0.0149, 2), (0.995, 199)]:
        options = {"resamples": 2} | ({} if fpr is None else {"fpr": fpr})
        for score, expected in [(199.5 - allowed, 1), (198.5 - allowed, 0)]:
            assert membership(np.full(50, score), strangers, **options).tpr == expected
        tied = np.full(50, 199.0 - allowed)  # a stranger's own score is not above it
        assert membership(tied, strangers, **options).tpr == 0


def test_the_intervals_cover_the_truth_and_repeat_exactly():
    covered = {"auc": 0, "tpr": 0}
    for seed in range(20):
        random = np.random.default_rng(seed)
        scores = random.normal(1.5, 1, 400), random.normal(0, 1, 400)
        result = membership(*scores, resamples=40, fpr=0.05)
        covered["auc"] += result.auc_interval[0] <= 0.8556 <= result.auc_interval[1]
        covered["tpr"] += result.tpr_interval[0] <= 0.4424 <= result.tpr_interval[1]
        assert result.tpr_interval[1] - result.tpr_interval[0] < 0.3
    assert min(covered.values()) >= 15  # 19 expected; under 15 once in 1,000 times
    assert membership(*scores, resamples=40, fpr=0.05) == result
    few = [half[:40] for half in scores]
    assert membership(*few) == membership(*few, resamples=500, fpr=0.01)


def test_scores_and_settings_that_say_nothing_are_refused():
    good = np.arange(20.0)
    membership(good, good, resamples=2)
    ragged = [[1.0], [1.0, 2.0]] * 20
    for bad in (np.zeros(19), np.full(50, np.nan), np.r_[good, np.inf], np.zeros((50, 2)), ragged):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(ValueError, match="at least 20 finite numbers"):
                membership(*pair)
    for bad in (None, "scores", ["high"] * 20, 3.0):
        with pytest.raises(ValueError, match="at least 20 finite numbers"):
            membership(good, bad)
    for fpr in (-0.1, 1, math.nan, None, "1%"):
        with pytest.raises(ValueError, match=r"fpr is .* at least 0 and below 1"):
            membership(good, good, fpr=fpr)
    for resamples in (1, 0, None, 100.0):
        with pytest.raises(ValueError, match=r"resamples is .* whole number from 2 to"):
            membership(good, good, resamples)
