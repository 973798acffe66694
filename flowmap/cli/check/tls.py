"""Check of the server certificate: how long it is valid."""

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
"""Seconds of validity below which a certificate is degraded; automatic renewal happens earlier."""
REMEDY = "renew it; the daemon loads the new one within 5 s"


def look(config: Config) -> Iterator[Finding]:
    """One finding if the server has a certificate. Unreadable files are reported with the configuration."""
    http = config.http
    try:
        tls = http.tls if http.web_config is None else read_web_config(http.web_config).tls_server_config
    except ConfigError:
        return  # changed since the configuration was loaded
    if tls is not None:
        yield _certificate(tls.cert_file, tls.key_file)


def _certificate(cert_file: str, key_file: str) -> Finding:
    try:
        end = valid_until(cert_file, key_file)
    except ssl.SSLCertVerificationError as error:
        message = f"{cert_file}: {error.verify_message}: clients that verify it cannot connect"
        return Finding(NAME, "degraded", message, REMEDY)
    except (OSError, ValueError) as error:
        return Finding(NAME, "failed", f"{cert_file} and {key_file} cannot be used: {error}", "correct these files")
    days = (end - time.time()) / 86_400
    near = days * 86_400 < SOON
    message = f"{cert_file} is valid for {days:.0f} more days"
    return Finding(NAME, "degraded" if near else "ok", message, REMEDY if near else "")


def valid_until(cert_file: str, key_file: str) -> float:
    """End of validity in seconds since the epoch; SSLCertVerificationError if expired or not yet valid.

    Does a handshake in memory with a client that trusts this certificate, as ``ssl`` has no other access to its dates.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert_file, key_file, password="")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cert_file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    while sides:
        for side in tuple(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            if not side.server_side:
                return ssl.cert_time_to_seconds(str((side.getpeercert() or {})["notAfter"]))
            sides.remove(side)
    raise AssertionError("the client side returns")
