"""Run Flower apps, here or anywhere: safely, watched, and with everything counted."""

from utils.federation.checking import CheckedGrid, checked
from utils.federation.checkpoints import CheckpointError
from utils.federation.clients import classifier_app, repeatable
from utils.federation.failures import Failure, Failures, RoundFailedError
from utils.federation.parallel import WorkerLostError
from utils.federation.rounds import run_rounds
from utils.federation.scaffold import Scaffold, scaffold_client, scaffold_correction
from utils.federation.shipping import NotSendableError
from utils.federation.simulation import Run, simulate
from utils.federation.strategies import CheckedStrategy, ScheduledFedAvg, cosine, serve
from utils.federation.traffic import TrafficMeter, serialized_bytes
from utils.federation.updates import (
    DivergedError,
    InvalidUpdateError,
    apply_update,
    check_update,
    update_of,
)

__all__ = [
    "CheckedGrid",
    "CheckedStrategy",
    "CheckpointError",
    "DivergedError",
    "Failure",
    "Failures",
    "InvalidUpdateError",
    "NotSendableError",
    "RoundFailedError",
    "Run",
    "Scaffold",
    "ScheduledFedAvg",
    "TrafficMeter",
    "WorkerLostError",
    "apply_update",
    "check_update",
    "checked",
    "classifier_app",
    "cosine",
    "repeatable",
    "run_rounds",
    "scaffold_client",
    "scaffold_correction",
    "serialized_bytes",
    "serve",
    "simulate",
    "update_of",
]
