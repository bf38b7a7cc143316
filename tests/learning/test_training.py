import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from utils.data import as_tensors
from utils.learning import (
    DigitClassifier,
    Score,
    confusion_matrix,
    ensemble_accuracy,
    evaluate,
    predict,
    train,
    train_classifier,
)
from utils.randomness import seed_everything


class Pairs(Dataset):
    """Any data set that is none of torch's own."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]


class Recorder(nn.Linear):
    """A linear layer that remembers the inputs of its training steps."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.batches = []

    def forward(self, inputs):
        if torch.is_grad_enabled():
            self.batches.append(inputs.flatten().tolist())
        return super().forward(inputs)


def dataset_of(n: int = 10, classes: int = 3) -> TensorDataset:
    return TensorDataset(torch.arange(n, dtype=torch.float32)[:, None], torch.arange(n) % classes)


def identity(classes: int) -> nn.Linear:
    """A model whose logits are its inputs."""
    model = nn.Linear(classes, classes)
    nn.init.eye_(model.weight)
    nn.init.zeros_(model.bias)
    return model


def logits_for(predictions, classes: int) -> torch.Tensor:
    return 5.0 * F.one_hot(torch.tensor(predictions), classes)


def copy_of(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# as_tensors


def test_a_tensor_data_set_gives_its_own_tensors():
    inputs, labels = as_tensors(dataset_of(4))
    assert inputs.tolist() == [[0], [1], [2], [3]]
    assert labels.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("indices", [[3, 1, 1], range(1, 4), torch.tensor([2, 0])])
def test_a_subset_gives_its_examples_in_its_own_order(indices):
    inputs, labels = as_tensors(Subset(dataset_of(4), indices))
    assert inputs.flatten().tolist() == [int(i) for i in indices]
    assert labels.tolist() == [int(i) % 3 for i in indices]


def test_data_sets_joined_together_come_one_after_the_other():
    joined = ConcatDataset([Subset(dataset_of(4), [3]), dataset_of(2)])
    inputs, labels = as_tensors(joined)
    assert inputs.tolist() == [[3], [0], [1]]
    assert labels.tolist() == [0, 0, 1]


def test_any_other_data_set_is_read_item_by_item():
    inputs, labels = as_tensors(Pairs([(torch.full((2, 2), 7.0), 1), (torch.zeros(2, 2), 0)]))
    assert inputs.tolist() == [[[7, 7], [7, 7]], [[0, 0], [0, 0]]]
    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float32])
def test_labels_of_any_type_become_int64(dtype):
    labels = as_tensors(TensorDataset(torch.zeros(2, 1), torch.tensor([3, 1], dtype=dtype)))[1]
    assert labels.dtype == torch.int64
    assert labels.tolist() == [3, 1]


nested = st.recursive(
    st.integers(1, 5).map(dataset_of)
    | st.integers(1, 5).map(lambda n: Pairs([(torch.tensor([float(i)]), i) for i in range(n)])),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(ConcatDataset)
        | inner.flatmap(
            lambda data: st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=6).map(
                lambda indices: Subset(data, indices)
            )
        )
    ),
    max_leaves=4,
)


@settings(deadline=None)
@given(dataset=nested)
def test_slicing_agrees_with_reading_item_by_item(dataset):
    inputs, labels = as_tensors(dataset)
    items = [dataset[i] for i in range(len(dataset))]
    assert inputs.tolist() == [item[0].tolist() for item in items]
    assert labels.tolist() == [int(item[1]) for item in items]


@pytest.mark.parametrize(
    "empty", [Subset(dataset_of(), []), Pairs([]), TensorDataset(torch.zeros(0, 1), torch.zeros(0))]
)
@pytest.mark.parametrize(
    "use",
    [
        as_tensors,
        lambda empty: train(nn.Linear(1, 3), empty),
        lambda empty: evaluate(nn.Linear(1, 3), empty),
    ],
    ids=["as_tensors", "train", "evaluate"],
)
def test_an_empty_data_set_is_refused(empty, use):
    with pytest.raises(ValueError, match="data set is empty; did a label filter leave nothing"):
        use(empty)


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(torch.zeros(3, 1)),
        TensorDataset(torch.zeros(3, 1), torch.zeros(3), torch.zeros(3)),
        Pairs([(torch.zeros(1), "seven")]),
        Pairs([(torch.zeros(1), 1, 2)]),
    ],
    ids=["no labels", "three tensors", "words", "triples"],
)
def test_a_data_set_without_pairs_is_refused(dataset):
    with pytest.raises(ValueError, match=r"must yield pairs of \(input tensor, integer label\)"):
        as_tensors(dataset)


# train


def test_one_step_is_the_one_worked_out_by_hand():
    model = nn.Linear(2, 3)
    weight, bias = copy_of(model)
    x, y = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([2, 0])
    losses = train(model, TensorDataset(x, y), lr=0.1, batch_size=2)

    shares = torch.softmax(x @ weight.T + bias, dim=1)
    error = (shares - F.one_hot(y, 3)) / 2  # the gradient of the mean loss by the logits
    assert torch.allclose(model.weight, weight - 0.1 * error.T @ x, atol=1e-6)
    assert torch.allclose(model.bias, bias - 0.1 * error.sum(0), atol=1e-6)
    assert losses == pytest.approx([-shares[[0, 1], y].log().mean().item()])


def steps_by_hand(model, x, y, *, lr, momentum, steps, penalty=lambda weights: 0):
    """SGD with momentum (the velocity starts at zero) on copies of a linear model's weights."""
    weights = [p.requires_grad_() for p in copy_of(model)]
    velocities = [torch.zeros_like(w) for w in weights]
    for _ in range(steps):
        loss = F.cross_entropy(F.linear(x, *weights), y) + penalty(weights)
        gradients = torch.autograd.grad(loss, weights)
        velocities = [momentum * v + g for v, g in zip(velocities, gradients, strict=True)]
        weights = [
            (w - lr * v).detach().requires_grad_() for w, v in zip(weights, velocities, strict=True)
        ]
    return weights


@pytest.mark.parametrize(
    ("options", "lr", "momentum"),
    [
        ({"lr": 0.1, "momentum": 0.0}, 0.1, 0.0),
        ({"lr": 0.1, "momentum": 0.5}, 0.1, 0.5),
        ({}, 0.01, 0.9),
    ],
    ids=["no momentum", "momentum", "defaults"],
)
def test_several_steps_follow_sgd_with_momentum(options, lr, momentum):
    model, (x, y) = nn.Linear(1, 3), dataset_of(6).tensors
    expected = steps_by_hand(model, x, y, lr=lr, momentum=momentum, steps=4)
    train(model, dataset_of(6), epochs=4, batch_size=6, **options)
    for got, wanted in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)


def test_a_penalty_enters_the_gradient_of_every_step():
    def fourth_powers(weights):
        return sum((w**4).sum() for w in weights)

    model, (x, y) = nn.Linear(1, 3), dataset_of(6).tensors
    options = {"lr": 0.1, "momentum": 0.5}
    expected = steps_by_hand(model, x, y, steps=4, penalty=fourth_powers, **options)
    without = steps_by_hand(model, x, y, steps=4, **options)
    penalty = lambda model: fourth_powers(model.parameters())  # noqa: E731
    train(model, dataset_of(6), epochs=4, batch_size=6, penalty=penalty, **options)
    for got, wanted, other in zip(model.parameters(), expected, without, strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)
        assert not torch.allclose(got, other, atol=1e-3)


def test_a_strong_proximal_penalty_holds_the_weights_at_their_start():
    seed_everything(0)
    x = torch.randn(64, 2)
    dataset = TensorDataset(x, (x[:, 0] > x[:, 1]).long())

    def drift(strength):
        model = nn.Linear(2, 2)
        start = copy_of(model)

        def distance():
            pairs = zip(model.parameters(), start, strict=True)
            return sum(((w - w0) ** 2).sum() for w, w0 in pairs)

        options = {"lr": 0.01, "momentum": 0.0, "epochs": 50}
        train(model, dataset, penalty=lambda _: strength / 2 * distance(), **options)
        return distance().item() ** 0.5

    assert drift(strength=100) < 0.02 < 0.2 < drift(strength=0)


def test_the_returned_losses_leave_the_penalty_out():
    def losses(**options):
        seed_everything(0)
        return train(nn.Linear(1, 3), dataset_of(70), epochs=2, lr=0.001, **options)

    def penalty(model):
        models.append(model)
        return torch.tensor(1000.0)

    models = []
    assert losses(penalty=penalty) == losses()
    assert len(models) == 2 * 3  # asked once a step


def test_momentum_is_not_carried_from_one_call_to_the_next():
    model, (x, y) = nn.Linear(1, 3), dataset_of(6).tensors
    expected = steps_by_hand(model, x, y, lr=0.01, momentum=0.0, steps=2)
    for _ in range(2):
        train(model, dataset_of(6), lr=0.01, momentum=0.9, batch_size=6)
    for got, wanted in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)


def test_every_epoch_sees_every_example_once_in_a_new_order():
    model = Recorder(1, 3)
    train(model, dataset_of(20), epochs=2, batch_size=20, lr=0.001)
    first, second = model.batches
    assert sorted(first) == sorted(second) == list(range(20))
    assert len({tuple(first), tuple(second), tuple(range(20))}) == 3


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"batch_size": 30}, [30, 30, 10]),
        ({"batch_size": 35}, [35, 35]),
        ({"batch_size": 500}, [70]),
        ({"batch_size": 70, "epochs": 3}, [70, 70, 70]),
        ({}, [32, 32, 6]),
    ],
)
def test_batches_have_the_asked_size_and_the_rest_is_not_dropped(options, sizes):
    model = Recorder(1, 3)
    train(model, dataset_of(70), lr=1e-6, **options)
    assert [len(batch) for batch in model.batches] == sizes


def test_the_last_smaller_batch_counts_by_its_examples_in_the_mean_loss():
    model, dataset = nn.Linear(1, 3), dataset_of(7)
    before = evaluate(model, dataset).loss
    (loss,) = train(model, dataset, lr=1e-12, batch_size=5)
    assert loss == pytest.approx(before, rel=1e-5)


def test_examples_keep_their_labels_when_they_are_shuffled():
    model = identity(4)
    x = logits_for([0, 1, 2, 3] * 5, 4)
    (loss,) = train(model, TensorDataset(x, x.argmax(1)), lr=1e-9, batch_size=3)
    assert loss == pytest.approx(-math.log(math.exp(5) / (math.exp(5) + 3)), rel=1e-4)


def test_a_model_learns_what_can_be_learned():
    seed_everything(0)
    x = torch.randn(200, 2)
    dataset = TensorDataset(x, (x[:, 0] > x[:, 1]).long())
    model = nn.Linear(2, 2)
    losses = train(model, dataset, epochs=5, lr=0.1)
    assert losses == sorted(losses, reverse=True)
    assert evaluate(model, dataset).accuracy > 0.95


def test_each_epochs_loss_is_returned_and_reported_as_it_happens():
    reports = []
    model = nn.Linear(1, 3)
    losses = train(
        model,
        dataset_of(),
        epochs=3,
        on_epoch=lambda epoch, loss: reports.append((epoch, loss, model.weight[0, 0].item())),
    )
    assert [report[:2] for report in reports] == list(zip([1, 2, 3], losses, strict=True))
    assert len({weight for _, _, weight in reports}) == 3


def test_one_epoch_is_the_default():
    assert len(train(nn.Linear(1, 3), dataset_of())) == 1


def trained_after(seed: int) -> list[torch.Tensor]:
    model = identity(3)
    seed_everything(seed)
    train(model, TensorDataset(torch.eye(3), torch.arange(3)), batch_size=1, lr=0.5)
    return copy_of(model)


def test_the_same_seed_trains_the_same_model():
    assert same(trained_after(1), trained_after(1))


def test_another_seed_shuffles_another_way():
    assert len({tuple(trained_after(seed)[0].flatten().tolist()) for seed in range(5)}) > 1


def test_training_switches_dropout_on_even_after_evaluation():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 3)).eval()
    train(model, dataset_of())
    assert model.training
    assert model[0].training


def test_the_data_set_is_left_as_it_is():
    dataset = dataset_of()
    train(nn.Linear(1, 3), dataset)
    assert same(dataset.tensors, dataset_of().tensors)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"epochs": -1},
        {"batch_size": 0},
        {"batch_size": -32},
        {"lr": 0.0},
        {"lr": -0.1},
        {"lr": math.nan},
        {"lr": math.inf},
        {"momentum": -0.5},
        {"momentum": 1.5},
        {"momentum": math.nan},
    ],
)
def test_values_out_of_range_are_refused_and_named_with_their_limits(options):
    model = nn.Linear(1, 3)
    before = copy_of(model)
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}={value}.* at least 1, lr above 0"):
        train(model, dataset_of(), **options)
    assert same(model.parameters(), before)


def test_checking_and_judging_a_model_leave_its_statistics_and_modes_alone():
    model = nn.Sequential(nn.BatchNorm1d(1), nn.Dropout(), nn.Linear(1, 3))
    model[0].eval()
    evaluate(model, dataset_of())
    assert [part.training for part in model] == [False, True, True]
    model.train()
    train(model, dataset_of(), batch_size=10_000)
    assert int(model[0].num_batches_tracked) == 1


@pytest.mark.parametrize("judge", [evaluate, confusion_matrix])
def test_judging_labels_that_the_model_does_not_cover_is_refused(judge):
    with pytest.raises(ValueError, match="but the model has 2 outputs, for labels 0 to 1"):
        judge(nn.Linear(1, 2), TensorDataset(torch.zeros(3, 1), torch.tensor([0, 1, 2])))


def test_an_empty_part_of_a_concatenation_is_passed_over():
    full = TensorDataset(torch.ones(2, 1), torch.tensor([0, 1]))
    both = ConcatDataset([Subset(full, []), full])
    assert as_tensors(both)[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], "labels run from 0 to 3, but the model has 3 outputs, for labels 0 to 2"),
        ([-1, 2], "labels run from -1 to 2, but the model has 3 outputs, for labels 0 to 2"),
    ],
)
def test_labels_that_the_outputs_do_not_cover_are_refused(labels, message):
    model = nn.Linear(1, 3)
    before = copy_of(model)
    with pytest.raises(ValueError, match=message):
        train(model, TensorDataset(torch.zeros(2, 1), torch.tensor(labels)))
    assert same(model.parameters(), before)


def test_all_labels_from_the_first_to_the_last_output_are_taken():
    train(nn.Linear(1, 3), TensorDataset(torch.zeros(2, 1), torch.tensor([0, 2])))


def test_inputs_of_the_wrong_shape_are_refused_with_their_shape():
    dataset = TensorDataset(torch.zeros(4, 5), torch.zeros(4))
    with pytest.raises(ValueError, match=r"does not take inputs of shape \(5,\): mat1 and mat2"):
        train(nn.Linear(2, 3), dataset)


# train_classifier


def random_digits(n: int = 20) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(n, 1, 28, 28, generator=generator), torch.arange(n) % 10)


def test_a_new_classifier_is_initialized_and_trained_from_one_seed():
    torch.manual_seed(3)
    expected = DigitClassifier()
    train(expected, random_digits(), epochs=2)
    torch.manual_seed(99)
    model = train_classifier(random_digits(), seed=3, epochs=2)
    assert isinstance(model, DigitClassifier)
    assert same(model.parameters(), expected.parameters())


def test_a_new_classifier_is_trained_for_ten_epochs_from_seed_zero_unless_told_otherwise():
    model = train_classifier(random_digits())
    expected = train_classifier(random_digits(), seed=0, epochs=10)
    assert same(model.parameters(), expected.parameters())


# predict


def test_predictions_are_the_models_logits_in_the_order_of_the_data():
    logits = torch.randn(7, 3)
    dataset = TensorDataset(logits, torch.zeros(7))
    assert torch.allclose(predict(identity(3), dataset), logits)


@pytest.mark.parametrize(
    ("options", "sizes"), [({"batch_size": 4}, [4, 4, 2]), ({"batch_size": 99}, [10])]
)
def test_predictions_are_made_batch_by_batch_and_do_not_depend_on_it(options, sizes):
    model, seen = nn.Linear(1, 3), []
    model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    logits = predict(model, dataset_of(10), **options)
    assert seen == sizes
    assert torch.allclose(logits, model(dataset_of(10).tensors[0]))


def test_predictions_carry_no_gradient_and_lie_on_the_cpu():
    logits = predict(nn.Linear(1, 3), dataset_of())
    assert not logits.requires_grad
    assert logits.device.type == "cpu"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("judge", [predict, evaluate, confusion_matrix])
def test_judging_switches_dropout_off_and_puts_the_mode_back(judge, training):
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 3)).train(training)
    modes = []
    model[0].register_forward_hook(lambda dropout, *_: modes.append(dropout.training))
    judge(model, dataset_of())
    assert modes == [False]
    assert model.training is model[0].training is training


# evaluate


def test_a_model_that_knows_nothing_has_the_loss_of_a_guess():
    model = nn.Linear(1, 10)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    score = evaluate(model, dataset_of(10, classes=10))
    assert score == pytest.approx(Score(loss=math.log(10), accuracy=0.1))


def test_loss_and_accuracy_are_those_worked_out_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    score = evaluate(identity(2), TensorDataset(logits, torch.tensor([0, 1, 1])))
    by_hand = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1)), math.log(1 + math.exp(3))]
    assert score.loss == pytest.approx(sum(by_hand) / 3)
    assert score.accuracy == pytest.approx(2 / 3)


def test_a_score_is_two_plain_numbers_loss_first():
    score = evaluate(identity(2), TensorDataset(torch.eye(2), torch.tensor([0, 1])))
    assert [type(number) for number in score] == [float, float]
    loss, accuracy = score
    assert (loss, accuracy) == (score.loss, score.accuracy)
    assert accuracy == 1


def test_the_accuracy_on_several_batches_is_that_on_all_examples():
    predictions = [0] * 1024 + [1] * 476
    dataset = TensorDataset(logits_for(predictions, 2), torch.zeros(1500))
    assert evaluate(identity(2), dataset).accuracy == pytest.approx(1024 / 1500)


@pytest.mark.parametrize("judge", [predict, evaluate, confusion_matrix])
def test_judging_changes_neither_model_nor_random_numbers(judge):
    model = nn.Sequential(nn.BatchNorm1d(1), nn.Dropout(), nn.Linear(1, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    judge(model, dataset_of())
    assert same(model.state_dict().values(), before.values())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


# ensemble_accuracy


def test_an_ensemble_of_one_has_that_models_accuracy():
    dataset = TensorDataset(logits_for([0, 1, 1, 2], 3), torch.tensor([0, 1, 2, 2]))
    assert ensemble_accuracy([identity(3)], dataset) == evaluate(identity(3), dataset).accuracy


def constant(*logits: float) -> nn.Linear:
    """A model that gives the same logits to every input."""
    model = nn.Linear(1, len(logits))
    nn.init.zeros_(model.weight)
    model.bias.data = torch.tensor(logits)
    return model


def test_the_mean_of_the_probabilities_decides_not_the_majority_nor_the_mean_logit():
    dataset = TensorDataset(torch.zeros(4, 1), torch.tensor([0, 0, 0, 1]))
    sure, torn = constant(9.0, 0.0), constant(0.0, 0.4)
    assert ensemble_accuracy([sure, torn, torn], dataset) == 0.75  # two of three say 1
    beyond_sure, sure_of_other = constant(99.0, 0.0), constant(0.0, 3.0)
    models = [beyond_sure, sure_of_other, sure_of_other]  # the mean logit says 0
    assert ensemble_accuracy(models, dataset) == 0.25


def test_the_models_of_an_ensemble_may_come_one_at_a_time():
    dataset = TensorDataset(torch.zeros(2, 1), torch.tensor([0, 1]))
    assert ensemble_accuracy((constant(1.0, 0.0) for _ in range(3)), dataset) == 0.5


# confusion_matrix


def test_rows_are_true_labels_and_columns_are_predictions():
    dataset = TensorDataset(logits_for([0, 0, 1, 2, 2, 2], 3), torch.tensor([0, 1, 1, 2, 2, 0]))
    matrix = confusion_matrix(identity(3), dataset)
    assert matrix.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 2]]
    assert matrix.dtype == torch.int64


def test_classes_that_never_occur_keep_their_rows_and_columns():
    dataset = TensorDataset(logits_for([1], 4), torch.tensor([0]))
    matrix = confusion_matrix(identity(4), dataset)
    assert matrix.shape == (4, 4)
    assert matrix.sum() == matrix[0, 1] == 1


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50)


@settings(deadline=None)
@given(pairs=pairs)
def test_rows_sum_to_label_counts_columns_to_predictions_and_the_diagonal_to_hits(pairs):
    labels, predictions = (list(column) for column in zip(*pairs, strict=True))
    dataset = TensorDataset(logits_for(predictions, 4), torch.tensor(labels))
    matrix = confusion_matrix(identity(4), dataset)
    assert matrix.sum(1).tolist() == [labels.count(c) for c in range(4)]
    assert matrix.sum(0).tolist() == [predictions.count(c) for c in range(4)]
    accuracy = evaluate(identity(4), dataset).accuracy
    assert matrix.trace().item() / len(pairs) == pytest.approx(accuracy)
