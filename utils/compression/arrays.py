"""Arrays of any shape, encoded by a codec for the wire, and decoded.

An encoded array keeps its name, shape and dtype, and says in ``Array.stype`` how to read it,
so that the receiver needs no settings.
"""

import json
import math
from dataclasses import astuple
from functools import cache

import numpy as np
from flwr.app import Array, RecordDict

from utils.arguments import shown
from utils.compression.codecs import CODECS, Codec, CompressionError, check_codec
from utils.federation.records import only_record
from utils.federation.updates import register_decoder

_PREFIX = "compressed:"


def encode_array(values: np.ndarray, codec: Codec) -> Array:
    """Compress one array of floats, of any shape; integers and booleans stay as they are.

    Raises:
        CompressionError: if the array holds NaN or infinity, or is none of NumPy's.
    """
    check_codec("codec", codec)
    if not isinstance(values, np.ndarray | np.generic):
        raise CompressionError(
            f"values are {shown(values)}; they must be a NumPy array (of a tensor: its .numpy())"
        )
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
    if not isinstance(array, Array):
        raise CompressionError(f"array is {shown(array)}; it must be an Array as Flower sends it")
    if not is_compressed(array):
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


register_decoder(_PREFIX, decode_array)  # so that a grid checks what was encoded, too


def is_compressed(array: Array) -> bool:
    """Whether a codec wrote this array."""
    return array.stype.startswith(_PREFIX)


@cache
def _codec_named(stype: str) -> Codec:
    try:
        kind, *settings = json.loads(stype.removeprefix(_PREFIX))
        return CODECS[kind](*settings)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CompressionError(
            f"cannot read '{stype[:80]}' ({error!r}); known codecs are: {', '.join(CODECS)}"
        ) from error


def decoded_arrays(content: RecordDict, whose: str) -> tuple[str, dict[str, np.ndarray]]:
    """The one ArrayRecord of a message, decoded, and its key."""
    key, record = only_record(content, whose)
    return key, {name: decode_array(array) for name, array in record.items()}
