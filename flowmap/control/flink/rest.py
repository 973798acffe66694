"""The REST interface of one cluster's JobManagers: one GET at a time, at the JobManager that answers.

Flink's own REST has no users. It may ask for a client certificate; a proxy before it may ask for a token or a password
and put a prefix before the path. A standby JobManager answers for the leader, so any address will do.
"""

from __future__ import annotations

import base64
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

from flowmap.control.flink.replies import json_of
from flowmap.control.http.route import Route
from flowmap.control.http.transport import HttpTransport
from flowmap.control.http.transport_api import Transport
from flowmap.errors import AuthError, ConfigError, ControlError, Transient

T = TypeVar("T")

TIMEOUT = 5.0
"""Seconds for one answer."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where a cluster's JobManagers are and how they are reached."""

    name: str
    """The cluster."""
    urls: tuple[str, ...]
    """``http://host:port`` or ``https://host:port``."""
    path_prefix: str = "/"
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    bearer_token_file: str | None = None
    username: str | None = None
    password_file: str | None = None


class JobManagerRest:
    """Gets answers of one cluster. Used in one event loop."""

    def __init__(self, access: Access, *, transport: Transport | None = None) -> None:
        """ConfigError if a file of the access cannot be used."""
        self.access = access
        self.calls: Counter[str] = Counter()
        """Calls by path; ids in it are replaced by ``:id``."""
        self._transport = HttpTransport(Route(tls=tls_context(access))) if transport is None else transport
        self._urls = list(access.urls)

    @property
    def url(self) -> str:
        """The JobManager that answered last."""
        return self._urls[0]

    async def get(self, *path: str) -> object:
        """The decoded answer to ``GET /part/part…``; None for 404. ControlError if no JobManager answers."""
        self.calls["/" + "/".join(":id" if len(part) >= 24 or ":" in part else part for part in path)] += 1
        failure: ControlError | None = None
        for url in tuple(self._urls):
            try:
                answer = await self._get(url, path)
            except Transient as error:
                failure = failure or error
                self._urls.remove(url)
                self._urls.append(url)
            else:
                return answer
        assert failure is not None, "a cluster has at least one URL"
        raise failure

    async def get_each(self, *path: str) -> list[object]:
        """The answers of all JobManagers that answer with more than 404; ControlError if none can be reached."""
        answers, failures = [], list[ControlError]()
        for url in tuple(self._urls):
            try:
                answers.append(await self._get(url, path))
            except ControlError as error:
                failures.append(error)
        if not answers:
            raise failures[0]
        return [answer for answer in answers if answer is not None]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _get(self, url: str, path: tuple[str, ...]) -> object:
        prefix = self.access.path_prefix.rstrip("/")
        target = f"{url}{prefix}/{'/'.join(quote(part, safe=':') for part in path)}"
        reply = await self._transport.send("GET", target, self._headers(), timeout=TIMEOUT)
        where = f"{urlsplit(url).netloc} at /{'/'.join(path)[:60]}"
        if reply.status == 404:
            return None
        return json_of(reply.status, reply.body, where)

    def _headers(self) -> Mapping[str, str]:
        """Files are read at every call: a token may be renewed at any time."""
        access = self.access
        if access.bearer_token_file is not None:
            return {"authorization": f"Bearer {read_secret(access.bearer_token_file)}"}
        if access.username is not None:
            login = f"{access.username}:{read_secret(access.password_file) if access.password_file else ''}"
            return {"authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        return {}


def tls_context(access: Access) -> ssl.SSLContext | None:
    """The TLS context of a client with the given authorities and certificate; None: the defaults. ConfigError."""
    if access.ca_file is None and access.cert_file is None:
        return None
    context = _read(access, "ca_file", lambda: ssl.create_default_context(cafile=access.ca_file))
    if access.cert_file is not None:
        chain = access.cert_file
        _read(access, "cert_file", lambda: context.load_cert_chain(chain, access.key_file))
    return context


def _read(access: Access, key: str, load: Callable[[], T]) -> T:
    place = f"flink.clusters {access.name}: tls.{key}: {getattr(access, key)}"
    try:
        return load()
    except ssl.SSLError as error:
        raise ConfigError(f"{place}: holds no usable certificate in PEM") from error
    except OSError as error:
        raise ConfigError(f"{place}: cannot be read: {error.strerror}") from error


def read_secret(path: str) -> str:
    """The text of a file that holds a secret on one line; AuthError without the text."""
    try:
        text = Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        raise AuthError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from error
    if not text or not text.isprintable():
        raise AuthError(f"{path}: is empty or has more than one line")
    return text
