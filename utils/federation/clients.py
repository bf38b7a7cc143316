"""A ClientApp that trains a classifier: Part 1, L2 writes it out."""

import inspect
from collections.abc import Callable, Iterable, Mapping

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable, Mod
from torch import nn
from torch.utils.data import Dataset

from utils.arguments import function, functions, shown
from utils.federation.recording import round_of
from utils.learning import evaluate, train
from utils.randomness import random_stream

State = Mapping[str, torch.Tensor]
_SETTINGS = ("epochs", "lr", "momentum", "batch_size")  # that a message may bring


def classifier_app(
    make_model: Callable[[], nn.Module],
    data_of: Callable[[Context], Dataset],
    *,
    test_data_of: Callable[[Context], Dataset] | None = None,
    measure: Callable[[State, State], Mapping[str, float]] | None = None,
    mods: Iterable[Mod] = (),
    **training: object,
) -> ClientApp:
    """A client that trains the model it is sent on its own data, and sends it back.

    Its reply to *train* weighs as much as it has examples (``"num-examples"``), and reports
    the last epoch's ``"loss"``; its reply to *evaluate* the ``"loss"`` and ``"accuracy"``.

    Args:
        make_model: makes a model, which is then filled from each message.
        data_of: a client's training data, from its context: its number is
            ``context.node_config["partition-id"]``.
        test_data_of: a client's test data; without it, the client answers no *evaluate*.
        measure: more metrics, from the weights received and those trained.
        mods: of the client, the first outermost.
        training: of ``utils.learning.train`` (epochs, lr, …); a message whose configuration
            names one of them overrides it.

    Raises:
        TypeError: if what should be a function is none, or a setting is unknown.
    """
    of_context = "lambda context: parts[context.node_config['partition-id']]"
    function("data_of", data_of, of_context)
    if test_data_of is not None:
        function("test_data_of", test_data_of, of_context)
    if measure is not None:
        function("measure", measure, "lambda received, trained: {'length': 0.1}")
    unknown = training.keys() - inspect.signature(train).parameters.keys()
    if unknown:
        raise TypeError(f"{sorted(unknown)} are no settings of train; known are {_SETTINGS}")
    app = ClientApp(mods=functions("mods", mods, "Flower mods"))
    model = None if isinstance(make_model, nn.Module) else function("make_model", make_model)()
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"make_model is {shown(make_model)}; it must be a function that makes a model, such as "
            "make_model=DigitClassifier, without parentheses"
        )

    @app.train()
    def train_client(message: Message, context: Context) -> Message:
        received, data = message.content["arrays"].to_torch_state_dict(), data_of(context)
        model.load_state_dict(received)
        sent = next(iter(message.content.config_records.values()), {})
        settings = {name: sent[name] for name in _SETTINGS if name in sent}
        losses = train(model, data, **{**training, **settings})
        metrics = {"loss": losses[-1], "num-examples": len(data)}
        if measure is not None:
            metrics |= measure(received, model.state_dict())
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)}
        return Message(RecordDict(content), reply_to=message)

    if test_data_of is not None:

        @app.evaluate()
        def evaluate_client(message: Message, context: Context) -> Message:
            data = test_data_of(context)
            model.load_state_dict(message.content["arrays"].to_torch_state_dict())
            score = evaluate(model, data)._asdict()
            metrics = MetricRecord(score | {"num-examples": len(data)})
            return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def repeatable(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A mod: a client's random numbers are the same wherever it runs.

    They come from the run's ``seed``, the kind of message, the round and the client's number
    (``partition-id`` of its node configuration), as in ``simulate``. On a network, Flower's own
    threads draw from Python's generator, too: what must repeat is drawn from it first, or from
    torch's or NumPy's.
    """
    number, kind = context.node_config["partition-id"], message.metadata.message_type
    with random_stream(context.run_config["seed"], kind, round_of(message) or 0, number):
        return call_next(message, context)
