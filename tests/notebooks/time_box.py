"""A plugin for pytest: as many notebooks as time allows, the syllabus first, the short ones first.

``make test`` promises an end. Where matrices of bfloat16 are multiplied fast, all notebooks fit.
In plain float32 the language model takes several times as long: notebooks for which there is no
time any more are skipped there, and named. ``make test MINUTES=600`` runs them, too.
"""

import re
import time
from functools import cache
from pathlib import Path

import pytest
import torch  # and nothing of utils: it would set the environment, which lessons must do

# Minutes on one core of an AMD EPYC of 2021 (AVX2): L1, L2 and L3 measured, the others estimated
# from parts of them. A faster machine without AMX takes less.
IN_FLOAT32 = {
    "L1_smarter_models": 8,
    "L2_centralized_finetuning": 20,
    "L2_more_size": 14,
    "L2_more_writing": 8,
    "L3_federated_finetuning": 33,
    "L3_more_averaging": 20,
    "L3_more_privacy": 4,
    "L4_keeping_llms_private": 50,
    "L4_more_attacks": 16,
    "L4_more_encryption": 8,
    "L4_more_text": 5,
    "L4_more_why": 25,
    "L5_on_real_machines": 18,
    "capstone": 18,
}
_passed = [0]  # cells


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--until", type=float, help="no notebook that would end later (Unix seconds)")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (_rank(item.path.stem), minutes_of(item.path)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    until = item.config.getoption("--until")
    if until is not None and not _fits(item.path, until):
        pytest.skip(
            f"{item.path.stem} is left out: it takes about {minutes_of(item.path):.0f} minutes "
            "here, and there is no time for it any more; make test MINUTES=600 runs all"
        )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _passed[0] += report.when == "call" and report.passed


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Without time for a single notebook, nothing was tested: that is no success."""
    in_charge = not hasattr(session.config, "workerinput")
    if in_charge and session.config.getoption("--until") is not None and not _passed[0]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@cache  # decided before a notebook's first cell
def _fits(notebook: Path, until: float) -> bool:
    return time.time() + 60 * minutes_of(notebook) <= until


def _rank(name: str) -> int:
    """0 for the syllabus, 1 for real machines and the capstone, 2 for *more* notebooks."""
    return 2 if "_more_" in name else int(name in ("L5_on_real_machines", "capstone"))


@cache
def minutes_of(notebook: Path) -> float:
    """How long a notebook takes on one core of this machine, about; half a minute if unknown."""
    if notebook.stem in IN_FLOAT32 and not _fast():
        return IN_FLOAT32[notebook.stem]
    said = re.search(r"start_lesson\(.*minutes=([\d.]+)(, threads=1)?", notebook.read_text("utf-8"))
    if not said:
        return 0.5
    return float(said[1]) * (1 if said[2] else 2)  # said of two cores, but where it uses one


def _fast() -> bool:
    """Whether matrices of bfloat16 are multiplied fast here (as ``utils.hardware`` says)."""
    amx = torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.cuda.is_available() or bool(amx)
