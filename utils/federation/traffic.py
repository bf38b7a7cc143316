"""Bytes on the wire: by round, client, direction and kind of message."""

import pandas as pd
from flwr.app import Message, RecordDict
from flwr.common.serde import message_to_proto, recorddict_to_proto


def serialized_bytes(message: Message) -> int:
    """Length in bytes of a message in Flower's own wire format (protobuf).

    It counts arrays, names, shapes, dtypes, configuration, metrics and addressing. It
    does not count what the transport adds (gRPC framing, object hashes, TLS).
    """
    if not message.has_content():
        return message_to_proto(message).ByteSize()
    return _with_content(message, recorddict_to_proto(message.content).ByteSize())


def _with_content(message: Message, content_bytes: int) -> int:
    """Bytes of a message whose content's length is known (a field's length is a varint)."""
    empty = message_to_proto(Message(RecordDict(), metadata=message.metadata)).ByteSize()
    length_bytes = max(1, -(-content_bytes.bit_length() // 7))
    return empty - 1 + length_bytes + content_bytes


class TrafficMeter:
    """Collects one row for every message that crosses the network."""

    COLUMNS = ("round", "client", "direction", "kind", "bytes")

    def __init__(self) -> None:
        self._rows: list[tuple] = []
        self._broadcast: tuple[RecordDict, int] | None = None  # the last content and its bytes

    def record(self, message: Message, *, round: int, client: int, direction: str) -> None:
        """Count a message.

        Args:
            message: what is sent.
            round: the federated round, from 1.
            client: the client's number (its ``partition-id``), from 0.
            direction: ``"down"`` (server to client) or ``"up"`` (client to server).
        """
        if direction not in ("down", "up"):
            raise ValueError(f"direction is 'down' or 'up', not {direction!r}")
        kind = message.metadata.message_type.split(".")[0]
        self._rows.append((round, client, direction, kind, self._bytes(message)))

    def _bytes(self, message: Message) -> int:
        """A server sends one content to all clients of a round: it is measured once."""
        if not message.has_content():
            return serialized_bytes(message)
        if self._broadcast is None or self._broadcast[0] is not message.content:
            content_bytes = recorddict_to_proto(message.content).ByteSize()
            self._broadcast = (message.content, content_bytes)
        return _with_content(message, self._broadcast[1])

    def table(self) -> pd.DataFrame:
        """One row a message, in the order sent: round, client, direction, kind, bytes."""
        return pd.DataFrame(self._rows, columns=list(self.COLUMNS))
