"""The file for Docker: its syntax, and that its options are Flower's. Nothing here runs it."""

import shlex

import pytest
import yaml
from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

from tests.deployment.lesson import LESSON

COMPOSE = yaml.safe_load((LESSON / "compose.yaml").read_text())
CLINICS = [f"clinic-{number}" for number in (1, 2, 3)]


def mounts(service):
    return {m.split(":")[0] for m in COMPOSE["services"][service]["volumes"]}


def test_there_is_one_service_a_party_and_all_restart():
    assert sorted(COMPOSE["services"]) == sorted(["superlink", *CLINICS])
    assert all(service["restart"] for service in COMPOSE["services"].values())


def test_the_superlink_is_started_with_tls_and_keys_required():
    program, *options = shlex.split(COMPOSE["services"]["superlink"]["command"])
    given = _parse_args_run_superlink().parse_args(options)
    assert program == "flower-superlink"
    assert given.enable_supernode_auth
    assert not given.insecure
    assert given.ssl_certfile
    assert given.ssl_keyfile
    assert given.ssl_ca_certfile
    assert given.database


@pytest.mark.parametrize("clinic", CLINICS)
def test_a_clinic_shows_a_key_and_mounts_nothing_but_its_own(clinic):
    program, *options = shlex.split(COMPOSE["services"][clinic]["command"])
    given = _parse_args_run_supernode().parse_args(options)
    assert program == "flower-supernode"
    assert not given.insecure
    assert given.root_certificates
    assert given.auth_supernode_private_key
    assert f"partition-id={int(clinic[-1]) - 1} " in given.node_config
    assert {mount.split("/")[1] for mount in mounts(clinic)} == {clinic}
    assert "ports" not in COMPOSE["services"][clinic]  # a clinic calls; nobody calls it
