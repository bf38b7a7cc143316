"""Two Grids under ``simulate``: clients in this process, and Flower's runtime on Ray.

The only module that touches a deprecated or private name of Flower.
"""

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid, ServerApp

from utils.arguments import shown
from utils.federation.failures import explained
from utils.federation.recording import GridAround, round_of
from utils.federation.records import QuickArray
from utils.randomness import random_stream

_FIRST_NODE_ID = 1000  # so that nobody takes a node id for a client's number
Serve = Callable[[Grid, list[int], Context], None]  # a server's work: grid, node ids, context


def check_apps(server_app: ServerApp, client_app: ClientApp) -> None:
    """The old way to write apps runs, but past everything that this course is about."""
    if not isinstance(server_app, ServerApp) or getattr(server_app, "_main", None) is None:
        raise TypeError(
            f"server_app is {shown(server_app)}, without a main function. Write app = ServerApp(), "
            "and under @app.main(): def main(grid, context), which starts a strategy; "
            "ServerApp(config=…, strategy=…) and server_fn belong to Flower's old API"
        )
    if not isinstance(client_app, ClientApp) or getattr(client_app, "_call", None) is not None:
        raise TypeError(
            f"client_app is {shown(client_app)}, not a ClientApp with functions of its own. Write "
            "app = ClientApp(), and under @app.train(): def train(message, context); "
            "ClientApp(client_fn=…) and NumPyClient belong to Flower's old API"
        )


class SimulatedClient:
    """The ClientApp, in a random stream of its own, its exceptions turned into error replies.

    Both engines call it. Ray pickles it, so it holds nothing but the app and plain values.
    """

    def __init__(self, app: ClientApp, num_clients: int, seed: int, run_config: dict) -> None:
        self.app, self.num_clients, self.seed, self.run_config = app, num_clients, seed, run_config

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer one message as the client that ``context`` names."""
        kind = message.metadata.message_type
        given, context.run_config = context.run_config, dict(self.run_config)
        stream = (self.seed, kind, round_of(message) or 0, context.node_config["partition-id"])
        try:
            with random_stream(*stream):
                reply = self.app(message, context)
            if not isinstance(reply, Message):
                raise TypeError(
                    f"the ClientApp's '{kind}' function returned {type(reply).__name__}, not a "
                    "flwr.app.Message; end it with: return Message(content, reply_to=message)"
                )
            if reply.metadata.reply_to_message_id != message.metadata.message_id:
                raise ValueError(
                    f"the ClientApp's '{kind}' function returned a message that answers none; end "
                    "it with: return Message(content, reply_to=message)"
                )
            return reply
        except (Exception, SystemExit) as error:  # a client's failure must not end the server
            reason = f"{explained(error)}\n\n{traceback.format_exc()}"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
        finally:
            context.run_config = given  # Flower's runtime refuses one that changed


class InProcessGrid(Grid):
    """Calls the clients one after the other in this process; nobody can be late.

    A client computes on one thread, here as in a worker: so its numbers are the same.
    """

    def __init__(self, client: SimulatedClient) -> None:
        self.client = client
        self.contexts = {}
        for number in range(client.num_clients):
            config = {"partition-id": number, "num-partitions": client.num_clients}
            node_id = _FIRST_NODE_ID + number
            self.contexts[node_id] = context_of(node_id, config, client.run_config)
        self._replies: dict[str, Message] = {}

    def state(self) -> dict[int, RecordDict]:
        """What the clients keep between rounds, by node."""
        return {node: context.state for node, context in self.contexts.items() if context.state}

    def restore(self, state: Mapping[int, RecordDict]) -> None:
        """Give the clients back what they kept."""
        for node, context in self.contexts.items():
            context.state = state.get(node, RecordDict())

    def get_node_ids(self) -> Iterable[int]:
        """The clients' node ids, client 0's first."""
        return list(self.contexts)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Replies as they come."""
        messages = list(messages)
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
        return self.answers(messages)

    def answers(self, messages: list[Message]) -> Iterator[Message]:
        """The clients' replies, in the order of the messages."""
        for message in messages:
            yield self.answer(message)

    def answer(self, sent: Message) -> Message:
        """One client's reply."""
        received = Message(copy_content(sent.content), metadata=sent.metadata)
        with one_thread():
            reply = self.client(received, self.contexts[sent.metadata.dst_node_id])
        if reply.has_content():
            reply.content = copy_content(reply.content)
        return reply

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages now; ``pull_messages`` hands out their replies."""
        replies = list(self.send_and_receive(messages))
        by_id = {reply.metadata.reply_to_message_id: reply for reply in replies}
        self._replies |= by_id
        return list(by_id)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies to messages pushed before; each is handed out once."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

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


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: how a sum is cut into threads' parts would change its last bits."""
    before = torch.get_num_threads()
    if before > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before > 1:
            torch.set_num_threads(before)


def copy_content(content: RecordDict) -> RecordDict:
    """Copy a message's records, so that no change by the receiver reaches the sender.

    On a network this comes for free; in one process it has to be done. The arrays' bytes
    are immutable and shared, so that a copy costs microseconds.
    """

    def copy(record):
        if isinstance(record, ArrayRecord):
            copied = ArrayRecord()  # given a dictionary, it would copy each array once more
            for name, array in record.items():
                copied[name] = QuickArray(array)
            return copied
        kind = ConfigRecord if isinstance(record, ConfigRecord) else type(record)
        return kind({k: list(v) if isinstance(v, list) else v for k, v in record.items()})

    return RecordDict({name: copy(record) for name, record in content.items()})


def context_of(node_id: int, node_config: dict, run_config: dict) -> Context:
    """A new context, with an empty state."""
    return Context(
        run_id=1,
        node_id=node_id,
        node_config=node_config,
        state=RecordDict(),
        run_config=dict(run_config),
    )


def serve_on_ray(client: SimulatedClient, serve: Serve) -> None:
    """Let ``serve`` work with clients in Flower's simulation runtime."""
    import ray
    from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
    from flwr.simulation import run_simulation

    error, relay = [], ServerApp()

    @relay.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            while len(list(grid.get_node_ids())) < client.num_clients:
                time.sleep(0.05)  # or the first round would sample from those that are there
            node_ids = list(grid.state.nodes)  # as registered: the i-th is client i
            context.run_config = dict(client.run_config)
            with random_stream(client.seed):  # again: starting Ray drew from the caller's
                serve(_RayGrid(grid), node_ids, context)
        except BaseException as raised:  # runs in a thread: carry it over to the caller
            error.append(raised)

    log = {"logging_level": "WARNING", "log_to_driver": True}  # as Flower would start Ray
    try:
        # before the server's thread: Ray draws random numbers while it starts
        RayBackend({"init_args": log})
        run_simulation(
            relay,
            client,
            client.num_clients,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    finally:
        ray.shutdown()
    if error:
        raise error[0]


class _RayGrid(GridAround):
    """Ray's threads draw random numbers: not from the server's stream."""

    def send_and_receive(self, messages, *, timeout=None):
        with random_stream("ray"):
            replies = list(self.grid.send_and_receive(messages, timeout=timeout))
        for reply in replies:
            if reply.has_error() and "ActorDiedError" in (reply.error.reason or ""):
                reply.error = Error(reply.error.code, _RAY_LOST)
        return replies


_RAY_LOST = (
    "a worker process of Ray's ended (killed from outside, or out of memory), and Flower's runtime "
    "goes on giving it clients. Run again; engine='inline' replaces such a process"
)
