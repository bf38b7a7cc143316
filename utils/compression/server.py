"""Compress what a server sends, and read what clients compressed: a strategy wrapper."""

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from utils.arguments import shown
from utils.compression.arrays import decoded_arrays, encode_array, is_compressed
from utils.compression.codecs import Codec, check_codec
from utils.federation import CheckedStrategy, apply_update
from utils.federation.records import as_arrays, as_record


class CompressedStrategy(CheckedStrategy):
    """Wraps any strategy: decodes the updates of ``compress_update`` before it aggregates.

    The inner strategy sees what it always sees: each client's full arrays. The server's own
    copy of the model keeps its full precision, whatever is sent. Arrays of a client without
    the mod are taken as they are.

    Args:
        strategy: the strategy to wrap, e.g. ``FedAvg()``.
        down: how to encode the model that the server sends; None sends it as it is.

    Raises:
        ValueError: if that is no strategy, or no codec.
    """

    def __init__(self, strategy: Strategy, down: Codec | None = None) -> None:
        if not isinstance(strategy, Strategy):
            raise ValueError(f"strategy is {shown(strategy)}; it must be one such as FedAvg()")
        if down is not None:
            check_codec("down", down)
        self.strategy, self.down = strategy, down
        self._global: dict[str, np.ndarray] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, their arrays encoded."""
        self._global = as_arrays(arrays)
        messages = self.strategy.configure_train(server_round, arrays, config, grid)
        return self._encoded(messages)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Decode each update, add the global model, and let the inner strategy aggregate."""
        replies = list(replies)
        for reply in replies:
            if reply.has_error():
                continue
            key, arrays = decoded_arrays(reply.content, "a client's reply")
            encoded = {n for n, array in reply.content[key].items() if is_compressed(array)}
            updates = {name: arrays[name] for name in encoded}
            reply.content[key] = as_record(
                {**arrays, **apply_update({name: self._global[name] for name in encoded}, updates)}
            )
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, their arrays encoded."""
        return self._encoded(self.strategy.configure_evaluate(server_round, arrays, config, grid))

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The inner strategy's."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """The inner strategy's."""
        self.strategy.summary()

    def _encoded(self, messages: Iterable[Message]) -> list[Message]:
        """Encode the record once, so that every client gets the same bytes.

        A strategy that sends other clients another record has that one encoded, too: once if
        those clients follow one another.
        """
        messages, record, encoded = list(messages), None, None
        if self.down is None:
            return messages
        for message in messages:
            content = RecordDict(dict(message.content.items()))  # messages may share theirs
            for key, sent in message.content.array_records.items():
                if sent is not record:
                    record, encoded = sent, self._encode(sent)
                content[key] = encoded
            message.content = content
        return messages

    def _encode(self, record: ArrayRecord) -> ArrayRecord:
        return ArrayRecord({n: encode_array(a.numpy(), self.down) for n, a in record.items()})
