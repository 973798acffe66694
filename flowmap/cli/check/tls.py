"""check, the certificate's part: until when clients take the one that the HTTP server shows."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator

from flowmap.config import Config
from flowmap.config.loading import read_web_config
from flowmap.errors import ConfigError
from flowmap.sources.base import Finding

NAME = "http.certificate"
SOON = 14 * 86_400.0
"""Seconds before its end from which on a certificate is told: those that are renewed by programs never come so near."""
REMEDY = "renew it; the daemon reads the new one by itself within 5 s"


def look(config: Config) -> Iterator[Finding]:
    """One finding where the server has a certificate that can be read; what cannot is told with the configuration."""
    http = config.http
    try:
        tls = http.tls if http.web_config is None else read_web_config(http.web_config).tls_server_config
    except ConfigError:
        return  # a moment ago it could be read
    if tls is not None:
        yield _certificate(tls.cert_file, tls.key_file)


def _certificate(cert_file: str, key_file: str) -> Finding:
    try:
        end = valid_until(cert_file, key_file)
    except ssl.SSLCertVerificationError as error:
        message = f"{cert_file}: {error.verify_message}: no client that looks at it connects"
        return Finding(NAME, "degraded", message, REMEDY)
    except (OSError, ValueError) as error:
        return Finding(NAME, "failed", f"{cert_file} and {key_file} cannot be used: {error}", "mend these files")
    days = (end - time.time()) / 86_400
    near = days * 86_400 < SOON
    message = f"{cert_file} is valid for {days:.0f} days more"
    return Finding(NAME, "degraded" if near else "ok", message, REMEDY if near else "")


def valid_until(cert_file: str, key_file: str) -> float:
    """Seconds since the epoch; SSLCertVerificationError if it is over, or not begun.

    A handshake in memory with a client that trusts this very certificate: ``ssl`` has no other way to its dates.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert_file, key_file, password="")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cert_file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            if not end.server_side:
                return ssl.cert_time_to_seconds(str((end.getpeercert() or {})["notAfter"]))
            ends.remove(end)
    raise AssertionError("the client's end returns")
