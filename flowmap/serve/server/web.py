"""The settings of the HTTP server that can change while it runs: certificates, users, headers.

Their files are checked every few seconds. Invalid settings change nothing: the metric shows it, and the log has the
cause, once for each change of the files.
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
"""Seconds between two checks of the files."""

Signature = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class LoadedWebConfig:
    """Valid settings, with the files that they are from."""

    tls: TlsServer | None
    context: ssl.SSLContext | None
    hashes: Mapping[str, str]
    headers: Mapping[str, str]
    files: tuple[str, ...]


def load_web(http: HttpConfig) -> LoadedWebConfig:
    """Read all files; ConfigError if the settings cannot be used."""
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
    """The running settings."""

    def __init__(self, http: HttpConfig, *, report: Callable[[bool], None] = lambda _: None) -> None:
        """ConfigError if they cannot be used. ``report`` is called with whether changed files can be used."""
        self.http = http
        self._report = report
        self._loaded = load_web(http)
        self._seen = _signature(self._loaded.files)
        self.passwords: Passwords | None = None
        self._take(self._loaded)

    @property
    def loaded(self) -> LoadedWebConfig:
        """The running settings: another value after each change."""
        return self._loaded

    @property
    def context(self) -> ssl.SSLContext | None:
        """The TLS context for new connections; None for plain HTTP."""
        return self._loaded.context

    @property
    def headers(self) -> Mapping[str, str]:
        """Configured headers of every answer; names in lower case."""
        return self._loaded.headers

    @property
    def client_names(self) -> frozenset[str]:
        """The certificate of a client must have one of these names; empty: any."""
        return frozenset(self._loaded.tls.client_allowed_sans if self._loaded.tls is not None else ())

    async def watch(self) -> None:
        """Check the files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self.refresh()

    async def refresh(self) -> bool:
        """Apply the files if they changed since the last check. Returns whether they can be used."""
        seen = await asyncio.to_thread(_signature, self._loaded.files)
        if seen == self._seen:
            return True
        self._seen = seen  # taken before reading: a change during it is found by the next check
        try:
            loaded = await asyncio.to_thread(load_web, self.http)
        except ConfigError as error:
            self._report(False)
            log.error("http settings not reloaded, keeping the running ones: %s", "; ".join(str(error).splitlines()))
            return False
        if loaded.files != self._loaded.files:
            self._seen = ()  # other files: checked once more
        self._take(loaded)
        self._report(True)
        log.info("http settings reloaded")
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
    """A value that changes with the files; None for a file that cannot be examined."""
    return tuple(_stamp(name) for name in files)


def _stamp(name: str) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(name)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
