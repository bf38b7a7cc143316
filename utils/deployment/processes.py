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

from utils.arguments import dict_of, folder_path, function, list_of, number, text, whole_number
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

    Raises:
        ValueError: if one of them is something else, or the folder is not there.
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        command = [text("command", word) for word in list_of("command", command, "words")]
        for variable, value in dict_of("environment", environment, "variables").items():
            text("environment", variable), text("environment", value)
        if not command:
            raise ValueError("command is empty; it must name a program")
        folder = folder_path("folder", folder)
        if not folder.is_dir():
            raise ValueError(f"folder is {folder}; there is no such folder")
        self.command = " ".join(command)
        self.name = text("name", name)
        self.log_file = folder / f"{name.replace(' ', '-')}.log"
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
        words = [text("words", word) for word in words]
        return [line for line in self.log.splitlines() if any(word in line for word in words)]

    def new_lines(self) -> list[str]:
        """The complete lines printed since this was last called."""
        text = self.log
        end = text.rfind("\n") + 1 if self.running else len(text)
        fresh, self._read = text[self._read : end], max(end, self._read)
        return fresh.splitlines()

    def wait_for(self, wanted: str, seconds: float = 180, times: int = 1) -> None:
        """Until it has printed the text, so many times.

        Raises:
            RuntimeError: if it ended without that.
            TimeoutError: if it did not come in time.
        """
        wanted, times = text("wanted", wanted), whole_number("times", times, 1)
        there = lambda: self.log.count(wanted) >= times  # noqa: E731
        wait_until(lambda: there() or not self.running, seconds, repr(wanted))
        if not there():
            raise RuntimeError(
                f"{self.name} ended without {wanted!r}; its last lines:\n{self.tail()}"
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
        return "\n".join(self.log.splitlines()[-whole_number("lines", lines, 1) :])

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
        ValueError, TypeError: for wrong arguments.
    """
    function("true", true, "lambda: process.running")
    what, until = text("what", what), time.monotonic() + number("seconds", seconds, least=0)
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.1)
