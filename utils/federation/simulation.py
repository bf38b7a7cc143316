"""Run a Flower ServerApp and ClientApp on this machine: ``simulate``.

The apps are ordinary Flower apps. ``engine="inline"`` calls the ClientApp in this process
(same messages, mods and strategies; no start-up time; breakpoints work in client code);
``engine="ray"`` hands the same two apps to Flower's own simulation runtime.
"""

import gc
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy
from tqdm.auto import tqdm

from utils.arguments import flag, number, one_of, shown, whole_number
from utils.federation.checking import CheckedGrid, checked
from utils.federation.checkpoints import described_app, kept
from utils.federation.failures import Failures
from utils.federation.grids import SimulatedClient, check_apps, serve_on_ray
from utils.federation.parallel import serve_here
from utils.federation.recording import RecordingGrid
from utils.federation.strategies import start_checked
from utils.progress import progress_bar
from utils.randomness import random_stream

_ENGINES = "inline", "ray"
_MOST_CLIENTS = 1_000_000  # each has a context of its own, of about 2 kB


@dataclass
class Run:
    """What a simulation leaves behind.

    Attributes:
        result: what the strategy's ``start`` returned (final arrays, metrics); None where
            the ServerApp used no strategy. With several ``start`` calls, the last one's.
        metrics: one row a round; columns ``train/…`` and ``clients/…`` (averages over the
            clients that trained and evaluated) and ``server/…`` (from ``evaluate_fn``).
        client_metrics: one row a reply: round, client, kind, and the client's own metrics.
        traffic: one row a message: round, client, direction, kind, bytes.
        failures: every client failure and refused update, in order.
        seconds: wall-clock time of the whole run.
        workers: how many processes played clients (1: this one).
        resumed: rounds that were taken from a checkpoint.
    """

    result: Result | None
    metrics: pd.DataFrame
    client_metrics: pd.DataFrame
    traffic: pd.DataFrame
    failures: Failures
    seconds: float
    workers: int = 1
    resumed: int = 0


def simulate(
    server_app: ServerApp,
    client_app: ClientApp,
    num_clients: int,
    *,
    seed: int = 0,
    engine: str = "inline",
    workers: int | None = None,
    deadline: float | None = None,
    checkpoint: str | Path | None = None,
    run_config: Mapping | None = None,
    progress: bool = True,
    verbose: bool = False,
) -> Run:
    """Run a federation of ``num_clients`` clients and return everything a figure needs.

    A client finds its number, 0 … ``num_clients`` − 1, in
    ``context.node_config["partition-id"]``. One seed makes a run repeat exactly; each
    client call has a random stream of its own, derived from seed, round and client. The
    caller's random state is left as it was. A client that raises, or whose update
    ``check_update`` refuses, becomes an error reply, one printed line, and an entry in
    ``failures``; the round goes on without it.

    Args:
        server_app: any Flower ServerApp with an ``@app.main()``.
        client_app: any Flower ClientApp. With Ray, define it in a module: functions
            defined in a notebook are sent anew with every task, which is slow.
        num_clients: number of clients (Flower: SuperNodes), 1 to a million.
        seed: any non-negative integer.
        engine: ``"inline"`` (this process and ``workers``) or ``"ray"`` (Flower's runtime, 1 CPU
            a client).
        workers: processes that play clients, each client on one thread: any number gives
            bitwise the same run. 1: this process, where breakpoints work. By default, a run
            begins in this process and goes on in as many as torch has threads once that pays
            (see ``ParallelGrid``). What a client's function changes outside of itself, a list
            in the notebook, stays as it was if it runs elsewhere.
        deadline: seconds that a client may take for an answer, in a worker process. A late reply
            is dropped, named in ``failures``, and its process ended; the round goes on.
        checkpoint: a folder, in which the run is saved after each round of a strategy. Killed
            and started again, it goes on after the last round saved, and ends bitwise equal to
            a run that was not. The clients' data is taken to be the same. A finished run leaves
            nothing there.
        run_config: what both apps find in ``context.run_config``.
        progress: show a progress bar (``TQDM_DISABLE=1`` hides it everywhere).
        verbose: let Flower's own log lines through.

    Raises:
        ValueError: for arguments out of range, or a strategy that waits for more clients
            than there are.
        RoundFailedError: where every client of a round failed.
        CheckpointError: if the folder holds another run's checkpoints, or a damaged one, or
            cannot be written.
    """
    num_clients = whole_number("num_clients", num_clients, 1, _MOST_CLIENTS)
    seed = whole_number("seed", seed, 0)
    engine, verbose = one_of("engine", engine, _ENGINES), flag("verbose", verbose)
    workers = None if workers is None else whole_number("workers", workers, 1)
    deadline = None if deadline is None else number("deadline", deadline, above=0)
    if engine == "ray" and {workers, deadline, checkpoint} != {None}:
        raise ValueError(
            "workers, deadline and checkpoint are of the engine 'inline'; Ray starts as many "
            "processes as there are CPUs, waits for every client, and keeps what they remember"
        )
    check_apps(server_app, client_app)
    client = SimulatedClient(client_app, num_clients, seed, _plain(run_config))
    grids: list[CheckedGrid] = []
    inner: list[Grid] = []
    started = time.perf_counter()

    def serve(grid: Grid, node_ids: list[int], context: Context) -> None:
        recorder = RecordingGrid(grid, node_ids, bar)
        watched = checked(recorder)
        watched.num_clients, watched.name_of, watched.tell = (
            num_clients,
            recorder.client_of.__getitem__,
            tqdm.write,
        )
        watched.on_start = lambda num_rounds: setattr(bar, "total", num_rounds)
        grids.append(watched)
        inner.append(grid)
        if checkpoint is None:
            server_app(watched, context)
            return
        run = {"clients": num_clients, "seed": seed, "client's code": described_app(client_app)}
        parts = {"clients": grid, "recorded": recorder, "checked": watched}
        with kept(checkpoint, run | {"run_config": client.run_config}, parts) as checkpoints:
            watched.checkpoints = checkpoints
            server_app(watched, context)

    with (
        _flower_logs(verbose),
        _quick_garbage_collection(),
        random_stream(seed),
        progress_bar(progress, unit=" rounds") as bar,
        _checked_starts(),
    ):
        if engine == "ray":
            serve_on_ray(client, serve)
        else:
            serve_here(client, serve, workers, deadline)
    (watched,) = grids
    result = watched.results[-1] if watched.results else None
    return Run(
        result=result,
        metrics=_metrics_by_round(result) if result else pd.DataFrame(),
        client_metrics=_accepted(watched.grid.client_metrics, watched.failures),
        traffic=watched.grid.meter.table(),
        failures=watched.failures,
        seconds=time.perf_counter() - started,
        workers=getattr(inner[0], "workers", 1),
        resumed=watched.checkpoints.resumed if watched.checkpoints else 0,
    )


def _plain(run_config: Mapping | None) -> dict:
    """As Flower passes it on: nested names joined by dots, plain values only.

    Raises:
        ValueError: for a value that does not travel.
    """
    if run_config is not None and not isinstance(run_config, Mapping):
        raise ValueError(f"run_config is {shown(run_config)}; it must be a dictionary")
    flat = {}
    for name, value in (run_config or {}).items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": v for inner, v in _plain(value).items()}
            continue
        value = value.item() if isinstance(value, np.generic) else value
        if not isinstance(value, bool | int | float | str):
            raise ValueError(
                f"run_config['{name}'] is {shown(value)}; it must be a whole number, a float, a "
                "string, a bool, or a dictionary of these. Larger things belong into the app"
            )
        flat[name] = value
    return flat


def _accepted(rows: list[dict], failures: Failures) -> pd.DataFrame:
    """Clients' metrics, without those of refused replies."""
    refused = {(f.round, f.client, f.kind) for f in failures}
    return pd.DataFrame(
        [row for row in rows if (row["round"], row["client"], row["kind"]) not in refused]
    )


@contextmanager
def _checked_starts() -> Iterator[None]:
    """Whichever strategy is started, it is started by ``start_checked``."""
    flowers = Strategy.start
    Strategy.start = start_checked
    try:
        yield
    finally:
        Strategy.start = flowers


@contextmanager
def _flower_logs(verbose: bool) -> Iterator[None]:
    """Flower's reports are quiet unless asked for; its warnings never are."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _is_news(record: logging.LogRecord) -> bool:
    """Not news: that a share which the caller set to 0 is 0, that Flower renames functions."""
    said = record.getMessage()
    return "is set to 0.0." not in said and "DEPRECATED FEATURE" not in said


logging.getLogger("flwr").addFilter(_is_news)  # strategies are made outside of runs, too


@contextmanager
def _quick_garbage_collection() -> Iterator[None]:
    """Flower's QFedAvg collects garbage after each reply: 0.2 s, of which nearly all goes to
    the objects of imported packages. Leave these out for the length of a run.
    """
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


def _metrics_by_round(result: Result) -> pd.DataFrame:
    sources = {
        "train": result.train_metrics_clientapp,
        "clients": result.evaluate_metrics_clientapp,
        "server": result.evaluate_metrics_serverapp,
    }
    columns = {}
    for source, by_round in sources.items():
        for round_, metrics in by_round.items():
            for name, value in metrics.items():
                columns.setdefault(f"{source}/{name}", {})[round_] = value
    return pd.DataFrame(columns).rename_axis("round").sort_index()
