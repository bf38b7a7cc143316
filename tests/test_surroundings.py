"""What is around the course fails: the network, the kernel's Python, the folder's name, a disk."""

import ast
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import utils
from utils import caching, course, data, llm
from utils.caching import CacheError, cached

ROOT = Path(__file__).parents[1]
START = Path(utils.__file__)

# Without a network ------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    """Nothing can be reached; what was asked for is in the list."""
    asked = []

    def refuse(*args, **settings):
        asked.append(args)
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return asked


def test_all_that_lessons_load_is_on_this_machine(no_network):
    data.load_digits()
    data.load_cards()
    data.load_diseases()
    llm.load_llm()
    assert no_network == []


def test_what_needs_a_network_says_so_and_what_does_not(no_network, tmp_path):
    with pytest.raises(ConnectionError, match="or use source='bundled', which needs none"):
        data.load_digits("fashion", root=tmp_path)
    assert no_network
    with pytest.raises(ValueError, match="Available without a network: 'SmolLM2"):
        llm.load_llm("nobody/no-such-model")


# In a folder with spaces and letters of other languages, still without a network ------------------

ELSEWHERE = """
import json, os, pathlib, socket, sys

asked = []
def refuse(*args, **settings):
    asked.append(repr(args))
    raise OSError(101, "Network is unreachable")

class Socket(socket.socket):
    def connect(self, address):
        refuse(address) if self.family != socket.AF_UNIX else super().connect(address)

socket.socket, socket.getaddrinfo, socket.create_connection = Socket, refuse, refuse
root = pathlib.Path(sys.argv[1])
os.chdir(root / "Part01/L1")
sys.path.insert(0, "")  # as a notebook's kernel does

import nbformat
cells = nbformat.read("L1_why_federated_learning.ipynb", as_version=4).cells
for source in [cell.source for cell in cells if cell.cell_type == "code"][:5]:
    exec(compile(source, "a cell", "exec"), globals())

sys.path.insert(1, str(root))
from tests.federation.apps import client_app, noisy_train, server_app, final_weights
from utils import attacks, compression, federation, llm, privacy
from utils.caching import CACHE_DIR, cached

def stop(message, context):
    if message.content["config"]["server-round"] == 2 and "STOP" in os.environ:
        raise KeyboardInterrupt
    return noisy_train(message, context)

def run(**settings):
    return federation.simulate(server_app(2), client_app(stop), 2, progress=False, **settings)

os.environ["STOP"], weights = "1", []
try:
    run(workers=1, checkpoint=root / "Zwischenstände 1")
except KeyboardInterrupt:
    saved = [path.name for path in (root / "Zwischenstände 1").glob("start*")]
del os.environ["STOP"]
for settings in ({"checkpoint": root / "Zwischenstände 1"}, {}):
    done = run(workers=1, **settings)
    weights.append({n: a.tolist() for n, a in final_weights(done).items()})
value = [cached("größe", lambda f: (f / "ü").write_text("42"), lambda f: (f / "ü").read_text())
         for _ in range(2)]
print(json.dumps({"asked": asked, "saved": saved, "weights": weights, "value": value,
                  "cache": str(CACHE_DIR), "hospitals": len(hospitals)}))
"""


def test_a_copy_of_the_course_works_wherever_it_lies(tmp_path):
    root = tmp_path / "Föderiertes Lernen" / "课程 (copy)"
    for folder in ("utils", "Part01/L1", "tests/federation"):
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    (root / "tests/__init__.py").touch()
    command = [sys.executable, "-c", ELSEWHERE, root]
    environment = os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert "UserWarning" not in ended.stderr, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["asked"] == []
    assert said["hospitals"] == 3
    assert said["saved"] == ["start1-round000001.checkpoint"]
    assert said["weights"][0] == said["weights"][1]
    assert said["value"] == ["42", "42"]
    assert Path(said["cache"]) == root / "data"
    assert not (root / "Zwischenstände 1").exists()


# The wrong kernel -------------------------------------------------------------------------------


def test_an_old_python_is_told_which_one_is_needed(monkeypatch):
    source = START.read_text()
    ast.parse(source, feature_version=(3, 7))  # it must be able to read that far
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    monkeypatch.setattr(sys, "version", "3.10.13 (main)")
    with pytest.raises(ImportError, match=r"Python 3.11 or newer, and this is Python 3.10.13"):
        exec(compile(source, str(START), "exec"), {"__name__": "utils"})


def test_a_python_without_the_packages_is_told_which_kernel_to_choose():
    command = [sys.executable, "-S", "-c", "import utils"]  # -S: without what is installed
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("ImportError: the package torch is not installed for this Python")
    assert "choose the kernel of .venv" in last
    assert "During handling" not in ended.stderr


# A folder that cannot be written ------------------------------------------------------------------


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(caching, "CACHE_DIR", tmp_path / "data")
    return tmp_path / "data"


def build(folder):
    (folder / "value").write_text("42")


def load(folder):
    return (folder / "value").read_text()


@pytest.fixture
def read_only(monkeypatch):
    """Opening a file to write, or making a folder, fails as on a file system that is read-only.

    (Permissions would not do: the tests may be run by root, whom they do not stop.)
    """

    def close(number=errno.EROFS):
        def refuse(path, *args, **settings):
            raise OSError(number, os.strerror(number), str(path))

        def opened(path, flags, *args, **settings):
            if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY):
                refuse(path)
            return really(path, flags, *args, **settings)

        really = os.open
        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(os, "mkdir", refuse)

    return close


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(cache, read_only, number):
    read_only(number)
    with pytest.raises(CacheError, match=r"data cannot be used \(.*\); make it writable, or copy"):
        cached("thing", build, load)


def test_a_file_in_the_caches_place_is_named(cache):
    cache.touch()
    with pytest.raises(CacheError, match=r"cannot be used \(File exists\)"):
        cached("thing", build, load)


def test_what_lies_in_a_read_only_cache_is_loaded(cache, read_only):
    cached("thing", build, load)
    read_only()
    assert cached("thing", build, load) == "42"


def test_a_disk_that_fills_while_the_cache_is_built_is_named_and_nothing_is_left(cache):
    def fills(folder):
        build(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CacheError, match=r"\(No space left on device\); make room on that disk"):
        cached("thing", fills, load)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []
    assert cached("thing", build, load) == "42"


def test_other_troubles_of_a_build_are_its_own(cache):
    def misses(folder):
        (folder / "no such file").read_text()

    with pytest.raises(FileNotFoundError):
        cached("thing", misses, load)


def test_a_build_folder_that_cannot_be_written_fails_by_name(monkeypatch, tmp_path, capsys):
    notebook = Path("Part01/L1/L1_why_federated_learning.ipynb")
    (tmp_path / notebook).parent.mkdir(parents=True)
    shutil.copy2(ROOT / notebook, tmp_path / notebook)
    (tmp_path / "build").touch()
    monkeypatch.setattr(course, "ROOT", tmp_path)
    assert course.main(["--lesson", "Part01/L1"]) == 1
    said = capsys.readouterr()
    assert "build/Part01/L1 cannot be written" in said.err
    assert "FAILED" in said.out
