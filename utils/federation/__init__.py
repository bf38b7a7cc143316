"""Run Flower apps in this process, check what clients send, and count what travels."""

from utils.federation.codecs import Cast, CompressionError, Rotation, TopK, Uniform
from utils.federation.compression import (
    CompressedStrategy,
    compress_update,
    decode_array,
    encode_array,
)
from utils.federation.messages import InvalidUpdateError, check_update, copy_content
from utils.federation.recording import Failure, RoundFailedError
from utils.federation.simulation import Run, simulate
from utils.federation.traffic import TrafficMeter, serialized_bytes

__all__ = [
    "Cast",
    "CompressedStrategy",
    "CompressionError",
    "Failure",
    "InvalidUpdateError",
    "Rotation",
    "RoundFailedError",
    "Run",
    "TopK",
    "TrafficMeter",
    "Uniform",
    "check_update",
    "compress_update",
    "copy_content",
    "decode_array",
    "encode_array",
    "serialized_bytes",
    "simulate",
]
