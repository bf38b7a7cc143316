"""What a ServerApp on real machines does around its strategy: wait, keep, drop, write down."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from utils.arguments import number, whole_number
from utils.federation.checking import CheckedGrid, checked
from utils.federation.checkpoints import kept
from utils.federation.records import as_arrays
from utils.federation.strategies import start_checked

_WHERE = ("result", "checkpoint", "timeout", "clinics")  # these change no model


def run_rounds(
    grid: Grid, strategy: Strategy, start: ArrayRecord, config: Mapping, **settings: object
) -> Result:
    """Run a strategy as the run's configuration says, on a simulator or on Flower's own network.

    Every reply is checked (``checked``). A clinic that does not answer in time is dropped from
    the round, by name. What the configuration may say:

    - ``rounds``: how many;
    - ``clinics``: wait for so many before the first round (by default 1);
    - ``timeout``: seconds that a clinic has for its answer, and that the server waits for
      clinics (by default Flower's hour);
    - ``result``: a folder at the server for ``model.npz`` and ``run.json`` (metrics by round,
      failures, seconds); ``""``: none;
    - ``checkpoint``: a folder at the server, in which each finished round is kept: a run that
      was killed, submitted again, goes on after the last one; ``""``: none.

    Args:
        grid: any Flower Grid.
        strategy: any Flower strategy.
        start: the first model.
        config: ``context.run_config``.
        settings: of ``Strategy.start``: ``train_config``, ``evaluate_fn``, ….

    Raises:
        ValueError: for a value out of range.
        TimeoutError: if fewer clinics came than the run is to wait for.
        RoundFailedError: where every clinic of a round failed.
    """
    rounds = whole_number("rounds", config.get("rounds"), 0)
    timeout = number("timeout", config.get("timeout", 3600), above=0)
    watched = checked(grid, strategy)
    wait_for_clinics(watched, whole_number("clinics", config.get("clinics", 1), 1), timeout)
    started = time.time()
    with _kept(watched, config):
        result = start_checked(strategy, watched, start, rounds, timeout=timeout, **settings)
    if config.get("result"):
        write_result(Path(config["result"]), watched, result, time.time() - started)
    return result


def wait_for_clinics(grid: Grid, count: int, timeout: float) -> None:
    """Until so many SuperNodes are there.

    Raises:
        TimeoutError: with the number that is there.
    """
    until = time.monotonic() + timeout
    while (there := len(list(grid.get_node_ids()))) < count:
        if time.monotonic() > until:
            raise TimeoutError(
                f"{there} of {count} clinics are there after {timeout:g} s; see to the others, or "
                "set clinics to fewer"
            )
        time.sleep(0.2)


def write_result(folder: Path, grid: CheckedGrid, result: Result, seconds: float) -> None:
    """``model.npz``: the final arrays by name; ``run.json``: what the run can tell."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "model.npz", **as_arrays(result.arrays))
    by_round = {
        "train": result.train_metrics_clientapp,
        "server": result.evaluate_metrics_serverapp,
    }
    told = {
        "seconds": seconds,
        "resumed": grid.checkpoints.resumed if grid.checkpoints else 0,
        "metrics": {w: {r: dict(m) for r, m in found.items()} for w, found in by_round.items()},
        "failures": [str(failure) for failure in grid.failures],
    }
    (folder / "run.json").write_text(json.dumps(told, indent=1))


@contextmanager
def _kept(grid: CheckedGrid, config: Mapping) -> Iterator[None]:
    if not config.get("checkpoint"):
        yield
        return
    run = {"run_config": {n: value for n, value in config.items() if n not in _WHERE}}
    with kept(config["checkpoint"], run, {"checked": grid}) as grid.checkpoints:
        yield
