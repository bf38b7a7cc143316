"""Cells out of order, and cells run twice: what a learner does in a notebook."""

import contextlib
import os
import random
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import Strategy
from torch.utils.data import TensorDataset

from tests.notebooks.test_shape import LESSONS, MORE, code
from utils import data
from utils.lesson import CheckpointError

TWICE = {"L1_why_federated_learning": 12, "L2_federated_training": 12}  # and how many cells
EXERCISES = 3  # and they
EXAMPLES = 200  # in place of 4,000: every cell is run, and no claim holds


@pytest.fixture(autouse=True)
def as_a_kernel(monkeypatch):
    """In the lesson's folder, with its own ``checks``; all is put back."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    here, path, threads = os.getcwd(), list(sys.path), torch.get_num_threads()
    style = plt.rcParams.copy()
    yield
    os.chdir(here)
    sys.path[:] = path
    for own in ("checks", "self_test"):
        sys.modules.pop(own, None)
    torch.set_num_threads(threads)
    plt.rcParams.update(style)
    plt.close("all")


def kernel_in(notebook: Path) -> dict:
    os.chdir(notebook.parent)
    sys.path.insert(0, "")
    for own in ("checks", "self_test"):
        sys.modules.pop(own, None)
    return {"__name__": "__main__"}


def run(cell, names: dict) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
        exec(compile(cell.source, cell.id, "exec"), names)


@pytest.fixture
def few_digits(monkeypatch):
    few = [TensorDataset(*part[:EXAMPLES]) for part in data.load_digits()]
    monkeypatch.setattr(data, "load_digits", lambda: few)


@pytest.mark.parametrize("name", TWICE)
def test_each_cell_can_be_run_twice(name, few_digits, capsys):
    (notebook,) = [path for path in LESSONS if path.stem == name]
    names, failures = kernel_in(notebook), []
    cells = code(notebook)
    for cell in [*cells[: TWICE[name]], *cells[TWICE[name] :][-EXERCISES:]]:
        said = []
        for _ in range(2):
            try:
                run(cell, names)
            except CheckpointError as error:
                said.append(str(error))
            except Exception as error:
                failures.append(f"{cell.id}: {type(error).__name__}: {error}")
            plt.close("all")
        assert len(said) in (0, 2)  # a claim that does not hold, again
        assert len(set(said)) <= 1
    assert not failures


def global_state() -> dict:
    """What one cell could spoil for those after it."""
    return {
        "random": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
        "threads": torch.get_num_threads(),
        "style": dict(plt.rcParams),
        "strategy": Strategy.start,
        "folder": os.getcwd(),
        "gradients": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("notebook", LESSONS + MORE, ids=lambda path: path.stem)
def test_a_cell_that_is_run_too_early_is_told_the_name_that_it_lacks(notebook):
    names = kernel_in(notebook)
    exec("import sys; sys.path.insert(0, '../..')", names)
    for cell in code(notebook)[1:]:
        if "import " in cell.source:  # that is where names come from
            continue
        before = global_state()
        with contextlib.suppress(NameError):
            exec(compile(cell.source, cell.id, "exec"), dict(names))
        assert global_state() == before, cell.id
