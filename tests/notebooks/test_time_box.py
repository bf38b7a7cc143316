"""``make test`` ends in time: what does not fit is skipped by name, and nothing else is."""

import subprocess
import sys
import time

import pytest

from tests.notebooks import time_box
from utils.course import ROOT, lesson_notebooks

NOTEBOOKS = [ROOT / path for path in lesson_notebooks(solutions=True)]
CELL = '{"cell_type": "code", "id": "a", "execution_count": null, "metadata": {}, "outputs": [],'


@pytest.fixture
def three_notebooks(tmp_path):
    """One says that it takes an hour, the others say nothing."""
    for name, source in {
        "L1_long": "# start_lesson(minutes=60)",
        "L2_short": "1",
        "L1_more_short": "2",
    }.items():
        cells = f'[{CELL} "source": ["{source}"]}}]'
        (tmp_path / f"{name}.ipynb").write_text(
            f'{{"cells": {cells}, "metadata": {{}}, "nbformat": 4, "nbformat_minor": 5}}'
        )
    return sorted(map(str, tmp_path.glob("*.ipynb")))


def ran(notebooks, *options, code=0):
    """What pytest says when it runs them."""
    plugins = ("-p", "tests.notebooks.time_box", "--nbval-lax", "--nbval-current-env")
    command = [sys.executable, "-m", "pytest", "-vrs", *plugins, *options, *notebooks]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stdout
    return done.stdout


def test_what_has_no_time_is_skipped_by_name_and_all_else_is_run(three_notebooks):
    said = ran(three_notebooks, "--until", str(time.time() + 600))
    assert "2 passed, 1 skipped" in said
    assert "L1_long is left out: it takes about 120 minutes here" in said
    assert "make test MINUTES=600" in said
    order = [said.index(f"{name}::") for name in ("L2_short", "L1_long", "L1_more_short")]
    assert order == sorted(order)  # the lesson first, the short one first


@pytest.mark.parametrize("spread", [(), ("-n", "2", "--dist", "loadfile")], ids=["here", "two"])
def test_without_time_for_any_it_fails(three_notebooks, spread):
    said = ran(three_notebooks, "--until", str(time.time() - 1), *spread, code=1)
    assert "3 skipped" in said


@pytest.mark.parametrize("hours", [None, 9])
def test_with_time_for_all_nothing_is_skipped(three_notebooks, hours):
    options = () if hours is None else ("--until", str(time.time() + 3600 * hours))
    assert "3 passed in" in ran(three_notebooks, *options)


def test_a_notebook_that_was_begun_is_run_to_its_end(monkeypatch, tmp_path):
    now = time.time()
    notebook = tmp_path / "L1_begun.ipynb"
    notebook.write_text("nothing about time")
    assert time_box._fits(notebook, now + 60)
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    assert time_box._fits(notebook, now + 60)


def test_every_lesson_says_how_long_it_takes_and_in_float32_it_is_longer(monkeypatch):
    for fast in (True, False):
        time_box.minutes_of.cache_clear()
        monkeypatch.setattr(time_box, "_fast", lambda fast=fast: fast)
        found = {path.stem: time_box.minutes_of(path) for path in NOTEBOOKS}
        assert all(0.1 <= minutes <= 60 for minutes in found.values())
        if fast:
            said = found
    time_box.minutes_of.cache_clear()
    assert set(time_box.IN_FLOAT32) <= set(said)
    assert all(time_box.IN_FLOAT32[name] >= said[name] for name in time_box.IN_FLOAT32)
    trained = {p.stem for p in NOTEBOOKS if "Part02" in p.parts}
    assert {n for n in trained if not n.endswith("_solutions")} == set(time_box.IN_FLOAT32)


def test_the_syllabus_comes_first_then_real_machines_and_more_at_last():
    ranks = {path.stem: time_box._rank(path.stem) for path in NOTEBOOKS}
    assert {name for name, rank in ranks.items() if rank == 1} == {
        "L5_on_real_machines",
        "capstone",
    }
    assert {name for name, rank in ranks.items() if rank == 2} == {n for n in ranks if "more" in n}


def test_the_makefile_uses_it():
    assert "-p tests.notebooks.time_box --until" in (ROOT / "Makefile").read_text()
