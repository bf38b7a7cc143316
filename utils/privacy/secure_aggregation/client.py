"""The client's side of secure aggregation: a Flower mod.

Bonawitz et al. 2017 (ePrint 2017/281), with the graph of Bell et al. 2020 (ePrint 2020/704) where
the terms name neighbours. In each stage a client refuses what does not fit what it has seen.
"""

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

from utils.arguments import shown, text
from utils.federation import update_of
from utils.federation.records import as_arrays, only_record
from utils.privacy.local_dp import EncodedError, refuse_encoded
from utils.privacy.mechanism import clip
from utils.privacy.secure_aggregation.messages import (
    KEYS,
    MASKED,
    RECORD,
    SHARES,
    UNMASK,
    ProtocolError,
    masked_array,
)
from utils.privacy.secure_aggregation.stages import (
    Memory,
    collect,
    hide,
    new_keys,
    recalled,
    remember,
    sealed_shares,
    shares_to_open,
)
from utils.privacy.secure_aggregation.terms import Terms

_TALK = {KEYS: new_keys, SHARES: sealed_shares, UNMASK: shares_to_open}


def mask_update(terms: Terms, *, weighted_by_key: str = "num-examples") -> Mod:
    """A client mod, the outermost: ``ClientApp(mods=[mask_update(terms), …])``.

    Needs ``SecureAggregation(strategy, terms)`` at the server. The app and the mods below it see
    a plain round. What leaves the client, all of it: two public keys; shares of its secrets,
    encrypted for those that hold them; its weighted update and its weight, masked, of which the
    server learns only all clients' sum; the shares that it holds of others, of each client of one
    kind only. Beside that: that it answers, and when. Metrics are dropped, the weight reads 1,
    integer buffers go back as they came, an exception's text stays in the client's log, and
    nothing but *train* is answered.

    It protects against a server that looks, that asks for what it must not have, repeats, mixes
    up or leaves out messages, and works with fewer clients than the threshold. Not against one
    that invents clients or swaps public keys (nobody signs them here), shapes the model so that
    one client's update shows in the sum, or sends few clients only: ``min_clients`` says how few.
    Nor against a client that lies: nobody sees its update.

    Args:
        terms: the same object, or an equal one, as the server's.
        weighted_by_key: what the app calls its weight, and the strategy a reply's.

    Raises:
        ValueError: if the terms are no terms, or the key is no text.
    """
    text("weighted_by_key", weighted_by_key)
    if not isinstance(terms, Terms):
        raise ValueError(f"terms is {shown(terms)}; it must be Terms(clip=…, max_clients=…)")

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if message.metadata.message_type != MessageType.TRAIN:
            raise ProtocolError(
                "under secure aggregation a client answers nothing but train: what it says of its "
                "data elsewhere is not masked. Give the strategy fraction_evaluate=0.0"
            )
        request = message.content.config_records.get(RECORD)
        if request is None:
            raise ProtocolError(
                "the server asks for an update in plain; this client gives masked ones only. Wrap "
                "the server's strategy: SecureAggregation(strategy, terms)"
            )
        memory, stage, arrays = recalled(context, request), request["stage"], {}
        if stage == MASKED:
            answer, arrays = _masked(terms, memory, message, context, call_next, weighted_by_key)
        else:
            answer = _TALK[stage](terms, memory, request, context.node_id)
        if stage != UNMASK:
            remember(context, memory)
        content = RecordDict({RECORD: ConfigRecord(answer), **arrays})
        return Message(content, reply_to=message)

    return mod


def _masked(
    terms: Terms,
    memory: Memory,
    message: Message,
    context: Context,
    call_next: ClientAppCallable,
    weighted_by_key: str,
) -> tuple[dict, dict]:
    """Stage 3: train, and mask the result against all whose shares this client holds."""
    collect(terms, memory, message.content.config_records.pop(RECORD), context.node_id)
    steps, key, plain = _encoded(terms, message, context, call_next, weighted_by_key)
    hide(terms, memory, context.node_id, steps)
    arrays, start = {}, 0
    for name, array in plain.items():
        if not np.issubdtype(array.dtype, np.floating):
            arrays[name] = message.content[key][name]  # an integer buffer: as it came
            continue
        arrays[name] = masked_array(steps[start : start + array.size], array)
        start += array.size
    metrics = MetricRecord({weighted_by_key: 1})
    answer = {"weight": steps[-1:].tobytes()}
    return answer, {key: ArrayRecord(arrays), "metrics": metrics}


def _encoded(
    terms: Terms,
    message: Message,
    context: Context,
    call_next: ClientAppCallable,
    weighted_by_key: str,
) -> tuple[np.ndarray, str, dict[str, np.ndarray]]:
    """The weighted update in steps, the record's key, and the arrays as they were received."""
    key, record = only_record(message.content, "the message to the client")
    refuse_encoded(record, "the message to the client")
    received, original = as_arrays(record), ArrayRecord(dict(record.items()))
    try:
        reply = call_next(message, context)
        _, trained = only_record(reply.content, "its reply")
        refuse_encoded(trained, "its reply")
        update = update_of(received, as_arrays(trained))
        update, _ = clip(update, terms.noise.clipping_norm if terms.noise else np.inf)
        weight = _weight(terms, reply, weighted_by_key)
        vector = np.concatenate([values.ravel() for values in update.values()])
        steps = terms.encode(vector, weight)
    except (EncodedError, ProtocolError):
        raise  # tell of the set-up, not of the data
    except Exception:
        log(WARNING, "A client's training failed:\n%s", traceback.format_exc())
        raise RuntimeError(
            "training failed; under secure aggregation the reason stays here"
        ) from None
    message.content[key] = original  # the app may have changed it
    return steps, key, received


def _weight(terms: Terms, reply: Message, name: str) -> int:
    if terms.max_weight == 1:
        return 1
    found = [m[name] for m in reply.content.metric_records.values() if name in m]
    if len(found) != 1 or not isinstance(found[0], int) or not 1 <= found[0] <= terms.max_weight:
        raise ProtocolError(
            f"the client's weight '{name}' is not one whole number from 1 to {terms.max_weight:,} "
            "(max_weight of the terms)"
        )
    return found[0]
