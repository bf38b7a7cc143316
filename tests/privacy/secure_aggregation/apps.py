"""A federation with known updates, whose every message can be seen, lost or changed."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
from flwr.app import Message
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from tests.federation.apps import client_of, final_weights, server_app, update_reply
from utils.federation import simulate
from utils.federation.grids import copy_content
from utils.federation.recording import round_of
from utils.privacy.secure_aggregation import SecureAggregation, Terms, mask_update
from utils.privacy.secure_aggregation.messages import RECORD


class KnownUpdates:
    """A client's training: adds ``updates[client]`` to "w", and reports ``weights[client]``."""

    def __init__(self, updates, weights) -> None:
        self.updates, self.weights = updates, weights

    def __call__(self, message, context):
        arrays = {name: a.numpy() for name, a in message.content["arrays"].items()}
        arrays["w"] = arrays["w"] + self.updates[client_of(context)]
        if "steps" in arrays:
            arrays["steps"] = arrays["steps"] + 1
        weight = int(self.weights[client_of(context)])
        return update_reply(message, arrays, **{"num-examples": weight, "loss": 0.125})


def stage_of(message: Message) -> str:
    return message.content[RECORD]["stage"] if RECORD in message.content else "plain"


def federate(
    updates: np.ndarray,
    weights=None,
    terms: Terms | None = None,
    *,
    lost: Mapping[int, tuple[str, bool]] | None = None,
    tamper: Callable[[Message, int], list[Message] | None] | None = None,
    train=None,
    mods=(),
    strategy=None,
    rounds: int = 1,
    start=None,
    **options,
) -> SimpleNamespace:
    """Run one client a row of ``updates``, on a model of zeros (float64) and a counter.

    Args:
        lost: by client, at which stage it is gone, and whether its last answer still gets out.
        tamper: sees each request and its client; the messages that the client gets instead, the
            last of which it answers.
        strategy: what to put around the secure sum, a function of it.
    """
    updates, count = np.asarray(updates, float), len(updates)
    weights = np.ones(count, int) if weights is None else weights
    terms = terms or Terms(clip=4.0, max_clients=count, max_weight=int(max(weights)))
    log = SimpleNamespace(requests=[], replies=[], contexts={}, terms=terms)

    def spy(message, context, call_next):
        client, stage = client_of(context), stage_of(message)
        log.contexts[client] = context
        gone = lost.get(client) if lost else None
        if gone == (stage, False):
            raise RuntimeError("gone")
        log.requests.append((client, stage, copy_content(message.content)))
        for given in (tamper(message, client) if tamper else None) or [message]:
            reply = call_next(given, context)
        left = SimpleNamespace(content=copy_content(reply.content))  # the server changes its own
        log.replies.append((client, stage, left))
        if gone == (stage, True):
            raise RuntimeError("its answer is lost")
        return reply

    app = ClientApp(mods=[*([spy] if options.get("engine") != "ray" else []), mask_update(terms)])
    app.train(mods=list(mods))(train or KnownUpdates(updates, weights))
    secure = SecureAggregation(FedAvg(fraction_evaluate=0.0), terms)
    start = start or {"w": np.zeros(updates.shape[1]), "steps": np.array(7)}
    server = server_app(rounds, strategy(secure) if strategy else secure, arrays=start)
    log.run = simulate(server, app, count, progress=False, **options)
    log.weights, log.secure = final_weights(log.run), secure
    return log


def again(message: Message) -> Message:
    """The same message once more."""
    return Message(copy_content(message.content), metadata=deepcopy(message.metadata))


__all__ = ["KnownUpdates", "again", "federate", "round_of", "stage_of"]
