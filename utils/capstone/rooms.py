"""The scorer's side of the processes in which entries run."""

import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from utils.capstone import frames

ROOT = Path(__file__).resolve().parents[2]
_TERMINAL = b"O", b"X", b"R"


class RefusedError(RuntimeError):
    """An entry did what no entry may do."""


class EntryError(RuntimeError):
    """An entry's own code failed."""


class Entry(NamedTuple):
    """An entry's file: its ``name``, and its ``source``."""

    name: str
    source: str

    @property
    def path(self) -> str:
        """The file name that its code runs under."""
        return f"{self.name}.py"


@dataclass
class Done:
    """What came of a job: ``data``, what a client keeps (``state``), what was printed, and
    ``seconds`` of the processor, as the system counted them."""

    data: bytes = b""
    state: bytes = b""
    printed: str = ""
    seconds: float = 0.0


class Rooms:
    """Processes that each do one job at a time, every job in a child of its own.

    Use it in a ``with`` block, or ``close`` it; then all of them are gone.

    Args:
        count: how many; one more is kept for the server.

    Raises:
        EntryError: on a system that cannot fork.
    """

    def __init__(self, count: int) -> None:
        if not hasattr(os, "fork"):
            raise EntryError("this system cannot fork processes: on Windows, score in WSL2")
        pairs = [socket.socketpair() for _ in range(2 * (count + 1))]
        theirs = [pair[1].fileno() for pair in pairs]
        settings = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
        # large pages, where the system has them: a fork copies fewer entries, in half of the time
        settings |= {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        command = [sys.executable, "-m", "utils.capstone.room", *map(str, theirs)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, pass_fds=theirs, env=os.environ | settings, stdin=subprocess.DEVNULL
        )
        for _, other in pairs:
            other.close()
        ours = [pair[0] for pair in pairs]
        rooms = [_Room(*ours[i : i + 2]) for i in range(0, len(ours), 2)]
        self.count, self._all = count, rooms
        self._server, self._free = rooms[0], Queue()
        for room in rooms[1:]:
            self._free.put(room)
        self._code: dict[str, bytes] = {}  # of entries, compiled

    def __enter__(self) -> "Rooms":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        for room in self._all:
            room.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def do(self, kind: str, entry: Entry | None, deadline: float, **job: object) -> Done:
        """Let a free process do a job; waits for one.

        Args:
            kind: of the job: ``"describe"``, ``"clean"``, ``"client"``, ``"losses"``, or one
                that needs no entry: ``"reference"``, ``"nothing"``.
            entry: whose code runs.
            deadline: seconds that it may take.
            job: what it needs.

        Raises:
            RefusedError: if it does what no entry may do.
            EntryError: if its code fails, or takes too long.
        """
        if entry is not None:
            job["code"] = self._compiled(entry)
        room = self._free.get()
        try:
            return room.do(kind, entry, deadline, job)
        finally:
            self._free.put(room)

    def _compiled(self, entry: Entry) -> bytes:
        """The entry's code; no process of ours ever unpacks it."""
        if entry.source not in self._code:
            room = self._free.get()
            try:
                self._code = {entry.source: room.do("compile", entry, 60, {}).data}
            finally:
                self._free.put(room)
        return self._code[entry.source]

    def serve(
        self,
        entry: Entry,
        deadline: float,
        network: Callable[[list[tuple[dict, bytes]]], list[frames.Frame]],
        **job: object,
    ) -> Done:
        """Let the entry's ServerApp run; ``network`` answers its messages, given as a head and
        the content's bytes, by frames.

        Raises:
            RefusedError, EntryError: as ``do``.
        """
        job["code"] = self._compiled(entry)
        return self._server.do("server", entry, deadline, job, network)


class _Room:
    def __init__(self, line: socket.socket, control: socket.socket) -> None:
        self.line, self.control = line, control

    def close(self) -> None:
        self.control.close()
        self.line.close()

    def do(
        self,
        kind: str,
        entry: Entry | None,
        deadline: float,
        job: dict,
        network: Callable | None = None,
    ) -> Done:
        name, source = (entry.path, entry.source) if entry else ("", "")
        job = {"kind": kind, "path": name, "source": source, "seed": 0} | job
        try:
            self.control.sendall(b"J")
            child = json.loads(frames.receive(self.control).data)
        except (OSError, EOFError) as error:
            raise EntryError(
                "the processes for entries have ended; see what they printed"
            ) from error
        done, end = Done(), None
        try:
            frames.send(self.line, b"J", pickle.dumps(job))
            end = self._talk(done, deadline, network)
        except (OSError, EOFError, ValueError) as error:
            end = end or frames.Frame(b"X", json.dumps({"error": str(error)}).encode())
        finally:
            if end is None or end.kind not in _TERMINAL:
                _kill(child)
            done.seconds = self._ended(child)
        if end.kind == b"R":
            raise RefusedError(end.data.decode(errors="replace"))
        if end.kind == b"X":
            raise EntryError(json.loads(end.data)["error"])
        if end.kind != b"O":
            raise EntryError(end.data.decode())
        done.data = end.data
        return done

    def _talk(self, done: Done, deadline: float, network: Callable | None) -> frames.Frame:
        """What the job says, up to its last word."""
        until, asked = time.monotonic() + deadline, None
        while True:
            left = until - time.monotonic()
            ready, _, _ = select.select([self.line, self.control], [], [], max(0.0, left))
            if not ready:
                return frames.Frame(b"!", f"took longer than {deadline:.0f} seconds".encode())
            if self.line not in ready:
                return frames.Frame(b"!", b"its process ended without an answer")
            frame = frames.receive(self.line)
            if frame.kind in _TERMINAL:
                return frame
            if frame.kind == b"T":
                done.printed = (done.printed + frame.data.decode(errors="replace"))[-4000:]
            elif frame.kind == b"S":
                done.state = frame.data
            elif frame.kind == b"M" and network is not None:
                asked = json.loads(frame.data)
                contents = [frames.receive(self.line).data for _ in asked]
                started = time.monotonic()
                for answer in network(list(zip(asked, contents, strict=True))):
                    frames.send(self.line, *answer)
                until += time.monotonic() - started  # the clinics' time is not the server's

    def _ended(self, child: int) -> float:
        """Wait for the child's end; the seconds that it took."""
        if not select.select([self.control], [], [], 10)[0]:
            _kill(child)
        end = json.loads(frames.receive(self.control).data)
        self.line.setblocking(False)
        with suppress(BlockingIOError):
            while self.line.recv(2**20):
                pass  # what else it said is dropped
        self.line.setblocking(True)
        return end["seconds"]


def _kill(child: int) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.kill(child, signal.SIGKILL)
