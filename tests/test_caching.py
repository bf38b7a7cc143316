"""The cache of files that are made once."""

import logging
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from utils import caching
from utils.caching import cached


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(caching, "CACHE_DIR", tmp_path / "data")
    return tmp_path / "data"


class Maker:
    def __init__(self):
        self.built = 0

    def build(self, folder):
        self.built += 1
        (folder / "value").write_text("42")

    @staticmethod
    def load(folder):
        return int((folder / "value").read_text())


def test_of_several_that_ask_at_once_one_builds_and_all_load():
    maker = Maker()
    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda _: cached("thing", maker.build, maker.load), range(8)))
    assert values == [42] * 8
    assert maker.built == 1


def test_a_missing_or_damaged_file_is_built_again_and_said_so(elsewhere, caplog):
    maker = Maker()
    cached("thing", maker.build, maker.load)
    for built, damage in enumerate((Path.unlink, lambda file: file.write_text("4x")), start=2):
        caplog.clear()
        damage(elsewhere / "thing" / "value")
        with caplog.at_level(logging.WARNING):
            assert cached("thing", maker.build, maker.load) == 42
        assert maker.built == built
        assert "is damaged" in caplog.text


def test_an_interrupted_build_leaves_nothing_that_could_be_taken_for_finished(elsewhere):
    def dies(folder):
        (folder / "value").write_text("4")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("thing", dies, Maker.load)
    assert [f.name for f in elsewhere.iterdir() if f.is_dir()] == []
    assert cached("thing", Maker().build, Maker.load) == 42


KILLED = """
import importlib.util, os, pathlib, sys
spec = importlib.util.spec_from_file_location("caching", "utils/caching.py")
caching = importlib.util.module_from_spec(spec)  # alone: all of utils takes seconds to import
spec.loader.exec_module(caching)

def dies(folder):
    (folder / "half").write_text("4")
    os._exit(9)

caching.CACHE_DIR = pathlib.Path(sys.argv[1])
caching.cached(sys.argv[2], dies, print)
"""


def test_what_a_killed_build_left_is_removed_but_not_what_is_another_names(elsewhere):
    for name in ("a", "a-b"):
        command = [sys.executable, "-c", KILLED, elsewhere, name]
        assert subprocess.run(command, cwd=Path(__file__).parents[1]).returncode == 9
    assert len(list(elsewhere.glob("*/half"))) == 2
    assert cached("a", Maker().build, Maker.load) == 42
    assert [f.name for f in (elsewhere / "a").iterdir()] == ["value"]
    assert len(list(elsewhere.glob("*/half"))) == 1  # a-b may be under construction
    assert cached("a-b", Maker().build, Maker.load) == 42
    assert {f.name for f in elsewhere.iterdir() if f.is_dir()} == {"a", "a-b"}


def test_a_missing_package_or_too_little_memory_is_no_damage():
    maker = Maker()
    cached("thing", maker.build, maker.load)
    for error in (ModuleNotFoundError, MemoryError):

        def fails(folder, error=error):
            raise error

        with pytest.raises(error):
            cached("thing", maker.build, fails)
    assert cached("thing", maker.build, maker.load) == 42
    assert maker.built == 1


def test_a_build_that_cannot_be_loaded_raises_instead_of_looping():
    with pytest.raises(FileNotFoundError):
        cached("thing", lambda folder: None, Maker.load)


def test_what_is_no_name_of_a_folder_or_no_function_is_refused(elsewhere):
    for name in (None, "", ".", "..", "a/b", "../a", "/tmp", 3):
        with pytest.raises(ValueError, match=r"name is .*; it must be the name of a folder"):
            cached(name, Maker().build, Maker.load)
    for functions in ((None, Maker.load), (Maker().build, 42)):
        with pytest.raises(ValueError, match="build and load must be functions"):
            cached("thing", *functions)
    assert not elsewhere.exists()


def test_a_temporary_folder_is_new_and_those_of_killed_processes_go(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    dead = tmp_path / f"federation-{int(ended.stdout)}-x"
    others = [tmp_path / f"federation-{os.getpid()}-x", tmp_path / "federation-mine-x"]
    for folder in (dead, *others):
        folder.mkdir()
        (folder / "file").touch()
    found = [caching.temporary_folder(), caching.temporary_folder()]
    assert len({*found, *others}) == 4
    assert all(folder.is_dir() for folder in (*found, *others))
    assert not dead.exists()
