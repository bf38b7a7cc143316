"""What client and server say to each other, stage by stage, as Flower's ConfigRecords."""

from collections.abc import Mapping, Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord

from utils.federation.updates import register_decoder
from utils.privacy.secure_aggregation.keys import WORDS

RECORD = "secure-aggregation"
KEYS, SHARES, MASKED, UNMASK = STAGES = "keys", "shares", "masked update", "unmask"
_MASKED = "masked:"  # the stype of an array that only a sum makes sense of


class ProtocolError(RuntimeError):
    """The other side does not keep to the protocol; nothing more is said to it."""


def packed(nodes: Sequence[int]) -> bytes:
    """Node ids, which a ConfigRecord's signed integers cannot hold."""
    return np.array(list(nodes), "<u8").tobytes()


def unpacked(nodes: bytes) -> list[int]:
    """The ids again."""
    return np.frombuffer(nodes, "<u8").tolist()


def by_node(record: ConfigRecord, name: str) -> dict[int, bytes]:
    """What a record says of each node."""
    return dict(zip(unpacked(record[f"{name}-nodes"]), record[name], strict=True))


def said_by_node(name: str, values: Mapping[int, bytes]) -> dict:
    """The same, to be put into a record."""
    return {f"{name}-nodes": packed(values), name: list(values.values())}


def masked_array(words: np.ndarray, like: Array | np.ndarray) -> Array:
    """Numbers modulo 2^k that stand for an array: its name and shape are no secret."""
    shape, dtype = tuple(like.shape), str(like.dtype)
    return Array(dtype, shape, f"{_MASKED}{8 * words.itemsize}", words.tobytes())


def words_of(record: ArrayRecord, names: Sequence[str], bits: int) -> np.ndarray:
    """The numbers modulo 2^bits of masked arrays, one after another.

    Raises:
        ProtocolError: if one is not masked so.
    """
    plain = [name for name in names if record[name].stype != f"{_MASKED}{bits}"]
    if plain:
        raise ProtocolError(
            f"{plain} came as '{record[plain[0]].stype}', not masked: the client runs without "
            "mask_update(terms) as its outermost mod, or under other terms"
        )
    return np.concatenate([np.frombuffer(record[name].data, WORDS[bits]) for name in names])


def _shape_only(array: Array) -> np.ndarray:
    """For the check of every reply: as many numbers as its shape says. They mean nothing."""
    word = WORDS[int(array.stype.removeprefix(_MASKED))]
    count = np.frombuffer(array.data, word).reshape(array.shape).size  # raises where they differ
    return np.zeros(count, array.dtype).reshape(array.shape)


register_decoder(_MASKED, _shape_only)
