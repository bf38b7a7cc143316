"""SCAFFOLD: every client's steps are corrected by how its gradients differ from all clients'.

Karimireddy et al. 2020 (arXiv:1910.06378), Algorithm 1, with option II for the control variates:

    client:  y ← y − η_l (g_i(y) − c_i + c), K times, from y = x
             c_i⁺ = c_i − c + (x − y) / (K η_l);   it returns y − x and c_i⁺ − c_i
    server:  x ← x + η_g · mean(y − x);   c ← c + |S| / N · mean(c_i⁺ − c_i)

c and c_i begin at zero. The server's c travels down and the client's change travels up beside the
model, under names with a prefix: twice the bytes. c_i stays with the client, in its context, so
clients must keep state, which phones seldom do.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from utils.arguments import function, number, shown, whole_number
from utils.federation.records import as_arrays, as_record, only_record
from utils.federation.strategies import CheckedStrategy, check_share_options

_CONTROL = "control/"  # before the names of c, on the way down, and of c_i's change, on the way up
_CORRECTION = "scaffold-correction"
_STATE = "scaffold-control"
Arrays = dict[str, np.ndarray]


class Scaffold(CheckedStrategy, FedAvg):
    """The server's side; the client's is ``scaffold_client``.

    All clients of a round weigh the same, as in the paper. Every array of the model must be of
    floats.

    Args:
        num_clients: N, of the whole federation.
        server_learning_rate: η_g.
        options: of ``FedAvg``.

    Raises:
        ValueError: for values out of range, or options that are out of range for FedAvg.
    """

    def __init__(
        self, num_clients: int, *, server_learning_rate: float = 1.0, **options: object
    ) -> None:
        self.num_clients = whole_number("num_clients", num_clients, 1)
        self.server_learning_rate = number("server_learning_rate", server_learning_rate, above=0)
        check_share_options(type(self), options)
        super().__init__(**options)
        self.model: Arrays = {}
        self.control: Arrays = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """FedAvg's messages, with c beside the model."""
        self.model = as_arrays(arrays)
        if not self.control:
            for name, values in self.model.items():
                if values.dtype.kind != "f":
                    raise ValueError(
                        f"the model's '{name}' is of {values.dtype}; SCAFFOLD corrects floats "
                        "only: take a model without such buffers"
                    )
            self.control = {name: np.zeros_like(values) for name, values in self.model.items()}
        both = as_record(self.model | _prefixed(self.control))
        return super().configure_train(server_round, both, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """x and c, moved by the means of the clients' changes."""
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid:
            return None, None
        sent = [as_arrays(only_record(reply.content, "a reply")[1]) for reply in valid]
        mean = {name: np.mean([arrays[name] for arrays in sent], axis=0) for name in sent[0]}
        rate, share = self.server_learning_rate, len(valid) / self.num_clients
        for name, before in self.model.items():
            moved = before + rate * (mean[name] - before)
            self.model[name] = moved.astype(before.dtype)
            control = self.control[name] + share * mean[_CONTROL + name]
            self.control[name] = control.astype(before.dtype)
        metrics = self.train_metrics_aggr_fn([r.content for r in valid], self.weighted_by_key)
        return as_record(self.model), metrics


def scaffold_client(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A client mod: ``ClientApp(mods=[scaffold_client])``.

    The client's own function trains with plain SGD (no momentum) at the rate ``"lr"`` of the
    message's configuration, adds ``scaffold_correction(message)`` to its loss, and reports its
    number of ``"steps"`` (K) among its metrics. c_i is kept in ``context.state``.

    Raises:
        ValueError: if the message holds no c, or no rate; or the reply no steps.
    """
    if not isinstance(message, Message):
        raise ValueError(
            f"message is {shown(message)}; scaffold_client is a mod, and Flower calls it: "
            "ClientApp(mods=[scaffold_client])"
        )
    if not isinstance(context, Context):
        raise ValueError(f"context is {shown(context)}; it must be a Context, where c_i is kept")
    function("call_next", call_next, "the next mod, or the client's own")
    if message.metadata.message_type != MessageType.TRAIN:
        return call_next(message, context)
    key, record = only_record(message.content, "the message to the client")
    received = as_arrays(record)
    x = {name: a for name, a in received.items() if not name.startswith(_CONTROL)}
    if received.keys() != x.keys() | {_CONTROL + name for name in x}:
        raise ValueError("the message holds no c; scaffold_client needs Scaffold at the server")
    c = {name: received[_CONTROL + name] for name in x}
    rate = _rate(message)
    kept = context.state.array_records.get(_STATE)
    c_i = {n: np.zeros_like(a) for n, a in x.items()} if kept is None else as_arrays(kept)
    message.content[key] = as_record(x)
    message.content[_CORRECTION] = as_record({name: c[name] - c_i[name] for name in x})

    reply = call_next(message, context)
    if reply.has_error():
        return reply
    key, trained = only_record(reply.content, "the client's reply")
    y, steps = as_arrays(trained), _steps(reply)
    change = {n: ((x[n] - y[n]) / (steps * rate) - c[n]).astype(x[n].dtype) for n in x}
    context.state[_STATE] = as_record({name: c_i[name] + change[name] for name in x})
    reply.content[key] = as_record(y | _prefixed(change))
    return reply


def scaffold_correction(message: Message) -> Callable[[torch.nn.Module], torch.Tensor] | None:
    """What the client adds to each step's loss, ⟨c − c_i, w⟩: its gradient is c − c_i.

    Returns:
        A ``penalty`` for ``utils.learning.train``; None if no ``scaffold_client`` stands before
        the client.

    Raises:
        ValueError: if that is no message.
    """
    if not isinstance(message, Message):
        raise ValueError(f"message is {shown(message)}; it must be the Message that came to train")
    record = message.content.array_records.get(_CORRECTION)
    if record is None:
        return None
    correction = {name: torch.from_numpy(values) for name, values in as_arrays(record).items()}

    def penalty(model: torch.nn.Module) -> torch.Tensor:
        return sum(
            (w * correction[name].to(w.device)).sum() for name, w in model.named_parameters()
        )

    return penalty


def _prefixed(arrays: Mapping[str, np.ndarray]) -> Arrays:
    return {_CONTROL + name: values for name, values in arrays.items()}


def _rate(message: Message) -> float:
    for config in message.content.config_records.values():
        if "lr" in config:
            return number("the message's lr", config["lr"], above=0)
    raise ValueError(
        "the message's configuration holds no 'lr', by which c_i is worked out; give it: "
        'serve(…, train_config={"lr": 0.1})'
    )


def _steps(reply: Message) -> int:
    for metrics in reply.content.metric_records.values():
        if "steps" in metrics:
            return whole_number("the reply's steps", metrics["steps"], 1)
    raise ValueError(
        "the client's metrics hold no 'steps', by which c_i is worked out; report how many steps "
        'of SGD it took: MetricRecord({"num-examples": n, "steps": k})'
    )
