"""What servers do alike: start a strategy safely, send each round its own settings."""

import math
from collections.abc import Callable, Iterable, Mapping
from inspect import isroutine

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Result, Strategy

from utils.arguments import dict_of, function, number, shown, whole_number
from utils.federation.checking import checked, layers_of
from utils.federation.failures import explained

_SHARES = {"fraction_train", "fraction_evaluate"}
Evaluation = Callable[[int, ArrayRecord], MetricRecord | None]


def serve(
    strategy: Strategy | Callable[[Context], Strategy],
    start: ArrayRecord | Callable[[], ArrayRecord],
    rounds: int,
    *,
    train_config: Mapping | None = None,
    evaluate_fn: Evaluation | None = None,
) -> ServerApp:
    """A ServerApp that runs one strategy, safely, on a simulator or on Flower's own network.

    Args:
        strategy: to run; or a function of the context that makes one.
        start: the first model's arrays; or a function that makes them when the run begins,
            from the run's own random stream.
        rounds: how many, at least 0.
        train_config: what each training message carries besides the round.
        evaluate_fn: the server's own test, called before the first round and after each.

    Raises:
        TypeError, ValueError: for an argument of the wrong kind, or out of range.
    """
    rounds = whole_number("rounds", rounds, 0)
    if not isinstance(strategy, Strategy) and not isroutine(strategy):
        raise TypeError(
            f"strategy is {shown(strategy)}; it must be a strategy, such as FedAvg(), or a "
            "function of the context that makes one"
        )
    if not isinstance(start, ArrayRecord) and not isroutine(start):
        raise TypeError(_no_arrays("start", start) + ", or a function that makes such a record")
    train_config = {} if train_config is None else dict_of("train_config", train_config, "settings")
    try:
        sent = ConfigRecord(dict(train_config))
    except TypeError as error:
        raise TypeError(f"train_config: {explained(error)}") from error
    if evaluate_fn is not None:
        _checked_evaluation(evaluate_fn)
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        chosen = strategy if isinstance(strategy, Strategy) else strategy(context)
        if not isinstance(chosen, Strategy):
            raise TypeError(f"the function strategy made {shown(chosen)}; it must make a strategy")
        first = start if isinstance(start, ArrayRecord) else start()
        if not isinstance(first, ArrayRecord):
            raise TypeError(_no_arrays("what the function start made", first))
        start_checked(
            chosen,
            checked(grid, chosen),
            first,
            rounds,
            train_config=ConfigRecord(dict(sent)),
            evaluate_fn=evaluate_fn,
        )

    return app


_flowers_start = Strategy.start  # a simulation puts ours in its place


def start_checked(
    strategy: Strategy,
    grid: Grid,
    initial_arrays: ArrayRecord,
    num_rounds: int = 3,
    *args: object,
    evaluate_fn: Evaluation | None = None,
    **settings: object,
) -> Result:
    """``strategy.start``, after a look at what Flower would find out late or never.

    The grid becomes a ``CheckedGrid``; integer buffers of the result are integers again.

    Raises:
        ValueError, TypeError: for a share of clients outside 0 to 1, arrays that are no
            ArrayRecord, or an ``evaluate_fn`` that returns something else than a MetricRecord.
    """
    num_rounds = whole_number("num_rounds", num_rounds, 0)
    if not isinstance(initial_arrays, ArrayRecord):
        raise TypeError(_no_arrays("initial_arrays", initial_arrays))
    if not initial_arrays:
        raise ValueError("initial_arrays holds no array: there is nothing to train")
    grid = checked(grid, strategy)
    for layer in layers_of(strategy):
        check_shares(layer)
        if grid.num_clients is not None:
            _check_minima(layer, grid.num_clients)
    grid.on_start(num_rounds)
    evaluation = None if evaluate_fn is None else _checked_evaluation(evaluate_fn)
    if grid.checkpoints is None:
        settings |= {"evaluate_fn": evaluation}
        result = _flowers_start(strategy, grid, initial_arrays, num_rounds, *args, **settings)
    else:
        kept = grid.checkpoints.around(strategy, initial_arrays, num_rounds, settings)
        if kept.done:
            folder = grid.checkpoints.folder
            grid.tell(f"Going on after round {kept.done} of {num_rounds}, saved in {folder}")
        settings |= {"evaluate_fn": evaluation and kept.evaluation(evaluation)}
        result = _flowers_start(kept, grid, initial_arrays, num_rounds, *args, **settings)
        kept.finish()
    result.arrays = grid.as_first_sent(result.arrays)
    grid.results.append(result)
    return result


def _no_arrays(name: str, value: object) -> str:
    return f"{name} is a {type(value).__name__}; wrap the weights: ArrayRecord(model.state_dict())"


def check_shares(strategy: Strategy) -> None:
    """Refuse a share of the clients that is none: Flower waits for ever for 10 times as many.

    Raises:
        ValueError: naming the setting.
    """
    check_share_options(type(strategy), {name: getattr(strategy, name, 0.0) for name in _SHARES})


def check_share_options(kind: type[Strategy], options: Mapping) -> None:
    """The same of options that a strategy is about to be made with.

    Raises:
        ValueError: naming the setting.
    """
    for name in _SHARES & options.keys():
        try:
            number(name, options[name], least=0, most=1)
        except ValueError:
            raise ValueError(
                f"the strategy's {name} is {shown(options[name])}; it is a share of the clients, "
                f"from 0 to 1 (for a number of clients, give {kind.__name__} a {name} of 0 < "
                f"number / clients ≤ 1, or min_{name.removeprefix('fraction_')}_nodes)"
            ) from None


def _check_minima(strategy: Strategy, num_clients: int) -> None:
    """Flower waits for ever for clients that a simulation does not have; say so instead."""
    for name in ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes"):
        wanted = whole_number(f"the strategy's {name}", getattr(strategy, name, 0), 0)
        if wanted > num_clients:
            raise ValueError(
                f"the strategy's {name} is {wanted}, but the simulation has {num_clients} "
                f"client{'s' if num_clients > 1 else ''}, so it would wait for ever; give "
                f"{type(strategy).__name__} a lower {name}, or simulate more clients"
            )


def _checked_evaluation(evaluate_fn: Evaluation) -> Evaluation:
    example = 'lambda round, arrays: MetricRecord({"loss": loss_of(arrays)})'
    function("evaluate_fn", evaluate_fn, example)

    def evaluate(round_: int, arrays: ArrayRecord) -> MetricRecord | None:
        try:
            found = evaluate_fn(round_, arrays)
        except TypeError as error:
            if "does not travel" in explained(error):
                raise TypeError(f"evaluate_fn: {explained(error)}") from error
            raise
        if found is not None and not isinstance(found, MetricRecord):
            raise TypeError(
                f"evaluate_fn returned a {type(found).__name__}; Flower's message API takes a "
                'MetricRecord, e.g. MetricRecord({"loss": loss, "accuracy": accuracy}), or None'
            )
        return found

    return evaluate


class CheckedStrategy(Strategy):
    """A strategy that starts on a checked grid by itself, whoever starts it."""

    def start(self, grid: Grid, *args: object, **settings: object) -> Result:
        """``Strategy.start`` with every reply checked."""
        return start_checked(self, grid, *args, **settings)


class ScheduledFedAvg(CheckedStrategy, FedAvg):
    """FedAvg that sends each round its own settings: ``schedule(round)`` gives them.

    Args:
        schedule: from the round, 1 or more, to settings by name, which go out in place of those
            of ``train_config``.
        options: of ``FedAvg``.

    Raises:
        TypeError, ValueError: if the schedule is no function, or a share of clients none.
    """

    def __init__(self, schedule: Callable[[int], Mapping], **options: object) -> None:
        function("schedule", schedule, "cosine(lr=0.1, num_rounds=10)")
        check_share_options(type(self), options)
        super().__init__(**options)
        self.schedule = schedule

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """FedAvg's messages, with the round's settings in their configuration."""
        chosen = self.schedule(server_round)
        if not isinstance(chosen, Mapping):
            raise TypeError(
                f"the schedule gave {shown(chosen)} for round {server_round}; it must give "
                'settings by name, e.g. {"lr": 0.1}'
            )
        settings = ConfigRecord({**config, **chosen})
        return super().configure_train(server_round, arrays, settings, grid)


def cosine(lr: float, num_rounds: int) -> Callable[[int], dict[str, float]]:
    """A schedule: ``"lr"`` from ``lr`` in round 1 down along a cosine, to 0 after the last.

    Raises:
        ValueError: for values out of range.
    """
    lr = number("lr", lr, above=0)
    num_rounds = whole_number("num_rounds", num_rounds, 1)

    def schedule(server_round: int) -> dict[str, float]:
        done = min(server_round - 1, num_rounds) / num_rounds
        return {"lr": lr * (1 + math.cos(math.pi * done)) / 2}

    return schedule
