"""What the codecs share: rows of equal length, codes of a few bits, a random rotation."""

from functools import cache

import numpy as np
import scipy


def in_rows(vector: np.ndarray, length: int) -> np.ndarray:
    """The vector as rows of one length, the last filled up with zeros."""
    rows = -(-vector.size // length)
    return np.pad(vector, (0, rows * length - vector.size)).reshape(rows, length)


def or_one(values: np.ndarray) -> np.ndarray:
    """Divisors: 1 in place of 0."""
    return np.where(values == 0, 1, values)


def signs(seed: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Random signs, the same on both ends."""
    generator = np.random.default_rng(int.from_bytes(seed, "little"))
    bits = np.unpackbits(np.frombuffer(generator.bytes(-(-shape[0] * shape[1] // 8)), np.uint8))
    return (bits[: shape[0] * shape[1]].reshape(shape) * 2.0 - 1).astype(np.float32)


def hadamard(rows: np.ndarray) -> np.ndarray:
    """Orthonormal Walsh-Hadamard transform of each row; its own inverse. Length: a power of 2.

    The matrix of a·b is the Kronecker product of those of a and b: two small products of
    matrices do what one huge one would.
    """
    count, length = rows.shape
    left = 2 ** (length.bit_length() // 2)
    right = length // left
    product = _matrix(left) @ rows.reshape(count, left, right) @ _matrix(right)
    return product.reshape(count, length) / np.float32(np.sqrt(length))


@cache
def _matrix(size: int) -> np.ndarray:
    return scipy.linalg.hadamard(size).astype(np.float32)


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that ``count`` codes of ``bits`` bits take."""
    return -(-count * bits // 8)


def pack(codes: np.ndarray, bits: int) -> bytes:
    """Codes below 2^bits, bit after bit."""
    planes = (codes.astype(np.uint8)[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(planes).tobytes()


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first ``count`` codes, uint8."""
    planes = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    return planes @ (1 << np.arange(bits)).astype(np.uint8)


def split(data: bytes, *fields: tuple[type, int]) -> list[np.ndarray]:
    """Cut bytes into arrays of the given types and lengths; all bytes must be used."""
    sizes = [np.dtype(dtype).itemsize * count for dtype, count in fields]
    if sum(sizes) != len(data):
        raise ValueError(f"{sum(sizes):,} bytes are needed")
    ends = np.cumsum(sizes)
    return [
        np.frombuffer(data[end - size : end], dtype).copy()
        for (dtype, _), size, end in zip(fields, sizes, ends, strict=True)
    ]
