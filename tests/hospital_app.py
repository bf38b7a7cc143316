"""The Flower app of L2 as a module: the job that tests and benchmarks run on both engines."""

import os
from functools import cache

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from torch.utils.data import Subset

import utils  # noqa: F401  (before torchvision)
from utils.data import load_digits
from utils.learning import DigitClassifier, evaluate, train

client_app = ClientApp()


load = cache(load_digits)  # once a process


def client_data(client: int, num_clients: int) -> Subset:
    """Every num_clients-th training digit."""
    digits, _ = load()
    return Subset(digits, range(client, len(digits), num_clients))


@client_app.train()
def train_on_client(message, context):
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
    model = DigitClassifier()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    data = client_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    losses = train(model, data, epochs=message.content["config"]["local-epochs"])
    metrics = MetricRecord({"loss": losses[-1], "num-examples": len(data)})
    arrays = ArrayRecord(model.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@client_app.evaluate()
def evaluate_on_client(message, context):
    model = DigitClassifier()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    data = client_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    score = evaluate(model, data)
    metrics = MetricRecord({"accuracy": score.accuracy, "num-examples": len(data)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def make_server_app(rounds=2, local_epochs=1, **strategy_options) -> ServerApp:
    """FedAvg from a model initialized with the server's random stream."""
    app = ServerApp()

    @app.main()
    def main(grid, context):
        FedAvg(**strategy_options).start(
            grid=grid,
            initial_arrays=ArrayRecord(DigitClassifier().state_dict()),
            num_rounds=rounds,
            train_config=ConfigRecord({"local-epochs": local_epochs}),
            evaluate_fn=server_evaluate,
        )

    return app


def server_evaluate(server_round, arrays):
    model = DigitClassifier()
    model.load_state_dict(arrays.to_torch_state_dict())
    score = evaluate(model, load()[1])
    return MetricRecord({"loss": score.loss, "accuracy": score.accuracy})
