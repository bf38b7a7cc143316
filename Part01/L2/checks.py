"""Checks of the exercises in L2."""

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from utils.federation import simulate
from utils.learning import DigitClassifier
from utils.lesson import exercise


@exercise(
    "With hospitals of nearly equal size it changes little. With a very large and many small "
    "clients it decides whose model the global model resembles.",
    hints=[
        (
            "Which updates take part? Decide that first, by their sizes; afterwards the sizes "
            "play no role."
        ),
        (
            "For each name, add up the tensors of those who take part, and divide by how many "
            "they are."
        ),
    ],
)
def check_equal_average(function):
    """L2_more_averaging."""
    updates = [{"w": torch.tensor([value, 1.0])} for value in (0.0, 3.0, 100.0)]
    answer = function(updates, [10, 30, 0])
    if not isinstance(answer, dict) or set(answer) != {"w"}:
        return "Return a dictionary with the same names as the updates, here {'w': ...}."
    values = answer["w"].tolist()
    if values == [2.25, 1.0]:
        return "This still weights by examples: 0 and 3 with 10 and 30 examples gave 2.25, not 1.5."
    if abs(values[0] - 103 / 3) < 1e-4:
        return "The third update has 0 examples and should be left out."
    if not torch.allclose(answer["w"], torch.tensor([1.5, 1.0])):
        return f"The mean of [0, 1] and [3, 1] is [1.5, 1]; you return {values}."
    if float(updates[0]["w"][0]) != 0.0:
        return "Your function changed the updates it was given; make new tensors."
    return None


@exercise(
    "Those who answered again and again decide what the model becomes; a quorum by examples "
    "does not change that.",
    hints=[
        (
            "Put those who answered into a list, update and size together. What if the list is "
            "empty?"
        ),
        (
            "Compare the examples of those who answered with the quorum times the examples of "
            "all: below it, the old model stays."
        ),
        (
            "Otherwise weight each update by its size over the examples *of those who answered*, "
            "so that the weights add up to 1."
        ),
    ],
)
def check_average_of_answers(function):
    """L2_more_crashes."""
    old = {"w": torch.tensor([9.0, 9.0])}
    updates = [{"w": torch.tensor([0.0, 1.0])}, None, {"w": torch.tensor([4.0, 1.0])}]
    sizes = [10, 20, 30]
    answer = function(old, updates, sizes, 0.5)
    if not isinstance(answer, dict) or set(answer) != {"w"}:
        return "Return a dictionary with the same names as the updates, here {'w': ...}."
    values = [round(x, 3) for x in answer["w"].tolist()]
    if values == [2.0, 0.667]:
        return "You divide by all 60 examples; those who answered have 40; divide by these."
    if values == [2.0, 1.0]:
        return "The updates weigh alike here; the first client has 10 examples, the third 30."
    if values == [9.0, 9.0]:
        return "Those who answered hold 40 of 60 examples: with a quorum of 0.5 that is enough."
    if values != [3.0, 1.0]:
        return f"10 and 30 examples with [0, 1] and [4, 1] make [3, 1]; you return {values}."
    for given, quorum in ((updates, 0.7), ([None] * 3, 0.0)):
        kept = torch.as_tensor(function(old, given, sizes, quorum)["w"]).tolist()
        if kept != [9.0, 9.0]:
            held = sum(n for n, update in zip(sizes, given, strict=True) if update is not None)
            return (
                f"With {held} of 60 examples and a quorum of {quorum}, the old model should stay; "
                f"you return {kept}."
            )
    if updates[0]["w"].tolist() != [0.0, 1.0] or old["w"].tolist() != [9.0, 9.0]:
        return "Your function changed what it was given; make new tensors."
    return None


@exercise(
    "Rounds to a target is how L3 compares settings: it is what a federation waits for.",
    hints=[
        (
            "Go through the list with the number of each entry (enumerate), and stop at the first"
            " that is good enough."
        ),
        "'At least' includes equality; and a function that finds nothing should say None.",
    ],
)
def check_rounds_to_reach(function):
    """Exercise 1."""
    accuracies = [0.1, 0.8, 0.79, 0.9, 0.91]
    for target, expected in ((0.8, 1), (0.85, 3), (0.1, 0), (0.95, None)):
        answer = function(accuracies, target)
        if answer != expected:
            return f"For {accuracies} and target {target}, expected {expected}, got {answer}."
    return None


@exercise(
    "Three times the model for each client and round: down and up to train, down to evaluate. "
    "The rest, envelopes and metrics, is well under 1%.",
    hints=[
        (
            "Follow one client through one round: which messages hold the whole model, and which "
            "hold a few numbers?"
        ),
        (
            "The model comes down to be trained, goes up again, and the average comes down to be "
            "evaluated."
        ),
        (
            "So: messages with a model, times rounds, times clients, times the bytes of a model, "
            "in millions."
        ),
    ],
)
def check_bytes(function):
    """Exercise 2: measures a run in which nothing is trained."""
    echo, server = ClientApp(), ServerApp()
    arrays = ArrayRecord(DigitClassifier().state_dict())

    @echo.train()
    def train(message, context):
        metrics = MetricRecord({"num-examples": 1})
        content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
        return Message(content, reply_to=message)

    @echo.evaluate()
    def evaluate(message, context):
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    @server.main()
    def main(grid, context):
        FedAvg().start(grid=grid, initial_arrays=arrays, num_rounds=4)

    measured = simulate(server, echo, 5, progress=False).traffic["bytes"].sum() / 1e6
    answer = function(4, 5, 101_770)
    if abs(answer - measured) <= 0.01 * measured:
        return None
    hints = {
        2: "Are the weights also sent to evaluate them?",
        1: "Count every direction: down to train, up again, down to evaluate.",
        4: "The answer to an evaluation holds no weights.",
    }
    times = round(3 * answer / measured)
    return (
        f"4 rounds, 5 clients and 101,770 parameters moved {measured:.2f} MB; you predict "
        f"{answer:.4g} MB. {hints.get(times, 'A parameter has 4 bytes, a megabyte 10^6.')}"
    )
