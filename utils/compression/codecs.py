"""Codecs: a vector of numbers as fewer bytes, and back.

They take and return finite float32 vectors of at least one number; ``arrays.py`` sees to the
rest. Random choices come from NumPy's global generator.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from utils.arguments import flag, number, one_of, shown, whole_number
from utils.compression.packing import (
    hadamard,
    in_rows,
    or_one,
    pack,
    packed_bytes,
    signs,
    split,
    unpack,
)


class CompressionError(ValueError):
    """An array that a codec cannot write, or bytes that it cannot read."""


@dataclass(frozen=True)
class Cast:
    """Round each number to 16 bits: a relative error of up to 0.05% (fp16) or 0.4% (bf16).

    fp16 overflows above 65,504, which is refused; below 6e-5 its error is absolute (3e-8), so
    that smaller numbers than that become 0. bf16 keeps float32's range.
    """

    dtype: str = "float16"
    kind: ClassVar[str] = "cast"

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float16", "bfloat16"))

    def encode(self, values: np.ndarray) -> bytes:
        """Bytes of a float32 vector: 2 a number."""
        rounded = torch.from_numpy(values).to(getattr(torch, self.dtype))
        if not rounded.isfinite().all():
            raise CompressionError(
                f"{np.abs(values).max():g} is too large for {self.dtype}; "
                "Cast('bfloat16') holds nearly everything that float32 does"
            )
        return rounded.view(torch.int16).numpy().tobytes()

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """The ``size`` numbers, float32."""
        (halves,) = split(data, (np.int16, size))
        return torch.from_numpy(halves).view(getattr(torch, self.dtype)).float().numpy()


@dataclass(frozen=True)
class Uniform:
    """Stochastic uniform quantization in buckets (QSGD, Alistarh et al. 2017, arXiv:1610.02132).

    Each bucket is divided by its largest magnitude. What is left, in [-1, 1], is rounded to
    one of 2^bits - 1 evenly spaced levels, up or down at random so that its mean is exact.
    QSGD divides by the L2 norm and codes with variable length; this variant uses the largest
    magnitude and the same number of bits for all.
    """

    bits: int = 8
    bucket: int = 512
    kind: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        _settle(
            self,
            bits=whole_number("bits", self.bits, 2, 8),
            bucket=whole_number("bucket", self.bucket, 1, 2**24),
        )

    @property
    def _top(self) -> int:
        return 2 ** (self.bits - 1) - 1  # levels on each side of zero

    def encode(self, values: np.ndarray) -> bytes:
        """Bytes of a float32 vector: a scale (4 bytes) a bucket, then ``bits`` a number."""
        buckets = in_rows(values, min(self.bucket, values.size))
        scales = np.abs(buckets).max(axis=1)
        levels = buckets / or_one(scales)[:, None] * self._top
        codes = np.floor(levels + np.random.random(levels.shape)) + self._top
        codes = np.minimum(codes, 2 * self._top)  # the sum of floats may touch the next level
        return scales.tobytes() + pack(codes.ravel()[: values.size], self.bits)

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """The ``size`` numbers, float32."""
        bucket = min(self.bucket, size)
        buckets = -(-size // bucket)
        scales, packed = split(
            data, (np.float32, buckets), (np.uint8, packed_bytes(size, self.bits))
        )
        levels = unpack(packed, self.bits, size).astype(np.float32) - self._top
        return (in_rows(levels, bucket) * (scales / self._top)[:, None]).ravel()[:size]


@dataclass(frozen=True)
class TopK:
    """Send the ``share`` of largest magnitude and zero for the rest (arXiv:1704.05021).

    Aji and Heafield 2017. It is biased, and needs error feedback to converge well.
    """

    share: float = 0.01
    kind: ClassVar[str] = "topk"

    def __post_init__(self) -> None:
        _settle(self, share=number("share", self.share, above=0, most=1))

    def _layout(self, size: int) -> tuple[int, type]:
        """How many numbers are kept, and the type of a position."""
        return max(1, round(self.share * size)), np.uint16 if size <= 2**16 else np.uint32

    def encode(self, values: np.ndarray) -> bytes:
        """Bytes of a float32 vector: positions (2 or 4 bytes), then values (4 bytes)."""
        kept, position = self._layout(values.size)
        where = np.sort(np.argpartition(-np.abs(values), kept - 1)[:kept])
        return where.astype(position).tobytes() + values[where].tobytes()

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """The ``size`` numbers, float32."""
        kept, position = self._layout(size)
        where, largest = split(data, (position, kept), (np.float32, kept))
        values = np.zeros(size, np.float32)
        values[where] = largest
        return values


@dataclass(frozen=True)
class Rotation:
    """Rotate at random, then 1 to 4 bits a number (DRIVE, arXiv:2105.08339; EDEN, 2108.08842).

    After a random rotation the coordinates of any vector look Gaussian, so that one table of
    levels (Lloyd-Max) is best for all of them. The rotation, random signs followed by a
    Hadamard transform in blocks, is rebuilt from a seed. One scale a block makes the result
    right on average, or with ``unbiased=False`` its squared error smallest.

    "Gaussian" holds for blocks of many numbers none of which stands out. For n numbers whose
    mean square is m, a number x keeps a relative bias of about x²/(3nm): nothing to speak of
    in a block of weights, but much in a vector of 2, or for one huge outlier.
    """

    bits: int = 1
    unbiased: bool = True
    block: int = 4096
    kind: ClassVar[str] = "rotation"

    def __post_init__(self) -> None:
        _settle(
            self,
            bits=whole_number("bits", self.bits, 1, 4),
            block=whole_number("block", self.block, 2, 2**24),
            unbiased=flag("unbiased", self.unbiased),
        )
        if self.block & (self.block - 1):
            raise ValueError(f"block is {self.block}; it must be a power of two")

    def _shape(self, size: int) -> tuple[int, int]:
        """Blocks and their length: a short vector is padded to the next power of two only."""
        length = min(self.block, 2 ** (size - 1).bit_length())
        return -(-size // length), length

    def encode(self, values: np.ndarray) -> bytes:
        """Bytes of a float32 vector: a seed (8), a scale (4) a block, ``bits`` a number."""
        seed = np.random.bytes(8)
        _, length = self._shape(values.size)
        rows = in_rows(values, length)
        rotated = hadamard(rows * signs(seed, rows.shape))
        norms = np.linalg.norm(rows.astype(np.float64), axis=1)  # squares leave float32's range
        levels = np.array(_LLOYD_MAX[self.bits], np.float32)
        unit = rotated * (np.sqrt(length) / or_one(norms))[:, None]
        codes = np.searchsorted((levels[1:] + levels[:-1]) / 2, unit)
        product = np.einsum("ij,ij->i", rotated, levels[codes], dtype=np.float64)
        if self.unbiased:
            scales = norms**2 / or_one(product)
        else:
            scales = product / np.square(levels[codes]).sum(axis=1)
        return seed + scales.astype(np.float32).tobytes() + pack(codes.ravel(), self.bits)

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """The ``size`` numbers, float32."""
        blocks, length = self._shape(size)
        seed, scales, packed = split(
            data,
            (np.uint8, 8),
            (np.float32, blocks),
            (np.uint8, packed_bytes(blocks * length, self.bits)),
        )
        codes = unpack(packed, self.bits, blocks * length).reshape(blocks, length)
        rotated = np.array(_LLOYD_MAX[self.bits], np.float32)[codes] * scales[:, None]
        return (hadamard(rotated) * signs(seed.tobytes(), rotated.shape)).ravel()[:size]


Codec = Cast | Uniform | TopK | Rotation
CODECS = {codec.kind: codec for codec in (Cast, Uniform, TopK, Rotation)}

# The levels that minimize the squared error on a standard normal variable (Max 1960; Lloyd 1982)
_POSITIVE_LEVELS = {
    1: (0.7978846,),
    2: (0.4527800, 1.5104176),
    3: (0.2450942, 0.7560052, 1.3439093, 2.1519457),
    4: (0.1283950, 0.3880483, 0.6567591, 0.9423405, 1.2562312, 1.6180463, 2.0690173, 2.7325896),
}
_LLOYD_MAX = {b: tuple(-x for x in reversed(p)) + p for b, p in _POSITIVE_LEVELS.items()}


def _settle(codec: Codec, **setting: float) -> None:
    """Keep a setting as Python's number: it travels as JSON, which knows none of NumPy's."""
    for name, value in setting.items():
        object.__setattr__(codec, name, value)


def check_codec(name: str, codec: object) -> None:
    """Refuse what is no codec.

    Raises:
        ValueError: with the name, the value and the codecs there are.
    """
    if not isinstance(codec, Codec):
        kinds = ", ".join(f"{kind.__name__}()" for kind in CODECS.values())
        raise ValueError(f"{name} is {shown(codec)}; it must be a codec: {kinds}")
