"""The certificates of the node registry, which are renewed on disk while the process runs."""

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from csi_plugin.server.settings import Settings, SettingsError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Certificates:
    """What the files held at one moment, PEM."""

    authority: bytes
    certificate: bytes
    key: bytes


class RegistryCertificates:
    """Reads the files again whenever a connection is made. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError for files that cannot be used."""
        ca, certificate, key = settings.registry_tls_ca, settings.registry_tls_certificate, settings.registry_tls_key
        assert ca and certificate and key
        self._files = (ca, certificate, key)
        self._lock = threading.Lock()
        try:
            self._last = _read(self._files)
        except (OSError, ValueError) as error:
            raise SettingsError(f"registry_tls_ca, registry_tls_certificate, registry_tls_key: {error}") from error
        self._channel: tuple[_Certificates, grpc.Channel] | None = None
        self._previous: grpc.Channel | None = None

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a server that asks its clients for certificates of the same authority."""
        return grpc.dynamic_ssl_server_credentials(
            _server_configuration(self._last),
            lambda: _server_configuration(self._renew()),
            require_client_authentication=True,
        )

    def channel(self, address: str) -> grpc.Channel:
        """A channel that knows the present certificates; the same one until they change."""
        renewed = self._renew()
        with self._lock:
            if self._channel is None or self._channel[0] != renewed:
                credentials = grpc.ssl_channel_credentials(renewed.authority, renewed.key, renewed.certificate)
                if self._previous is not None:
                    self._previous.close()
                # Calls may still run on the present one.
                self._previous = self._channel[1] if self._channel else None
                self._channel = renewed, grpc.secure_channel(address, credentials)
            return self._channel[1]

    def _renew(self) -> _Certificates:
        """What the files hold now; the last that could be used while they cannot, as in the middle of a renewal."""
        try:
            found = _read(self._files)
        except (OSError, ValueError) as error:
            LOG.warning("the registry goes on with its last certificates, since the new ones cannot be used: %s", error)
            return self._last
        with self._lock:
            if found != self._last:
                LOG.info("the registry has new certificates")
                self._last = found
            return found


def _read(files: tuple[Path, Path, Path]) -> _Certificates:
    """Raises OSError (ssl.SSLError among it) and ValueError."""
    authority, certificate, key = files
    found = _Certificates(authority.read_bytes(), certificate.read_bytes(), key.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=authority)
    context.load_cert_chain(certificate, key, password=b"")  # else it would ask for one on the terminal
    if found != _Certificates(authority.read_bytes(), certificate.read_bytes(), key.read_bytes()):
        raise ValueError("they are being written")
    return found


def _server_configuration(certificates: _Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key, certificates.certificate)], root_certificates=certificates.authority
    )
