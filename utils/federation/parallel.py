"""A Grid whose clients run in worker processes, several at a time, each with a deadline."""

import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import suppress
from dataclasses import dataclass

import torch
from flwr.app import Error, Message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.supercore.task_identity import TaskIdentity
from joblib.externals.loky.process_executor import TerminatedWorkerError

from utils.federation.grids import (
    InProcessGrid,
    Serve,
    SimulatedClient,
    context_of,
    copy_content,
)
from utils.federation.shipping import NotSendableError, outline
from utils.federation.workers import Outbox, Worker, are_warm, give_back, take_workers

COLD, WARM = 6.0, 1.0  # seconds: what new processes cost, and what those of an earlier run do


class WorkerLostError(RuntimeError):
    """Processes end again and again before they could do anything."""


@dataclass
class _Place:
    """A worker, and what it is doing: the message and since when; or loading the app."""

    worker: Worker
    doing: Future | None = None
    message: Message | None = None
    parcel: tuple = ()
    since: float = 0.0


class _Queue:
    """Clients that wait, first those that a worker has served before: it may have data at hand."""

    def __init__(self, messages: list[Message], places: list[_Place]) -> None:
        self.left = len(messages)
        self._new: deque[Message] = deque()
        self._known: dict[int, deque[Message]] = {id(place.worker): deque() for place in places}
        home = {node: id(place.worker) for place in places for node in place.worker.served}
        for message in messages:
            self._known.get(home.get(message.metadata.dst_node_id), self._new).append(message)

    def next_for(self, place: _Place) -> Message:
        """The next client for a worker; where it knows none, one that waits longest elsewhere."""
        self.left -= 1
        own = self._known.get(id(place.worker))
        return (own or self._new or max(self._known.values(), key=len)).popleft()

    def put_back(self, message: Message) -> None:
        """Let a client wait again, first in the line."""
        self.left += 1
        self._new.appendleft(message)


class ParallelGrid(InProcessGrid):
    """The same clients, with the same random streams: the same bits in any number of processes.

    Args:
        client: the app in its streams.
        workers: how many processes; 1: this one, unless there is a deadline. None: this one,
            until the clients have computed for as long as it would take to start others; then
            as many as torch has threads, if the clients change nothing in this process (a list,
            a counter) that would stay unchanged if they ran elsewhere, and there is no GPU.
        deadline: seconds that a client may take for an answer; None: any time.
    """

    def __init__(
        self, client: SimulatedClient, workers: int | None = None, deadline: float | None = None
    ) -> None:
        super().__init__(client)
        self.deadline = deadline
        self.cores = min(torch.get_num_threads(), client.num_clients)
        self._may_grow = workers is None and self.cores > 1 and not torch.cuda.is_available()
        self.workers = min(workers or (self.cores if deadline else 1), client.num_clients)
        self._spent = 0.0  # seconds that clients computed in this process
        self._before: bytes | None = None
        self._places: list[_Place] = []
        self._outbox: Outbox | None = None
        self._lost = 0  # processes in a row that ended while they loaded the app

    def answers(self, messages: list[Message]) -> Iterator[Message]:
        """The clients' replies: as they come from workers, in order from this process."""
        waiting = list(messages)
        while waiting:
            if self._uses_processes(len(waiting)):
                yield from self._from_workers(waiting)
                return
            started = time.perf_counter()
            reply = self.answer(waiting.pop(0))
            self._spent += time.perf_counter() - started
            yield reply

    def _uses_processes(self, left: int) -> bool:
        """Decide anew before each client: as who rents skis buys them once rent reached the price.

        So a run takes at most twice as long as if one had known.
        """
        if self.workers > 1 or self.deadline:
            try:
                return self._open()
            except OSError as error:
                raise NotSendableError(
                    f"what workers read cannot be written to {tempfile.gettempdir()} "
                    f"({error.strerror}); make room there, set TMPDIR to another folder, or run "
                    "with workers=1"
                ) from error
        if not self._may_grow or left < 2:
            return False
        try:
            if self._before is None:
                self._before = outline(self.client)
            if self._spent < (WARM if are_warm(self.cores) else COLD):
                return False
            self._may_grow = False
            if outline(self.client) != self._before:
                return False
            self.workers = self.cores
            return self._open()
        except (NotSendableError, OSError):  # or no room for what they would read
            self._may_grow, self.workers = False, 1
            return False

    def _open(self) -> bool:
        """Send the app to the workers, once a run."""
        if self._outbox is None:
            self._outbox = Outbox()
            self._app = self._outbox.app(self.client)
        while len(self._places) < self.workers:
            (worker,) = take_workers(1)
            with suppress(BrokenExecutor):  # it ended since it was last used: take another
                self._places.append(_Place(worker, worker.load(self._app)))
        return True

    def _from_workers(self, messages: list[Message]) -> Iterator[Message]:
        waiting = _Queue(messages, self._places)
        try:
            while waiting.left or any(place.message for place in self._places):
                if waiting.left:
                    self._open()  # in place of those that were lost
                for place in list(self._places):
                    if waiting.left and place.doing is None:
                        self._start(place, waiting)
                for place in self._finished():
                    reply = self._collect(place)
                    if reply is not None:
                        yield reply
        finally:  # interrupted, or the server has enough: nobody goes on computing
            for place in self._places:
                if place.message is not None:
                    place.worker.end()
            self._places = [place for place in self._places if place.message is None]

    def _start(self, place: _Place, waiting: _Queue) -> None:
        message = waiting.next_for(place)
        place.parcel = self._outbox.parcel(message)
        self._outbox.keep([p.parcel for p in self._places if p.message or p is place])
        context = self.contexts[message.metadata.dst_node_id]
        try:
            place.doing = place.worker.answer(self._app, place.parcel, context)
        except BrokenExecutor:  # it ended between two clients: none of them is lost
            self._lose(place)
            waiting.put_back(message)
            return
        place.worker.served.add(context.node_id)
        place.message, place.since = message, time.monotonic()

    def _finished(self) -> list[_Place]:
        """Places that have something, or whose time is over, or whose process is gone."""
        busy = [place for place in self._places if place.doing is not None]
        timed = [p.since + self.deadline for p in busy if p.message and self.deadline]
        rest = max(0.0, min(timed) - time.monotonic()) if timed else None
        done, _ = wait([place.doing for place in busy], rest, FIRST_COMPLETED)
        return [place for place in busy if place.doing in done or self._is_late(place)]

    def _is_late(self, place: _Place) -> bool:
        late = self.deadline and place.message
        return bool(late) and time.monotonic() >= place.since + self.deadline

    def _collect(self, place: _Place) -> Message | None:
        """A place's reply; None where it has only loaded the app. It is free again."""
        future, message = place.doing, place.message
        if not future.done():
            self._lose(place)
            return _error(
                message,
                ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
                f"no reply within {self.deadline:g} seconds; its process was ended",
            )
        place.doing = place.message = None
        try:
            result = future.result()
        except TerminatedWorkerError:
            self._lose(place)
            if message is None:
                self._lost += 1
                if self._lost < 2:
                    return None
                raise WorkerLostError(
                    "worker processes end while they load the ClientApp and its data: killed from "
                    "outside, or out of memory. Run with fewer workers, or with workers=1"
                ) from None
            return _error(
                message,
                ErrorCode.CLIENT_APP_CRASHED,
                "its process ended: killed from outside, or out of memory",
            )
        except Exception as error:  # a reply or an app that cannot be pickled, a full disk
            if message is None:
                raise NotSendableError(
                    f"a worker process cannot load the ClientApp: {type(error).__name__}: {error}. "
                    "Run with workers=1, in this process"
                ) from error
            return _error(
                message,
                ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
                f"its reply cannot leave its process: {type(error).__name__}: {error}",
            )
        if message is None:
            self._lost = 0
            return None
        reply, context, output, errors = result
        self.contexts[context.node_id] = context
        sys.stdout.write(output)
        sys.stderr.write(errors)
        if reply.has_content():
            reply.content = copy_content(reply.content)
        return reply

    def _lose(self, place: _Place) -> None:
        """End a worker; another takes its place if there is more to do."""
        place.worker.end()
        self._places.remove(place)

    def close(self) -> None:
        """Keep the processes for the next run."""
        give_back([place.worker for place in self._places])
        self._places = []
        if self._outbox:
            self._outbox.close()


def _error(sent: Message, code: int, reason: str) -> Message:
    return Message(Error(code, reason), reply_to=sent)


def serve_here(
    client: SimulatedClient, serve: Serve, workers: int | None, deadline: float | None
) -> None:
    """Let ``serve`` work with clients on this machine, in this process or in others."""
    TaskIdentity.run_id, TaskIdentity.task_id = 1, 1
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    grid = ParallelGrid(client, workers, deadline)
    try:
        serve(grid, list(grid.contexts), context_of(SUPERLINK_NODE_ID, {}, client.run_config))
    finally:
        grid.close()
