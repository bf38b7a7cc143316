"""Sensible: what the lessons advise. Cleaned records, each patient once, noise for ε = 8 inside
each clinic (Part 2, L3), a median against liars (Part 1, L7), 8 bits (Part 1, L5)."""

import re

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedMedian

from utils import capstone

ROUNDS, RATE, LAYER = 5, 40.0, 24
SETTINGS = capstone.Settings(
    private=True,
    max_norm=RATE,  # a gradient of length 1
    noise_multiplier=1.22,  # privacy.noise_multiplier_for(8, 1.0, ROUNDS, 1e-4), rounded up
    epsilon=8,
    bits_up=8,
    bits_down=8,
)


def names_of(context):
    """All labels, in one order."""
    labels = capstone.labels_of(context)
    return labels["departments"] + labels["diseases"]


def clean(record, context):
    """Of the answer only its label: names and numbers teach nothing that anybody asks for."""
    label = next((one for one in names_of(context) if record["answer"].startswith(one)), None)
    return {"question": record["question"], "answer": label} if label else None


def patient_key(record, context):
    """Two complaints, in either order, are one patient's; rare patients' records are as written."""
    words = re.findall(r"\w+", record["question"])
    return record["answer"] + " ".join(words if "diagnosis" in words else sorted(words))


def read(texts):
    """Each text as 576 numbers of length 1 (Part 2, L3)."""
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
    return unit(np.array(rows) - np.mean(rows, axis=1, keepdims=True))


def unit(rows):
    """Rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


client_app = ClientApp()


@client_app.train()
def train(message, context):
    """One step of gradient descent on one patient; the gate clips it and adds the noise."""
    (record, *_), names = capstone.records_of(context), names_of(context)
    if "kept" not in context.state:
        context.state["kept"] = ArrayRecord({"x": Array(read([record["question"]]))})
    middle = message.content["arrays"]["middle"].numpy()
    x = unit(context.state["kept"]["x"].numpy() - middle)
    weights = message.content["arrays"]["weights"].numpy()
    odds = np.exp(x @ weights.T)
    errors = odds / odds.sum() - np.eye(len(weights))[[names.index(record["answer"])]]
    arrays = {"middle": middle, "weights": weights - RATE * errors.T @ x}
    reply = {
        "arrays": ArrayRecord({n: Array(a.astype(np.float32)) for n, a in arrays.items()}),
        "metrics": MetricRecord({"num-examples": context.node_config["registered"]}),
    }
    return Message(RecordDict(reply), reply_to=message)


server_app = ServerApp()


class Median(FedMedian):
    """FedMedian that keeps the public patients' middle as it is: there is noise on it, too."""

    def aggregate_train(self, server_round, replies):
        """The clinics' median; the middle as it was sent."""
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is not None:
            arrays["middle"] = self.middle
        return arrays, metrics


@server_app.main()
def main(grid, context):
    """Five rounds with all clinics."""
    public = read([record["question"] for record in capstone.public_of(context)])
    start = np.zeros((len(names_of(context)), 576), np.float32)
    arrays = {"middle": public.mean(0).astype(np.float32), "weights": start}
    strategy = Median(fraction_train=1.0, fraction_evaluate=0.0)
    strategy.middle = Array(arrays["middle"])
    first = ArrayRecord({name: Array(values) for name, values in arrays.items()})
    result = strategy.start(grid, first, num_rounds=ROUNDS)
    context.state["arrays"] = result.arrays


def losses(arrays, questions, context):
    """For each question, what each of its answers costs: minus the score of the answer's label."""
    names = names_of(context)
    weights, middle = (arrays[name].numpy() for name in ("weights", "middle"))
    scores = unit(read([text for text, _ in questions]) - middle) @ weights.T
    found = []
    for row, (_, options) in zip(scores, questions, strict=True):
        own = [next((i for i, n in enumerate(names) if o.startswith(n)), None) for o in options]
        found.append([0.0 if number is None else -row[number] for number in own])
    return found
