"""Checks of the exercises in L3."""

import math

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvgM

from utils.federation import simulate
from utils.lesson import exercise


@exercise(
    "Such a schedule takes large steps while the clients still agree, and calms the last rounds.",
    hints=[
        (
            "A cosine falls from 1 to -1 while its argument goes from 0 to π. Shift and shrink "
            "it, so that it falls from lr to 0."
        ),
        (
            "Half of lr, times one plus the cosine, does that. What remains is the argument: 0 in"
            " round 1."
        ),
        (
            "In round num_rounds + 1 the argument should be π; so count the rounds that lie "
            "*before* this one."
        ),
    ],
)
def check_cosine_schedule(function):
    """Exercise 1."""
    for round_, rounds, lr in ((1, 25, 0.1), (6, 10, 0.2), (25, 25, 0.1)):
        expected = lr / 2 * (1 + math.cos(math.pi * (round_ - 1) / rounds))
        answer = function(round_, rounds, lr)
        if not isinstance(answer, float | int | np.floating):
            return f"Return a number; you return {type(answer).__name__}."
        if math.isclose(answer, expected, rel_tol=1e-6):
            continue
        one_late = lr / 2 * (1 + math.cos(math.pi * round_ / rounds))
        if math.isclose(answer, one_late, rel_tol=1e-6):
            return "Rounds count from 1, so round 1 stands at the start of the wave, not after it."
        if round_ == 1:
            return f"Round 1 should have the full rate {lr}; you return {answer:.4g}."
        return f"Round {round_} of {rounds}, lr={lr}: expected {expected:.4g}, got {answer:.4g}."
    return None


@exercise(
    "With beta = 0.9 a direction that all rounds share is taken up to ten times as far, while "
    "what one cohort happened to want dies away.",
    hints=[
        (
            "Two lines: first the new velocity, then the new model. Neither changes the arrays it"
            " was given."
        ),
        (
            "The pseudo-gradient is old minus average: it points away from where the clients "
            "went, and the model steps against it."
        ),
        "The model moves by server_lr times the *new* velocity.",
    ],
)
def check_server_momentum(function):
    """Exercise of L3_more_optimizers: three rounds beside Flower's FedAvgM."""
    random = np.random.default_rng(0)
    model, velocity, averages = random.normal(size=4), np.zeros(4), random.normal(size=(3, 4))
    flowers = _models_of_fedavgm(model, averages, beta=0.9, server_lr=0.5)
    for round_, (average, theirs) in enumerate(zip(averages, flowers, strict=True), start=1):
        before = model.copy(), velocity.copy()
        step = function(model, average, velocity, 0.9, 0.5)
        if not isinstance(step, tuple) or len(step) != 2:
            return "Return two arrays: the new model and the new velocity."
        if not (np.array_equal(model, before[0]) and np.array_equal(velocity, before[1])):
            return "Your function changed the arrays that it was given; make new ones."
        model, velocity = step
        if np.allclose(model, theirs):
            continue
        if np.allclose(model, before[0] + 0.5 * (before[0] - average)):
            return "The sign is wrong: the model should move towards the clients' average."
        hint = "start with velocity = beta * velocity + (old - average)"
        return f"Round {round_}: Flower's model is {theirs.round(3)}, yours {model}; {hint}."
    return None


def _models_of_fedavgm(model, averages, beta: float, server_lr: float) -> list[np.ndarray]:
    """Flower's global model after each round, if the clients' averages are these."""
    server, client, models = ServerApp(), ClientApp(), []

    @client.train()
    def train(message, context):
        average = averages[message.content["config"]["server-round"] - 1]
        arrays, metrics = ArrayRecord({"w": Array(average)}), MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    @server.main()
    def main(grid, context):
        one = dict.fromkeys(("min_train_nodes", "min_available_nodes"), 1)
        FedAvgM(
            **one, fraction_evaluate=0.0, server_learning_rate=server_lr, server_momentum=beta
        ).start(
            grid=grid,
            initial_arrays=ArrayRecord({"w": Array(model)}),
            num_rounds=len(averages),
            evaluate_fn=lambda round_, arrays: models.append(arrays["w"].numpy()),
        )

    simulate(server, client, 1, progress=False)
    return models[1:]  # without the initial one


@exercise(
    "There is no best variant without a price: a hospital chain that computes at night pays for"
    " rounds, a phone maker for megabytes.",
    hints=[
        (
            "A bill is four products, added up: this cost times this price. Skip the variants "
            "that cost None."
        ),
        (
            "Make a dictionary from names to bills; min takes key=…, and an empty dictionary "
            "needs an answer of its own."
        ),
    ],
)
def check_cheapest(function):
    """Exercise 2."""
    costs = {"many rounds": (40, 400, 400, 300), "large cohort": (10, 500, 1000, 400), "lost": None}
    for prices, expected in (
        ((1, 0, 0, 0), "large cohort"),
        ((0, 0, 0, 1), "many rounds"),
        ((1, 1, 0.1, 1), "many rounds"),
        ((20, 1, 0.1, 1), "large cohort"),
    ):
        answer = function(costs, prices)
        if answer == "lost":
            return "'lost' never reached the target (its cost is None), so it cannot be chosen."
        if answer != expected:
            return f"For {costs} and prices {prices}, expected {expected!r}, got {answer!r}."
    if function({"lost": None}, (1, 1, 1, 1)) is not None:
        return "If no variant reached the target, return None."
    return None


@exercise(
    "Weighted by the client's own images: a model may be good on average and poor for a client "
    "whose digits are the hard ones.",
    hints=[
        (
            "A client with thirty images of one digit and ten of another: how much should each "
            "accuracy count?"
        ),
        (
            "It is a weighted mean: accuracies times counts, added up, over the number of the "
            "client's images."
        ),
    ],
)
def check_own_accuracy(function):
    """Exercise of L3_more_left_behind."""
    accuracies = np.array([0.9, 0.5, 1.0, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8])
    for counts in ([30, 10, *[0] * 8], [8] * 10, [0, 0, 5, 0, 0, 0, 0, 0, 15, 0]):
        counts = np.array(counts)
        expected = float((accuracies * counts).sum() / counts.sum())
        answer = function(accuracies.copy(), counts.copy())
        if np.ndim(answer) != 0:
            return f"Return one number; you return {np.shape(answer)}."
        if math.isclose(answer, expected, rel_tol=1e-9):
            continue
        seen = accuracies[counts > 0].mean()
        if math.isclose(answer, seen, rel_tol=1e-9):
            return "That weighs all of the client's digits alike; weigh them by its images."
        if math.isclose(answer, accuracies.mean(), rel_tol=1e-9):
            return "That is the average over all ten digits; weigh them by the client's images."
        return f"For the counts {counts.tolist()}, expected {expected:.4f}, got {answer:.4f}."
    return None


@exercise(
    "Over-selection is this with more asked than taken: the round ends with the last one taken,"
    " and nobody waits for the rest.",
    hints=[
        (
            "If there were no deadline: sort the minutes. When is the last of those that are "
            "taken there?"
        ),
        (
            "Lists count from 0. And the round is over at that time or at the deadline, whichever"
            " comes first."
        ),
    ],
)
def check_round_minutes(function):
    """Exercise of L3_more_time."""
    minutes = np.array([3.0, 1.0, 12.0, 2.0, 5.0])
    for taken, deadline, expected in (
        (5, math.inf, 12.0),
        (3, math.inf, 3.0),
        (5, 4.0, 4.0),
        (3, 4.0, 3.0),
        (4, 4.0, 4.0),
        (5, 20.0, 12.0),
    ):
        answer = function(minutes.copy(), taken, deadline)
        if np.ndim(answer) != 0:
            return f"Return one number; you return {np.shape(answer)}."
        if math.isclose(answer, expected):
            continue
        case = f"taken={taken}, deadline={deadline:g}"
        if math.isclose(answer, minutes[taken - 1]):
            return f"{case}: the replies come in order of their time; sort the minutes first."
        if answer > deadline:
            return f"{case}: the round lasts {answer:g} minutes in your answer, past the deadline."
        if math.isclose(answer, deadline):
            return f"{case}: enough are there after {expected:g} minutes; why wait longer?"
        return f"{case}: expected {expected:g} minutes, got {answer:g}."
    return None
