"""Certificates for servers that tests start."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NODE = "test-node"


class Authority:
    """A certificate authority with one certificate, for ``localhost`` and a node, as PEM files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.ca, self.certificate, self.key = (folder / name for name in ("ca.pem", "certificate.pem", "key.pem"))
        own_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        own = self._builder(name, own_key.public_key()).add_extension(x509.BasicConstraints(True, None), critical=True)
        host = self._builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), key.public_key()
        ).add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName(NODE)]), critical=False)
        for file, builder in ((self.ca, own), (self.certificate, host)):
            signed = builder.issuer_name(name).sign(own_key, hashes.SHA256())
            file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    @staticmethod
    def _builder(name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def channel(self, address: str, *, certificate: bool = True) -> grpc.Channel:
        own = (self.key.read_bytes(), self.certificate.read_bytes()) if certificate else (None, None)
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(self.ca.read_bytes(), *own))
