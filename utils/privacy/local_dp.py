"""Privacy at the client: mods that clip an update, or clip and noise it, before it leaves."""

import math

import numpy as np
from flwr.app import Context, Message, MessageType, MetricRecord
from flwr.clientapp.typing import ClientAppCallable, Mod

from utils.federation.records import as_arrays, as_record, only_record
from utils.privacy.accounting import gaussian_sigma
from utils.privacy.mechanism import Update, add_noise, clip

CLIP_KEY = "clipping-norm"
INSIDE_KEY = "inside-clipping-norm"


def clip_update(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Clip the update to the norm that ``DPFedAvg`` sends: ``ClientApp(mods=[clip_update])``.

    Reports among the metrics whether the update was short enough already, by which the
    server may adapt the norm. (The server clips again: it need not trust anybody.)
    """
    reply = call_next(message, context)
    if not _is_trained(message, reply):
        return reply
    norms = [c[CLIP_KEY] for c in message.content.config_records.values() if CLIP_KEY in c]
    if not norms:
        raise ValueError(
            f"the message holds no '{CLIP_KEY}'; clip_update needs DPFedAvg at the server"
        )
    clipped, norm = clip(_update(message, reply), norms[0])
    _send(message, reply, clipped)
    metrics = next(iter(reply.content.metric_records.values()), None)
    if metrics is None:
        metrics = reply.content["metrics"] = MetricRecord()
    metrics[INSIDE_KEY] = int(norm <= norms[0])
    return reply


def local_dp(clipping_norm: float, target_epsilon: float, delta: float, rounds: int) -> Mod:
    """Local DP: the update is clipped and noised at the client, so nobody need be trusted.

    (epsilon, delta)-DP for all that one client sends in ``rounds`` rounds, against everybody,
    the server included. Any two updates may be exchanged, and two vectors of norm S differ by
    2 S at most: the noise has standard deviation 2 · S · z · sqrt(rounds), with z from the
    analytic Gaussian mechanism. After ``rounds`` answers the client refuses to train: it
    counts them in its ``context.state``.

    Args:
        clipping_norm: S, in the units of an update; above 0.
        target_epsilon, delta: the guarantee over all rounds.
        rounds: how often a client may answer, at least 1.

    Raises:
        ValueError: for values out of range.
    """
    if not 0 < clipping_norm < math.inf:
        raise ValueError(f"clipping_norm is {clipping_norm}; it must be above 0, and finite")
    if not isinstance(rounds, int) or rounds < 1:
        raise ValueError(f"rounds is {rounds!r}; it must be an integer of at least 1")
    multiplier = gaussian_sigma(target_epsilon, delta) * math.sqrt(rounds)
    stddev = 2 * clipping_norm * multiplier

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if message.metadata.message_type != MessageType.TRAIN:
            return call_next(message, context)
        book = context.state.metric_records.get("local-dp", MetricRecord({"answers": 0}))
        if book["answers"] >= rounds:
            raise RuntimeError(
                f"this client's privacy budget (epsilon {target_epsilon}) was for {rounds} "
                "rounds, which are spent"
            )
        reply = call_next(message, context)
        if _is_trained(message, reply):
            clipped, _ = clip(_update(message, reply), clipping_norm)
            _send(message, reply, add_noise(clipped, stddev))
            context.state["local-dp"] = MetricRecord({"answers": book["answers"] + 1})
        return reply

    return mod


def _is_trained(message: Message, reply: Message) -> bool:
    return message.metadata.message_type == MessageType.TRAIN and not reply.has_error()


def _update(message: Message, reply: Message) -> Update:
    """What training changed."""
    received, trained = _arrays(message, "the message to the client"), _arrays(reply, "its reply")
    if received.keys() != trained.keys():
        raise ValueError(f"the arrays {sorted(trained)} are not those sent: {sorted(received)}")
    return {name: trained[name] - received[name] for name in received}


def _send(message: Message, reply: Message, update: Update) -> None:
    """Let the reply hold the global model plus this update."""
    received = _arrays(message, "the message to the client")
    key, _ = only_record(reply.content, "its reply")
    new = {name: (w + update[name]).astype(w.dtype) for name, w in received.items()}
    reply.content[key] = as_record(new)


def _arrays(message: Message, whose: str) -> dict[str, np.ndarray]:
    return as_arrays(only_record(message.content, whose)[1])
