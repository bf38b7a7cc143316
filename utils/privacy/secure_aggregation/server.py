"""The server's side of secure aggregation: a strategy wrapper, for any Flower Grid."""

import os
from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from utils.arguments import number, shown
from utils.federation import apply_update
from utils.federation.records import as_arrays, as_record, only_record
from utils.federation.strategies import layers_of
from utils.federation.wrapping import WrappedStrategy
from utils.privacy.secure_aggregation.messages import (
    KEYS,
    MASKED,
    RECORD,
    SHARES,
    UNMASK,
    words_of,
)
from utils.privacy.secure_aggregation.sums import SecureRound
from utils.privacy.secure_aggregation.terms import Terms


class SecureAggregation(WrappedStrategy):
    """Wraps any strategy: it aggregates one reply a round, the clients' weighted mean.

    A round is four rounds of talk. ``configure_train`` asks the inner strategy's clients for
    public keys, then for encrypted shares; the training messages carry these to their holders,
    and bring masked updates back; ``aggregate_train`` asks for the shares that open the sum, and
    hands the inner strategy the mean. Clients may drop out at each stage, down to the terms'
    threshold; then the round ends with a ``TooFewClientsError``. Single updates, weights and
    metrics never reach the server; what its clients must not trust it with is in
    ``mask_update``.

    Args:
        strategy: the strategy to wrap, e.g. ``FedAvg(fraction_evaluate=0.0)``: our clients
            refuse to be evaluated.
        terms: the same object, or an equal one, as the clients'.
        timeout: seconds to wait for the answers of stages 1, 2 and 4; as long as Flower waits for
            training by default.

    Raises:
        ValueError: if that is no strategy, or no terms.
    """

    def __init__(self, strategy: Strategy, terms: Terms, *, timeout: float = 3600.0) -> None:
        super().__init__(strategy)
        if not isinstance(terms, Terms):
            raise ValueError(f"terms is {shown(terms)}; it must be Terms(clip=…, max_clients=…)")
        self.terms = terms
        self.timeout = number("timeout", timeout, above=0)
        self.agreed = repr(terms)  # plain text: what a checkpoint compares
        self.survivors: dict[int, int] = {}  # by round: how many clients' updates are in the sum
        self._now: _Now | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Stages 1 and 2, then the inner strategy's messages, with the shares for their clients."""
        messages = list(self.strategy.configure_train(server_round, arrays, config, grid))
        self._now = None
        if not messages:
            return []
        now = _Now(self.terms, server_round, messages, grid, self.timeout)
        now.round.accept_keys(now.ask(KEYS, now.round.asked, now.round.for_keys))
        now.round.accept_shares(now.ask(SHARES, now.round.circles, now.round.for_shares))
        self._now = now
        return now.training_messages()

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add the masked updates, stage 4, and the inner strategy's aggregation of the mean."""
        now, self._now = self._now, None
        if now is None:
            return self.strategy.aggregate_train(server_round, replies)
        good = {r.metadata.src_node_id: r for r in replies if not r.has_error()}
        now.round.accept_masked({node: now.masked_words(r) for node, r in good.items()})
        total = now.round.open(now.ask(UNMASK, now.round.masked, now.round.for_unmasking))
        mean, weight = self.terms.decode(total, len(good))
        self.survivors[server_round] = len(good)
        (reply, *_) = good.values()
        reply.content = now.content(mean, weight, len(good), _weight_key(self.strategy))
        arrays, metrics = self.strategy.aggregate_train(server_round, [reply])
        return now.with_buffers(arrays), metrics


def _weight_key(strategy: Strategy) -> str:
    keys = [getattr(layer, "weighted_by_key", None) for layer in layers_of(strategy)]
    return keys[-1] or "num-examples"


class _Now:
    """The round under way: its messages, the grid they go through, and the secure sum."""

    def __init__(
        self, terms: Terms, number_: int, messages: list[Message], grid: Grid, timeout: float
    ) -> None:
        self.messages = {message.metadata.dst_node_id: message for message in messages}
        self.key, self.model = only_record(messages[0].content, "the message to a client")
        for message in messages:
            sent = message.content.array_records.get(self.key)
            if sent is not self.model and dict(sent or {}) != dict(self.model):
                raise ValueError(
                    "the strategy sends clients different models; a sum of updates needs one to "
                    "add them to"
                )
        self.session, self.number, self.grid = os.urandom(16), number_, grid
        self.timeout, self.terms = timeout, terms
        name = getattr(grid, "name_of", lambda node: node)
        self.round = SecureRound(terms, list(self.messages), number_, name)
        self.floats = [n for n, a in self.model.items() if np.dtype(a.dtype).kind == "f"]

    def _record(self, stage: str, said: dict) -> ConfigRecord:
        about = {"stage": stage, "session": self.session, "server-round": self.number}
        return ConfigRecord({**about, **said})

    def ask(
        self, stage: str, nodes: Iterable[int], say: Callable[[int], dict]
    ) -> dict[int, ConfigRecord]:
        """One round of talk: what each client that answers says."""
        messages = [
            Message(
                RecordDict({RECORD: self._record(stage, say(node))}),
                dst_node_id=node,
                message_type=MessageType.TRAIN,
            )
            for node in nodes
        ]
        replies = self.grid.send_and_receive(messages, timeout=self.timeout)
        return {
            reply.metadata.src_node_id: reply.content[RECORD]
            for reply in replies
            if not reply.has_error() and RECORD in reply.content
        }

    def training_messages(self) -> list[Message]:
        """Stage 3: the strategy's own messages, to those that are left."""
        for node in self.round.sealed:
            message = self.messages[node]
            said = self._record(MASKED, self.round.for_masking(node))
            message.content = RecordDict({**message.content, RECORD: said})
        return [m for node, m in self.messages.items() if node in self.round.sealed]

    def masked_words(self, reply: Message) -> np.ndarray:
        """A masked update, and the weight behind it."""
        record = reply.content[self.key]
        weight = np.frombuffer(reply.content[RECORD]["weight"], f"<u{self.terms.bits // 8}")
        return np.concatenate([words_of(record, self.floats, self.terms.bits), weight])

    def content(self, mean: np.ndarray, weight: int, clients: int, weight_key: str) -> RecordDict:
        """A reply of the mean, as if one client had sent it."""
        before, update, start = as_arrays(self.model), {}, 0
        for name in self.floats:
            size = before[name].size
            update[name] = mean[start : start + size].reshape(before[name].shape)
            start += size
        metrics = MetricRecord({weight_key: weight, "clients": clients})
        return RecordDict({self.key: as_record(apply_update(before, update)), "metrics": metrics})

    def with_buffers(self, arrays: ArrayRecord | None) -> ArrayRecord | None:
        """The new model with its integer buffers as they were: FedAvg makes floats of them."""
        if arrays is None:
            return None
        kept = {n: a for n, a in self.model.items() if n in arrays and n not in self.floats}
        return ArrayRecord({**arrays, **kept})
