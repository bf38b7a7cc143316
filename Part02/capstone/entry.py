"""The starting entry: a frozen language model, one trained layer, plain FedAvg, no protection.

Copy this file, change the copy, and score it: make capstone ENTRY=path/to/your_copy.py
"""

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from utils import capstone

SETTINGS = capstone.Settings(private=False)
ROUNDS, RATE, LAYER = 5, 20.0, 24


def read(texts):
    """Each text as 576 numbers of length 1: the mean of its tokens' states after a layer."""
    model = capstone.language_model()
    before, after = (len(part) for part in model.turn_ids())
    rows = []
    for text in texts:
        ids = model.prompt_ids(text)
        with torch.no_grad():
            inputs = torch.tensor([ids], device=model.device)
            states = model.body(inputs, output_hidden_states=True, use_cache=False)
        own = states.hidden_states[LAYER][0, before : len(ids) - after].float()
        rows.append(own.mean(0).cpu().numpy())
    rows = np.array(rows) - np.mean(rows, axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def label_of(answer, labels):
    """The number of the label that an answer begins with, whatever a clinic wrote behind it."""
    names = labels["departments"] + labels["diseases"]
    return next((i for i, name in enumerate(names) if answer.startswith(name)), None)


client_app = ClientApp()


@client_app.train()
def train(message, context):
    """One step of gradient descent on all records that this call may see."""
    records, labels = capstone.records_of(context), capstone.labels_of(context)
    if "kept" not in context.state:  # what the frozen model says never changes
        x = read([record["question"] for record in records])
        context.state["kept"] = ArrayRecord({"x": Array(x)})
    x = context.state["kept"]["x"].numpy()
    y = [label_of(record["answer"], labels) for record in records]
    weights = message.content["arrays"]["weights"].numpy()
    odds = np.exp(x @ weights.T)
    errors = odds / odds.sum(1, keepdims=True) - np.eye(len(weights))[y]
    weights = weights - RATE * errors.T @ x / len(x)
    reply = {
        "arrays": ArrayRecord({"weights": Array(weights.astype(np.float32))}),
        "metrics": MetricRecord({"num-examples": len(records)}),
    }
    return Message(RecordDict(reply), reply_to=message)


server_app = ServerApp()


@server_app.main()
def main(grid, context):
    """FedAvg over all clinics; the model is left where the scorer looks for it."""
    labels = capstone.labels_of(context)
    start = np.zeros((len(labels["departments"] + labels["diseases"]), 576), np.float32)
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0)
    arrays = ArrayRecord({"weights": Array(start)})
    result = strategy.start(grid, arrays, num_rounds=ROUNDS)
    context.state["arrays"] = result.arrays


def losses(arrays, questions, context):
    """For each question, what each of its answers costs: minus the score of the answer's label."""
    labels, weights = capstone.labels_of(context), arrays["weights"].numpy()
    scores = read([text for text, _ in questions]) @ weights.T
    found = []
    for row, (_, options) in zip(scores, questions, strict=True):
        numbers = [label_of(option, labels) for option in options]
        found.append([0.0 if number is None else -row[number] for number in numbers])
    return found
