"""Small Flower apps for the tests: fast, and each with one thing to go wrong."""

import random

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg


def update_reply(message, arrays, **metrics):
    """A training reply of these arrays, given as {name: numpy array}."""
    record = ArrayRecord({name: torch.as_tensor(array) for name, array in arrays.items()})
    content = RecordDict(
        {"arrays": record, "metrics": MetricRecord({"num-examples": 1, **metrics})}
    )
    return Message(content, reply_to=message)


def client_app(train=None, evaluate=None, mods=None):
    """A ClientApp whose handlers add 1 to every weight unless given."""
    app = ClientApp()

    def add_one(message, context):
        arrays = {name: a.numpy() + 1 for name, a in message.content["arrays"].items()}
        return update_reply(message, arrays)

    def report(message, context):
        metrics = MetricRecord({"score": 0.5, "num-examples": 1})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    app.train(mods=mods)(train or add_one)
    app.evaluate()(evaluate or report)
    return app


def client_of(context):
    return context.node_config["partition-id"]


def noisy_train(message, context):
    """Weights drawn from all three global generators: any leak between streams shows."""
    noise = torch.rand(2).numpy() + np.random.rand(2) + random.random()
    return update_reply(message, {"w": noise.astype("float32"), "b": np.zeros(3, "float32")})


def server_app(rounds=2, strategy=None, evaluate_fn=None, arrays=None):
    """FedAvg over two small arrays."""
    app = ServerApp()
    arrays = arrays or {"w": np.zeros(2, "float32"), "b": np.zeros(3, "float32")}

    @app.main()
    def main(grid, context):
        (strategy or FedAvg()).start(
            grid=grid,
            initial_arrays=ArrayRecord({n: torch.as_tensor(a) for n, a in arrays.items()}),
            num_rounds=rounds,
            train_config=ConfigRecord({"lr": 0.1, "layers": [1, 2]}),
            evaluate_fn=evaluate_fn,
        )

    return app


def final_weights(run):
    return {name: array.numpy() for name, array in run.result.arrays.items()}
