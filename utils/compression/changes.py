"""The way down, as changes: a server sends what is new since the last model it sent.

Both ends keep that model as the codec left it. So what one message loses is part of the next
change, which is error feedback at the server (Liu et al. 2020, DORE, arXiv:1910.07561;
Philippenko and Dieuleveut 2021, arXiv:2102.12528).
"""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from utils.compression.arrays import decode_array, decoded_arrays, encode_array, is_compressed
from utils.compression.codecs import Codec, CompressionError
from utils.federation import apply_update, update_of
from utils.federation.records import as_arrays, as_record, only_record

_RECORD, _HELD, _VERSION = "compression", "compression-held", "compression-version"


def model_of(
    base: Mapping[str, np.ndarray], record: ArrayRecord, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Base plus what a codec wrote; what none wrote is taken as it is.

    Args:
        base: the arrays that the change belongs to.
        record: as it came over the wire.
        arrays: the same, decoded.
    """
    encoded = {name for name, array in record.items() if is_compressed(array)}
    changes = {name: arrays[name] for name in encoded}
    return {**arrays, **apply_update({name: base[name] for name in encoded}, changes)}


def _length(arrays: Mapping[str, np.ndarray]) -> float:
    return math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays.values()))


class ChangeSender:
    """The server's end: it knows what clients hold, and which of them hold it.

    A client that missed a message, or answered it with an error, is sent the whole model the
    next time, uncompressed.

    Args:
        codec: how to write a change.
        held: what every client holds in the beginning.
    """

    def __init__(self, codec: Codec, held: ArrayRecord) -> None:
        self.codec, self.held = codec, as_arrays(held)
        self.version = 0  # how often the model that clients hold has moved
        self._current: set[int] | None = None  # nodes that hold it; None: all, at the start

    def encode(self, messages: Iterable[Message]) -> list[Message]:
        """The messages, with the change in place of their model; the held one moves on.

        Raises:
            CompressionError: if the messages hold different models, or another one than before.
        """
        messages = list(messages)
        if not messages:
            return []
        key, model = only_record(messages[0].content, "the message to a client")
        if any(message.content.get(key) is not model for message in messages):
            raise CompressionError(
                "the strategy sends clients different models, which have no one change; leave out "
                "held=, and each is sent as it is"
            )
        was = {"from": self.version, "length": _length(self.held)}
        change = self.move_to(model)
        whole = as_record(self.held)
        for message in messages:
            behind = self._current is not None and message.metadata.dst_node_id not in self._current
            said = ConfigRecord({"version": self.version, **({} if behind else was)})
            sent = {key: whole if behind else change, _RECORD: said}
            message.content = RecordDict({**message.content, **sent})
        self._current = set()
        return messages

    def move_to(self, model: ArrayRecord) -> ArrayRecord:
        """The change that brings clients from what they hold to the model, as near as it gets."""
        new = as_arrays(model)
        changes = update_of(self.held, new)
        change = ArrayRecord(
            {
                name: encode_array(changes[name].astype(now.dtype), self.codec)
                if name in changes
                else Array(np.asarray(new[name]).round().astype(now.dtype))
                for name, now in self.held.items()
            }
        )
        decoded = {name: decode_array(array) for name, array in change.items()}
        self.held = model_of(self.held, change, decoded)
        self.version += 1
        return change

    def answered(self, replies: Iterable[Message]) -> None:
        """Whoever answered without an error holds what was sent."""
        good = {reply.metadata.src_node_id for reply in replies if not reply.has_error()}
        self._current = good | (self._current or set())


def receive(
    message: Message, context: Context, start: Callable[[Context], ArrayRecord] | None
) -> tuple[str, dict[str, np.ndarray]]:
    """The client's end: the model in a message, whether it travelled whole or as a change.

    Args:
        message: as it came; what it says of changes is taken out.
        context: of the client; its state keeps the model, where the next one is a change of it.
        start: makes what this client holds in the beginning.

    Returns:
        The key of the model's record, and its arrays.

    Raises:
        CompressionError: if it is a change of another model than this client holds.
    """
    key, arrays = decoded_arrays(message.content, "the message to the client")
    if _RECORD not in message.content:
        return key, arrays
    said = message.content.pop(_RECORD)
    if "from" in said:
        held = _held_by(context, start, int(said["from"]))
        if not math.isclose(_length(held), said["length"], rel_tol=1e-5):
            raise CompressionError(
                f"the change belongs to a model of length {said['length']:.6g}, but this client "
                f"holds one of {_length(held):.6g}; held= must give the same arrays at the server "
                "and at every client"
            )
        arrays = model_of(held, message.content[key], arrays)
    context.state[_HELD] = as_record(arrays)
    context.state[_VERSION] = ConfigRecord({"version": said["version"]})
    return key, arrays


def _held_by(
    context: Context, start: Callable[[Context], ArrayRecord] | None, version: int
) -> dict[str, np.ndarray]:
    if _HELD in context.state:
        mine = context.state[_VERSION]["version"]
        if mine == version:
            return as_arrays(context.state[_HELD])
    elif version == 0 and start is not None:
        return as_arrays(start(context))
    else:
        mine = "none"
    raise CompressionError(
        f"the server sent a change of model {version}, but this client holds {mine}; it will be "
        "sent the whole model next (a client that is to begin with a change needs "
        "compress_update(…, held=…))"
    )
