"""The lesson's own module, which starts its federations: ``Part02/L5/federation.py``."""

import importlib
import sys
import tomllib
from pathlib import Path

LESSON = Path(__file__).parents[2] / "Part02" / "L5"
sys.path.insert(0, str(LESSON))
federation = importlib.import_module("federation")
deal_out = importlib.import_module("deal_out")


def settings(app, **changed):
    """An app's run configuration, with some values changed."""
    project = tomllib.loads((federation.APPS[app] / "pyproject.toml").read_text())
    config = project["tool"]["flwr"]["app"]["config"]
    return config | {name.replace("_", "-"): value for name, value in changed.items()}


def apps(app):
    """An app's two halves, as a notebook imports them."""
    deal_out.task_of(app)
    client = importlib.import_module(f"{app}_app.client_app").app
    server = importlib.import_module(f"{app}_app.server_app").app
    return server, client
