"""The Grid that a simulated server talks to: it passes messages on, checks and records."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from uuid import uuid4

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from tqdm.auto import tqdm

from utils.federation.traffic import TrafficMeter
from utils.federation.updates import InvalidUpdateError, check_update

Exchange = Callable[[list[Message], float | None], Iterator[Message | None]]


class RoundFailedError(RuntimeError):
    """Every client of a round failed: there is nothing to aggregate."""


@dataclass(frozen=True)
class Failure:
    """One client's failure in one round. ``print(failure.traceback)`` shows where it happened."""

    round: int
    client: int
    kind: str
    error: str
    traceback: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"Round {self.round}: client {self.client} failed to {self.kind}: {self.error}"


def round_of(message: Message) -> int | None:
    """The round that a strategy wrote into a message's configuration, or its group id."""
    for config in message.content.config_records.values():
        if "server-round" in config:
            return int(config["server-round"])
    group = message.metadata.group_id
    return int(group) if group.isdigit() else None


class RecordingGrid(Grid):
    """Sends messages through ``exchange``; meters, validates and records what comes back.

    Args:
        node_ids: the clients' node ids; the i-th belongs to client i.
        exchange: takes messages and a timeout, yields their replies in the same order
            (None for a reply that never came).
        bar: the progress bar to move.
    """

    def __init__(self, node_ids: list[int], exchange: Exchange, bar: tqdm) -> None:
        self.client_of = {node_id: client for client, node_id in enumerate(node_ids)}
        self.weighted_by_key = "num-examples"
        self.meter = TrafficMeter()
        self.failures: list[Failure] = []
        self.client_metrics: list[dict] = []
        self._exchange = exchange
        self._bar = bar
        self._calls: Counter[str] = Counter()
        self._waiting: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        """The clients' node ids, client 0's first."""
        return list(self.client_of)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send every message, and return the replies in the order of the messages.

        Raises:
            RoundFailedError: if every one of them failed.
        """
        messages = list(messages)
        if not messages:
            return []
        round_ = self._open(messages)
        kind = messages[0].metadata.message_type.split(".")[0]
        failures_before = len(self.failures)
        replies = []
        for number, (sent, reply) in enumerate(
            zip(messages, self._exchange(messages, timeout), strict=True), start=1
        ):
            replies.append(self._receive(round_, kind, sent, reply))
            self._bar.set_description_str(f"round {round_}: {kind} {number}/{len(messages)}", False)
            self._bar.update(max(0, round_ - self._bar.n) if number == len(messages) else 0)
        failures = self.failures[failures_before:]
        if len(failures) == len(messages):
            reasons = "; ".join(f"client {f.client}: {f.error}" for f in failures[:3])
            raise RoundFailedError(
                f"Round {round_}: all {len(messages)} clients failed to {kind}, so there is "
                f"nothing to aggregate. {reasons}{'; …' if len(failures) > 3 else ''}"
            )
        return replies

    def _open(self, messages: list[Message]) -> int:
        """Give the messages ids and a round, and check that their addresses exist."""
        kind = messages[0].metadata.message_type
        self._calls[kind] += 1
        round_ = round_of(messages[0]) or self._calls[kind]
        for message in messages:
            if message.metadata.dst_node_id not in self.client_of:
                raise ValueError(
                    f"a message is addressed to node {message.metadata.dst_node_id}, but the "
                    f"{len(self.client_of)} clients have other node ids; take them from "
                    "grid.get_node_ids()"
                )
            message.metadata.group_id = message.metadata.group_id or str(round_)
            message.metadata.__dict__["_message_id"] = str(uuid4())
        return round_

    def _receive(self, round_: int, kind: str, sent: Message, reply: Message | None) -> Message:
        """Record one reply, or the failure that takes its place."""
        client = self.client_of[sent.metadata.dst_node_id]
        self.meter.record(sent, round=round_, client=client, direction="down")
        if reply is None:
            lost = Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "no reply within the timeout")
            reply = Message(lost, reply_to=sent)
        else:
            self.meter.record(reply, round=round_, client=client, direction="up")
        if reply.has_content():
            try:
                check_update(sent, reply, self.weighted_by_key)
            except InvalidUpdateError as error:
                reply = Message(
                    Error(ErrorCode.MOD_FAILED_PRECONDITION, f"update refused: {error}"),
                    reply_to=sent,
                )
        if reply.has_error():
            error, _, trace = (reply.error.reason or "unknown error").partition("\n\n")
            failure = Failure(round_, client, kind, error, trace)
            self.failures.append(failure)
            tqdm.write(str(failure))
            return reply
        row = {"round": round_, "client": client, "kind": kind}
        for metrics in reply.content.metric_records.values():
            row |= dict(metrics)
        self.client_metrics.append(row)
        return reply

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages now; ``pull_messages`` hands out their replies."""
        messages = list(messages)
        replies = self.send_and_receive(messages)
        ids = [message.metadata.message_id for message in messages]
        self._waiting |= dict(zip(ids, replies, strict=True))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies to messages pushed before; each is handed out once."""
        return [self._waiting.pop(i) for i in message_ids if i in self._waiting]

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message (Flower itself now prefers ``Message(...)``)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def set_run(self, run) -> None:
        """A simulated server has one run; there is nothing to set."""

    @property
    def run(self):
        """Not kept: read ``context.run_id`` instead."""
        raise AttributeError("a simulated Grid keeps no Run; use context.run_id in the ServerApp")
