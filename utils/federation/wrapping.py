"""A strategy around another one."""

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from utils.arguments import shown
from utils.federation.strategies import CheckedStrategy


class WrappedStrategy(CheckedStrategy):
    """Hands evaluation and summary on to the strategy inside.

    A subclass says what it changes in training, and overrides what else it must.

    Args:
        strategy: the one inside, e.g. ``FedAvg()``.

    Raises:
        ValueError: if that is no strategy.
    """

    def __init__(self, strategy: Strategy) -> None:
        if not isinstance(strategy, Strategy):
            raise ValueError(f"strategy is {shown(strategy)}; it must be one such as FedAvg()")
        self.strategy = strategy

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The inner strategy's."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """The inner strategy's."""
        self.strategy.summary()
