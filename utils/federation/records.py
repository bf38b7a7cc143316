"""Flower's ArrayRecords and dictionaries of NumPy arrays, one from the other."""

import io
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict


def as_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """An ArrayRecord of named arrays; NumPy's scalars are taken as arrays of no dimension."""
    return ArrayRecord({name: Array(np.asarray(values)) for name, values in arrays.items()})


def as_arrays(record: ArrayRecord) -> dict[str, np.ndarray]:
    """The record's arrays by name, each a copy."""
    return {name: array.numpy() for name, array in record.items()}


def read_only(array: Array) -> np.ndarray:
    """An array's numbers where they lie, without copying them.

    Raises:
        ValueError: if its bytes are not one array in NumPy's format.
    """
    file = io.BytesIO(array.data)
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    shape, by_columns, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    values = np.frombuffer(array.data, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if by_columns else "C")


def only_record(content: RecordDict, whose: str) -> tuple[str, ArrayRecord]:
    """The one ArrayRecord in a message's content, and its key.

    Raises:
        ValueError: if there is none, or several; ``whose`` names the message.
    """
    records = content.array_records
    if len(records) != 1:
        raise ValueError(f"{whose} holds {len(records)} ArrayRecords; exactly 1 is needed")
    return next(iter(records.items()))
