"""The lesson's modules that start its federations, in ``Part02/L5``."""

import importlib
import sys
from pathlib import Path

import psutil

LESSON = Path(__file__).parents[2] / "Part02" / "L5"
sys.path.insert(0, str(LESSON))
federation = importlib.import_module("real_federation")
deal_out = importlib.import_module("deal_out")
cluster = importlib.import_module("ray_cluster")


def settings(app, **changed):
    """An app's run configuration, with some values changed."""
    return federation.run_config(app) | {n.replace("_", "-"): v for n, v in changed.items()}


def children():
    """This test process's descendants that are alive; those of earlier tests among them."""
    found = psutil.Process().children(recursive=True)
    return {p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE}
