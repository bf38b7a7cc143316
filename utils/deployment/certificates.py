"""Who is who on the network: a certificate authority, a server's certificate, a clinic's key."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from utils.arguments import folder_path, shown, whole_number

_PEM = serialization.Encoding.PEM


class Authority:
    """Signs servers' certificates. Whoever trusts ``certificate`` trusts what it signed.

    Its own key stays in memory: when it is gone, it can sign no more.

    Args:
        folder: where the files are written; made if it does not exist.
        days: that its certificate, and those it signs, are valid; 1 to 36,500.

    Raises:
        ValueError: for values out of range.
    """

    def __init__(self, folder: str | Path, days: int = 30) -> None:
        self.folder = folder_path("folder", folder)
        self._days = whole_number("days", days, 1, 36_500)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP384R1())
        self._name = _name("Course authority")
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        signs = x509.KeyUsage(
            key_cert_sign=True,
            crl_sign=True,
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        signed = builder.add_extension(signs, True).sign(self._key, hashes.SHA256())
        self.certificate = self.folder / "ca.crt"
        self.certificate.write_bytes(signed.public_bytes(_PEM))

    def certify_server(self, *hosts: str) -> tuple[Path, Path]:
        """Make a server's certificate and its private key.

        Args:
            hosts: names and IP addresses under which clients reach the server; a client refuses
                a certificate that does not name the address it called.

        Returns:
            The paths of the certificate and of the key, which only its owner may read.

        Raises:
            ValueError: for what is no name of a host.
        """
        hosts = hosts or ("localhost", "127.0.0.1")
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        key = ec.generate_private_key(ec.SECP384R1())
        builder = self._builder(_name(hosts[0]), key.public_key())
        builder = builder.add_extension(names, False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        signed = builder.add_extension(usage, False).sign(self._key, hashes.SHA256())
        paths = self.folder / "server.crt", self.folder / "server.key"
        paths[0].write_bytes(signed.public_bytes(_PEM))
        _write_private(paths[1], key, serialization.PrivateFormat.PKCS8)
        return paths

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now, ours = datetime.now(UTC), self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))  # clocks differ
            .not_valid_after(now + timedelta(days=self._days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ours), False)
        )


def make_key(folder: str | Path) -> tuple[Path, Path]:
    """A key pair by which a SuperLink knows a SuperNode.

    Args:
        folder: where both are written; made if it does not exist.

    Returns:
        The paths of the private key, which stays where it is made, and of the public one.

    Raises:
        ValueError: if that is no path.
    """
    folder = folder_path("folder", folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP384R1())
    private, public = folder / "key", folder / "key.pub"
    _write_private(private, key, serialization.PrivateFormat.OpenSSH)
    openssh = serialization.PublicFormat.OpenSSH
    encoding = serialization.Encoding.OpenSSH
    public.write_bytes(key.public_key().public_bytes(encoding, openssh))
    return private, public


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    if not isinstance(host, str) or not host:
        raise ValueError(f"a host is {shown(host)}; it must be a name or an IP address, as text")
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_private(
    path: Path, key: ec.EllipticCurvePrivateKey, layout: serialization.PrivateFormat
) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(key.private_bytes(_PEM, layout, serialization.NoEncryption()))
