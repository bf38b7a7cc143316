"""``flwr run`` in simulation, on Ray: both apps, and nothing is left behind."""

import numpy as np
import psutil
import pytest

from tests.deployment.lesson import federation, settings
from utils.deployment import Deployment
from utils.federation import simulate

FEW = {
    "digits": {"rounds": 1, "epochs": 1},
    "patients": {"rounds": 1, "steps": 1, "top-layers": 1, "exam": 0},
}


@pytest.fixture(scope="module")
def simulator():
    """A SuperLink that plays the SuperNodes itself."""
    with Deployment() as deployment:
        deployment.start_superlink(simulation=True)
        yield deployment
        started = psutil.Process().children(recursive=True)
    assert not [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not deployment.folder.exists()


@pytest.mark.parametrize("app", FEW)
def test_ray_trains_the_model_that_this_process_trains(simulator, app):
    result = federation.result_folder(simulator)
    options = ("--federation-config", federation.RAY.format(3))
    config = FEW[app] | {"result": result}
    ended = simulator.run(federation.APPS[app], config, *options)
    assert ended == "finished:completed", simulator.superlink.tail()
    found = np.load(result / "model.npz")
    server, client = federation.apps_of(app)
    here = simulate(server, client, 3, run_config=settings(app, **FEW[app]), progress=False)
    for name, weights in here.result.arrays.to_torch_state_dict().items():
        np.testing.assert_allclose(found[name], weights.numpy(), rtol=0, atol=1e-5)
    assert federation.result_of(simulator)["failures"] == []
    left = [p.name() for p in psutil.Process().children(recursive=True) if "ray::" in p.name()]
    assert not left
