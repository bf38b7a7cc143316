"""Two machines of one Ray cluster, on loopback: Flower's simulation runtime uses both."""

import os
import sys

import numpy as np
import psutil
import pytest

from tests.deployment.lesson import children, cluster, federation, settings
from utils.deployment import wait_until
from utils.federation import simulate

ONE = {"rounds": 1, "epochs": 1}
pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def machines():
    """Both, and the deployment that ends them; afterwards, nothing of them is left."""
    if sys.platform != "linux":
        pytest.skip("Ray's clusters run on Linux")
    before = children()  # other tests' worker processes, kept for the next
    with cluster.machines_of(2) as (deployment, found):
        yield deployment, found
        started = children() - before
    assert not children() & started
    assert "RAY_ADDRESS" not in os.environ
    assert not deployment.folder.exists()


@pytest.fixture(scope="module")
def in_process():
    return simulated(*federation.apps_of("digits"), workers=1)


def simulated(server, client, **options):
    """One round of the digits with three clinics."""
    config = settings("digits", **ONE)
    return simulate(server, client, 3, run_config=config, progress=False, **options)


def tree(machine):
    """A machine's processes."""
    return psutil.Process(machine._guard.pid).children(recursive=True)


def computes(machine):
    """Whether one of them is a client's."""
    names = []
    for process in tree(machine):
        try:
            names += process.cmdline()[:1]
        except psutil.Error:
            continue
    return any("ClientAppActor" in name for name in names)


def test_clients_run_on_both_machines_and_give_the_model_of_one_process(machines, in_process):
    server, client = federation.apps_of("digits")
    run = simulated(server, cluster.telling_where(client), engine="ray")
    assert set(run.client_metrics["machine"]) == {1, 2}
    assert len(run.client_metrics) == 3
    assert cluster.apart(run, in_process) < 1e-5


def test_flwr_run_uses_both_machines_by_the_clusters_address(machines, in_process):
    deployment, found = machines
    deployment.start_superlink(simulation=True)
    result = federation.result_folder(deployment)
    options = ("--federation-config", "num-supernodes=3 client-resources-num-cpus=1")
    submitted = deployment.submit(federation.APPS["digits"], ONE | {"result": result}, *options)
    used = set()

    def ended():
        used.update(machine.name for machine in found if computes(machine))
        return not submitted.running

    wait_until(ended, 300, "the end of the run")
    assert deployment.status() == "finished:completed", deployment.superlink.tail()
    assert used == {"machine 1", "machine 2"}
    weights = np.load(result / "model.npz")
    for name, expected in in_process.result.arrays.to_torch_state_dict().items():
        np.testing.assert_allclose(weights[name], expected.numpy(), rtol=0, atol=1e-5)


def test_elsewhere_than_on_linux_it_says_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(OSError, match="on Linux only"), cluster.machines_of():
        pass
