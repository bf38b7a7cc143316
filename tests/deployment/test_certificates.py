"""Certificates and keys, as TLS itself judges them."""

import ssl
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)

from utils.deployment import Authority, make_key


def shake_hands(authority, hosts, trusted, called):
    """A TLS handshake in memory between a server and a client that calls it by a name."""
    certificate, key = authority.certify_server(*hosts)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=trusted.certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=called),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done = set()
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
    return len(done) == 2


@pytest.mark.parametrize("called", ["localhost", "127.0.0.1"])
def test_a_client_that_trusts_the_authority_trusts_its_server(tmp_path, called):
    authority = Authority(tmp_path)
    assert shake_hands(authority, ("localhost", "127.0.0.1"), authority, called)


def test_a_client_that_trusts_another_authority_does_not(tmp_path):
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake_hands(ours, ("localhost",), other, "localhost")


def test_a_certificate_for_another_address_is_not_taken(tmp_path):
    authority = Authority(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(authority, ("hospital.example",), authority, "127.0.0.1")


def test_certificates_end_after_the_days_given(tmp_path):
    authority = Authority(tmp_path, days=3)
    for path in (authority.certificate, authority.certify_server()[0]):
        made = x509.load_pem_x509_certificate(path.read_bytes())
        assert (made.not_valid_after_utc - made.not_valid_before_utc).days == 3
    with pytest.raises(ValueError, match="days is 0; it must be a whole number from 1"):
        Authority(tmp_path, days=0)
    with pytest.raises(ValueError, match="a host is 7"):
        authority.certify_server(7)


def test_a_key_pair_fits_and_only_its_owner_reads_the_private_half(tmp_path):
    private, public = make_key(tmp_path / "clinic")
    key = load_ssh_private_key(private.read_bytes(), None)
    assert isinstance(key.curve, ec.SECP384R1)
    ours = load_ssh_public_key(public.read_bytes()).public_numbers()
    assert key.public_key().public_numbers() == ours
    assert make_key(tmp_path / "another")[1].read_bytes() != public.read_bytes()
    secrets = [private, Authority(tmp_path).certify_server()[1]]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
