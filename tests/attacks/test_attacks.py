"""Attacks: exact where they claim to be, calibrated where they are statistical."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from utils import vision
from utils.attacks import (
    compare_images,
    empirical_epsilon,
    inputs_in_linear_gradient,
    invert_gradient,
    log_odds,
    membership,
)
from utils.privacy import gaussian_epsilon


@pytest.fixture(scope="module")
def digits():
    images, labels = vision.as_tensors(vision.load_digits()[0])
    return images, labels


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return vision.DigitClassifier()


def gradient_of(model, images, labels):
    return torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))


def test_one_image_is_read_exactly_from_every_active_unit(digits, model):
    image, label = digits[0][:1], digits[1][:1]
    weight, bias, *_ = gradient_of(model, image, label)
    rows = inputs_in_linear_gradient(weight, bias)
    assert len(rows) > 10
    assert torch.allclose(rows, image.flatten().expand_as(rows), atol=1e-4)


def test_one_image_survives_several_local_steps(digits, model):
    image, label = digits[0][:1], digits[1][:1]
    trained = copy.deepcopy(model)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(trained(image), label).backward()
        optimizer.step()
    weight, bias = (
        (a - b).detach()
        for a, b in zip(trained[1].parameters(), model[1].parameters(), strict=True)
    )
    strongest = inputs_in_linear_gradient(weight, bias)[bias[bias != 0].abs().argmax()]
    assert torch.allclose(strongest, image.flatten(), atol=1e-3)


def test_rows_of_a_batch_are_weighted_means_of_its_images():
    inputs, signals = torch.randn(3, 5), torch.randn(3, 2)
    rows = inputs_in_linear_gradient(signals.T @ inputs, signals.sum(0))
    assert torch.allclose(rows, (signals / signals.sum(0)).T @ inputs, atol=1e-5)


def test_silent_units_are_left_out_and_shapes_are_checked():
    rows = inputs_in_linear_gradient(torch.ones(3, 4), torch.tensor([0.0, 2.0, 0.0]))
    assert rows.tolist() == [[0.5] * 4]
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(4,\); expected"):
        inputs_in_linear_gradient(torch.ones(3, 4), torch.ones(4))


def test_a_batch_is_recovered_from_its_gradient_and_not_from_another(digits, model):
    images, labels = digits[0][:4], digits[1][:4]
    low, high = images.min().item(), images.max().item()
    found = {}
    for name, seen in (("its own", images), ("another", digits[0][100:104])):
        torch.manual_seed(0)
        gradient = gradient_of(model, seen, labels)
        recovered = invert_gradient(model, gradient, labels, (1, 28, 28), low=low, high=high)
        found[name] = compare_images(recovered, images, low=low, high=high).ssim.mean()
        assert recovered.min() >= low
        assert recovered.max() <= high
    assert found["its own"] > 0.7
    assert found["another"] < 0.4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g[:-1], "the gradient's shapes are"),
        (lambda g: [torch.zeros_like(p) for p in g], "zero or not finite"),
        (lambda g: [p * math.nan for p in g], "zero or not finite"),
    ],
)
def test_a_gradient_that_says_nothing_is_refused(change, message, digits, model):
    gradient = change(gradient_of(model, digits[0][:1], digits[1][:1]))
    with pytest.raises(ValueError, match=message):
        invert_gradient(model, gradient, digits[1][:1], (1, 28, 28))


def test_images_are_matched_in_any_order_and_a_copy_is_perfect(digits):
    images = ((digits[0][:3] + 0.5) / 4).clamp(0, 1)
    likeness = compare_images(images[[2, 0, 1]], images)
    assert likeness.best.tolist() == [1, 2, 0]
    assert likeness.ssim == pytest.approx([1, 1, 1])
    assert np.isinf(likeness.psnr).all()


def test_psnr_is_that_of_the_mean_squared_error():
    images = torch.full((1, 1, 8, 8), 0.5)
    likeness = compare_images(images + 0.1, images)
    assert likeness.psnr == pytest.approx([20.0], abs=1e-4)  # 10 log10(1 / 0.01)


def test_noise_is_not_like_an_image(digits):
    images = ((digits[0][:3] + 0.5) / 4).clamp(0, 1)
    likeness = compare_images(torch.rand(3, 1, 28, 28), images)
    assert likeness.ssim.max() < 0.2


def test_images_that_cannot_be_matched_are_refused():
    with pytest.raises(ValueError, match="at least as many"):
        compare_images(torch.zeros(1, 1, 8, 8), torch.zeros(2, 1, 8, 8))


def test_log_odds_are_exact_also_where_the_loss_is_zero():
    probabilities = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    odds = log_odds(probabilities.log(), torch.tensor([1, 0]))
    assert odds == pytest.approx([0.0, math.log(9)], abs=1e-6)
    assert log_odds(torch.tensor([[100.0, 0.0, 0.0]]), torch.tensor([0])) == pytest.approx(
        [100 - math.log(2)]
    )


def test_auc_and_tpr_of_known_distributions():
    random = np.random.default_rng(0)
    result = membership(random.normal(1, 1, 4000), random.normal(0, 1, 4000), resamples=200)
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
    assert membership(high, low)[::2] == (1.0, 1.0)
    assert membership(low, high)[::2] == (0.0, 0.0)


def test_at_most_1_percent_of_strangers_are_accused():
    strangers = np.arange(200.0)
    assert membership(np.full(50, 197.5), strangers).tpr == 1.0  # 198 and 199 may be accused
    assert membership(np.full(50, 196.5), strangers).tpr == 0.0


def test_the_auc_interval_covers_the_truth():
    covered = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        scores = random.normal(0.5, 1, 100), random.normal(0, 1, 100)
        low, high = membership(*scores, resamples=200).auc_interval
        covered += low <= 0.6382 <= high
    assert covered >= 50  # 57 expected; under 50 once in 500 times


def test_the_tpr_interval_covers_the_truth_given_enough_strangers():
    covered = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        scores = random.normal(1.5, 1, 400), random.normal(0, 1, 400)
        low, high = membership(*scores, resamples=50, fpr=0.05).tpr_interval
        covered += low <= 0.4424 <= high  # 1 - Phi(1.645 - 1.5)
        assert high - low < 0.3
    assert covered >= 33  # 38 expected; under 33 once in 1,000 times


def test_another_false_positive_rate_can_be_asked_for():
    strangers = np.arange(100.0)
    members = np.full(50, 70.5)
    assert membership(members, strangers, resamples=20, fpr=0.29).tpr == 1.0  # 71 … 99: 29
    assert membership(members, strangers, resamples=20, fpr=0.28).tpr == 0.0
    assert membership(np.full(50, 99.5), strangers, resamples=20, fpr=0.0).tpr == 1.0


@pytest.mark.parametrize("fpr", [-0.1, 1.0, math.nan])
def test_a_false_positive_rate_out_of_range_is_refused(fpr):
    with pytest.raises(ValueError, match=r"fpr is .* at least 0, below 1"):
        membership(np.arange(50.0), np.arange(50.0), fpr=fpr)


@pytest.mark.parametrize("z", [1.0, 3.0])
def test_the_empirical_epsilon_stays_below_the_true_one_and_comes_near(z):
    true, bounds = gaussian_epsilon(z, 1e-3), []
    for seed in range(40):
        random = np.random.default_rng(seed)
        outside = random.normal(0, z, 4000)
        bounds.append(empirical_epsilon(random.normal(1, z, 4000), outside, 1e-3))
    assert sum(bound > true for bound in bounds) <= 6  # 5% of 40 is 2
    assert np.median(bounds) > 0.25 * true


def test_a_mechanism_with_too_little_noise_is_caught():
    random = np.random.default_rng(0)
    scores = random.normal(1, 0.25, 4000), random.normal(0, 0.25, 4000)
    assert empirical_epsilon(*scores, delta=1e-3) > gaussian_epsilon(1.0, 1e-3)


def test_randomized_response_is_bounded_by_its_epsilon():
    random = np.random.default_rng(0)
    truthful = random.random((2, 20_000)) < 0.75  # epsilon = ln 3
    inside, outside = np.where(truthful, [[1.0], [0.0]], [[0.0], [1.0]])
    bound = empirical_epsilon(inside, outside, delta=0.0)
    assert 0.95 * math.log(3) < bound < math.log(3)


def test_the_other_direction_is_tested_too():
    """Scores in [0, 1] where only 'was not in' can ever be certain."""
    random = np.random.default_rng(0)
    inside = np.ones(4000)
    outside = (random.random(4000) < 0.9).astype(float)
    assert empirical_epsilon(inside, outside, delta=0.0) > 3


def test_scores_that_say_nothing_give_zero():
    random = np.random.default_rng(0)
    assert empirical_epsilon(*random.normal(size=(2, 1000)), delta=1e-5) < 0.3
    assert empirical_epsilon(np.zeros(100), np.zeros(100), delta=1e-5) == 0.0


@pytest.mark.parametrize("attack", [membership, lambda a, b: empirical_epsilon(a, b, 1e-5)])
@pytest.mark.parametrize("bad", [np.zeros(3), np.full(50, np.nan), np.zeros((50, 2))])
def test_too_few_or_unusable_scores_are_refused(attack, bad):
    with pytest.raises(ValueError, match="at least 20 numbers"):
        attack(np.zeros(50), bad)


def test_probabilities_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"delta=1\.5"):
        empirical_epsilon(np.zeros(50), np.zeros(50), delta=1.5)
