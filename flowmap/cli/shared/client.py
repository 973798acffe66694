"""Asking a running daemon."""

from __future__ import annotations

import argparse
import json
import os
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from flowmap.errors import QueryError
from flowmap.system.names import is_address, look_up, lookup_problem

TIMEOUT = 10.0
"""Seconds to wait for an answer."""

# Why a server may hang up without a word, over plain HTTP and over TLS.
_HUNG_UP = ("; is it https://?", "; does it want a certificate (--cert-file, --key-file)?")


def connect(arguments: argparse.Namespace) -> DaemonClient:
    """A client for the daemon of ``options.add_daemon``; QueryError for files and passwords that are no use."""
    trust = None
    if arguments.url.startswith("https:"):
        trust = _trust(arguments.ca_file, arguments.cert_file, arguments.key_file)
    return DaemonClient(arguments.url, login=_login(arguments), trust=trust)


def _trust(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    try:
        # Without a file: the authorities this system trusts.
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise QueryError(f"--ca-file {ca_file}: {_file_problem(error)}") from error
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file, password="")
        except OSError as error:
            raise QueryError(f"--cert-file {cert_file}, --key-file {key_file}: {_file_problem(error)}") from error
    return context


def _file_problem(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "holds none in PEM").replace("_", " ").lower()
    return error.strerror or str(error)


def _login(arguments: argparse.Namespace) -> tuple[str, str] | None:
    if arguments.user is None:
        return None
    password = os.environ.get("FLOWMAP_PASSWORD")
    if arguments.password_file is not None:
        try:
            with open(arguments.password_file, encoding="utf-8") as file:
                password = file.read(4096).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            raise QueryError(f"--password-file {arguments.password_file}: {reason}") from error
    if password is None:
        raise QueryError(f"the password of {arguments.user} is missing; give --password-file or FLOWMAP_PASSWORD")
    try:
        f"{arguments.user}{password}".encode()
    except UnicodeEncodeError as error:
        raise QueryError("the user name or the password is not UTF-8 text") from error
    return arguments.user, password


class DaemonClient:
    """The JSON API of one daemon."""

    def __init__(
        self,
        url: str,
        *,
        login: tuple[str, str] | None = None,
        trust: ssl.SSLContext | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """``login``: user and password. ``trust`` is needed for https. ``transport`` replaces the network in tests.
        QueryError if ``url`` is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise QueryError(f"{url!r} is not the URL of a daemon; write it like http://127.0.0.1:10817", field="url")
        if parts.username is not None or parts.password is not None:
            raise QueryError(
                "a URL with a password in it can be seen by all; use --user and --password-file", field="url"
            )
        self._url = url.rstrip("/")
        self._host = parts.hostname
        self._places = [httpx.URL(self._url)] if transport is not None or is_address(parts.hostname) else []
        """The URL with each address of its host that may still take a connection; empty before the first question."""
        # Where an address stands for the host, it is still the name that is asked and that the certificate is for.
        self._headers = {"host": parts.netloc}
        self._extensions = {"sni_hostname": parts.hostname}
        # The daemon is on this host or network: a proxy of the environment is not meant for it.
        self._client = httpx.Client(
            timeout=TIMEOUT, trust_env=False, auth=login, verify=trust or False, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, parameters: Mapping[str, str | int | None] | None = None) -> dict[str, Any]:
        """The JSON object at ``/api/v1/<path>``; parameters that are None are left out. QueryError otherwise."""
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        return self._decode(self._ask(path, given))

    def find(self, path: str) -> dict[str, Any] | None:
        """As :meth:`get`, but None for what the daemon says it does not know."""
        response = self._ask(path, {})
        told = response.headers.get("content-type", "").startswith("application/problem+json")
        return None if told and response.status_code == 404 else self._decode(response)

    def _ask(self, path: str, parameters: Mapping[str, str | int]) -> httpx.Response:
        try:
            return self._get(f"api/v1/{path}", parameters)
        except httpx.TransportError as error:
            problem = _tls_problem(error)
            if problem:
                raise QueryError(f"{self._url}: {problem}") from error
            if not isinstance(error, httpx.ConnectError):
                hung_up = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
                hint = _HUNG_UP[self._url.startswith("https:")] if hung_up else ""
                raise QueryError(f"{self._url}: {str(error) or type(error).__name__}{hint}") from error
            raise QueryError(
                f"no daemon answers at {self._url}; start one with `flowmap run` or name it with --url"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise QueryError(f"{self._url}: {str(error) or type(error).__name__}") from error

    def _get(self, path: str, parameters: Mapping[str, str | int]) -> httpx.Response:
        """The answer of the first address of the daemon that takes a connection."""
        if not self._places:
            self._places = [httpx.URL(self._url).copy_with(host=address) for address in self._addresses()]
        while True:
            try:
                return self._client.get(
                    f"{self._places[0]}/{path}", params=parameters, headers=self._headers, extensions=self._extensions
                )
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if len(self._places) == 1:
                    raise
                del self._places[0]

    def _addresses(self) -> list[str]:
        try:
            found = look_up(self._host, 0, within=TIMEOUT)
        except (OSError, UnicodeError) as error:
            raise QueryError(f"{self._url}: cannot resolve {self._host}: {lookup_problem(error) or error}") from error
        return list(dict.fromkeys(address[4][0] for address in found))

    def _decode(self, response: httpx.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise QueryError(f"{self._url} answers {response.status_code} without JSON; is it flowmap?") from error
        if not isinstance(body, dict):
            raise QueryError(f"{self._url} answers {response.status_code} with something else; is it flowmap?")
        if response.status_code != 200:
            hint = " --user and --password-file say who asks." if response.status_code == 401 else ""
            raise QueryError(_problem(body, response.status_code) + hint)
        return body


def _tls_problem(error: BaseException | None) -> str:
    """What is wrong with TLS, in one line; empty if that is not what ``error`` came from."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}; --ca-file names the authorities to trust"
    if error is None:
        return ""
    reason = (error.reason or "failed").replace("_", " ").lower()
    if reason == "wrong version number":
        return "it speaks no TLS; is it http://?"
    return f"TLS: {reason}"


def _problem(body: Mapping[str, Any], status: int) -> str:
    """A problem (RFC 9457) in one line; its detail names the fields at fault."""
    return " ".join(str(body.get("detail") or body.get("title") or f"the daemon answers {status}").split())
