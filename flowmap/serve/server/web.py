"""The settings of the HTTP server that can change while it runs: certificates, users, headers.

Their files are looked at every few seconds. What cannot be used changes nothing: the old stays in force, the metric
says so, and the log says why, once for every change of the files.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flowmap.config import HttpConfig, read_web_config
from flowmap.config.web import HttpHeaders, TlsServer
from flowmap.errors import ConfigError
from flowmap.serve.server.passwords import Passwords
from flowmap.serve.server.tls import server_context

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two looks at the files."""

Signature = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class LoadedWebConfig:
    """Settings as read, checked, with the files they came from."""

    tls: TlsServer | None
    context: ssl.SSLContext | None
    hashes: Mapping[str, str]
    headers: Mapping[str, str]
    files: tuple[str, ...]


def load_web(http: HttpConfig) -> LoadedWebConfig:
    """Read everything; ConfigError for what cannot be used."""
    tls, users, headers = http.tls, http.users or {}, HttpHeaders()
    files: tuple[str, ...] = ()
    if http.web_config is not None:
        web = read_web_config(http.web_config)
        tls, users, headers = web.tls_server_config, web.basic_auth_users, web.http_server_config.headers
        files = (http.web_config,)
        try:
            http.check_guard(tls is not None, users)
        except ValueError as error:
            raise ConfigError(f"http: {error}") from error
    return LoadedWebConfig(
        tls=tls,
        context=server_context(tls) if tls is not None else None,
        hashes={name: secret.get_secret_value() for name, secret in users.items()},
        headers={name.lower(): str(value) for name, value in headers.model_dump(by_alias=True).items() if value},
        files=files + (tls.files if tls is not None else ()),
    )


class Web:
    """The settings in force."""

    def __init__(self, http: HttpConfig, *, report: Callable[[bool], None] = lambda _: None) -> None:
        """ConfigError if they cannot be used. ``report`` hears whether the files, as they are now, can be."""
        self.http = http
        self._report = report
        self._loaded = load_web(http)
        self._seen = _signature(self._loaded.files)
        self.passwords: Passwords | None = None
        self._take(self._loaded)

    @property
    def context(self) -> ssl.SSLContext | None:
        """For the next connection; None for plain HTTP."""
        return self._loaded.context

    @property
    def headers(self) -> Mapping[str, str]:
        """Of every answer, besides the fixed ones; names in lower case."""
        return self._loaded.headers

    @property
    def client_names(self) -> frozenset[str]:
        """Names a client's certificate must have one of; empty: any."""
        return frozenset(self._loaded.tls.client_allowed_sans if self._loaded.tls is not None else ())

    async def watch(self) -> None:
        """Look at the files for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self.refresh()

    async def refresh(self) -> bool:
        """Take over what changed in the files since the last look; whether they can be used, as far as is known."""
        seen = await asyncio.to_thread(_signature, self._loaded.files)
        if seen == self._seen:
            return True
        self._seen = seen  # taken before reading: what changes meanwhile is seen next time
        try:
            loaded = await asyncio.to_thread(load_web, self.http)
        except ConfigError as error:
            self._report(False)
            log.error("the old TLS settings and users stay in force: %s", "; ".join(str(error).splitlines()))
            return False
        if loaded.files != self._loaded.files:
            self._seen = ()  # other files: looked at once more, next time
        self._take(loaded)
        self._report(True)
        log.info("TLS settings and users were read again")
        return True

    def _take(self, loaded: LoadedWebConfig) -> None:
        self._loaded = loaded
        if not loaded.hashes:
            self.passwords = None
        elif self.passwords is None:
            self.passwords = Passwords(loaded.hashes)
        else:
            self.passwords.replace(loaded.hashes)


def _signature(files: tuple[str, ...]) -> Signature:
    """Changes when a file does; None for one that cannot be looked at."""
    return tuple(_stamp(name) for name in files)


def _stamp(name: str) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(name)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
