"""Images read out of an update: exactly where the attack is exact, better than chance elsewhere."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from utils.attacks import compare_images, inputs_in_linear_gradient, invert_gradient
from utils.data import as_tensors, load_digits
from utils.learning import DigitClassifier


@pytest.fixture(scope="module")
def digits():
    return as_tensors(load_digits()[0])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DigitClassifier()


def gradient_of(model, images, labels):
    return torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))


# A linear layer's gradient -----------------------------------------------------------------------


def test_one_image_is_read_exactly_from_every_active_unit(digits, model):
    image, label = digits[0][:1], digits[1][:1]
    weight, bias, *_ = gradient_of(model, image, label)
    rows = inputs_in_linear_gradient(weight, bias)
    assert len(rows) == (bias != 0).sum() > 10
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
    torch.manual_seed(0)
    inputs, signals = torch.randn(3, 5), torch.randn(3, 2)
    rows = inputs_in_linear_gradient(signals.T @ inputs, signals.sum(0))
    assert torch.allclose(rows, (signals / signals.sum(0)).T @ inputs, atol=1e-5)


def test_silent_units_are_left_out_and_what_is_no_layers_gradient_is_refused():
    rows = inputs_in_linear_gradient(torch.ones(3, 4), torch.tensor([0.0, 2.0, 0.0]))
    assert rows.tolist() == [[0.5] * 4]
    for weight, bias, said in [
        (torch.ones(3, 4), torch.ones(4), r"\(3, 4\) and \(4,\); expected"),
        (torch.ones(3), torch.ones(3), r"\(3,\) and \(3,\); expected"),
        (None, torch.ones(3), "None is among them; all must be tensors"),
        (torch.ones(3, 4), torch.tensor([math.nan, 1, 1]), "not finite"),
        (torch.full((3, 4), math.inf), torch.ones(3), "not finite"),
    ]:
        with pytest.raises(ValueError, match=said):
            inputs_in_linear_gradient(weight, bias)


# Optimization ------------------------------------------------------------------------------------


def test_a_batch_is_recovered_from_its_gradient_and_not_from_another(digits, model):
    images, labels = digits[0][:4], digits[1][:4]
    low, high = images.min().item(), images.max().item()
    found = {}
    for name, seen in (("its own", images), ("another", digits[0][100:104])):
        torch.manual_seed(0)
        gradient = gradient_of(model, seen, labels)
        recovered = invert_gradient(
            model, gradient, labels, (1, 28, 28), low=low, high=high, steps=150
        )
        found[name] = compare_images(recovered, images, low=low, high=high).ssim.mean()
    assert found["its own"] > 0.6
    assert found["another"] < 0.4


class Small(nn.Module):
    """A smooth model of 4 × 5 images whose pixels lie between two limits."""

    def __init__(self, low: float, high: float):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 3))
        self.low, self.high = low, high

    def forward(self, images):
        return self.layers((images - self.low) / (self.high - self.low))


def by_hand(model, gradient, labels, *, steps, lr, smoothness):
    """The same optimization of pixels between 0 and 1, with Adam written out."""
    torch.manual_seed(2)
    x = torch.rand(len(labels), 1, 4, 5).double()
    mean, square = torch.zeros_like(x), torch.zeros_like(x)
    observed = torch.cat([g.flatten() for g in gradient])
    for step in range(steps):
        x.requires_grad_()
        loss = F.cross_entropy(model(x), labels)
        guess = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        guess = torch.cat([g.flatten() for g in guess])
        cosine = guess @ observed / guess.norm() / observed.norm()
        across, down = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
        cost = 1 - cosine + smoothness * (across.abs().mean() + down.abs().mean())
        (slope,) = torch.autograd.grad(cost, x)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        rate = lr * 0.1 ** sum(step >= steps * share for share in (3 / 8, 5 / 8, 7 / 8))
        root = (square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        x = (x.detach() - rate * mean / (1 - 0.9 ** (step + 1)) / root).clamp(0, 1)
    return x


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 3.0)])
def test_the_optimization_is_that_of_the_paper_in_any_range_of_pixels(low, high):
    model, labels = Small(low, high).double(), torch.tensor([0, 2])
    images = low + (high - low) * torch.rand(2, 1, 4, 5).double()
    gradient = gradient_of(model, images, labels)
    unit = Small(0, 1).double()
    for smoothness in (0.01, 1):
        expected = by_hand(unit, gradient, labels, steps=16, lr=0.1, smoothness=smoothness)
        torch.manual_seed(2)
        limits = {"low": low, "high": high} if low else {}
        got = invert_gradient(
            model, gradient, labels, (1, 4, 5), steps=16, smoothness=smoothness, **limits
        )
        assert torch.allclose((got - low) / (high - low), expected, atol=1e-4)
        assert not got.requires_grad
        assert low <= got.min() <= got.max() <= high


def test_only_the_gradients_direction_matters_and_the_model_is_left_as_it_is(model):
    model, labels = copy.deepcopy(model), torch.tensor([3])
    gradient = gradient_of(model, torch.rand(1, 1, 28, 28), labels)
    before = [p.clone() for p in model.parameters()]

    def inverted(gradient, **options):
        torch.manual_seed(0)
        return invert_gradient(model, gradient, labels, (1, 28, 28), steps=3, **options)

    again = [-g / -8 for g in gradient]
    assert torch.allclose(inverted(gradient), inverted(again), atol=1e-4)
    assert torch.equal(inverted(gradient), inverted(gradient, lr=0.1, smoothness=0.01, high=1))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_what_cannot_be_inverted_is_refused(digits, model):
    gradient = gradient_of(model, digits[0][:1], digits[1][:1])
    right = {"model": model, "gradient": gradient, "labels": digits[1][:1], "shape": (1, 28, 28)}
    for wrong, said in [
        ({"gradient": gradient[:-1]}, "the gradient's shapes are"),
        ({"gradient": None}, "gradient: None is among them; all must be tensors"),
        ({"gradient": [*gradient[:-1], None]}, "gradient: None is among them"),
        ({"gradient": [torch.zeros_like(g) for g in gradient]}, "zero or not finite"),
        ({"gradient": [g * math.nan for g in gradient]}, "zero or not finite"),
        ({"model": DigitClassifier}, "it must be a torch.nn.Module"),
        ({"labels": torch.tensor([0.5])}, "must be a vector of whole numbers"),
        ({"labels": torch.tensor([10])}, "labels run from 10 to 10"),
        ({"labels": torch.tensor([], dtype=torch.int64)}, "at least one label"),
        ({"labels": "3"}, "labels is '3'; it must be a list"),
        ({"shape": (1, 8, 8)}, r"does not take inputs of shape \(1, 1, 8, 8\)"),
        ({"shape": 784}, "shape is 784; it must be a list"),
        ({"shape": (28, 28)}, r"shape is \[28, 28\]; .* channels, height and width"),
        ({"shape": (1, 28, 0)}, "a length in shape is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"lr": -0.1}, "lr is -0.1"),
        ({"smoothness": math.nan}, "smoothness is nan"),
        ({"low": 1.0}, "high is 1.0; it must be a finite number above 1"),
    ]:
        with pytest.raises(ValueError, match=said):
            invert_gradient(**right | wrong)


# How like the originals --------------------------------------------------------------------------


def test_images_are_matched_in_any_order_and_a_copy_is_perfect(digits):
    images = digits[0][:3]
    low, high = images.min().item(), images.max().item()
    among_others = torch.cat([torch.rand(1, 1, 28, 28), images[[2, 0, 1]]])
    likeness = compare_images(among_others, images, low=low, high=high)
    assert likeness.best.tolist() == [2, 3, 1]
    assert likeness.ssim == pytest.approx([1, 1, 1])
    assert np.isinf(likeness.psnr).all()


def test_psnr_is_that_of_the_mean_squared_error_within_the_range_of_pixels():
    images = torch.full((1, 1, 8, 8), 0.5)
    assert compare_images(images + 0.1, images).psnr == pytest.approx([20], abs=1e-4)
    likeness = compare_images(images + 0.1, images, low=-0.5, high=1.5)
    assert likeness.psnr == pytest.approx([20 + 20 * math.log10(2)], abs=1e-4)
    beyond = compare_images(images + 9, images)  # clamped to 1, off by 0.5
    assert beyond.psnr == pytest.approx([20 * math.log10(2)], abs=1e-4)


def test_noise_is_not_like_an_image(digits):
    torch.manual_seed(0)
    images = ((digits[0][:3] + 0.5) / 4).clamp(0, 1)
    assert compare_images(torch.rand(3, 1, 28, 28), images).ssim.max() < 0.2


def test_images_that_cannot_be_compared_are_refused():
    zeros = torch.zeros
    for recovered, originals, said in [
        (zeros(1, 1, 8, 8), zeros(2, 1, 8, 8), "at least as many recovered"),
        (zeros(2, 1, 8, 8), zeros(0, 1, 8, 8), "at least as many recovered"),
        (zeros(2, 1, 8, 9), zeros(2, 1, 8, 8), "need one shape"),
        (zeros(2, 3, 8, 8), zeros(2, 3, 8, 8), r"must be \(n, 1, height, width\)"),
        (zeros(2, 8, 8), zeros(2, 8, 8), r"must be \(n, 1, height, width\)"),
        (zeros(2, 1, 7, 6), zeros(2, 1, 7, 6), "7 pixels or more a side"),
        (zeros(2, 1, 8, 8) * math.nan, zeros(2, 1, 8, 8), "NaN or infinite"),
        (None, zeros(2, 1, 8, 8), "None is among them"),
    ]:
        with pytest.raises(ValueError, match=said):
            compare_images(recovered, originals)
    with pytest.raises(ValueError, match=r"high is -1; .* above 0"):
        compare_images(zeros(1, 1, 7, 7), zeros(1, 1, 7, 7), high=-1)
