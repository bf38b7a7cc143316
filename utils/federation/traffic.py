"""Bytes on the wire: by round, client, direction and kind of message."""

from functools import lru_cache

import pandas as pd
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import config_record_to_proto, message_to_proto, metric_record_to_proto

from utils.arguments import one_of, shown


def serialized_bytes(message: Message | RecordDict) -> int:
    """Length in bytes of a message, or its content, in Flower's own wire format (protobuf).

    It counts arrays, names, shapes, dtypes, configuration, metrics and, for a message,
    addressing. It does not count what the transport adds (gRPC framing, object hashes, TLS).

    The length of what holds arrays is computed, not made: protobuf would copy every weight
    several times only to count it.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(message, RecordDict):
        return _content_bytes(message)
    _check_message(message)
    if not message.has_content():
        return message_to_proto(message).ByteSize()
    empty = Message(
        RecordDict(), metadata=message.metadata
    )  # its content takes 2 bytes, of length 0
    return message_to_proto(empty).ByteSize() - 2 + _field(_content_bytes(message.content))


def _check_message(message: object) -> None:
    if not isinstance(message, Message):
        raise ValueError(f"message is {shown(message)}; it must be a Message or its content")


def _content_bytes(content: RecordDict) -> int:
    """As ``recorddict_to_proto(content).ByteSize()``: a list of (key, record)."""
    total = 0
    for key, record in content.items():
        if isinstance(record, ArrayRecord):
            size = sum(
                _array_bytes(name, a.dtype, tuple(a.shape), a.stype, len(a.data))
                for name, a in record.items()
            )
        elif isinstance(record, ConfigRecord):
            size = config_record_to_proto(record).ByteSize()
        else:
            size = metric_record_to_proto(record).ByteSize()
        total += _field(_text(key) + _field(size))
    return total


@lru_cache(maxsize=4096)  # a thousand clients send the same names and shapes
def _array_bytes(name: str, dtype: str, shape: tuple[int, ...], stype: str, data: int) -> int:
    """An array and its name, among the items of a record."""
    lengths = sum(map(_varint, shape))
    array = _text(dtype) + (_field(lengths) if shape else 0) + _text(stype)
    return _field(_text(name) + _field(array + (_field(data) if data else 0)))


def _text(text: str) -> int:
    """A string's field, which is left out where it is empty."""
    return _field(len(text.encode())) if text else 0


def _field(length: int) -> int:
    """What a field of so many bytes takes: its number and kind, its length, itself."""
    return 1 + _varint(length) + length


def _varint(number: int) -> int:
    """Bytes that protobuf writes a whole number of at least 0 in: seven bits each."""
    return max(1, -(-number.bit_length() // 7))


class TrafficMeter:
    """Collects one row for every message that crosses the network."""

    COLUMNS = ("round", "client", "direction", "kind", "bytes")

    def __init__(self) -> None:
        self.rows: list[tuple] = []

    def record(self, message: Message, *, round: int, client: int, direction: str) -> None:
        """Count a message.

        Args:
            message: what is sent.
            round: the federated round, from 1.
            client: the client's number (its ``partition-id``), from 0.
            direction: ``"down"`` (server to client) or ``"up"`` (client to server).

        Raises:
            ValueError: for another direction, or what is no message.
        """
        one_of("direction", direction, ("down", "up"))
        _check_message(message)
        kind = message.metadata.message_type.split(".")[0]
        self.rows.append((round, client, direction, kind, serialized_bytes(message)))

    def table(self) -> pd.DataFrame:
        """One row a message, in the order sent: round, client, direction, kind, bytes."""
        return pd.DataFrame(self.rows, columns=list(self.COLUMNS))
