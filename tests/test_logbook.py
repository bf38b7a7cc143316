"""What a learner has done is kept where it is asked for, and never in a lesson's way."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from utils import logbook
from utils.lesson import CheckpointError, checkpoint, exercise, start_lesson
from utils.logbook import VARIABLE, begin, note, noted, read

DONE = {"L1": {"begun": {"start_lesson": "yes"}, "self-test": {"Why?": "so"}}}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.json"))
    monkeypatch.setattr(logbook, "_lesson", [])
    return tmp_path / "progress.json"


@exercise("Well done.")
def check_four(answer):
    """Is it four?"""
    return None if answer == 4 else "It is two plus two."


def test_a_lesson_that_runs_leaves_what_was_reached_in_the_file(file, capsys):
    start_lesson("A lesson", minutes=1)
    checkpoint("It is {value}.", 1, equals=1)
    with pytest.raises(CheckpointError):
        checkpoint("It is less: {value}.", 1, at_most=0)
    check_four(5)
    assert read(file) == {
        "A lesson": {
            "begun": {"start_lesson": "yes"},
            "checkpoints": {"It is {value}.": "passed"},
            "exercises": {"check_four": "Not right yet"},
        }
    }
    assert noted("exercises") == {"check_four": "Not right yet"}
    with_file = capsys.readouterr().out
    os.environ.pop(VARIABLE)
    start_lesson("A lesson", minutes=1)
    checkpoint("It is {value}.", 1, equals=1)
    assert capsys.readouterr().out == with_file, "a lesson prints the same, noted or not"


def test_right_once_is_right_also_when_the_notebook_is_run_again(file):
    begin("A lesson")
    check_four(4)
    begin("A lesson")
    check_four(...)
    assert noted("exercises") == {"check_four": "Right"}
    note("self-test", "Why?", "so")
    note("self-test", "Why?", "because")
    assert noted("self-test") == {"Why?": "because"}, "but one may think again"


def test_lessons_do_not_mix(file):
    begin("One")
    check_four(4)
    begin("Two")
    assert noted("exercises") == {}
    assert set(read(file)) == {"One", "Two"}


def test_nothing_is_kept_without_a_file_or_a_lesson(file, monkeypatch, tmp_path):
    check_four(4)
    assert not file.exists(), "no lesson was begun"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.chdir(tmp_path)
    begin("A lesson")
    check_four(4)
    assert noted("exercises") == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    ["", "{", "null", "[1]", '{"L1": 3}', "\xff", "[" * 100_000, '{"L1": {"self-test": [1]}}'],
)
def test_a_damaged_file_is_begun_anew(file, damage):
    file.write_text(damage, encoding="latin-1")
    begin("L1")
    check_four(4)
    assert noted("exercises") == {"check_four": "Right"}
    assert json.loads(file.read_text())["L1"]["begun"] == {"start_lesson": "yes"}


def test_what_is_sound_in_a_damaged_file_stays(file):
    file.write_text(json.dumps(DONE | {"L2": None, "L3": {"self-test": 1, "begun": {"a": "b"}}}))
    assert read(file) == DONE | {"L3": {"begun": {"a": "b"}}}


def test_a_file_that_cannot_be_written_stops_no_lesson(file, monkeypatch):
    for place in (file.parent, Path("/dev/null/x")):
        monkeypatch.setenv(VARIABLE, str(place))
        begin("A lesson")
        assert check_four(4)
        assert noted("exercises") == {}


def test_a_file_that_another_notebook_holds_is_not_waited_for_long(file):
    held, enough = threading.Event(), threading.Event()

    def hold():
        with logbook.FileLock(f"{file}.lock"):
            held.set()
            enough.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(10)
    begin("A lesson")
    assert not file.exists()
    enough.set()
    other.join()
    begin("A lesson")
    assert set(read(file)) == {"A lesson"}


def test_two_notebooks_at_once_lose_nothing(file):
    script = (
        "import sys; from utils.logbook import begin, note; begin(sys.argv[1]);"
        "[note('self-test', str(i), 'a') for i in range(40)]"
    )
    kernels = [subprocess.Popen([sys.executable, "-c", script, name]) for name in ("L1", "L2")]
    assert [kernel.wait(60) for kernel in kernels] == [0, 0]
    assert {name: len(entry["self-test"]) for name, entry in read(file).items()} == {
        "L1": 40,
        "L2": 40,
    }
    assert not list(file.parent.glob(".unfinished*"))
