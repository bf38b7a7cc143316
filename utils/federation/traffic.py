"""Bytes on the wire: by round, client, direction and kind of message."""

import pandas as pd
from flwr.app import Message, RecordDict
from flwr.common.serde import message_to_proto, recorddict_to_proto


def serialized_bytes(message: Message | RecordDict) -> int:
    """Length in bytes of a message, or its content, in Flower's own wire format (protobuf).

    It counts arrays, names, shapes, dtypes, configuration, metrics and, for a message,
    addressing. It does not count what the transport adds (gRPC framing, object hashes, TLS).
    """
    to_proto = recorddict_to_proto if isinstance(message, RecordDict) else message_to_proto
    return to_proto(message).ByteSize()


class TrafficMeter:
    """Collects one row for every message that crosses the network."""

    COLUMNS = ("round", "client", "direction", "kind", "bytes")

    def __init__(self) -> None:
        self._rows: list[tuple] = []

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
        self._rows.append((round, client, direction, kind, serialized_bytes(message)))

    def table(self) -> pd.DataFrame:
        """One row a message, in the order sent: round, client, direction, kind, bytes."""
        return pd.DataFrame(self._rows, columns=list(self.COLUMNS))
