"""Grids around a Grid: what they have in common, and one that records what passes through."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from tqdm.auto import tqdm

from utils.federation.traffic import TrafficMeter


def kind_of(message: Message) -> str:
    """What a message asks for: ``"train"``, ``"evaluate"`` or ``"query"``."""
    return message.metadata.message_type.split(".")[0]


def round_of(message: Message) -> int | None:
    """The round that a strategy wrote into a message's configuration, or its group id."""
    for config in message.content.config_records.values():
        if "server-round" in config:
            return int(config["server-round"])
    group = message.metadata.group_id
    return int(group) if group.isdigit() else None


class GridAround(Grid):
    """Passes everything on to another Grid; what subclasses do before and after, they add."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._waiting: dict[str, Message] = {}  # pushed, not yet answered

    def before_sending(self, messages: list[Message]) -> None:
        """Called with messages that are about to be sent."""

    def after_receiving(
        self, messages: list[Message], replies: Iterable[Message | None]
    ) -> list[Message]:
        """Called with the reply to each message (None: it never came); returns what to hand on."""
        return [reply for reply in replies if reply is not None]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send every message, and return the replies in the order of the messages.

        The order matters: the sum of floats depends on it.
        """
        messages = list(messages)
        if not messages:
            return []
        self.before_sending(messages)
        replies = self.grid.send_and_receive(messages, timeout=timeout)
        return self.after_receiving(messages, _in_order(messages, replies))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; ``pull_messages`` hands out their replies."""
        messages = list(messages)
        self.before_sending(messages)
        ids = list(self.grid.push_messages(messages))
        pushed = zip(ids, messages, strict=False)  # on a network, some may not have gone out
        self._waiting |= {i: message for i, message in pushed if i}
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that are there to messages pushed before; each is handed out once."""
        wanted = [i for i in message_ids if i in self._waiting]
        by_id = {r.metadata.reply_to_message_id: r for r in self.grid.pull_messages(wanted)}
        there = [i for i in wanted if i in by_id]
        sent = [self._waiting.pop(i) for i in there]
        return self.after_receiving(sent, [by_id[i] for i in there])

    def get_node_ids(self) -> Iterable[int]:
        """The clients' node ids."""
        return self.grid.get_node_ids()

    def get_nodes(self):
        """What is known of the nodes."""
        return self.grid.get_nodes()

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message (Flower itself now prefers ``Message(...)``)."""
        return self.grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def set_run(self, run) -> None:
        """Tell the grid which run it belongs to."""
        self.grid.set_run(run)

    @property
    def run(self):
        """The run that the grid belongs to."""
        return self.grid.run


def _in_order(messages: list[Message], replies: Iterable[Message]) -> Iterator[Message | None]:
    """For each message its reply, or None, as soon as it is there where they come in order."""
    early, replies = {}, iter(replies)
    for message in messages:
        sent = message.metadata  # its id may be set only when it is sent
        while sent.message_id not in early and (reply := next(replies, None)) is not None:
            early[reply.metadata.reply_to_message_id] = reply
        yield early.pop(sent.message_id, None)


class RecordingGrid(GridAround):
    """Meters traffic, keeps clients' metrics, and moves a progress bar.

    Args:
        grid: whose messages are recorded.
        node_ids: the clients' node ids; the i-th belongs to client i.
        bar: the progress bar to move.
    """

    def __init__(self, grid: Grid, node_ids: list[int], bar: tqdm) -> None:
        super().__init__(grid)
        self.client_of = {node_id: client for client, node_id in enumerate(node_ids)}
        self.meter = TrafficMeter()
        self.client_metrics: list[dict] = []
        self._bar = bar
        self._calls: Counter[str] = Counter()

    def state(self) -> tuple:
        """What has been recorded."""
        return self.meter.rows, self.client_metrics, self._calls

    def restore(self, state: tuple) -> None:
        """Go on from what was recorded."""
        self.meter.rows, self.client_metrics, self._calls = state
        self._bar.update(max((row[0] for row in self.meter.rows), default=0) - self._bar.n)

    def get_node_ids(self) -> Iterable[int]:
        """The clients' node ids, client 0's first.

        Raises:
            ValueError: if a strategy is about to wait for more of them than there are.
        """
        frame = sys._getframe()
        while frame and frame.f_code.co_name != "sample_nodes":  # Flower's, which polls for ever
            frame = frame.f_back
        wanted = (
            max(frame.f_locals["min_available_nodes"], frame.f_locals["sample_size"])
            if frame
            else 0
        )
        if wanted > len(self.client_of):
            raise ValueError(
                f"the strategy asks for {wanted} clients, but the simulation has "
                f"{len(self.client_of)}, so it would wait for ever; ask for fewer, or simulate more"
            )
        return list(self.client_of)

    def before_sending(self, messages: list[Message]) -> None:
        """Give the messages a round, where they have none, and check their addresses."""
        if not messages:
            return
        kind = kind_of(messages[0])
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

    def after_receiving(
        self, messages: list[Message], replies: Iterable[Message | None]
    ) -> list[Message]:
        """Record each message and its reply, as they come."""
        received = []
        for number, (sent, reply) in enumerate(zip(messages, replies, strict=True), start=1):
            self._record(sent, reply)
            received += [reply] if reply is not None else []
            round_, kind = round_of(sent), kind_of(sent)
            self._bar.set_description_str(f"round {round_}: {kind} {number}/{len(messages)}", False)
            self._bar.update(max(0, round_ - self._bar.n) if number == len(messages) else 0)
        return received

    def _record(self, sent: Message, reply: Message | None) -> None:
        where = {"round": round_of(sent), "client": self.client_of[sent.metadata.dst_node_id]}
        self.meter.record(sent, **where, direction="down")
        if reply is None:
            return
        self.meter.record(reply, **where, direction="up")
        if reply.has_content():
            row = where | {"kind": kind_of(sent)}
            for metrics in reply.content.metric_records.values():
                # a client may call a metric "round"; ours keeps its name
                row |= {f"{n} (metric)" if n in row else n: v for n, v in metrics.items()}
            self.client_metrics.append(row)
