"""TLS of the server: the ``ssl.SSLContext`` of the settings, and the names in the certificate of a client."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from flowmap.config import TlsServer
from flowmap.config.web import CIPHERS
from flowmap.errors import ConfigError

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


def server_context(settings: TlsServer) -> ssl.SSLContext:
    """The context; reads the files. ConfigError names a file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.maximum_version = _VERSIONS[settings.max_version]
    if settings.cipher_suites:
        context.set_ciphers(":".join(CIPHERS[name] for name in settings.cipher_suites))
    if not settings.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An empty passphrase: OpenSSL would ask for one on the terminal otherwise.
        context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{settings.cert_file} and {settings.key_file}: {_reason(error)}") from error
    if settings.client_ca_file is not None:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{settings.client_ca_file}: {_reason(error)}") from error
    context.verify_mode = _CLIENT_AUTH[settings.client_auth_type]
    return context


def names(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """The DNS, IP, URI and mail names in the certificate of a client (``SSLSocket.getpeercert()``)."""
    entries: Sequence[tuple[str, str]] = (certificate or {}).get("subjectAltName", ())
    return frozenset(value for _, value in entries)


def _reason(error: Exception) -> str:
    """The error of OpenSSL without source file and error number."""
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key does not belong to the certificate"
        return (
            (error.reason or "not a certificate and key in PEM, or a key with a passphrase").replace("_", " ").lower()
        )
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
