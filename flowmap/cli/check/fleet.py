"""Checks of the fleet: the account, the server, its clock, and whether it can lose what it keeps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from flowmap.cli.check.host import mode_of
from flowmap.config import Config
from flowmap.config.fleet import FleetConfig
from flowmap.daemon.clients import control_transport, credentials_provider, endpoint_url
from flowmap.daemon.fleet import account_of, server_address, settings_of
from flowmap.errors import ConfigError, ControlError, FleetError
from flowmap.fleet.answers import Refused, Signer
from flowmap.fleet.reporting import SAME
from flowmap.fleet.requests import FleetScope
from flowmap.fleet.server.connection import Server, other_version
from flowmap.fleet.server.exchange import VERSION
from flowmap.fleet.server.probe import Probe, probe
from flowmap.fleet.settings import MemberSettings
from flowmap.sources.base import Finding

COST = "this host makes rate / size calls and shares no answers"
KEYS = "remove the keys flowmap:* from the server: another program changed them. The hosts report anew"
LARGE = 100
"""Up to this ``fleet.size`` may be any number."""
REMEDIES = {
    "account": "set fleet.scope",
    "auth": "see the user in fleet.url, and fleet.password_file",
    "denied": "give the user the rights in flowmap/fleet/README.md",
    "full": "give the server more memory",
    "keys": KEYS,
    "library": "pip install 'flowmap[fleet]'",
    "protocol": KEYS,
    "read_only": "name the primary server in fleet.url",
    "script": f"the server must be Valkey, or Redis from 6.2 on. If it is, {KEYS}",
    "tls": "see fleet.tls",
    "version": "upgrade all hosts",
}
"""By the reason of an error; all others are about the address."""


async def look(config: Config) -> list[Finding]:
    """All findings; failed only if the key file cannot be used, as the daemon runs without its fleet."""
    if config.fleet.url is None:
        return []
    return [*_files(config.fleet), *await _shared(config)]


def _files(fleet: FleetConfig) -> Iterator[Finding]:
    """Modes of the files with secrets. What is missing is found where it is used."""
    files = {"key_file": fleet.key_file, "password_file": fleet.password_file, "tls.key_file": fleet.tls.key_file}
    for name, path in files.items():
        if path is not None and Path(path).exists():
            yield mode_of(f"files.fleet.{name}", path, secret=True)


async def _shared(config: Config) -> list[Finding]:
    server = Server(server_address(config))
    try:
        scope = await scope_of(config)
        settings = settings_of(config, "check")
        await probe(server, scope)  # connects, and gives it the script
        began, wall = time.monotonic(), time.time()
        seen = await probe(server, scope)
        took = time.monotonic() - began
        check_use(seen, server)
        found = [Finding("fleet.server", "ok", f"{server.address} answered in {1000 * took:.1f} ms")]
        found.append(clock_finding(seen.now, wall, took, config.attribute.grace))
        found += hosts_findings(seen, settings)
        found += _key(seen, scope, settings)
        found.append(await _pushes(server, scope.channel(settings.host), seen))
        return found + _memory(await server.info("memory"))
    except ConfigError as error:
        return [Finding("fleet.key_file", "failed", str(error), "correct the file: the daemon does not start with it")]
    except (FleetError, ControlError) as error:
        remedy = REMEDIES.get(error.reason, "see fleet.url")
        return [Finding("fleet.server", "degraded", f"{error}: {COST}", remedy)]
    finally:
        await server.aclose()


def check_use(seen: Probe, server: Server) -> None:
    """FleetError if an exchange would fail."""
    denied = sorted(set(seen.denied) - {"PUBLISH"})
    if denied:
        raise FleetError(f"{server.address}: the user may not run {', '.join(denied)}", reason="denied")
    if seen.version and seen.version != str(VERSION):
        raise other_version(server.address)


def hosts_findings(seen: Probe, settings: MemberSettings) -> Iterator[Finding]:
    """The findings about the hosts of the fleet: their number, and their rate."""
    hosts = seen.hosts + seen.missing
    every = settings.size / settings.rate
    message = f"{seen.hosts} hosts are there, {seen.missing} are missing; fleet.size is {settings.size}: "
    message += f"while the server is away, each host makes one call every {every:,.{0 if every >= 10 else 1}f} s"
    if hosts > settings.size:
        message += ", together more than control_plane.rate"
        yield Finding("fleet.hosts", "degraded", message, f"set fleet.size to {hosts} or more on all hosts")
    elif settings.size > max(LARGE, 10 * hosts) and hosts:
        message += ", which may be too seldom"
        yield Finding("fleet.hosts", "degraded", message, "set fleet.size to the most hosts that there will be")
    else:
        yield Finding("fleet.hosts", "ok", message)
    if seen.rate is not None and seen.rate < settings.rate * SAME:
        message = (
            f"the fleet keeps to {seen.rate:g} calls a second, the lowest rate of its hosts, not {settings.rate:g}"
        )
        yield Finding("fleet.rate", "degraded", message, "set the same control_plane.rate on all hosts")


def _key(seen: Probe, scope: FleetScope, settings: MemberSettings) -> Iterator[Finding]:
    if not (seen.answer and settings.keys):
        return
    try:
        Signer(scope.identity, settings.keys).decode(seen.question, seen.answer)
    except Refused as error:
        if error.reason == "signature":
            message = "the newest answer of the fleet is not signed with a key of this host: it uses no such answer"
            yield Finding("fleet.key", "degraded", message, "give all hosts the same fleet.key_file, and reload them")
    else:
        yield Finding("fleet.key", "ok", "the newest answer of the fleet is signed with a key of this host")


async def _pushes(server: Server, channel: str, seen: Probe) -> Finding:
    if "PUBLISH" in seen.denied:
        message = "the user may not run PUBLISH: hosts look for the answers of this one every two seconds at most"
        return Finding("fleet.messages", "degraded", message, "let the user run PUBLISH on &flowmap:*")
    async with contextlib.aclosing(server.messages(channel)) as messages:
        try:
            await anext(messages)
        except FleetError as error:
            message = f"{error}: this host looks for the answers of others every two seconds at most"
            return Finding("fleet.messages", "degraded", message, "let the user run SUBSCRIBE and PING on &flowmap:*")
    return Finding("fleet.messages", "ok", "the server passes the answers of other hosts on as they come")


async def scope_of(config: Config) -> FleetScope:
    """The hosts that the configured host shares with; FleetError, ControlError or ConfigError if they are not known."""
    transport = control_transport(config.control_plane)
    try:
        keys = await credentials_provider(config.control_plane, transport).get()
    finally:
        await transport.aclose()
    return FleetScope(endpoint_url(config.control_plane), account_of(keys, config.fleet.scope), config.fleet.scope)


def clock_finding(server: float, wall: float, took: float, grace: float) -> Finding:
    """The finding about the server's clock, read in an exchange that began at ``wall`` and took ``took`` seconds."""
    off = server - (wall + took / 2)
    message = f"the server's clock is {abs(off):.3f} s {'ahead' if off >= 0 else 'behind'}"
    if abs(off) + took <= grace:
        return Finding("fleet.clock", "ok", message)
    message += f", more than attribute.grace ({grace:g} s): answers of other hosts name no owner here"
    return Finding("fleet.clock", "degraded", message, "synchronize the clocks of all hosts and of the server")


def _memory(info: dict[str, str]) -> list[Finding]:
    policy = info.get("maxmemory_policy", "").strip()
    if policy in ("", "noeviction"):
        return []
    message = (
        f"maxmemory-policy is {policy}: under pressure the server forgets questions and answers, which costs calls"
    )
    return [Finding("fleet.memory", "degraded", message, "set maxmemory-policy noeviction")]
