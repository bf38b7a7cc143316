"""Run a Flower ServerApp and ClientApp on this machine: ``simulate``.

The apps are ordinary Flower apps. ``engine="inline"`` calls the ClientApp in this process
(same messages, mods and strategies; no start-up time; breakpoints work in client code);
``engine="ray"`` hands the same two apps to Flower's own simulation runtime.
"""

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import Result, Strategy
from tqdm.auto import tqdm

from utils.federation.grids import SimulatedClient, run_inline, run_on_ray
from utils.federation.recording import Failure, RecordingGrid
from utils.progress import progress_bar
from utils.randomness import random_stream


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
    """

    result: Result | None
    metrics: pd.DataFrame
    client_metrics: pd.DataFrame
    traffic: pd.DataFrame
    failures: list[Failure]
    seconds: float


def simulate(
    server_app: ServerApp,
    client_app: ClientApp,
    num_clients: int,
    *,
    seed: int = 0,
    engine: str = "inline",
    run_config: dict | None = None,
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
        num_clients: number of clients (Flower: SuperNodes), at least 1.
        seed: any non-negative integer.
        engine: ``"inline"`` (this process) or ``"ray"`` (Flower's runtime, 1 CPU a client).
        run_config: what both apps find in ``context.run_config``.
        progress: show a progress bar (``TQDM_DISABLE=1`` hides it everywhere).
        verbose: let Flower's own log lines through.

    Raises:
        ValueError: for arguments out of range, or a strategy that waits for more clients
            than there are.
        RoundFailedError: where every client of a round failed.
    """
    engines = {"inline": run_inline, "ray": run_on_ray}
    if not isinstance(num_clients, int) or num_clients < 1:
        raise ValueError(f"num_clients is {num_clients!r}; it must be an integer of at least 1")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed is {seed!r}; it must be an integer of at least 0")
    if engine not in engines:
        raise ValueError(f"engine is {engine!r}; it must be one of: {', '.join(engines)}")

    client = SimulatedClient(client_app, num_clients, seed, dict(run_config or {}))
    started = time.perf_counter()
    with (
        _flower_logs(verbose),
        _quick_garbage_collection(),
        random_stream(seed),
        progress_bar(progress, unit=" rounds") as bar,
        _watch_strategies(num_clients, bar) as results,
    ):
        grid = engines[engine](server_app, client, bar)
    return Run(
        result=results[-1] if results else None,
        metrics=_metrics_by_round(results[-1]) if results else pd.DataFrame(),
        client_metrics=pd.DataFrame(grid.client_metrics),
        traffic=grid.meter.table(),
        failures=grid.failures,
        seconds=time.perf_counter() - started,
    )


@contextmanager
def _watch_strategies(num_clients: int, bar: tqdm) -> Iterator[list[Result]]:
    """Collect what ``Strategy.start`` returns, and check first that it can start at all.

    (A run that is to be resumed would enter at its saved round here.)
    """
    original, results = Strategy.start, []

    def start(strategy, grid, initial_arrays, num_rounds=3, *args, **kwargs):
        for layer in _layers(strategy):
            _check_strategy(layer, num_clients)
            if isinstance(grid, RecordingGrid):
                grid.weighted_by_key = getattr(layer, "weighted_by_key", grid.weighted_by_key)
        bar.total = num_rounds
        results.append(original(strategy, grid, initial_arrays, num_rounds, *args, **kwargs))
        return results[-1]

    Strategy.start = start
    try:
        yield results
    finally:
        Strategy.start = original


def _layers(strategy: Strategy | None) -> Iterator[Strategy]:
    """A strategy, and those that it wraps."""
    while strategy is not None:
        yield strategy
        strategy = getattr(strategy, "strategy", None)


def _check_strategy(strategy: Strategy, num_clients: int) -> None:
    """Flower waits for ever for clients that a simulation does not have; say so instead."""
    for name in ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes"):
        wanted = getattr(strategy, name, 0)
        if wanted > num_clients:
            raise ValueError(
                f"the strategy's {name} is {wanted}, but the simulation has {num_clients} "
                f"client{'s' if num_clients > 1 else ''}, so it would wait for ever; give "
                f"{type(strategy).__name__} a lower {name}, or simulate more clients"
            )


@contextmanager
def _flower_logs(verbose: bool) -> Iterator[None]:
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.INFO if verbose else logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


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
