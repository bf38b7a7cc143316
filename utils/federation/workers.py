"""Processes that play clients: one client at a time each, for as long as this process lives."""

import contextlib
import io
import logging
import os
import pickle
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from uuid import uuid4

import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity
from joblib.externals.loky import process_executor

from utils.caching import temporary_folder
from utils.federation.shipping import LARGE, receive, send

_idle: list["Worker"] = []  # processes of earlier runs, ready for the next


class Worker:
    """One process, and what it has been sent."""

    def __init__(self) -> None:
        quiet = {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
        self.executor = process_executor.ProcessPoolExecutor(max_workers=1, env=quiet)
        self.served: set[int] = set()  # nodes whose data it may have at hand

    def load(self, path: Path) -> Future:
        """Fetch the app, before any client's time is counted."""
        self.served.clear()
        return self.executor.submit(_load, path, os.getpid(), os.getcwd(), list(sys.path))

    def answer(self, path: Path, message: tuple, context: Context) -> Future:
        """Let a client of the app answer; see ``_answer``."""
        return self.executor.submit(_answer, path, message, context)

    def end(self) -> None:
        """End the process now, whatever it does."""
        self.executor.shutdown(wait=True, kill_workers=True)


def take_workers(count: int) -> list[Worker]:
    """So many processes: those of earlier runs first, then new ones."""
    taken = [_idle.pop() for _ in range(min(count, len(_idle)))]
    return taken + [Worker() for _ in range(count - len(taken))]


def give_back(workers: list[Worker]) -> None:
    """Keep processes for the next run; they forget the app of this one."""
    for worker in workers:
        with contextlib.suppress(RuntimeError):  # it ended in the meantime
            worker.executor.submit(_forget)
            _idle.append(worker)


def are_warm(count: int) -> bool:
    """Whether so many processes stand ready."""
    return len(_idle) >= count


class Outbox:
    """A folder for what all workers of a run read: the app, and each round's model.

    Removed at the end of the run, or, if this process is killed, by the next run.
    """

    def __init__(self) -> None:
        self.folder = temporary_folder()
        self._arrays: list[bytes] = []
        self._files: list[Path] = []

    def app(self, client: object) -> Path:
        """Where the app lies, once it is written.

        Raises:
            NotSendableError: naming what cannot be sent.
        """
        return send(client, self.folder)

    def parcel(self, message: Message) -> tuple:
        """A message, in which a large record is a file that all clients of the round share."""
        parts = {}
        for key, record in message.content.items():
            large = isinstance(record, ArrayRecord) and record.count_bytes() >= LARGE
            parts[key] = self._written(record) if large else record
        return message.metadata, parts

    def _written(self, record: ArrayRecord) -> Path:
        arrays = [array.data for array in record.values()]
        if [id(some) for some in arrays] != [id(some) for some in self._arrays]:
            self._arrays = arrays  # kept, so that no address is used twice
            self._files.append(self.folder / f"{uuid4()}.pickle")
            self._files[-1].write_bytes(pickle.dumps(record, protocol=5))
        return self._files[-1]

    def keep(self, parcels: list[tuple]) -> None:
        """Remove the records that none of these parcels needs, but for the last one written."""
        needed = {part for _, parts in parcels for part in parts.values() if isinstance(part, Path)}
        for file in [file for file in self._files[:-1] if file not in needed]:
            self._files.remove(file)
            file.unlink()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


# In the worker ---------------------------------------------------------------------------------

_here: dict[str, object] = {}  # the app, and the last large record, by the files they came from


def _load(path: Path, parent: int, folder: str, places: list[str]) -> None:
    sys.path[:] = [place or folder for place in places]
    if not _here.get("watching"):
        _here["watching"] = True
        process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize  # a model is no leak to end for
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Jupyter interrupts all; we end who is busy
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    TaskIdentity.run_id, TaskIdentity.task_id = 1, 1
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    _app(path)


def _end_with(parent: int) -> None:
    """A killed notebook takes its workers with it, busy ones too."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _app(path: Path) -> object:
    if _here.get("app path") != path:
        _here.pop("app", None)
        with path.open("rb") as file:
            _here["app"] = receive(lambda: pickle.load(file))
        _here["app path"] = path
    return _here["app"]


def _forget() -> None:
    for name in ("app", "app path", "record", "record path"):
        _here.pop(name, None)


def _record(part: object) -> object:
    if not isinstance(part, Path):
        return part
    if _here.get("record path") != part:
        _here["record"] = pickle.loads(part.read_bytes())
        _here["record path"] = part
    return _here["record"]


def _answer(path: Path, parcel: tuple, context: Context) -> tuple[Message, Context, str, str]:
    """The client's reply, its context as it is now, and what it printed (output, errors)."""
    from utils.federation.grids import copy_content

    metadata, parts = parcel
    content = RecordDict({key: _record(part) for key, part in parts.items()})
    with _printed() as (output, errors):
        reply = _app(path)(Message(copy_content(content), metadata=metadata), context)
    return reply, context, output.getvalue(), errors.getvalue()


@contextlib.contextmanager
def _printed() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Keep what is printed, Flower's log lines included, to show it where the run was started."""
    output, errors = io.StringIO(), io.StringIO()
    handlers = [h for h in logging.getLogger("flwr").handlers if hasattr(h, "setStream")]
    before = [handler.setStream(errors) for handler in handlers]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            yield output, errors
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            handler.setStream(stream or sys.stderr)
