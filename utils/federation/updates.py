"""What a server should know about messages: copies that share nothing, updates it can trust."""

import math
from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from utils.compression import decode_array
from utils.compression.codecs import CompressionError


class InvalidUpdateError(ValueError):
    """A client's reply that must not be aggregated."""


def copy_content(content: RecordDict) -> RecordDict:
    """Copy a message's records, so that no change by the receiver reaches the sender.

    On a network this comes for free; in one process it has to be done. The arrays' bytes
    are immutable and shared, so that a copy costs microseconds.
    """

    def copy(record):
        if isinstance(record, ArrayRecord):
            return ArrayRecord(
                {k: Array(a.dtype, a.shape, a.stype, a.data) for k, a in record.items()}
            )
        kind = ConfigRecord if isinstance(record, ConfigRecord) else MetricRecord
        return kind({k: list(v) if isinstance(v, list) else v for k, v in record.items()})

    return RecordDict({name: copy(record) for name, record in content.items()})


def check_update(sent: Message, reply: Message, weighted_by_key: str = "num-examples") -> None:
    """Refuse a training reply that would spoil the average.

    The arrays of the reply, decoded if they are compressed, must have the names, shapes and
    dtypes of those that were sent, and hold finite numbers only. A weight, if there is one,
    must be a positive, finite number. (A reply to an evaluation carries no arrays: only its
    weight is checked.)

    Args:
        sent: the message that the client answered.
        reply: its answer, which has content.
        weighted_by_key: name of the weight among the reply's metrics.

    Raises:
        InvalidUpdateError: says what is wrong, with the value found and what was expected.
    """
    for metrics in reply.content.metric_records.values():
        if weighted_by_key in metrics:
            _check_weight(weighted_by_key, metrics[weighted_by_key])
    if sent.metadata.message_type.split(".")[0] != "train" or not sent.content.array_records:
        return
    if not reply.content.array_records:
        raise InvalidUpdateError("the update holds no ArrayRecord, although one was sent to train")
    sent_records = list(sent.content.array_records.values())
    reply_records = list(reply.content.array_records.values())
    if len(sent_records) == len(reply_records) == 1:
        _check_names(sent_records[0].keys(), reply_records[0].keys())
    for record in reply_records:
        for name, array in record.items():
            want = sent_records[0].get(name) if len(sent_records) == 1 else None
            if want is not None and _same_header(array, want):
                values = np.frombuffer(array.data, want.dtype, offset=_header_length(array))
            else:
                if want is not None:  # before it is decoded: a false shape could ask for terabytes
                    _check_shape_and_dtype(name, array, want)
                values = _decoded(name, array)
                if want is not None:
                    _check_shape_and_dtype(name, values, want)
            _check_finite(name, values)


def _decoded(name: str, array: Array) -> np.ndarray:
    try:
        return decode_array(array)
    except CompressionError as error:
        raise InvalidUpdateError(f"'{name}': {error}") from error
    except Exception as error:  # NumPy raises many kinds for bytes that are no array
        raise InvalidUpdateError(
            f"'{name}' ({array.stype}) cannot be read: {type(error).__name__}: {error}"
        ) from error


def _header_length(array: Array) -> int:
    """Bytes before the values in NumPy's file format, version 1."""
    return 10 + int.from_bytes(array.data[8:10], "little")


def _same_header(array: Array, other: Array) -> bool:
    """Whether two arrays say the same of shape, dtype and order, without parsing them."""
    if other.stype != "numpy.ndarray":
        return False
    length = _header_length(other)
    return (array.stype, len(array.data)) == (other.stype, len(other.data)) and (
        array.data[:length] == other.data[:length]
    )


def _check_names(sent: Iterable[str], received: Iterable[str]) -> None:
    missing, extra = sorted(set(sent) - set(received)), sorted(set(received) - set(sent))
    if missing or extra:
        raise InvalidUpdateError(
            "the update's names differ from what was sent: "
            f"missing {missing or 'none'}, unexpected {extra or 'none'}"
        )


def _check_shape_and_dtype(name: str, values: np.ndarray | Array, sent: Array) -> None:
    if tuple(values.shape) != tuple(sent.shape):
        raise InvalidUpdateError(
            f"'{name}' has shape {tuple(values.shape)}, but {tuple(sent.shape)} was sent"
        )
    if str(values.dtype) != sent.dtype:
        raise InvalidUpdateError(f"'{name}' has dtype {values.dtype}, but {sent.dtype} was sent")


def _check_weight(key: str, weight: object) -> None:
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not math.isfinite(weight) or weight <= 0:
        raise InvalidUpdateError(
            f"the weight '{key}' is {weight!r}, where a positive, finite number is expected"
        )


def _check_finite(name: str, values: np.ndarray) -> None:
    if not np.issubdtype(values.dtype, np.inexact):
        return  # integers and booleans are always finite
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise InvalidUpdateError(
            f"'{name}' holds NaN or infinity in {bad:,} of its {values.size:,} values; "
            "a lower learning rate or gradient clipping on the client usually cures it"
        )
