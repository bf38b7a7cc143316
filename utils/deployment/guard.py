"""Runs one command, and ends it, with all that it started, when its starter is gone.

``python guard.py COMMAND …``. The starter holds the other end of this process's standard
input: when it closes it, or dies of whatever cause, there is nothing left to read. A file of
its own without the course's imports, so that it starts at once.
"""

import contextlib
import os
import select
import subprocess
import sys
import time

import psutil

PATIENCE = 4.0  # seconds that everything has to end by itself, before it is killed
_EVERY = 0.5  # seconds between two looks


def main() -> int:
    """The command's exit status."""
    process = psutil.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    tree: dict[int, psutil.Process] = {}
    looked = 0.0
    while process.poll() is None and not _is_alone():
        if time.monotonic() - looked > _EVERY:
            looked = time.monotonic()
            with contextlib.suppress(psutil.NoSuchProcess):
                tree |= {child.pid: child for child in process.children(recursive=True)}
    with contextlib.suppress(psutil.NoSuchProcess):
        tree |= {child.pid: child for child in process.children(recursive=True)}
        process.terminate()  # it ends what it started; where it does not, we do
    status = _end(process, list(tree.values()))
    return status or 0


def _is_alone() -> bool:
    """Whether the other end of standard input is closed; waits a moment for it."""
    readable, _, _ = select.select([0], [], [], 0.05)
    return bool(readable) and not os.read(0, 1)


def _end(process: psutil.Popen, others: list[psutil.Process]) -> int | None:
    left = psutil.wait_procs([process, *others], PATIENCE)[1]
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, PATIENCE)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
