"""A Ray cluster of two machines, played on this one: ``python Part02/L5/ray_cluster.py``.

Starts Ray as on two machines, each with an address of its own on loopback and one CPU, lets
Flower's simulation runtime train the digits there, and says where each clinic was computed.

A Ray cluster runs whatever code it is sent, by anybody who reaches it: here, on this machine only.
On a network, set ``RAY_AUTH_MODE=token`` on every machine. All need the same packages, and the
course's folder at the same path: Ray sends Python's path along, not what lies there.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator

import ray
import real_federation as real
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from utils import federation
from utils.deployment import Deployment, Process, free_port

_STORE = 100 * 2**20  # bytes of memory that a machine keeps for objects; our models are small


@contextlib.contextmanager
def machines_of(count: int = 2, cpus: int = 1) -> Iterator[tuple[Deployment, list[Process]]]:
    """So many machines, the first of them the head; Ray finds them by ``RAY_ADDRESS``.

    What is started inside of the block joins them: ``simulate(…, engine="ray")``, or a SuperLink
    that simulates. Leaving it ends them.

    Raises:
        OSError: elsewhere than on Linux: macOS has one address on loopback, and Ray's clusters
            are not supported there.
    """
    if sys.platform != "linux":
        raise OSError("two machines on loopback are played on Linux only")
    address = f"127.0.0.2:{free_port()}"
    with Deployment() as deployment:
        machines = []
        for number in range(1, count + 1):
            machines.append(_start_machine(deployment, number, address, cpus))
            machines[-1].wait_for("Ray runtime started")
        with _found_at(address):
            yield deployment, machines


def telling_where(app: ClientApp) -> ClientApp:
    """The same client, whose replies to *train* tell the number of the machine it ran on."""
    telling = ClientApp()

    @telling.train()
    def train(message: Message, context: Context) -> Message:
        reply = app(message, context)
        reply.content["metrics"]["machine"] = _this_machine()
        return reply

    return telling


def main() -> int:
    """Train, and say where."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clinics", type=int, default=3)
    parser.add_argument("--machines", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    config = real.run_config("digits") | {"rounds": chosen.rounds, "epochs": 1}
    given = {"run_config": config, "progress": False}
    server, client = real.apps_of("digits")
    with machines_of(chosen.machines) as (_, machines):
        print("Ray runs on", ", ".join(machine.name for machine in machines))
        run = federation.simulate(
            server, telling_where(client), chosen.clinics, engine="ray", **given
        )
    told = run.client_metrics.assign(clinic=lambda rows: rows["client"] + 1)
    print("\nThe machine that computed each clinic:")
    print(told.pivot(index="round", columns="clinic", values="machine").to_string())
    here = federation.simulate(server, client, chosen.clinics, workers=1, **given)
    print(f"\nThe weights differ by {apart(run, here):.1e} from those of one process.")
    print(f"Processes left: {real.left_over()}.")
    return 0


def apart(run: federation.Run, other: federation.Run) -> float:
    """The largest difference between two runs' final weights."""
    one, two = (r.result.arrays.to_torch_state_dict() for r in (run, other))
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def _start_machine(deployment: Deployment, number: int, address: str, cpus: int) -> Process:
    own = ["--node-name", f"machine {number}", "--node-ip-address", f"127.0.0.{number + 1}"]
    ports = ["--dashboard-agent-listen-port", str(free_port())]
    if number == 1:
        role = ["--head", "--port", address.partition(":")[2], "--include-dashboard", "false"]
        ports += ["--ray-client-server-port", str(free_port())]
    else:
        role = ["--address", address]
    size = ["--num-cpus", str(cpus), "--object-store-memory", str(_STORE)]
    command = ["ray", "start", *role, *own, *ports, *size, "--disable-usage-stats", "--block"]
    return deployment.start(own[1], command, deployment.party(own[1]))


def _this_machine() -> int:
    here = ray.get_runtime_context().get_node_id()
    (name,) = [node["NodeName"] for node in ray.nodes() if node["NodeID"] == here]
    return int(name.split()[-1])


@contextlib.contextmanager
def _found_at(address: str) -> Iterator[None]:
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = address
    try:
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        if before is not None:
            os.environ["RAY_ADDRESS"] = before


if __name__ == "__main__":
    sys.exit(main())
