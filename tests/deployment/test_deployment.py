"""A SuperLink and three SuperNodes, for real: with TLS, keys, and what goes wrong."""

import re

import numpy as np
import pytest

from tests.deployment.lesson import children, deal_out, federation, settings
from utils.deployment import Authority
from utils.federation import simulate

ROUNDS = {"rounds": 2, "epochs": 1}
DONE = "finished:completed"


@pytest.fixture(scope="module")
def clinics():
    """Three clinics that hold digits; afterwards, nothing of them is left."""
    before = children()  # other tests' worker processes, kept for the next
    with federation.clinics_of("digits") as deployment:
        assert len(children() - before) >= 8  # SuperLink and SuperNodes, each with its guard
        yield deployment
        started = children() - before
    assert not children() & started
    assert not deployment.folder.exists()


def simulated(**config):
    """A run in this process."""
    server, client = federation.apps_of("digits")
    config = settings("digits", **config)
    return simulate(server, client, 3, run_config=config, workers=1, progress=False)


@pytest.fixture(scope="module")
def in_process():
    """The same run in this process."""
    return simulated(**ROUNDS)


def run(deployment, **config):
    result = federation.result_folder(deployment)
    assert deployment.run(federation.APPS["digits"], config | {"result": result}) == DONE
    return federation.result_of(deployment)


def assert_the_same_model(deployment, in_process):
    """Sums of floats depend on the order of the clinics, which here is that of their node ids."""
    found = np.load(federation.result_folder(deployment) / "model.npz")
    expected = in_process.result.arrays.to_torch_state_dict()
    assert set(found) == set(expected)
    for name, weights in expected.items():
        np.testing.assert_allclose(found[name], weights.numpy(), rtol=0, atol=2e-4)


def test_real_machines_train_the_model_that_the_notebook_trains(clinics, in_process):
    told = run(clinics, **ROUNDS)
    assert_the_same_model(clinics, in_process)
    right = in_process.metrics["server/accuracy"]
    assert told["metrics"]["server"]["2"]["accuracy"] == pytest.approx(right[2], abs=0.002)
    assert right[2] > 0.8
    assert told["failures"] == []
    traffic = clinics.runs()[0]["network-traffic"]["total-bytes"]
    assert 0.5 < traffic / in_process.traffic["bytes"].sum() < 2


def test_masked_updates_give_the_same_model_and_nothing_else_of_a_clinic(clinics):
    one = {"rounds": 1, "epochs": 1}
    told = run(clinics, **one, masked=True)
    assert told["failures"] == []
    assert told["metrics"]["train"] == {"1": {"clients": 3}}  # no loss, no number of images
    assert_the_same_model(clinics, simulated(**one))


def test_a_clinic_that_sends_nan_is_refused_by_name_and_the_round_goes_on(clinics):
    images = federation.data_folder(clinics, "clinic 2") / "images.npy"
    whole = images.read_bytes()
    broken = np.load(images)
    broken[:] = np.nan  # a scanner that writes no numbers
    np.save(images, broken)
    try:
        told = run(clinics, rounds=1, epochs=1)
    finally:
        images.write_bytes(whole)
    (failure,) = told["failures"]
    name = clinics.node_id("clinic 2")
    assert re.match(f"Round 1: client {name} failed to train: update refused: .*NaN", failure)
    assert np.isfinite(told["metrics"]["server"]["1"]["loss"])
    assert told["metrics"]["server"]["1"]["accuracy"] > 0.2


def test_whoever_has_not_both_the_key_and_the_certificate_is_refused(clinics, tmp_path):
    there = {node["node-id"] for node in clinics.nodes() if node["status"] == "online"}
    config = {"partition-id": 0, "num-partitions": 3}
    once = ("--max-retries", "0")
    elsewhere = Authority(tmp_path)
    strangers = {
        "[code: 2004] Failed to activate SuperNode": clinics.start_clinic(
            "unknown key", config, register=False, wait=False
        ),
        "All SuperNodes must be registered via the CLI": clinics.start_clinic(
            "no key", config, key=False, wait=False
        ),
        "CERTIFICATE_VERIFY_FAILED": clinics.start_clinic(
            "another authority", config, authority=elsewhere, wait=False
        ),
        "Failed to initialize the connection to the SuperLink": clinics.start_clinic(
            "plain text", config, *once, tls=False, key=False, wait=False
        ),
        "Node authentication can only be used when TLS is enabled": clinics.start_clinic(
            "plain text with a key", config, tls=False, wait=False
        ),
    }
    for message, stranger in strangers.items():
        stranger.wait_for(message, 180)
        assert stranger.wait(120) != 0
        assert "SuperNode ID" not in stranger.log
        clinics.clinics.pop(stranger.name)
    assert "No SuperNode found with the given public key" in clinics.superlink.log
    now = {node["node-id"] for node in clinics.nodes() if node["status"] == "online"}
    assert now == there
    assert len(now) == 3


def test_a_run_is_brought_back_after_its_superlink_was_killed(clinics, in_process):
    kept = {"checkpoint": str(clinics.party("superlink") / "kept")}
    third = clinics.clinics["clinic 3"]
    seen = third.log.count("Receiving: train")
    config = ROUNDS | kept | {"result": federation.result_folder(clinics)}
    submitted = clinics.submit(federation.APPS["digits"], config)
    third.wait_for("Receiving: train", times=seen + 2, seconds=300)
    clinics.superlink.kill()
    assert submitted.wait(60) != 0
    assert "Connection to the SuperLink is unavailable" in submitted.log
    clinics.start_superlink()
    assert len(clinics.nodes()) >= 3  # the keys are in its database
    told = run(clinics, **ROUNDS, **kept)
    assert told["resumed"] == 1
    assert_the_same_model(clinics, in_process)
    assert not (clinics.party("superlink") / "kept").exists()


def test_the_data_is_dealt_out_to_folders_of_their_own(clinics):
    folders = [federation.data_folder(clinics, name) for name in sorted(clinics.clinics)]
    task = deal_out.task_of("digits")
    parts = [task.load(folder) for folder in folders]
    assert sum(map(len, parts)) == sum(map(len, task.deal_out(3)))
    for folder, name in zip(folders, sorted(clinics.clinics), strict=True):
        assert folder.parent.stat().st_mode & 0o077 == 0
        named = [n for n in clinics.clinics if str(folder) in clinics.clinics[n].command]
        assert named == [name]
        assert str(folder) not in clinics.superlink.log
