"""``make bench``: what the engine costs, beside a bare loop, two plain processes, and Ray.

Beside Flower's own objects, too: the same messages, records and average, with no engine between
server and client. What an engine adds is the difference.

Four jobs on the bundled digits, FedAvg with every client: one like L2's (10 clients), a
cohort of 50 with a small network, the same with 1.66 million parameters, and 1,000 clients of
four images. One thread a process; medians of interleaved repeats. On a machine that does other
things too, judge by the processor's seconds, given where all is done in one process. Then growth:
time and memory from 10 to 10,000 clients.
"""

import logging
import os
import statistics
import time
from typing import NamedTuple

os.environ["TQDM_DISABLE"] = "1"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (else Ray gives way to all others)

import psutil
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp.strategy import FedAvg
from joblib.externals.loky import get_reusable_executor

from tests.bench_jobs import JOBS, client_app, mean, server_app, train_client
from tests.federation.apps import client_app as adding_app
from tests.federation.apps import noisy_train
from tests.federation.apps import server_app as adding_server
from utils.federation import simulate


def bare_loop(name: str) -> None:
    """FedAvg with nothing but torch."""
    job = JOBS[name]
    weights = job.model().state_dict()
    for _ in range(job.rounds):
        weights = mean([train_client(name, client, weights) for client in range(job.clients)])


def flowers_objects(name: str) -> None:
    """Flower's messages to its ClientApp, and its FedAvg: nothing checked, counted, or kept apart.

    Needs a process in which ``simulate`` has run: it tells Flower who it is.
    """
    job, strategy = JOBS[name], FedAvg(fraction_evaluate=0.0)
    arrays = ArrayRecord(job.model().state_dict())
    for _ in range(job.rounds):
        replies = []
        for client in range(job.clients):
            content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})})
            message = Message(content, dst_node_id=client + 1, message_type="train")
            own = {"partition-id": client, "num-partitions": job.clients}
            context = Context(1, client + 1, own, RecordDict(), {"job": name})
            replies.append(client_app(message, context))
        arrays, _ = strategy.aggregate_train(1, replies)


def half_a_round(name: str, clients: range, weights: dict) -> list[dict]:
    """What one of two plain processes does."""
    torch.set_num_threads(1)
    return [train_client(name, client, weights) for client in clients]


def two_processes(name: str) -> None:
    """The same in two processes, each with half of the clients, nothing checked or counted."""
    job, pool = JOBS[name], get_reusable_executor(max_workers=2, timeout=None)
    weights = job.model().state_dict()
    for _ in range(job.rounds):
        halves = [range(part, job.clients, 2) for part in (0, 1)]
        done = [pool.submit(half_a_round, name, half, weights) for half in halves]
        weights = mean([state for part in done for state in part.result()])


def ours(name: str, **options: object) -> None:
    """The same as Flower apps."""
    settings = {"run_config": {"job": name}, "progress": False} | options
    simulate(server_app(name), client_app, JOBS[name].clients, **settings)


class Took(NamedTuple):
    """Seconds of one call: on the wall clock, and of this process's processor time."""

    wall: float
    own: float


def seconds(work: object, *args: object, **options: object) -> Took:
    """How long one call takes."""
    started, before = time.perf_counter(), time.process_time()
    work(*args, **options)
    return Took(time.perf_counter() - started, time.process_time() - before)


WAYS = {
    "bare loop": (bare_loop, {}),
    "Flower's objects": (flowers_objects, {}),
    "ours, 1 worker": (ours, {"workers": 1}),
    "2 plain processes": (two_processes, {}),
    "ours, 2 workers": (ours, {"workers": 2}),
}


def compare(name: str, repeats: int) -> float:
    """Print a job's line of each way; returns the bare loop's median seconds."""
    job, took = JOBS[name], {way: [] for way in WAYS}
    for _ in range(repeats):
        for way, (work, options) in WAYS.items():
            took[way].append(seconds(work, name, **options))
    weights = sum(p.numel() for p in job.model().parameters())
    print(f"{name}: {job.clients:,} clients × {job.rounds} rounds, {weights:,} weights")
    for way, times in took.items():
        pairs = list(zip(times, took["bare loop"], strict=True))
        wall = statistics.median(a.wall for a in times)
        ratio = statistics.median(a.wall / b.wall for a, b in pairs)
        own = statistics.median(a.own / b.own for a, b in pairs)
        processor = "" if "2" in way else f"   processor × {own:.2f}"
        print(f"  {way:<20} {wall:7.2f} s   × {ratio:.2f}{processor}")
    return statistics.median(a.wall for a in took["bare loop"])


def growth() -> None:
    """Time and memory of one round, by the number of clients."""
    process = psutil.Process()
    for clients in (10, 100, 1000, 10_000):
        settings = {"progress": False, "workers": 1}
        took = seconds(simulate, adding_server(1), adding_app(noisy_train), clients, **settings)
        memory = process.memory_info().rss / 2**20
        print(f"  {clients:>6} clients {took.wall:7.2f} s   {memory:,.0f} MB")


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print(__doc__)
    logging.getLogger("flwr").setLevel(logging.WARNING)  # its strategy tells of each round
    ours("small")  # tells this process who it is
    for work, options in WAYS.values():
        work("small", **options)  # warm up
    lesson = compare("lesson", repeats=2)
    compare("small", repeats=3)
    compare("large", repeats=1)
    compare("crowd", repeats=1)
    ray = seconds(ours, "lesson", engine="ray").wall
    print(f"lesson on Ray, its start-up included: {ray:.2f} s   × {ray / lesson:.1f}")
    growth()


if __name__ == "__main__":
    main()
