"""``flwr run`` in simulation, on Ray: both apps, and nothing is left behind."""

import numpy as np
import pytest

from tests.deployment.lesson import children, federation, settings
from utils.deployment import Deployment
from utils.federation import simulate

FEW = {
    "digits": {"rounds": 1, "epochs": 1},
    "patients": {"rounds": 1, "steps": 1, "top-layers": 1, "exam": 0},
}


@pytest.fixture(scope="module")
def simulator():
    """A SuperLink that plays the SuperNodes itself."""
    before = children()  # other tests' worker processes, kept for the next
    with Deployment() as deployment:
        deployment.start_superlink(simulation=True)
        yield deployment
        started = children() - before
    assert not children() & started
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
    config = settings(app, **FEW[app])
    here = simulate(server, client, 3, run_config=config, workers=1, progress=False)
    for name, weights in here.result.arrays.to_torch_state_dict().items():
        np.testing.assert_allclose(found[name], weights.numpy(), rtol=0, atol=1e-5)
    assert federation.result_of(simulator)["failures"] == []
    assert not [p for p in children() if "ray::" in p.name()]
