"""Compress what a server sends, and read what clients compressed: a strategy wrapper."""

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from utils.arguments import shown
from utils.compression.arrays import decoded_arrays, encode_array
from utils.compression.changes import ChangeSender, model_of
from utils.compression.codecs import Codec, check_codec
from utils.federation.records import as_arrays, as_record
from utils.federation.wrapping import WrappedStrategy


class CompressedStrategy(WrappedStrategy):
    """Wraps any strategy: decodes the updates of ``compress_update`` before it aggregates.

    The inner strategy sees what it always sees: each client's full arrays. The server's own
    copy of the model keeps its full precision, whatever is sent. Arrays of a client without
    the mod are taken as they are.

    Args:
        strategy: the strategy to wrap, e.g. ``FedAvg()``.
        down: how to encode what the server sends; None sends the model as it is.
        held: the model that every client holds in the beginning, because it came with the app or
            is made from a seed that all know. Then ``down`` encodes changes of the last model
            that was sent, instead of the model: they are shorter, and what one loses is part
            of the next. A client that missed a message is sent the whole model. Clients need
            ``compress_update(…, held=…)``. None: nobody keeps a model.

    Raises:
        ValueError: if that is no strategy, or no codec; or for ``held`` without ``down``.
        TypeError: if ``held`` is no ArrayRecord.
    """

    def __init__(
        self, strategy: Strategy, down: Codec | None = None, *, held: ArrayRecord | None = None
    ) -> None:
        super().__init__(strategy)
        if down is not None:
            check_codec("down", down)
        if held is not None and not isinstance(held, ArrayRecord):
            raise TypeError(
                f"held is {shown(held)}; it must be the first model's arrays: "
                "ArrayRecord(model.state_dict())"
            )
        if held is not None and down is None:
            raise ValueError("held is given without down; name the codec that changes travel in")
        self.down = down
        self._changes = None if held is None else ChangeSender(down, held)
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
        replies = self._heard(replies)
        for reply in replies:
            if reply.has_error():
                continue
            key, arrays = decoded_arrays(reply.content, "a client's reply")
            reply.content[key] = as_record(model_of(self._global, reply.content[key], arrays))
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, their arrays encoded."""
        return self._encoded(super().configure_evaluate(server_round, arrays, config, grid))

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The inner strategy's."""
        return super().aggregate_evaluate(server_round, self._heard(replies))

    def _heard(self, replies: Iterable[Message]) -> list[Message]:
        replies = list(replies)
        if self._changes is not None:
            self._changes.answered(replies)
        return replies

    def _encoded(self, messages: Iterable[Message]) -> list[Message]:
        """Encode the record once, so that every client gets the same bytes.

        A strategy that sends other clients another record has that one encoded, too: once if
        those clients follow one another.
        """
        if self._changes is not None:
            return self._changes.encode(messages)
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
