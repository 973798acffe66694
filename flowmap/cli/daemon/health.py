"""``flowmap health``: report whether the configured daemon works, for container health checks.

Exit status 0 if it works, 1 if not. The request goes to the configured address and has no secret, so the certificate
is not verified.
"""

from __future__ import annotations

import argparse
import os
import ssl
import urllib.error
import urllib.request

from flowmap.cli.shared import options
from flowmap.errors import QueryError
from flowmap.system.names import look_up, lookup_problem

TIMEOUT = 4.0
"""Seconds to wait for an answer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``-c FILE`` and ``--ready``."""
    options.add_config(parser)
    parser.add_argument("--ready", action="store_true", help="also require that the daemon is ready")


def run(arguments: argparse.Namespace) -> int:
    """Ask the daemon and print its answer."""
    from flowmap.config import HttpConfig, load, read_web_config
    from flowmap.model.address import format_endpoint

    http: HttpConfig = load(arguments.config, os.environ).http
    tls = http.tls is not None
    if http.web_config is not None:
        tls = read_web_config(http.web_config).tls_server_config is not None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.listen.host, http.listen.host)
    place = f"{'https' if tls else 'http'}://{format_endpoint(_address(host), http.listen.port)}"
    print(_ask(f"{place}/-/{'ready' if arguments.ready else 'healthy'}"))
    return 0


def _address(host: str) -> str:
    try:
        return str(look_up(host, 0, within=TIMEOUT)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise QueryError(f"http.listen: cannot resolve {host}: {lookup_problem(error) or error}") from error


def _ask(url: str) -> str:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=TIMEOUT) as answer:
            body: bytes = answer.read(1000)
    except urllib.error.HTTPError as error:
        raise QueryError(f"{url}: {error.read(1000).decode(errors='replace').strip() or error.reason}") from error
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise QueryError(f"{url}: {getattr(reason, 'strerror', None) or reason}") from error
    return body.decode(errors="replace").strip()
