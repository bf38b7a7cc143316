"""Freed memory stays at hand: blocks that come and go cost their page faults once."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

import utils
from utils import memory

ROOT = Path(utils.__file__).parent.parent
BLOCKS = """
import resource
{start}
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):  # a model's replies: ten blocks of 40 MB, then none
    blocks, before = [b"x" * (40 * 2**20) for _ in range(10)], faults()
    del blocks
again = [b"x" * (40 * 2**20) for _ in range(10)]
print(faults() - before)
"""
GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


def faults_with(start):
    program = [sys.executable, "-c", BLOCKS.format(start=start)]
    return int(subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not GLIBC, reason="another C library than glibc keeps its own counsel")
def test_blocks_that_come_again_cost_no_page_faults_once_utils_is_imported():
    fresh, kept = faults_with(""), faults_with("import utils")
    assert fresh > 100  # 400 MB, in pages of 4 kB or 2 MB, or it shows nothing
    assert kept < fresh / 20


@pytest.mark.skipif(not GLIBC, reason="another C library than glibc keeps its own counsel")
def test_who_chose_for_themselves_is_not_overruled(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert memory.keep_freed() is False
    assert faults_with("import utils") > 100
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    assert memory.keep_freed() is True


def test_elsewhere_nothing_is_asked_for(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    assert memory.keep_freed() is False


def test_a_c_library_without_mallopt_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed() is False
