import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import utils
from utils.torchvision_operators import declare_if_missing

ROOT = Path(utils.__file__).parent.parent

NO_NETWORK = """
import socket

def refuse(*_):
    raise AssertionError("something called home")

socket.socket.connect = socket.getaddrinfo = refuse
"""
# a torchvision whose compiled operators do not load, whatever is installed here
NO_OPERATORS = """
import torch

def fail(path):
    raise OSError("built for another torch")

torch.ops.load_library = fail
"""


def python(program: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLWR_", "HF_"))}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_importing_utils_prints_nothing_and_calls_nobody():
    done = python(NO_NETWORK + "import utils")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_environment_is_set_before_torchvision_is_imported():
    program = """
import os, sys
seen = []

class Watch:
    def find_spec(name, path=None, target=None):
        if name == "torchvision":
            seen.append((os.environ["FLWR_TELEMETRY_ENABLED"], os.environ["HF_HUB_OFFLINE"]))

sys.meta_path.insert(0, Watch)
import utils
print(seen[0])
"""
    done = python(program)
    assert done.stdout == "('0', '1')\n", done.stderr


def test_torchvision_without_its_operators_does_not_import_by_itself():
    done = python(NO_OPERATORS + "import torchvision")
    assert "operator torchvision::nms does not exist" in done.stderr


def test_importing_utils_makes_torchvision_work_without_its_operators():
    program = """
import utils
from torchvision import datasets, models, ops
from torchvision.transforms import Normalize
from torchvision.utils import make_grid

image = Normalize((0.5,), (0.25,))(torch.ones(1, 2, 2))
assert image.tolist() == [[[2.0, 2.0], [2.0, 2.0]]]
make_grid(image)
"""
    done = python(NO_OPERATORS + program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_declaring_the_operators_says_that_it_was_needed_the_first_time_only():
    program = """
import importlib.util
spec = importlib.util.spec_from_file_location("shim", "utils/torchvision_operators.py")
shim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shim)
print(shim.declare_if_missing(), shim.declare_if_missing())
"""
    done = python(NO_OPERATORS + program)
    assert done.stdout == "True False\n", done.stderr


def test_where_torchvision_is_fine_nothing_is_touched(monkeypatch):
    def define(*_):
        raise AssertionError("declared an operator that exists")

    monkeypatch.setattr(torch.library, "define", define)
    before = {name: module for name, module in sys.modules.items() if "torchvision" in name}
    assert declare_if_missing() is False
    assert {name: sys.modules.get(name) for name in before} == before


@pytest.mark.parametrize(
    ("exception", "message"),
    [(RuntimeError, "out of memory"), (ImportError, "no module named PIL")],
)
def test_any_other_reason_why_torchvision_fails_is_passed_on(
    monkeypatch, tmp_path, exception, message
):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise {exception.__name__}({message!r})")
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(exception, match=message):
        declare_if_missing()


DEFAULTS = {"FLWR_TELEMETRY_ENABLED": "0", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_importing_utils_turns_off_reports_and_downloads(monkeypatch, name, value):
    monkeypatch.setenv(name, "")  # so that the old value comes back
    monkeypatch.delenv(name)
    importlib.reload(utils)
    assert os.environ[name] == value


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("choice", ["0", "1"])
def test_importing_utils_respects_what_the_caller_had_set(monkeypatch, name, choice):
    monkeypatch.setenv(name, choice)
    importlib.reload(utils)
    assert os.environ[name] == choice
