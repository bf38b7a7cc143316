"""Run Flower apps in this process, check what clients send, and count what travels."""

from utils.federation.recording import Failure, RoundFailedError
from utils.federation.simulation import Run, simulate
from utils.federation.traffic import TrafficMeter, serialized_bytes
from utils.federation.updates import InvalidUpdateError, check_update, copy_content

__all__ = [
    "Failure",
    "InvalidUpdateError",
    "RoundFailedError",
    "Run",
    "TrafficMeter",
    "check_update",
    "copy_content",
    "serialized_bytes",
    "simulate",
]
