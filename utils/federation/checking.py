"""A Grid that lets nothing through that would spoil a model, whatever Grid it stands before.

On a simulator or on Flower's own network: ``strategy.start(checked(grid, strategy), …)``.
"""

from collections.abc import Callable, Iterable
from functools import partial
from logging import WARNING

import numpy as np
from flwr.app import ArrayRecord, Error, Message, RecordDict
from flwr.common import log
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedXgbBagging, FedXgbCyclic, Result, Strategy

from utils.arguments import shown
from utils.federation.checkpoints import Checkpoints
from utils.federation.failures import Failure, Failures, RoundFailedError
from utils.federation.recording import GridAround, kind_of, round_of
from utils.federation.records import as_record
from utils.federation.trees import check_same_model, check_trees
from utils.federation.updates import (
    InvalidUpdateError,
    check_alike,
    check_model,
    check_update,
    read_array,
)


def checked(grid: Grid, strategy: Strategy | None = None) -> "CheckedGrid":
    """The grid, with every reply checked before a strategy sees it; never checked twice.

    Args:
        grid: any Flower Grid.
        strategy: the one that will aggregate; from it comes the name of the weight, and whether
            replies are boosted trees.

    Raises:
        ValueError: if that is no Grid, or no strategy.
    """
    if strategy is not None and not isinstance(strategy, Strategy):
        raise ValueError(f"strategy is {shown(strategy)}; it must be one such as FedAvg()")
    if not isinstance(grid, CheckedGrid):
        grid = CheckedGrid(grid)
    if strategy is not None:
        inner = layers_of(strategy)[-1]
        grid.weighted_by_key = getattr(inner, "weighted_by_key", None)
        grid.trees = isinstance(inner, FedXgbBagging | FedXgbCyclic)
        bagging = isinstance(inner, FedXgbBagging)
        grid.check = partial(check_trees, bagging=bagging) if grid.trees else check_update
    return grid


def layers_of(strategy: Strategy | None) -> list[Strategy]:
    """A strategy, and those that it wraps, the outermost first."""
    layers = []
    while strategy is not None:
        layers.append(strategy)
        strategy = getattr(strategy, "strategy", None)
    return layers


class CheckedGrid(GridAround):
    """One policy for a bad reply: refused by name, counted, and the round goes on.

    An error in place of a reply, a reply that never came, an update that ``check_update``
    (or ``check_trees``) refuses, or one that does not fit the others becomes an error reply, a line
    of text and an entry in ``failures``. Where nothing is left of a round, it raises. A model
    that holds NaN is not sent out. An integer buffer that FedAvg averaged to floats goes out as
    integers again.

    Attributes:
        failures: in order.
        weighted_by_key: name of the weight; None: nobody averages by weight.
        check: what judges a reply by itself.
        trees: whether replies are boosted trees.
        name_of: from a node id to what a client is called.
        tell: what is done with a failure's line of text.
        num_clients: how many there will ever be; None: more may join.
        on_start: called with the number of rounds that a strategy is about to run.
        results: what each strategy that ran on this grid returned.
        checkpoints: where rounds are kept; None: nowhere.
    """

    def __init__(self, grid: Grid) -> None:
        if not isinstance(grid, Grid):
            raise ValueError(f"grid is {shown(grid)}; it must be a Grid, as main gets it")
        super().__init__(grid)
        self.failures = Failures()
        self.weighted_by_key: str | None = None
        self.check: Callable = check_update
        self.trees = False
        self.name_of: Callable[[int], int] = lambda node_id: node_id
        self.tell: Callable[[str], None] = lambda line: log(WARNING, line)
        self.num_clients: int | None = None
        self.on_start: Callable[[int], None] = lambda num_rounds: None
        self.results: list[Result] = []
        self.checkpoints: Checkpoints | None = None
        self._integers: dict[str, str] = {}  # arrays first sent as integers, and their dtype

    def state(self) -> tuple:
        """What it has seen so far."""
        return self.failures, self._integers

    def restore(self, state: tuple) -> None:
        """Go on from there."""
        self.failures, self._integers = state

    def before_sending(self, messages: list[Message]) -> None:
        """Check the model that goes out, once, however many clients get it."""
        record = whole = None
        for message in messages:
            for key, sent in list(message.content.array_records.items()):
                if sent is not record:
                    record, whole = sent, self.as_first_sent(sent)
                    if kind_of(message) == "train":
                        check_model(record)
                if whole is not record:
                    message.content = RecordDict({**message.content, key: whole})

    def as_first_sent(self, record: ArrayRecord) -> ArrayRecord:
        """The record, with integers where this grid first saw integers."""
        for name, array in record.items():
            if array.stype == "numpy.ndarray" and array.dtype.startswith(("int", "uint", "bool")):
                self._integers.setdefault(name, array.dtype)
        lost = {n: d for n, d in self._integers.items() if n in record and record[n].dtype != d}
        if not lost:
            return record
        whole = ArrayRecord(dict(record.items()))
        for name, dtype in lost.items():
            values = read_array(name, record[name]).round().astype(dtype)
            whole[name] = as_record({name: values})[name]
        return whole

    def after_receiving(
        self, messages: list[Message], replies: Iterable[Message | None]
    ) -> list[Message]:
        """The replies, those that must not be used turned into errors.

        Raises:
            RoundFailedError: if that leaves none.
        """
        both = zip(messages, replies, strict=True)
        pairs = [(sent, self._judged(sent, reply)) for sent, reply in both]
        self._refuse_misfits(pairs)
        failed = [self._failure(sent, reply) for sent, reply in pairs if reply.has_error()]
        self.failures += failed
        for failure in failed:
            self.tell(str(failure))
        if failed and len(failed) == len(pairs):
            first = failed[0]
            reasons = "; ".join(f"client {f.client}: {f.error}" for f in failed[:3])
            raise RoundFailedError(
                f"Round {first.round}: all {len(failed)} clients failed to {first.kind}, so there "
                f"is nothing to aggregate. {reasons}{'; …' if len(failed) > 3 else ''}"
                f"{_hint(failed, messages[0])}"
            )
        return [reply for _, reply in pairs]

    def _judged(self, sent: Message, reply: Message | None) -> Message:
        if reply is None:
            return _error(sent, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "no reply within the timeout")
        if reply.has_content():
            try:
                self.check(sent, reply, self.weighted_by_key)
            except InvalidUpdateError as error:
                return _refused(sent, error)
        return reply

    def _refuse_misfits(self, pairs: list[tuple[Message, Message]]) -> None:
        asked = pairs[0][0] if pairs else None
        if self.weighted_by_key is None or not asked or not asked.content.array_records:
            return  # one without a model asks for no average
        if kind_of(asked) == "query":
            return
        comparisons = [partial(check_alike, weighted_by_key=self.weighted_by_key)]
        comparisons += [check_same_model] if self.trees and kind_of(asked) == "train" else []
        for compare in comparisons:
            good = [i for i, (_, reply) in enumerate(pairs) if reply.has_content()]
            for position, fault in compare([pairs[i][1] for i in good]).items():
                sent = pairs[good[position]][0]
                pairs[good[position]] = sent, _refused(sent, fault)

    def _failure(self, sent: Message, reply: Message) -> Failure:
        error, _, trace = (reply.error.reason or "unknown error").partition("\n\n")
        client = self.name_of(sent.metadata.dst_node_id)
        return Failure(round_of(sent) or 0, client, kind_of(sent), error, trace)


def _hint(failed: list[Failure], sent: Message) -> str:
    """Where all diverge at once, it was rather the server that did."""
    record = next(iter(sent.content.array_records.values()), None)
    if record is None or not all("NaN or infinity" in failure.error for failure in failed):
        return ""
    weights = [np.abs(read_array(n, a)).max(initial=0) for n, a in record.items()]
    return (
        f". All diverged from the model that they were sent, whose largest weight is "
        f"{max(weights):.3g}: if that is not what you expect, lower the server's learning rate"
    )


def _refused(sent: Message, why: object) -> Message:
    return _error(sent, ErrorCode.MOD_FAILED_PRECONDITION, f"update refused: {why}")


def _error(sent: Message, code: int, reason: str) -> Message:
    return Message(Error(code, reason), reply_to=sent)
