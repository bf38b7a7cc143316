"""Fifty hospitals that share 4,000 digits, and one way to run them: what L3's notebooks share."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import NamedTuple

import datasets
import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr_datasets.partitioner import (
    DirichletPartitioner,
    IidPartitioner,
    Partitioner,
    PathologicalPartitioner,
)
from torch.utils.data import Subset

from utils import learning
from utils.data import labels_of, load_digits
from utils.federation import Run, scaffold_correction, serve, simulate

NUM_CLIENTS, COHORT, ROUNDS, LATE = 50, 10, 25, 5
DEALS = ("IID", "Dirichlet(1)", "Dirichlet(0.3)", "2 labels")
SEEDS, SPARE_SEED = (1, 2, 3), 4  # the spare one is for tuning only
train_set, test_set = load_digits()


def partitioner(deal: str, seed: int) -> Partitioner:
    """Flower's partitioner for one of ``DEALS``, with the digits to deal out."""
    by_label = {"num_partitions": NUM_CLIENTS, "partition_by": "label", "seed": seed}
    made = {
        "IID": lambda: IidPartitioner(NUM_CLIENTS),
        "Dirichlet(1)": lambda: DirichletPartitioner(**by_label, alpha=1.0, self_balancing=False),
        "Dirichlet(0.3)": lambda: DirichletPartitioner(**by_label, alpha=0.3, self_balancing=False),
        "2 labels": lambda: PathologicalPartitioner(
            **by_label, num_classes_per_partition=2, class_assignment_mode="random"
        ),
    }[deal]()
    digit = datasets.ClassLabel(names=[str(digit) for digit in range(10)])
    table = datasets.Dataset.from_dict(
        {"index": range(len(train_set)), "label": labels_of(train_set).tolist()},
        features=datasets.Features({"index": datasets.Value("int32"), "label": digit}),
    )
    made.dataset = table.shuffle(seed=seed)
    return made


class Client(NamedTuple):
    """One hospital's own images: four fifths to train on, one fifth to judge by."""

    train: Subset
    validation: Subset


@cache
def deal_out(deal: str, seed: int) -> list[Client]:
    """The fifty clients' images; nobody's validation images are trained on."""
    dealt, clients = partitioner(deal, seed), []
    for number in range(NUM_CLIENTS):
        own = np.asarray(dealt.load_partition(number)["index"][:])
        kept = np.arange(len(own)) % 5 == 4
        clients.append(Client(*(Subset(train_set, own[w].tolist()) for w in (~kept, kept))))
    return clients


def client_app(mods: Iterable[Mod] = ()) -> ClientApp:
    """A client that trains as the message says, and judges a model by its validation images.

    What a message may say: ``epochs``, ``lr``; ``proximal-mu`` (FedProx); ``tell-loss``: report
    the loss before training (QFedAvg). A mod may add a correction (SCAFFOLD).
    """
    app, model = ClientApp(mods=list(mods)), learning.DigitClassifier()

    @app.train()
    def train_client(message, context):
        config, data = message.content["config"], own(context).train
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        epochs = config["epochs"]
        metrics = {"num-examples": len(data), "epochs": epochs, "one": 1}
        metrics["steps"] = epochs * math.ceil(len(data) / 32)  # of SGD: what SCAFFOLD asks for
        if config.get("tell-loss"):
            metrics["train_loss"] = learning.evaluate(model, data).loss
        penalty = scaffold_correction(message) or proximal_term(config, model)
        settings = {"epochs": epochs, "lr": config["lr"], "momentum": 0.0}
        learning.train(model, data, **settings, penalty=penalty)
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)}
        return Message(RecordDict(content), reply_to=message)

    @app.evaluate()
    def evaluate_client(message, context):
        data = own(context).validation
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        score = learning.evaluate(model, data)._asdict() | {"num-examples": len(data)}
        return Message(RecordDict({"metrics": MetricRecord(score)}), reply_to=message)

    return app


def own(context: Context) -> Client:
    """The images of the client that is asked."""
    chosen = context.run_config
    client = deal_out(chosen["deal"], chosen["seed"])[context.node_config["partition-id"]]
    return first_images(client, chosen.get("images", len(train_set)))


def first_images(client: Client, images: int) -> Client:
    """The client with so many training images at most, as if it had no more."""
    return client._replace(train=Subset(train_set, client.train.indices[:images]))


def proximal_term(config: Mapping, model: torch.nn.Module) -> Callable | None:
    """FedProx: μ / 2 · ‖w − w₀‖² for leaving the model w₀ that was received; None for no μ."""
    mu, start = config.get("proximal-mu", 0), [w.detach().clone() for w in model.parameters()]
    if not mu:
        return None
    return lambda model: (
        mu / 2 * sum(((w - w0) ** 2).sum() for w, w0 in zip(model.parameters(), start, strict=True))
    )


def as_model(arrays: ArrayRecord) -> learning.DigitClassifier:
    """The model that has these weights."""
    model = learning.DigitClassifier()
    model.load_state_dict(arrays.to_torch_state_dict())
    return model


def federate(
    deal: str,
    seed: int,
    strategy: Callable[..., Strategy] = FedAvg,
    *,
    rounds: int = ROUNDS,
    cohort: int = COHORT,
    judged_by: str = "test set",
    mods: Iterable[Mod] = (),
    images: int = len(train_set),
    **config: object,
) -> Run:
    """One federation of the fifty.

    Args:
        deal, seed: how the digits are dealt out; the seed is that of the whole run.
        strategy: makes one, from ``fraction_train`` and ``fraction_evaluate``.
        rounds, cohort: how many, and how many clients take part in each.
        judged_by: ``"test set"``: the server tests each round's model; ``"clients"``: all clients
            judge the last five rounds' models by their validation images, nobody sees the test
            set; ``"nobody"``.
        mods: of the client.
        images: how many a client trains on at most.
        config: what each message says to the clients; by default 2 epochs at rate 0.1.
    """

    def chosen(context):
        made = strategy(
            fraction_train=cohort / NUM_CLIENTS, fraction_evaluate=float(judged_by == "clients")
        )
        ask = made.configure_evaluate
        made.configure_evaluate = lambda round_, *rest: (
            ask(round_, *rest) if round_ > rounds - LATE else []
        )
        return made

    def test(round_, arrays):
        return MetricRecord({"accuracy": learning.evaluate(as_model(arrays), test_set).accuracy})

    server_app = serve(
        chosen,
        lambda: ArrayRecord(learning.DigitClassifier().state_dict()),
        rounds,
        train_config={"epochs": 2, "lr": 0.1} | config,
        evaluate_fn=test if judged_by == "test set" else None,
    )
    setting = {"deal": deal, "seed": seed, "images": images}
    app = client_app(mods)
    return simulate(
        server_app, app, NUM_CLIENTS, seed=seed, run_config=setting, workers=1, progress=False
    )


def validation_accuracy(run: Run) -> float:
    """What the clients' validation images say of the last five rounds; 0 … 1."""
    return float(run.metrics["clients/accuracy"].tail(LATE).mean())


def tuned(deal: str, strategy: Callable[..., Strategy] = FedAvg, **options: object) -> float:
    """What the clients say of a setting, with the spare seed: ``validation_accuracy``."""
    return validation_accuracy(federate(deal, SPARE_SEED, strategy, judged_by="clients", **options))


class In32Bits:
    """Mixed into a strategy: the aggregated model is float32, whatever it was computed in."""

    def aggregate_train(self, server_round, replies):
        """The strategy's own, in float32."""
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is None:
            return arrays, metrics
        single = {name: Array(a.numpy().astype(np.float32)) for name, a in arrays.items()}
        return ArrayRecord(single), metrics
