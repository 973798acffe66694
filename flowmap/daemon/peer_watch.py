"""Keeps the addresses of named peers current: resolves host names and reads files again.

Names are never resolved on the engine's thread, and a failure keeps what is known. The engine gets the configuration
with addresses in place of host names, as after a reload: so a recording has them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from flowmap.config import Config
from flowmap.config.yaml_file import read_yaml
from flowmap.errors import ConfigError
from flowmap.export.peer_groups import KnownTargets, PeerNaming, Target, naming
from flowmap.export.peers import Peers
from flowmap.model.address import Address
from flowmap.model.peer_entry import EntryKind, PeerEntry, read_entry
from flowmap.system.names import lookup_problem

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two rounds. The C library does not report how long an address is valid."""

Apply = Callable[[Config], Awaitable[None]]


class PeerWatch:
    """The names of peers of one daemon. Used in the event loop."""

    def __init__(self, config: Config) -> None:
        self.problems: dict[str, str] = {}
        """What could not be resolved or read at the last round, by entry."""
        self.naming = PeerNaming({}, (), 0)
        self.names = Peers(config.export.peers)
        """The same names, for answers about the past. Any thread may ask it."""
        self._config = config
        self._known = KnownTargets()
        self._task: asyncio.Task[None] | None = None
        self._told: dict[str, str] = {}

    @property
    def config(self) -> Config:
        """The configuration with addresses in place of host names and files, as far as they are known."""
        return self.configured(self._config)

    def configured(self, config: Config) -> Config:
        """Another configuration in the same form."""
        self.naming = naming(config.export.peers, self._known)
        if all(kind is EntryKind.PATTERN for _, (kind, *_) in _entries(config)):
            return config
        # A recording's settings are checked when it is read, and a peer needs at least one pattern.
        known = {name: texts for name, texts in self.naming.named.items() if texts}
        return config.model_copy(update={"export": config.export.model_copy(update={"peers": known})})

    def replace(self, config: Config) -> None:
        """Watch the names of another configuration from now on."""
        self._config = config
        self.names.replace(self.config.export.peers)

    def start(self, apply: Apply) -> None:
        """Begin. ``apply`` gets the configuration whenever a peer has other addresses."""
        self._task = asyncio.create_task(self._run(apply), name="peers")

    async def aclose(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> None:
        """One round: resolve every host name and read every file."""
        problems: dict[str, str] = {}
        for text, entry in _entries(self._config):
            if entry.kind is EntryKind.PATTERN:
                continue
            try:
                targets = await self._targets(entry)
            except (OSError, UnicodeError, ConfigError) as error:
                problems[text] = lookup_problem(error) or str(error)
            else:
                self._known.found(text, targets, time.monotonic())
        self.problems = problems

    async def _run(self, apply: Apply) -> None:
        applied = self._config.export.peers
        while True:
            await self.look()
            config = self.config
            self._report()
            if config.export.peers != applied:
                self.names.replace(config.export.peers)
                await apply(config)
                applied = config.export.peers
            await asyncio.sleep(EVERY)

    def _report(self) -> None:
        """Log each problem and conflict once."""
        now = {f"export.peers: {text}": why for text, why in self.problems.items()}
        for one in self.naming.conflicts:
            now[f"export.peers: {one.endpoint}"] = f"named {one.counts} and {one.other}; {one.counts} counts"
        for what, why in now.items():
            if self._told.get(what) != why:
                log.warning("%s: %s", what, why)
        self._told = now

    async def _targets(self, entry: PeerEntry) -> list[Target]:
        if entry.kind is EntryKind.HOST:
            return await _addresses(entry.text, entry.port)
        found: list[Target] = []
        for host, port in await asyncio.to_thread(read_targets, entry.text):
            found += await _addresses(host, port)
        return found


def read_targets(pattern: str) -> list[Target]:
    """Hosts and ports in the files that a path with ``*`` stands for; ConfigError for a file that is not valid."""
    paths = sorted(glob.glob(pattern)) if any(char in pattern for char in "*?") else [pattern]
    if not paths:
        raise ConfigError(f"{pattern}: there is no such file")
    return [target for path in paths for target in _read_file(path)]


def _read_file(path: str) -> list[Target]:
    groups: Any = read_yaml(path).value
    found: list[Target] = []
    try:
        for group in groups or ():
            for text in group["targets"]:
                host, colon, port = str(text).rpartition(":")
                if not colon or not port.isdecimal() or not 1 <= int(port) <= 65535 or not host:
                    raise ConfigError(f"{path}: {text!r} is not host:port")
                found.append((host.strip("[]"), int(port)))
    except (TypeError, KeyError) as error:
        raise ConfigError(f"{path}: not a list of groups with targets, as file_sd of Prometheus has them") from error
    return found


async def _addresses(host: str, port: int | None) -> list[Target]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(Address.parse(str(one[4][0]).partition("%")[0])), port) for one in found))


def _entries(config: Config) -> Iterable[tuple[str, PeerEntry]]:
    texts = dict.fromkeys(text for texts in config.export.peers.values() for text in texts)
    return [(text, read_entry(text)) for text in texts]
