"""Fewer bytes on the wire: codecs, a mod for clients, a strategy wrapper for the server."""

from utils.compression.arrays import decode_array, encode_array
from utils.compression.client import compress_update
from utils.compression.codecs import Cast, CompressionError, Rotation, TopK, Uniform
from utils.compression.server import CompressedStrategy

__all__ = [
    "Cast",
    "CompressedStrategy",
    "CompressionError",
    "Rotation",
    "TopK",
    "Uniform",
    "compress_update",
    "decode_array",
    "encode_array",
]
