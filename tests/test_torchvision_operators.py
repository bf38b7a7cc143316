"""Importing utils: quiet, offline, and torchvision works with or without its operators."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import utils
from utils.torchvision_operators import declare_if_missing

ROOT = Path(utils.__file__).parent.parent
DEFAULTS = {"FLWR_TELEMETRY_ENABLED": "0", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}

QUIET_AND_OFFLINE = """
import os, socket, sys

def refuse(*_):
    raise AssertionError("something called home")

class Watch:
    def find_spec(name, path=None, target=None):
        if name in ("flwr", "ray", "transformers", "datasets", "torchvision"):
            assert (os.environ["FLWR_TELEMETRY_ENABLED"], os.environ["HF_HUB_OFFLINE"]) == (
                "0", "1"
            ), f"{name} came before the environment was set"

socket.socket.connect = socket.getaddrinfo = refuse
sys.meta_path.insert(0, Watch)
import utils, utils.federation
assert "torchvision" not in sys.modules, "it takes seconds, and digits do not need it"
import torchvision
"""
# a torchvision whose compiled operators do not load, whatever is installed here
WITHOUT_OPERATORS = """
import importlib.util, torch

def fail(path):
    raise OSError("built for another torch")

torch.ops.load_library = fail
try:
    import torchvision
except RuntimeError as error:
    print("torchvision::nms does not exist" in str(error))
spec = importlib.util.spec_from_file_location("shim", "utils/torchvision_operators.py")
shim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shim)
print(shim.declare_if_missing(), shim.declare_if_missing())

import utils
from torchvision import datasets, models, ops
from torchvision.transforms import Normalize
from torchvision.utils import make_grid

image = Normalize((0.5,), (0.25,))(torch.ones(1, 2, 2))
assert image.tolist() == [[[2.0, 2.0], [2.0, 2.0]]]
make_grid(image)
"""


@pytest.mark.parametrize(
    ("program", "prints"), [(QUIET_AND_OFFLINE, ""), (WITHOUT_OPERATORS, "True\nTrue False\n")]
)
def test_importing_utils_is_quiet_and_makes_torchvision_work_without_its_operators(program, prints):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLWR_", "HF_"))}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, prints, "")


def test_where_torchvision_is_fine_nothing_is_touched(monkeypatch):
    def define(*_):
        raise AssertionError("declared an operator that exists")

    monkeypatch.setattr(torch.library, "define", define)
    before = {name: module for name, module in sys.modules.items() if "torchvision" in name}
    assert declare_if_missing() is False
    assert {name: sys.modules.get(name) for name in before} == before


def test_without_torchvision_it_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as raised:
        declare_if_missing()
    assert raised.value.name == "torchvision"


def test_importing_utils_turns_off_reports_and_downloads_unless_the_caller_chose(monkeypatch):
    for name, value in DEFAULTS.items():
        monkeypatch.setenv(name, "")  # so that the old value comes back
        monkeypatch.delenv(name)
        importlib.reload(utils)
        assert os.environ[name] == value
        for choice in ("0", "1"):
            monkeypatch.setenv(name, choice)
            importlib.reload(utils)
            assert os.environ[name] == choice
