"""Privacy at the client: mods that clip an update, or clip and noise it, before it leaves."""

import json
import math
import traceback
from logging import WARNING

import numpy as np
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.common import log

from utils.arguments import MANY, function, number, shown, text, whole_number
from utils.federation import apply_update, update_of
from utils.federation.records import as_arrays, as_record, only_record
from utils.privacy.accounting import gaussian_sigma
from utils.privacy.ledger import BudgetSpentError, Ledger
from utils.privacy.mechanism import Update, add_noise, clip

CLIP_KEY = "clipping-norm"
_LEDGER = "local-dp"


class EncodedError(ValueError):
    """A compressed update where plain numbers are needed: the mods are in the wrong order."""


def clip_update(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Clip the update to the norm that ``DPFedAvg`` sends: ``ClientApp(mods=[clip_update])``.

    (The server clips again: it need not trust anybody.)

    Raises:
        ValueError: if the message, or the client's reply, holds nothing that can be clipped.
    """
    if not isinstance(message, Message):
        raise ValueError(
            f"message is {shown(message)}; clip_update is a mod, and Flower calls it: "
            "ClientApp(mods=[clip_update])"
        )
    function("call_next", call_next, "the next mod, or the client's own")
    reply = call_next(message, context)
    if message.metadata.message_type != MessageType.TRAIN or reply.has_error():
        return reply
    norms = [c[CLIP_KEY] for c in message.content.config_records.values() if CLIP_KEY in c]
    if not norms:
        raise ValueError(
            f"the message holds no '{CLIP_KEY}'; clip_update needs DPFedAvg at the server"
        )
    received = _plain_arrays(message.content, "the message to the client")
    clipped, _ = clip(_update(received, reply), norms[0])
    key, _ = only_record(reply.content, "its reply")
    reply.content[key] = as_record(apply_update(received, clipped))
    return reply


def local_dp(
    clipping_norm: float,
    target_epsilon: float,
    delta: float,
    rounds: int,
    *,
    weighted_by_key: str = "num-examples",
) -> Mod:
    """Local DP: the update is clipped and noised at the client, so nobody need be trusted.

    (epsilon, delta)-DP for all that one client sends in ``rounds`` rounds, against everybody,
    the server included. Any two updates may be exchanged, and two vectors of norm S differ by
    2 S at most: the noise has standard deviation 2 · S · z · sqrt(rounds), with z from the
    analytic Gaussian mechanism.

    Only what the accountant covers leaves: the noised arrays. Metrics and counts are dropped
    (every client weighs 1), integer buffers go back as they came, an exception's text stays at
    the client, in its log, and nothing but *train* is answered. After ``rounds`` answers the
    client refuses: its ledger lies in ``context.state``. That a client answers at all, and
    when, is not hidden.

    Args:
        clipping_norm: S, in the units of an update; above 0.
        target_epsilon, delta: the guarantee over all rounds.
        rounds: how often a client may answer, at least 1.
        weighted_by_key: what the strategy calls a reply's weight.

    Raises:
        ValueError: for values out of range.
    """
    clipping_norm = number("clipping_norm", clipping_norm, above=0)
    rounds = whole_number("rounds", rounds, 1, MANY)
    text("weighted_by_key", weighted_by_key)
    multiplier = gaussian_sigma(target_epsilon, delta) * math.sqrt(rounds)
    stddev = 2 * clipping_norm * multiplier

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if message.metadata.message_type != MessageType.TRAIN:
            raise RuntimeError(
                "under local DP a client answers nothing but train: what it says of its data in "
                "another answer is not covered. Give the strategy fraction_evaluate=0.0"
            )
        ledger = _ledger(context, delta, target_epsilon)
        if not ledger.affords(multiplier, 1.0):
            raise BudgetSpentError(
                f"this client's privacy budget (epsilon {target_epsilon}) was for {rounds} "
                "rounds, which are spent"
            )
        received = _plain_arrays(message.content, "the message to the client")
        try:
            reply = call_next(message, context)
            key, record = only_record(reply.content, "its reply")
            refuse_encoded(record, "its reply")
            clipped, _ = clip(_update(received, reply), clipping_norm)
        except EncodedError:
            raise  # tells of the mods' order, not of the data
        except Exception:
            log(WARNING, "A client's training failed:\n%s", traceback.format_exc())
            raise RuntimeError("training failed; under local DP the reason stays here") from None
        ledger.spend(multiplier)
        context.state[_LEDGER] = ConfigRecord({"state": json.dumps(ledger.state())})
        noised = as_record(apply_update(received, add_noise(clipped, stddev)))
        weight = MetricRecord({weighted_by_key: 1})
        reply.content = RecordDict({key: noised, "metrics": weight})
        return reply

    return mod


def _ledger(context: Context, delta: float, budget: float) -> Ledger:
    """This client's own, from its state."""
    ledger = Ledger(delta, budget=budget)
    if _LEDGER in context.state:
        ledger.restore(json.loads(context.state[_LEDGER]["state"]))
    return ledger


def _update(received: dict[str, np.ndarray], reply: Message) -> Update:
    """What training changed, where all of it is plain numbers."""
    return update_of(received, _plain_arrays(reply.content, "the client's reply"))


def _plain_arrays(content: RecordDict, whose: str) -> dict[str, np.ndarray]:
    _, record = only_record(content, whose)
    refuse_encoded(record, whose)
    return as_arrays(record)


def refuse_encoded(record: ArrayRecord, whose: str) -> None:
    """Only plain numbers can be clipped, noised or masked.

    Raises:
        EncodedError: if an array is compressed; ``whose`` names the message.
    """
    encoded = [name for name, array in record.items() if array.stype != "numpy.ndarray"]
    if encoded:
        raise EncodedError(
            f"{whose} holds compressed arrays, whose norm nobody can bound; the first mod is the "
            "outermost, so the order is: ClientApp(mods=[compress_update(…), local_dp(…)]), and "
            "likewise with clip_update; masked updates (mask_update) cannot be compressed"
        )
