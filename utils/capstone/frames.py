"""How the scorer and an entry's processes talk: frames of a kind and some bytes, over a socket.

Towards an entry, objects are pickled; from it, nothing is ever unpickled, since a pickle can
run code: only Flower's protobuf and JSON come back.
"""

import json
import socket
import struct
from typing import NamedTuple

from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as Wire

_HEAD = struct.Struct("!cI")
MOST = 2**28  # bytes of a frame


class Frame(NamedTuple):
    """``kind``: one byte, what the frame is; ``data``: its bytes."""

    kind: bytes
    data: bytes


def send(line: socket.socket, kind: bytes, data: bytes | object = b"") -> None:
    """Send a frame; what is not bytes goes as JSON."""
    if not isinstance(data, bytes):
        data = json.dumps(data).encode()
    line.sendall(_HEAD.pack(kind, len(data)) + data)


def receive(line: socket.socket) -> Frame:
    """The next frame.

    Raises:
        EOFError: if the other side has gone.
        ValueError: for a frame that is too long.
    """
    kind, length = _HEAD.unpack(_exactly(line, _HEAD.size))
    if length > MOST:
        raise ValueError(f"a frame of {length:,} bytes; at most {MOST:,} are allowed")
    return Frame(kind, _exactly(line, length))


def _exactly(line: socket.socket, count: int) -> bytes:
    parts, left = [], count
    while left:
        part = line.recv(min(left, 2**20))
        if not part:
            raise EOFError("the other process has gone")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def packed(records: RecordDict) -> bytes:
    """Flower's records as Flower's bytes."""
    return recorddict_to_proto(records).SerializeToString()


def unpacked(data: bytes) -> RecordDict:
    """And back."""
    return recorddict_from_proto(Wire.FromString(data))
