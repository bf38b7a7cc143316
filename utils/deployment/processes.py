"""Processes that are ended by whoever started them, whatever happens in between."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from utils.deployment import guard

_COLOR = re.compile(r"\x1b\[[0-9;]*m")


class Process:
    """A command that runs until it ends, ``stop`` or ``kill``; or until this process ends.

    Args:
        name: what people call it.
        command: the program and its arguments; a program of this Python's environment needs no
            path.
        folder: its working directory; its output goes to ``NAME.log`` there.
        environment: variables besides this process's own.
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.command = " ".join(command)
        self.name, self.log_file = name, folder / f"{name.replace(' ', '-')}.log"
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        before = len(self.log) if self.log_file.exists() else 0  # an earlier process's
        self.log_before = self._read = before
        with self.log_file.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, guard.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, "PATH": programs, "PYTHONUNBUFFERED": "1", **environment},
                start_new_session=True,  # Ctrl-C is for us: we end it in order
            )

    def __repr__(self) -> str:
        return f"{self.name}: {'running' if self.running else 'ended'}"

    @property
    def running(self) -> bool:
        """Whether the command still runs."""
        return self._guard.poll() is None

    @property
    def log(self) -> str:
        """Everything that it printed so far, without colours."""
        return _COLOR.sub("", self.log_file.read_text(errors="replace"))

    def lines(self, *words: str) -> list[str]:
        """The lines of its log that hold one of the words."""
        return [line for line in self.log.splitlines() if any(word in line for word in words)]

    def new_lines(self) -> list[str]:
        """The complete lines printed since this was last called."""
        text = self.log
        end = text.rfind("\n") + 1 if self.running else len(text)
        fresh, self._read = text[self._read : end], max(end, self._read)
        return fresh.splitlines()

    def wait_for(self, text: str, seconds: float = 180, times: int = 1) -> None:
        """Until it has printed the text, so many times.

        Raises:
            RuntimeError: if it ended without that.
            TimeoutError: if it did not come in time.
        """
        wait_until(lambda: self.log.count(text) >= times or not self.running, seconds, repr(text))
        if self.log.count(text) < times:
            raise RuntimeError(
                f"{self.name} ended without {text!r}; its last lines:\n{self.tail()}"
            )

    def wait(self, seconds: float = 600) -> int:
        """Until it ends by itself; its exit status.

        Raises:
            TimeoutError: if it did not in time; then it still runs.
        """
        wait_until(lambda: not self.running, seconds, f"the end of {self.name}")
        return self._guard.returncode

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.splitlines()[-lines:])

    def kill(self) -> None:
        """End it as a power cut does: it, and all that it started, at once, without notice."""
        victims = []
        with contextlib.suppress(psutil.NoSuchProcess):
            victims = psutil.Process(self._guard.pid).children(recursive=True)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        self.stop()

    def end(self) -> None:
        """Ask it to end, without waiting for that."""
        with contextlib.suppress(OSError):
            self._guard.stdin.close()

    def stop(self) -> None:
        """Ask it to end, and wait until it and all that it started has."""
        self.end()
        self._guard.wait()


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Look every tenth of a second.

    Raises:
        TimeoutError: naming ``what`` did not come.
    """
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.1)
