import math

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.learning.classifiers import constant, dataset_of, identity, logits_for, same
from utils.learning import (
    DigitClassifier,
    Score,
    confusion_matrix,
    ensemble_accuracy,
    evaluate,
    predict,
)

JUDGES = (predict, evaluate, confusion_matrix)


def test_predictions_are_the_logits_in_order_whatever_the_batch_size():
    model, seen = identity(3), []
    model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    logits = torch.randn(10, 3)
    for batch_size in (4, 10, 99):
        got = predict(model, TensorDataset(logits, torch.zeros(10)), batch_size=batch_size)
        assert torch.allclose(got, logits)
        assert not got.requires_grad
    assert seen == [4, 4, 2, 10, 10]


def test_loss_and_accuracy_are_those_worked_out_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    score = evaluate(identity(2), TensorDataset(logits, torch.tensor([0, 1, 1])))
    by_hand = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1)), math.log(1 + math.exp(3))]
    assert score == pytest.approx(Score(loss=sum(by_hand) / 3, accuracy=2 / 3))
    assert [type(number) for number in score] == [float, float]


def test_an_evaluation_goes_over_all_batches():
    dataset = TensorDataset(logits_for([0] * 1024 + [1] * 476, 2), torch.zeros(1500))
    assert evaluate(identity(2), dataset).accuracy == pytest.approx(1024 / 1500)


def test_judging_changes_neither_model_nor_its_modes_nor_random_numbers():
    model = nn.Sequential(nn.BatchNorm1d(1).eval(), nn.Dropout(), nn.Linear(1, 3))
    model[1].register_forward_hook(lambda dropout, *_: modes.append(dropout.training))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    for training in (True, False):
        model[1].train(training)
        for judge in JUDGES:
            modes = []
            judge(model, dataset_of())
            assert modes == [False]
            assert [m.training for m in model.modules()] == [True, False, training, True]
    assert same(model.state_dict().values(), before.values())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_modes_come_back_when_judging_fails():
    model = nn.Linear(1, 3)
    with pytest.raises(ValueError, match="does not take"):
        predict(model, TensorDataset(torch.zeros(2, 5), torch.zeros(2)))
    assert model.training


def test_a_model_without_weights_can_be_judged():
    dataset = TensorDataset(torch.eye(3), torch.arange(3))
    assert evaluate(nn.Identity(), dataset).accuracy == 1


def test_the_mean_of_the_probabilities_decides_not_the_majority_nor_the_mean_logit():
    dataset = TensorDataset(torch.zeros(4, 1), torch.tensor([0, 0, 0, 1]))
    sure, torn = constant(9.0, 0.0), constant(0.0, 0.4)
    assert ensemble_accuracy([sure, torn, torn], dataset) == 0.75  # two of three say 1
    beyond_sure, sure_of_other = constant(99.0, 0.0), constant(0.0, 3.0)
    models = (model for model in (beyond_sure, sure_of_other, sure_of_other))
    assert ensemble_accuracy(models, dataset) == 0.25  # the mean logit says 0


def test_rows_are_true_labels_and_columns_predictions_also_of_classes_that_never_occur():
    dataset = TensorDataset(logits_for([0, 0, 1, 2, 2, 2], 4), torch.tensor([0, 1, 1, 2, 2, 0]))
    matrix = confusion_matrix(identity(4), dataset)
    assert matrix.tolist() == [[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    assert matrix.dtype == torch.int64


def test_labels_beyond_the_models_outputs_are_named():
    def both(model, dataset):
        return ensemble_accuracy([model], dataset)

    for labels in ([0, 3], [-1, 2]):
        dataset = TensorDataset(torch.zeros(2, 1), torch.tensor(labels))
        for judge in (evaluate, confusion_matrix, both):
            said = f"labels run from {labels[0]} to {labels[1]}, but the model has 3 outputs"
            with pytest.raises(ValueError, match=said):
                judge(nn.Linear(1, 3), dataset)


class Pair(nn.Module):
    def forward(self, inputs):
        return inputs, inputs


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (DigitClassifier, "must be a torch.nn.Module, made by calling its class"),
        (None, "model is None; it must be a torch.nn.Module"),
        (nn.Linear(5, 3), r"does not take inputs of shape \(10, 1\): mat1 and mat2"),
        (nn.Linear(1, 3).double(), "weights are torch.float64, the inputs torch.float32; convert"),
        (nn.Embedding(3, 3), r"does not take inputs of shape \(10, 1\)"),
        (Pair(), r"made tuple of inputs of shape \(10, 1\); it must return logits"),
        (nn.Flatten(0), r"made \(10,\) of inputs"),
        (nn.Unflatten(1, (1, 1)), r"made \(10, 1, 1\) of inputs"),
    ],
    ids=str,
)
def test_a_model_that_does_not_fit_is_told_why(model, said):
    with pytest.raises(ValueError, match=said) as raised:
        evaluate(model, dataset_of())
    assert "batch norm" not in str(raised.value)


def test_a_batch_size_or_an_ensemble_that_is_none_is_refused():
    for batch_size in (0, -1, None, 2.5, True):
        with pytest.raises(ValueError, match=r"batch_size is .* whole number of at least 1"):
            predict(nn.Linear(1, 3), dataset_of(), batch_size=batch_size)
    for models, said in [
        ([], "at least one model is needed"),
        (None, "it must be a list of models"),
        (nn.Sequential(nn.Linear(1, 3)), "models is one model; it must be a list of models"),
        ([constant(1, 2.0), constant(1, 2, 3.0)], r"outputs are \[2, 3\]: .* the same number"),
    ]:
        with pytest.raises(ValueError, match=said):
            ensemble_accuracy(models, dataset_of(classes=2))
