"""Flower's ArrayRecords and dictionaries of NumPy arrays, one from the other."""

import io
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict


def as_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """An ArrayRecord of named arrays; NumPy's scalars are taken as arrays of no dimension."""
    return ArrayRecord({name: Array(np.asarray(values)) for name, values in arrays.items()})


def as_arrays(record: ArrayRecord) -> dict[str, np.ndarray]:
    """The record's arrays by name, each a copy."""
    return {name: array.numpy() for name, array in record.items()}


@lru_cache(maxsize=4096)
def _header(written: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether by columns, and dtype: NumPy parses them as Python code, which takes longer
    than reading a small array.
    """
    file = io.BytesIO(written)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    return (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)


def read_only(array: Array) -> np.ndarray:
    """An array's numbers where they lie, without copying them.

    Raises:
        ValueError: if its bytes are not one array in NumPy's format.
    """
    length, first = (12, array.data[8:12]) if array.data[6:7] > b"\x01" else (10, array.data[8:10])
    length += int.from_bytes(first, "little")
    shape, by_columns, dtype = _header(array.data[:length])
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    values = np.frombuffer(array.data, dtype, offset=length)
    return values.reshape(shape, order="F" if by_columns else "C")


class QuickArray(Array):
    """An Array like the one it is made of, whose bytes it shares, read by ``read_only``."""

    def __init__(self, array: Array) -> None:
        self.__dict__.update(array.__dict__)  # Flower's checks were passed when that was made

    def numpy(self) -> np.ndarray:
        """The numbers, a copy, as Flower's own ``numpy`` gives them."""
        plain = self.stype == "numpy.ndarray"
        return read_only(self).copy(order="K") if plain else super().numpy()

    def __eq__(self, other: object) -> bool:
        fields = ("dtype", "shape", "stype", "data")
        same = (getattr(self, name) == getattr(other, name) for name in fields)
        return isinstance(other, Array) and all(same)

    __hash__ = None


def only_record(content: RecordDict, whose: str) -> tuple[str, ArrayRecord]:
    """The one ArrayRecord in a message's content, and its key.

    Raises:
        ValueError: if there is none, or several; ``whose`` names the message.
    """
    records = content.array_records
    if len(records) != 1:
        raise ValueError(f"{whose} holds {len(records)} ArrayRecords; exactly 1 is needed")
    return next(iter(records.items()))
