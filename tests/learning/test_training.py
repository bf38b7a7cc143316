import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from tests.learning.classifiers import copy_of, dataset_of, identity, logits_for, same
from utils.learning import DigitClassifier, evaluate, train, train_classifier
from utils.randomness import seed_everything


class Recorder(nn.Linear):
    """A linear layer that remembers the inputs of its training steps."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.batches = []

    def forward(self, inputs):
        if torch.is_grad_enabled():
            self.batches.append(inputs.flatten().tolist())
        return super().forward(inputs)


def steps_by_hand(model, x, y, *, lr, momentum, steps, penalty=lambda weights: 0):
    """SGD with momentum (the velocity starts at zero) on copies of a linear model's weights."""
    weights = [p.requires_grad_() for p in copy_of(model)]
    velocities = [torch.zeros_like(w) for w in weights]
    for _ in range(steps):
        shares = torch.softmax(F.linear(x, *weights), dim=1)
        loss = -shares[range(len(y)), y].log().mean() + penalty(weights)
        gradients = torch.autograd.grad(loss, weights)
        velocities = [momentum * v + g for v, g in zip(velocities, gradients, strict=True)]
        weights = [
            (w - lr * v).detach().requires_grad_() for w, v in zip(weights, velocities, strict=True)
        ]
    return weights


def assert_close(model, weights):
    for got, wanted in zip(model.parameters(), weights, strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "lr", "momentum"),
    [({"lr": 0.1, "momentum": 0.0}, 0.1, 0.0), ({"momentum": 0.5}, 0.01, 0.5), ({}, 0.01, 0.9)],
    ids=["no momentum", "momentum", "defaults"],
)
def test_several_steps_follow_sgd_with_momentum(options, lr, momentum):
    model, (x, y) = nn.Linear(1, 3), dataset_of(6).tensors
    expected = steps_by_hand(model, x, y, lr=lr, momentum=momentum, steps=4)
    train(model, dataset_of(6), epochs=4, batch_size=6, **options)
    assert_close(model, expected)


def test_momentum_is_not_carried_from_one_call_to_the_next():
    model, (x, y) = nn.Linear(1, 3), dataset_of(6).tensors
    expected = steps_by_hand(model, x, y, lr=0.01, momentum=0.0, steps=2)
    for _ in range(2):
        train(model, dataset_of(6), lr=0.01, momentum=0.9, batch_size=6)
    assert_close(model, expected)


def test_a_penalty_enters_the_gradient_of_every_step():
    def fourth_powers(weights):
        return sum((w**4).sum() for w in weights)

    model, (x, y) = nn.Linear(1, 3), dataset_of(6).tensors
    nn.init.ones_(model.weight)  # so that the penalty has something to pull at
    options = {"lr": 0.02, "momentum": 0.5}
    expected = steps_by_hand(model, x, y, steps=4, penalty=fourth_powers, **options)
    penalty = lambda model: fourth_powers(model.parameters())  # noqa: E731
    train(model, dataset_of(6), epochs=4, batch_size=6, penalty=penalty, **options)
    assert_close(model, expected)


def test_the_returned_losses_leave_the_penalty_out():
    def losses(**options):
        seed_everything(0)
        return train(nn.Linear(1, 3), dataset_of(70), epochs=2, lr=0.001, **options)

    assert losses(penalty=lambda model: torch.tensor(1000.0)) == losses()


def test_every_epoch_sees_every_example_once_in_a_new_order():
    model = Recorder(1, 3)
    train(model, dataset_of(20), epochs=2, batch_size=20, lr=0.001)
    first, second = model.batches
    assert sorted(first) == sorted(second) == list(range(20))
    assert len({tuple(first), tuple(second), tuple(range(20))}) == 3


def test_batches_have_the_asked_size_and_the_rest_is_not_dropped():
    for options, sizes in [
        ({"batch_size": 23}, [23, 23, 23, 1]),
        ({"batch_size": np.int64(35)}, [35, 35]),
        ({"batch_size": 70, "epochs": 3}, [70, 70, 70]),
        ({}, [32, 32, 6]),
    ]:
        model = Recorder(1, 3)
        train(model, dataset_of(70), lr=1e-6, **options)
        assert [len(batch) for batch in model.batches] == sizes


def test_examples_keep_their_labels_and_count_alike_in_the_mean_loss():
    model = identity(4)
    x = logits_for([0, 1, 2, 3] * 5, 4)
    x[0] = 0  # one example with another loss, in whichever batch
    y = logits_for([0, 1, 2, 3] * 5, 4).argmax(1)
    expected = evaluate(model, TensorDataset(x, y)).loss
    (loss,) = train(model, TensorDataset(x, y), lr=1e-9, batch_size=13)
    assert loss == pytest.approx(expected, rel=1e-4)
    one = -math.log(math.exp(5) / (math.exp(5) + 3))
    assert expected == pytest.approx((19 * one + math.log(4)) / 20)


def test_each_epochs_loss_is_returned_and_reported_as_it_happens():
    reports, model = [], nn.Linear(1, 3)

    def report(epoch, loss):
        reports.append((epoch, loss, model.weight[0, 0].item()))

    losses = train(model, dataset_of(), epochs=3, on_epoch=report)
    assert [report[:2] for report in reports] == list(zip([1, 2, 3], losses, strict=True))
    assert len({weight for _, _, weight in reports}) == 3
    assert losses == sorted(losses, reverse=True)
    assert len(train(model, dataset_of())) == 1


def test_the_global_generator_decides_the_order():
    def trained_after(seed):
        model = identity(3)
        seed_everything(seed)
        train(model, TensorDataset(torch.eye(3), torch.arange(3)), batch_size=1, lr=0.5)
        return tuple(model.weight.flatten().tolist())

    assert trained_after(1) == trained_after(1)
    assert len({trained_after(seed) for seed in range(5)}) > 1


def test_training_switches_dropout_on_and_leaves_the_data_as_they_are():
    model, dataset = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 3)).eval(), dataset_of()
    train(model, dataset)
    assert [m.training for m in model.modules()] == [True] * 3
    assert same(dataset.tensors, dataset_of().tensors)


# A last batch of one, and batch norm -------------------------------------------------------------


def normalized() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Recorder(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


def test_with_batch_norm_a_last_batch_of_one_joins_the_batch_before_it():
    for n, batch_size, sizes in [(7, 3, [3, 4]), (4, 3, [4]), (8, 3, [3, 3, 2]), (3, 3, [3])]:
        model = normalized()
        (loss,) = train(model, dataset_of(n), batch_size=batch_size)
        assert math.isfinite(loss)
        assert [len(batch) for batch in model[0].batches] == sizes
        assert sorted(x for batch in model[0].batches for x in batch) == list(range(n))


def test_a_batch_norm_that_can_never_have_two_examples_says_so():
    for n, batch_size in [(1, 32), (5, 1)]:
        with pytest.raises(ValueError, match="batch norm needs more than one example a batch"):
            train(normalized(), dataset_of(n), batch_size=batch_size)


def test_a_batch_norm_over_pixels_trains_on_one_example():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 2))
    one = TensorDataset(torch.randn(1, 1, 2, 2), torch.tensor([1]))
    assert math.isfinite(train(model, one)[0])


def test_one_example_is_enough_without_batch_norm():
    assert math.isfinite(train(nn.Linear(1, 3), dataset_of(1))[0])


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "bad", "allowed"),
    [
        ("epochs", [0, -1, 1.5, "3", None, True], "a whole number of at least 1"),
        ("batch_size", [0, -1, 2.5, None, math.nan], "a whole number of at least 1"),
        ("lr", [0, -0.1, math.nan, math.inf, "0.1", None, True], "a finite number above 0"),
        ("momentum", [-0.1, 1.1, math.nan, None], "at least 0 and at most 1"),
        ("penalty", [0.1, "l2"], "a function, such as lambda"),
        ("on_epoch", [3], "a function, such as lambda"),
    ],
)
def test_a_setting_out_of_range_is_named_and_nothing_is_trained(setting, bad, allowed):
    model = nn.Linear(1, 3)
    before = copy_of(model)
    for value in bad:
        with pytest.raises(
            (ValueError, TypeError), match=f"{setting} is .*; it must be .*{allowed}"
        ):
            train(model, dataset_of(), **{setting: value})
    assert same(model.parameters(), before)


def test_the_limits_of_the_settings_are_allowed():
    train(nn.Linear(1, 3), dataset_of(), epochs=1, batch_size=1, momentum=1)
    train(nn.Linear(1, 3), dataset_of(), epochs=np.int64(1), lr=np.float32(1e-3), momentum=0)


def test_labels_and_inputs_that_do_not_fit_the_model_are_refused_before_the_first_step():
    for dataset, said in [
        (dataset_of(10, classes=5), "labels run from 0 to 4, but the model has 3 outputs"),
        (TensorDataset(torch.zeros(2, 5), torch.zeros(2)), r"inputs of shape \(2, 5\): mat1"),
        (TensorDataset(torch.zeros(2, 1).double(), torch.zeros(2)), "inputs torch.float64"),
        ([], "the data set is empty"),
    ]:
        model = nn.Linear(1, 3)
        before = copy_of(model)
        with pytest.raises(ValueError, match=said):
            train(model, dataset)
        assert same(model.parameters(), before)
        assert model.training


# A digit classifier from one seed ----------------------------------------------------------------


def test_a_new_classifier_is_initialized_and_trained_from_one_seed():
    generator = torch.Generator().manual_seed(0)
    digits = TensorDataset(torch.randn(20, 1, 28, 28, generator=generator), torch.arange(20) % 10)
    for options, seed, epochs in [({"seed": 3, "epochs": 2}, 3, 2), ({}, 0, 10)]:
        torch.manual_seed(seed)
        expected = DigitClassifier()
        train(expected, digits, epochs=epochs)
        torch.manual_seed(99)
        model = train_classifier(digits, **options)
        assert same(model.parameters(), expected.parameters())
    for seed in (-1, 0.5, None, True, 2**63):
        with pytest.raises(ValueError, match=r"seed is .* must be a whole number from 0 to"):
            train_classifier(digits, seed=seed)
