"""Checks of the fleet: the account, the server, its clock, and whether it can lose what it keeps."""

from __future__ import annotations

import contextlib
import secrets
import time

from flowmap.config import Config
from flowmap.daemon.clients import control_transport, credentials_provider, endpoint_url
from flowmap.daemon.fleet import account_of, server_address, settings_of
from flowmap.errors import ConfigError, ControlError, FleetError
from flowmap.fleet.exchange import Exchange
from flowmap.fleet.requests import FleetScope
from flowmap.fleet.server import Server
from flowmap.sources.base import Finding

COST = "this host makes rate / size calls and shares no answers"
REMEDIES = {
    "account": "set fleet.scope",
    "auth": "see the user in fleet.url, and fleet.password_file",
    "denied": "give the user the rights in flowmap/fleet/README.md",
    "full": "give the server more memory",
    "library": "pip install 'flowmap[fleet]'",
    "read_only": "name the primary server in fleet.url",
    "tls": "see fleet.tls",
    "version": "upgrade all hosts",
}
"""By the reason of an error; all others are about the address."""


async def look(config: Config) -> list[Finding]:
    """All findings; never failed, as the daemon runs without its fleet."""
    if config.fleet.url is None:
        return []
    server = Server(server_address(config))
    try:
        scope = await scope_of(config)
        settings = settings_of(config)
        # A leave changes nothing, but needs the same rights as every other exchange.
        leave = Exchange(
            host=f"check-{secrets.token_hex(8)}",
            epoch="",
            rate=settings.rate,
            burst=settings.burst,
            size=settings.size,
            recheck=settings.recheck,
            lease=settings.lease,
            notice="leave",
        )
        await server.exchange(scope.keys(), leave.arguments())  # connects, and gives it the script
        began, wall = time.monotonic(), time.time()
        reply = await server.exchange(scope.keys(), leave.arguments())
        took = time.monotonic() - began
        found = [Finding("fleet.server", "ok", f"{server.address} answered in {1000 * took:.1f} ms")]
        found.append(clock_finding(float(bytes(reply[0])), wall, took, config.attribute.grace))
        found.append(await _pushes(server, scope.channel(settings.host)))
        return found + _memory(await server.info("memory"))
    except (FleetError, ControlError, ConfigError) as error:
        remedy = REMEDIES.get(getattr(error, "reason", ""), "see fleet.url")
        return [Finding("fleet.server", "degraded", f"{error}: {COST}", remedy)]
    finally:
        await server.aclose()


async def _pushes(server: Server, channel: str) -> Finding:
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
