"""Checkpoints: a run that was killed goes on after the last round that it finished.

What a run is made of is saved after each round: the model, what was recorded, the random
states, the clients' memories, and all that the strategy keeps (momentum, ledger, norm).
"""

import contextlib
import hashlib
import json
import os
import pickle
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import isroutine
from pathlib import Path
from types import CodeType, FunctionType

import cloudpickle
import numpy as np
import torch
from filelock import FileLock, Timeout
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from utils.arguments import folder_path

_FORMAT = 1  # raise it whenever what is saved changes
_KEPT = 2  # checkpoints of a strategy's start; one would do, two survive a damaged disk
_PLAIN = bool | int | float | str | bytes | None


class CheckpointError(RuntimeError):
    """A checkpoint that this run cannot go on from, or could not write."""


class Checkpoints:
    """The checkpoints of one run, in a folder of its own.

    Each is one file, complete or absent: a line of JSON (what run it belongs to, and a digest),
    then the pickled state. Read only those that you wrote: a pickle can run code. A run that
    ends well removes them.

    Args:
        folder: made if it does not exist.
        run: what makes this run itself: plain values by name.
        parts: objects with ``state()`` and ``restore(state)``, by name.

    Raises:
        CheckpointError: if another run is using the folder.
    """

    def __init__(self, folder: str | Path, run: Mapping, parts: Mapping[str, object]) -> None:
        self.folder = folder_path("checkpoint", folder)
        self.run, self.parts = dict(run), dict(parts)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout:
            raise CheckpointError(
                f"{self.folder} is in use by another run; wait for it, or give this one another "
                "folder"
            ) from None
        except OSError as error:
            raise CheckpointError(
                f"no checkpoint can be written to {self.folder}: {error.strerror}; give another "
                "folder"
            ) from error
        for unfinished in self.folder.glob(".unfinished-*"):
            unfinished.unlink()
        self.resumed = 0  # rounds that were taken from checkpoints
        self._starts = 0

    def around(self, strategy: Strategy, initial: ArrayRecord, rounds: int, settings: dict):
        """A strategy that is about to start, which keeps its rounds and skips those it has."""
        self._starts += 1
        run = self.run | {"rounds": rounds} | _described(strategy)
        run |= {"first model": _digest_of(initial), "settings": _plain(settings)}
        return KeptStrategy(strategy, self, f"start{self._starts}", run, rounds)

    def latest(self, start: str, run: dict) -> dict | None:
        """The last state that was saved, if there is one.

        Raises:
            CheckpointError: if it is damaged, or of another run.
        """
        files = sorted(self.folder.glob(f"{start}-round*.checkpoint"))
        if not files:
            return None
        path = files[-1]
        try:
            first, _, body = path.read_bytes().partition(b"\n")
            header = json.loads(first)
            was_run = dict(header["run"])
            if header["digest"] != hashlib.sha256(body).hexdigest():
                raise ValueError("its digest does not fit")
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error}). Delete it to go on from the one before, or delete "
                f"{self.folder} to begin anew"
            ) from error
        expected = json.loads(json.dumps({"format": _FORMAT, **run}))
        for name in ("strategy", *sorted(expected.keys() | was_run.keys())):
            was, now = was_run.get(name), expected.get(name)
            if "." in name and None in (was, now):
                continue  # a strategy that found out in its first round
            if was != now:
                raise CheckpointError(
                    f"{path} belongs to another run: its {name} was {_short(was)}, now it is "
                    f"{_short(now)}. Give this run another folder, or delete {self.folder} to "
                    "begin anew"
                )
        try:
            return pickle.loads(body)
        except Exception as error:  # a class that has moved since, another version of a package
            raise CheckpointError(
                f"{path} cannot be read by this version of the code ({type(error).__name__}: "
                f"{error}). Give this run another folder, or delete {self.folder} to begin anew"
            ) from error

    def save(self, start: str, run: dict, round_: int, state: dict) -> None:
        """Write a state, whole or not at all, and remove the oldest.

        Raises:
            CheckpointError: if it cannot be written; those before it stand.
        """
        path = self.folder / f"{start}-round{round_:06}.checkpoint"
        unfinished = self.folder / f".unfinished-{path.name}"
        body = cloudpickle.dumps(state)
        digest = hashlib.sha256(body).hexdigest()
        header = {"run": {"format": _FORMAT, **run}, "digest": digest}
        try:
            with unfinished.open("wb") as file:
                file.write(json.dumps(header).encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise CheckpointError(
                f"the checkpoint of round {round_} could not be written to {self.folder} "
                f"({error.strerror}); make room, then run again: it goes on from the one before"
            ) from error
        for old in sorted(self.folder.glob(f"{start}-round*.checkpoint"))[:-_KEPT]:
            old.unlink()

    def close(self, finished: bool) -> None:
        """Let go of the folder; a finished run leaves no checkpoints."""
        if finished:
            for path in self.folder.glob("start*-round*.checkpoint"):
                path.unlink()
        self._lock.release()
        if finished:
            (self.folder / ".lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something else lies there
                self.folder.rmdir()


@contextlib.contextmanager
def kept(folder: str | Path, run: Mapping, parts: Mapping[str, object]) -> Iterator[Checkpoints]:
    """Checkpoints for the length of a run; see ``Checkpoints``."""
    checkpoints, finished = Checkpoints(folder, run, parts), False
    try:
        yield checkpoints
        finished = True
    finally:
        checkpoints.close(finished)


class KeptStrategy:
    """A strategy whose finished rounds (up to ``done``) are told from memory, not run again.

    It stands before the strategy in Flower's own ``Strategy.start``: for a round that is saved,
    nothing is sent, and the saved results are returned; a new round is saved when it is over,
    which is when the next one begins.
    """

    def __init__(
        self, strategy: Strategy, checkpoints: Checkpoints, start: str, run: dict, rounds: int
    ) -> None:
        self._inner, self._checkpoints, self._start = strategy, checkpoints, start
        self._run, self._rounds = run, rounds
        self._arrays: ArrayRecord | None = None
        self._told: dict[str, dict] = {"train": {}, "clients": {}, "server": {}}
        self.done, self._random = 0, None
        state = checkpoints.latest(start, run)
        if state is not None:
            self._restore(state)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The strategy's messages; none for a saved round."""
        if server_round <= self.done:
            return []
        if server_round == self.done + 1 and self._random is not None:
            _set_random_states(self._random)
        elif server_round > 1:
            self._save(server_round - 1)
        return self._inner.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The strategy's result, or the saved one."""
        if server_round <= self.done:
            arrays = self._arrays if server_round == self.done else None
            return arrays, self._told["train"].get(server_round)
        arrays, metrics = self._inner.aggregate_train(server_round, replies)
        self._arrays = self._arrays if arrays is None else arrays
        self._told["train"][server_round] = metrics
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The strategy's messages; none for a saved round."""
        if server_round <= self.done:
            return []
        return self._inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The strategy's result, or the saved one."""
        told = self._told["clients"]
        if server_round > self.done:
            told[server_round] = self._inner.aggregate_evaluate(server_round, replies)
        return told.get(server_round)

    def evaluation(self, evaluate_fn: Callable) -> Callable:
        """The server's evaluation, which is not repeated for a saved round."""
        told = self._told["server"]

        def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            if server_round not in told or server_round > self.done:
                told[server_round] = evaluate_fn(server_round, arrays)
            return told[server_round]

        return evaluate

    def finish(self) -> None:
        """Save the last round: the server may have more to do after it."""
        if self.done < self._rounds:
            self._save(self._rounds)

    def _save(self, server_round: int) -> None:
        state = {
            "round": server_round,
            "arrays": self._arrays,
            "told": self._told,
            "random": _random_states(),
            "strategy": [_kept_of(layer) for layer in _layers(self._inner)],
            "parts": {name: part.state() for name, part in self._checkpoints.parts.items()},
        }
        self._checkpoints.save(self._start, self._run, server_round, state)

    def _restore(self, state: dict) -> None:
        self.done, self._arrays = state["round"], state["arrays"]
        self._random = state["random"]
        for name, told in state["told"].items():
            self._told[name].update(told)
        for layer, kept in zip(_layers(self._inner), state["strategy"], strict=True):
            vars(layer).update(kept)
        for name, part in self._checkpoints.parts.items():
            part.restore(state["parts"][name])
        if self.done == self._rounds:
            _set_random_states(self._random)
        self._checkpoints.resumed += self.done


def _layers(strategy: Strategy) -> list[Strategy]:
    inner = getattr(strategy, "strategy", None)
    return [strategy, *(_layers(inner) if isinstance(inner, Strategy) else [])]


def _kept_of(layer: Strategy) -> dict[str, object]:
    """All that a strategy holds, but functions, and the strategy that it wraps."""
    kept = {}
    for name, value in vars(layer).items():
        if isinstance(value, Strategy) or isroutine(value):
            continue
        try:
            cloudpickle.dumps(value)
        except Exception as error:  # pickling runs code of every class it meets
            raise CheckpointError(
                f"the strategy's '{name}' cannot be saved: {type(error).__name__}: {error}"
            ) from error
        kept[name] = value
    return kept


def _random_states() -> tuple:
    gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), gpu


def _set_random_states(states: tuple) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    if states[3] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states[3])


# What makes a run itself -------------------------------------------------------------------------


def described_app(app: ClientApp) -> str:
    """A digest of a ClientApp's code, and of the plain values that it uses."""
    functions = [_code_of(function) for function in app._registered_funcs.values()]
    return hashlib.sha256(repr(functions).encode()).hexdigest()


def _code_of(value: object, seen: frozenset[int] = frozenset()) -> object:
    """A function's instructions and the plain values around it, however deep; else a type's name.

    Functions of installed modules count by name.
    """
    if isinstance(value, _PLAIN):
        return value
    if id(value) in seen:
        return "again"
    if isinstance(value, list | tuple | set | frozenset | dict | FunctionType):
        seen = seen | {id(value)}
    if isinstance(value, list | tuple):
        return type(value).__name__, [_code_of(v, seen) for v in value]
    if isinstance(value, set | frozenset):
        return type(value).__name__, sorted(repr(_code_of(v, seen)) for v in value)
    if isinstance(value, dict):
        return sorted((repr(k), repr(_code_of(v, seen))) for k, v in value.items())
    if isinstance(value, CodeType):
        names = *value.co_names, *value.co_varnames
        return value.co_code, names, [_code_of(v, seen) for v in value.co_consts]
    if not isinstance(value, FunctionType):
        return getattr(value, "__qualname__", type(value).__qualname__)
    around = [value.__defaults__, value.__kwdefaults__]
    for cell in value.__closure__ or ():
        with contextlib.suppress(ValueError):  # not filled yet
            around.append(cell.cell_contents)
    if value.__module__ == "__main__":
        around += [value.__globals__.get(name) for name in value.__code__.co_names]
    return _code_of(value.__code__, seen), [_code_of(v, seen) for v in around]


def _described(strategy: Strategy) -> dict:
    """A strategy's type, plain settings, and the code of its functions."""
    found: dict[str, object] = {
        "strategy": [type(layer).__qualname__ for layer in _layers(strategy)]
    }
    for layer in _layers(strategy):
        kind = type(layer).__qualname__
        found |= {f"{kind}.{name}": value for name, value in _plain(vars(layer)).items()}
        found[f"{kind}'s functions"] = repr(_functions_of(layer))
    return found


def _functions_of(layer: Strategy) -> list:
    found = {n: v for n, v in vars(layer).items() if isinstance(v, FunctionType)}
    return [(name, _code_of(value)) for name, value in sorted(found.items())]


def _plain(values: Mapping) -> dict:
    """The plain ones among values by name, as JSON keeps them."""
    found = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found[name] = _plain(value)
        elif isinstance(value, bool | int | float | str | None):
            found[name] = value
        elif isinstance(value, list | tuple):
            found[name] = repr(value)
    return found


def _digest_of(record: ArrayRecord) -> str:
    digest = hashlib.sha256()
    for name, array in record.items():
        digest.update(f"{name} {array.dtype} {tuple(array.shape)} {array.stype}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"
