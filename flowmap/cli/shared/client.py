"""The client for the HTTP API of a running daemon."""

from __future__ import annotations

import argparse
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import httpx

from flowmap.errors import QueryError
from flowmap.system.names import is_address, look_up, lookup_problem

TIMEOUT = 30.0
"""Seconds to wait for an answer. The daemon may ask ClickHouse several questions for it, each of up to 10 s."""

# Why a server may close the connection without an answer: over plain HTTP, over TLS.
_CLOSED = ("; is it https://?", "; does it want a certificate (--cert-file, --key-file)?")


def connect(arguments: argparse.Namespace, url: str | None = None) -> DaemonClient:
    """A client for the daemon of ``options.add_daemon``; QueryError for unusable files or passwords.

    ``url``: one of several; None: the only one.
    """
    chosen: str = arguments.url if url is None else url
    trust = None
    if chosen.startswith("https:"):
        trust = _trust(arguments.ca_file, arguments.cert_file, arguments.key_file)
    return DaemonClient(chosen, login=_login(arguments), trust=trust)


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
        return (error.reason or "no certificate in PEM").replace("_", " ").lower()
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
        raise QueryError(f"no password for {arguments.user}; give --password-file or FLOWMAP_PASSWORD")
    try:
        f"{arguments.user}{password}".encode()
    except UnicodeEncodeError as error:
        raise QueryError("the user name or the password is not UTF-8 text") from error
    return arguments.user, password


class Client(Protocol):
    """Answers of the JSON API: of a daemon, or of what answers like one."""

    def get(self, path: str, parameters: Mapping[str, str | int | None] | None = None) -> dict[str, Any]:
        """The JSON object at ``/api/v1/<path>``. Parameters that are None are left out. QueryError on failure."""


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

        QueryError for an invalid ``url``.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise QueryError(f"{url!r} is not the URL of a daemon; write http://127.0.0.1:10817", field="url")
        if parts.username is not None or parts.password is not None:
            raise QueryError("every user can see a password in a URL; use --user and --password-file", field="url")
        self._url = url.rstrip("/")
        self._host = parts.hostname
        self._urls = [httpx.URL(self._url)] if transport is not None or is_address(parts.hostname) else []
        """The URL with each address of its host that did not refuse yet; empty before the first request."""
        # The host name stays in the Host header and in SNI: the certificate is for the name, not for the address.
        self._headers = {"host": parts.netloc}
        self._extensions = {"sni_hostname": parts.hostname}
        # The daemon is on this host or network, so proxies of the environment do not apply.
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
        """Read the JSON object at ``/api/v1/<path>``. Parameters that are None are left out. QueryError on failure."""
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        return self._decode(self._ask(path, given))

    def post(self, path: str, body: object) -> dict[str, Any]:
        """Send ``body`` as JSON to ``/api/v1/<path>`` and read the JSON object of the answer. QueryError on failure."""
        return self._decode(self._ask(path, {}, body))

    def find(self, path: str) -> dict[str, Any] | None:
        """As :meth:`get`, but None if the daemon answers that it does not exist (404)."""
        response = self._ask(path, {})
        is_problem = response.headers.get("content-type", "").startswith("application/problem+json")
        return None if is_problem and response.status_code == 404 else self._decode(response)

    def events(self, path: str, parameters: Mapping[str, str | int | None]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and data of each event of the stream at ``/api/v1/<path>``, until it ends. QueryError on failure."""
        given = {name: value for name, value in parameters.items() if value is not None}
        with self._failures(), closing(self._send(f"api/v1/{path}", given, None, stream=True)) as response:
            if response.status_code != 200:
                response.read()
                self._decode(response)
            name = ""
            for line in response.iter_lines():
                kind, _, value = line.partition(": ")
                if kind == "event":
                    name = value
                elif kind == "data":
                    yield name, json.loads(value)

    def _ask(self, path: str, parameters: Mapping[str, str | int], body: object = None) -> httpx.Response:
        with self._failures():
            return self._send(f"api/v1/{path}", parameters, body)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """QueryError in place of errors of the network."""
        try:
            yield
        except httpx.TransportError as error:
            problem = _tls_problem(error)
            if problem:
                raise QueryError(f"{self._url}: {problem}") from error
            if isinstance(error, httpx.ReadTimeout):
                late = f"no answer in {TIMEOUT:g} s; the daemon hangs, or the ClickHouse that it reads"
                raise QueryError(f"{self._url}: {late}; see the daemon's log") from error
            if not isinstance(error, httpx.ConnectError):
                closed = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
                hint = _CLOSED[self._url.startswith("https:")] if closed else ""
                raise QueryError(f"{self._url}: {str(error) or type(error).__name__}{hint}") from error
            raise QueryError(
                f"no daemon answers at {self._url}; start one with `flowmap run` or name it with --url"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise QueryError(f"{self._url}: {str(error) or type(error).__name__}") from error

    def _send(
        self, path: str, parameters: Mapping[str, str | int], body: object, *, stream: bool = False
    ) -> httpx.Response:
        """Ask the first address of the daemon that accepts a connection."""
        if not self._urls:
            self._urls = [httpx.URL(self._url).copy_with(host=address) for address in self._addresses()]
        while True:
            try:
                request = self._client.build_request(
                    "GET" if body is None else "POST",
                    f"{self._urls[0]}/{path}",
                    params=parameters,
                    json=body,
                    headers=self._headers,
                    extensions=self._extensions,
                )
                return self._client.send(request, stream=stream)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if len(self._urls) == 1:
                    raise
                del self._urls[0]

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
            raise QueryError(f"{self._url} answers {response.status_code} without JSON; is this flowmap?") from error
        if not isinstance(body, dict):
            raise QueryError(f"{self._url} answers {response.status_code} with unexpected JSON; is this flowmap?")
        if response.status_code != 200:
            hint = " Use --user and --password-file." if response.status_code == 401 else ""
            raise QueryError(_problem(body, response.status_code) + hint)
        return body


def _tls_problem(error: BaseException | None) -> str:
    """The TLS failure behind ``error`` in one line; empty if there is none."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}; give the CA with --ca-file"
    if error is None:
        return ""
    reason = (error.reason or "failed").replace("_", " ").lower()
    if reason == "wrong version number":
        return "this server does not use TLS; is it http://?"
    return f"TLS: {reason}"


def _problem(body: Mapping[str, Any], status: int) -> str:
    """A problem (RFC 9457) in one line. Its detail names the wrong fields."""
    return " ".join(str(body.get("detail") or body.get("title") or f"the daemon answers {status}").split())
