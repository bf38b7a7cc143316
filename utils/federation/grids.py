"""The two engines under ``simulate``: this process, and Flower's runtime on Ray.

The only module that touches a deprecated or private name of Flower.
"""

import time
import traceback
from collections.abc import Callable, Iterator

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.task_identity import TaskIdentity
from tqdm.auto import tqdm

from utils.federation.recording import RecordingGrid, round_of
from utils.federation.updates import copy_content
from utils.randomness import random_stream

_FIRST_NODE_ID = 1000  # so that nobody takes a node id for a client's number


class SimulatedClient:
    """The ClientApp, in a random stream of its own, its exceptions turned into error replies.

    Both engines call it. Ray pickles it, so it holds nothing but the app and plain values.
    """

    def __init__(self, app: ClientApp, num_clients: int, seed: int, run_config: dict) -> None:
        self.app, self.num_clients, self.seed, self.run_config = app, num_clients, seed, run_config

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer one message as the client that ``context`` names."""
        kind = message.metadata.message_type
        context.run_config = dict(self.run_config)
        stream = (self.seed, kind, round_of(message), context.node_config["partition-id"])
        try:
            with random_stream(*stream):
                reply = self.app(message, context)
            if not isinstance(reply, Message):
                raise TypeError(
                    f"the ClientApp's '{kind}' function returned {type(reply).__name__}, not a "
                    "flwr.app.Message; end it with: return Message(content, reply_to=message)"
                )
            return reply
        except Exception as error:  # a client's failure must not end the server
            reason = f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)


def run_inline(server_app: ServerApp, client: SimulatedClient, bar: tqdm) -> RecordingGrid:
    """Call the clients one after the other in this process."""
    TaskIdentity.run_id, TaskIdentity.task_id = 1, 1
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    node_ids = [_FIRST_NODE_ID + client_id for client_id in range(client.num_clients)]
    contexts = {
        node_id: _context(
            node_id, {"partition-id": i, "num-partitions": client.num_clients}, client.run_config
        )
        for i, node_id in enumerate(node_ids)
    }

    def exchange(messages: list[Message], timeout: float | None) -> Iterator[Message]:
        for sent in messages:  # nobody can be late in one process: no timeout
            received = Message(copy_content(sent.content), metadata=sent.metadata)
            reply = client(received, contexts[sent.metadata.dst_node_id])
            if reply.has_content():
                reply.content = copy_content(reply.content)
            yield reply

    grid = RecordingGrid(node_ids, exchange, bar)
    server_app(grid, _context(SUPERLINK_NODE_ID, {}, client.run_config))
    return grid


def _context(node_id: int, node_config: dict, run_config: dict) -> Context:
    return Context(
        run_id=1,
        node_id=node_id,
        node_config=node_config,
        state=RecordDict(),
        run_config=dict(run_config),
    )


def run_on_ray(server_app: ServerApp, client: SimulatedClient, bar: tqdm) -> RecordingGrid:
    """Hand both apps to Flower's simulation runtime; the grid still records everything."""
    from flwr.simulation import run_simulation

    outcome: dict = {}
    relay = ServerApp()

    @relay.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            while len(list(grid.get_node_ids())) < client.num_clients:
                time.sleep(0.05)  # or the first round would sample from those that are there
            node_ids = list(grid.state.nodes)  # as registered: the i-th is client i
            outcome["grid"] = RecordingGrid(node_ids, _ray_exchange(grid), bar)
            context.run_config = dict(client.run_config)
            with random_stream(client.seed):  # again: starting Ray drew from the caller's
                server_app(outcome["grid"], context)
        except BaseException as error:  # runs in a thread: carry it over to the caller
            outcome["error"] = error

    run_simulation(
        relay,
        client,
        client.num_clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    if "error" in outcome:
        raise outcome["error"]
    return outcome["grid"]


def _ray_exchange(grid: Grid) -> Callable:
    def exchange(messages: list[Message], timeout: float | None) -> Iterator[Message | None]:
        with random_stream("ray"):  # its threads draw random numbers: not from the server's stream
            replies = {
                reply.metadata.reply_to_message_id: reply
                for reply in grid.send_and_receive(messages, timeout=timeout)
            }
        for sent in messages:  # in the order sent: the sum of floats depends on it
            yield replies.get(sent.metadata.message_id)

    return exchange
