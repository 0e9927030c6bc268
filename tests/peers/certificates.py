"""A certificate for localhost and 127.0.0.1, for the peers alone.

It signs itself, is good from 2020 to 2120 and its key is public: here it is. Nothing real may trust it. Others like it, good
until another time, are made of the same key.
"""

import ssl
import tempfile
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509.oid import NameOID

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBdjCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCcL3BiJFFvoUDW6
sYY09vLpYZEkJpGfRIkuJ+oOQlinq22PesZ3ZIZ4+4MArA9EabrVDOAPKCM05wGf
UcTXqwujXjBcMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4EFgQUTChEejMlR4tN9CMeiyAz
oK4jnIIwCgYIKoZIzj0EAwIDRwAwRAIgRX+CancLmHY0kbi1jilzqXb21vSoBA1b
jY4ojSgCjTUCICgtP+G2I11/sksM9uvfaOmnRicYk5xqXvas3RvQ/sq6
-----END CERTIFICATE-----
"""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgPkYsnWd2Fobm8+nS
o4tfS9XMWgcasfICRx3ac57PVj2hRANCAAQnC9wYiRRb6FA1urGGNPby6WGRJCaR
n0SJLifqDkJYp6ttj3rGd2SGePuDAKwPRGm61QzgDygjNOcBn1HE16sL
-----END PRIVATE KEY-----
"""


def until(end: datetime) -> str:
    """A certificate as PEM that expires then."""
    key = serialization.load_pem_private_key(KEY.encode(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), serial_number=1)
        .not_valid_before(end - timedelta(days=90))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def server_context(certificate: str = CERTIFICATE) -> ssl.SSLContext:
    """For a peer that offers TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "peer.pem"
        path.write_text(certificate + KEY)
        context.load_cert_chain(path)
    return context


def client_context() -> ssl.SSLContext:
    """For a client that trusts the peers and checks the host name."""
    return ssl.create_default_context(cadata=CERTIFICATE)


def write_certificate(directory: Path) -> Path:
    """The certificate as a PEM file, for settings such as `tls_ca`."""
    path = directory / "peer-ca.pem"
    path.write_text(CERTIFICATE)
    return path


def write_certificate_and_key(directory: Path) -> tuple[Path, Path]:
    """Certificate and key as PEM files, for settings such as `tls_cert` and `tls_key`."""
    key = directory / "peer-key.pem"
    key.write_text(KEY)
    return write_certificate(directory), key
