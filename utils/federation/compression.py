"""Compress what clients and server send one another: a Flower client mod, a strategy wrapper.

Clients send their *update* (what they trained minus what they received), encoded by a codec;
the wrapped strategy adds it to the global model again. The server may encode the model that
it sends as well. An encoded array keeps its name, shape and dtype, and says in
``Array.stype`` how to read it, so that the receiver needs no settings.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import astuple
from functools import cache

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from utils.federation.codecs import CODECS, Codec, CompressionError
from utils.federation.records import as_arrays, as_record, only_record

_PREFIX = "compressed:"
_MEMORY = "compression-memory"


def encode_array(values: np.ndarray, codec: Codec) -> Array:
    """Compress one array of floats, of any shape; integers and booleans stay as they are.

    Raises:
        CompressionError: if the array holds NaN or infinity.
    """
    if not np.issubdtype(values.dtype, np.floating):
        return Array(values)
    with np.errstate(over="ignore"):
        vector = np.ascontiguousarray(values, np.float32).ravel()
    bad = vector.size - int(np.isfinite(vector).sum())
    if bad:
        raise CompressionError(
            f"{bad:,} of {vector.size:,} values are NaN or infinite (in float32), and cannot be "
            "compressed; a lower learning rate or gradient clipping on the client usually cures it"
        )
    data = codec.encode(vector) if vector.size else b""
    stype = _PREFIX + json.dumps([codec.kind, *astuple(codec)], separators=(",", ":"))
    return Array(str(values.dtype), tuple(values.shape), stype, data)


def decode_array(array: Array) -> np.ndarray:
    """The numbers of an array as it came over the wire, compressed or not.

    Raises:
        CompressionError: if its bytes do not fit its shape, or the codec is unknown.
    """
    if not _is_compressed(array):
        return array.numpy()
    codec, size = _codec_named(array.stype), math.prod(array.shape)
    try:
        if min(array.shape, default=0) < 0:
            raise ValueError("a length is negative")
        if size == 0 and array.data:
            raise ValueError("an empty array has no bytes")
        vector = codec.decode(array.data, size) if size else np.empty(0, np.float32)
        return vector.reshape(array.shape).astype(array.dtype)
    except (ValueError, IndexError, TypeError) as error:
        raise CompressionError(
            f"{len(array.data):,} bytes of '{array.stype}' do not hold an array of shape "
            f"{tuple(array.shape)} and dtype {array.dtype}: {error}"
        ) from error


def _is_compressed(array: Array) -> bool:
    return array.stype.startswith(_PREFIX)


@cache
def _codec_named(stype: str) -> Codec:
    try:
        kind, *settings = json.loads(stype.removeprefix(_PREFIX))
        return CODECS[kind](*settings)
    except (KeyError, ValueError, TypeError) as error:
        raise CompressionError(
            f"cannot read '{stype[:80]}' ({error!r}); known codecs are: {', '.join(CODECS)}"
        ) from error


def compress_update(codec: Codec, error_feedback: bool = False) -> Mod:
    """A client mod: ``ClientApp(mods=[compress_update(Uniform(bits=8))])``.

    The app below it sees plain float arrays. Its reply to *train* leaves as an encoded update;
    needs ``CompressedStrategy`` at the server.

    Args:
        codec: how to encode the update.
        error_feedback: add what earlier rounds left out to this round's update, and remember
            what it leaves out in turn (Seide et al. 2014; Karimireddy et al. 2019,
            arXiv:1901.09847). The memory, as large as the model, lies in the client's
            ``context.state``; while the client is not chosen, it waits and goes stale.
    """

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        key, received = _only_arrays(message.content, "the message to the client")
        message.content[key] = as_record(received)
        reply = call_next(message, context)
        if message.metadata.message_type != MessageType.TRAIN or reply.has_error():
            return reply
        key, trained = _only_arrays(reply.content, "the client's reply")
        memory = context.state.array_records.get(_MEMORY, {}) if error_feedback else {}
        encoded, left_out = {}, {}
        for name, values in trained.items():
            if name not in received:
                raise CompressionError(f"'{name}' was not among the arrays that were sent")
            if not np.issubdtype(values.dtype, np.floating):
                encoded[name] = Array(values)
                continue
            update = values - received[name]
            if name in memory:
                update += memory[name].numpy()
            encoded[name] = encode_array(update, codec)
            left_out[name] = update - decode_array(encoded[name]) if error_feedback else None
        if error_feedback:
            context.state[_MEMORY] = as_record(left_out)
        reply.content[key] = ArrayRecord(encoded)
        return reply

    return mod


class CompressedStrategy(Strategy):
    """Wraps any strategy: decodes the updates of ``compress_update`` before it aggregates.

    The inner strategy sees what it always sees: each client's full arrays. The server's own
    copy of the model keeps its full precision, whatever is sent. Arrays of a client without
    the mod are taken as they are.

    Args:
        strategy: the strategy to wrap, e.g. ``FedAvg()``.
        down: how to encode the model that the server sends; None sends it as it is.
    """

    def __init__(self, strategy: Strategy, down: Codec | None = None) -> None:
        self.strategy, self.down = strategy, down
        self._global: dict[str, np.ndarray] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, their arrays encoded."""
        self._global = as_arrays(arrays)
        messages = self.strategy.configure_train(server_round, arrays, config, grid)
        return self._encoded(messages)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Decode each update, add the global model, and let the inner strategy aggregate."""
        replies = list(replies)
        for reply in replies:
            if reply.has_error():
                continue
            key, arrays = _only_arrays(reply.content, "a client's reply")
            for name, array in reply.content[key].items():
                if _is_compressed(array):
                    arrays[name] = (self._global[name] + arrays[name]).astype(array.dtype)
            reply.content[key] = as_record(arrays)
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, their arrays encoded."""
        return self._encoded(self.strategy.configure_evaluate(server_round, arrays, config, grid))

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The inner strategy's."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """The inner strategy's."""
        self.strategy.summary()

    def _encoded(self, messages: Iterable[Message]) -> list[Message]:
        """Encode each distinct record once: every client gets the same bytes."""
        messages, done = list(messages), {}
        if self.down is None:
            return messages
        for message in messages:
            for key, record in list(message.content.array_records.items()):
                if id(record) not in done:
                    done[id(record)] = (
                        record,
                        ArrayRecord(
                            {n: encode_array(a.numpy(), self.down) for n, a in record.items()}
                        ),
                    )
                content = RecordDict(dict(message.content.items()))
                content[key] = done[id(record)][1]
                message.content = content
        return messages


def _only_arrays(content: RecordDict, whose: str) -> tuple[str, dict[str, np.ndarray]]:
    """The one ArrayRecord of a message, decoded, and its key."""
    key, record = only_record(content, whose)
    return key, {name: decode_array(array) for name, array in record.items()}
