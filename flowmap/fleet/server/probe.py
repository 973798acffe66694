"""What ``flowmap fleet check`` asks the server: its user's rights, and the state of the fleet."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from flowmap.errors import FleetError
from flowmap.fleet.requests import FleetScope
from flowmap.fleet.server.connection import Script, Server

CHECK = Script(Path(__file__).with_name("check.lua"))
"""Runs every command of the exchange under keys of its own."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The server as a user with these rights sees it."""

    now: float
    """Seconds of the server's clock."""
    version: str
    """Of the fleet's state; empty: there is no state."""
    rate: float | None
    """Calls a second that the fleet keeps to; None without a state."""
    hosts: int
    missing: int
    question: str
    """The question with the newest answer; empty: there is none."""
    answer: bytes
    denied: tuple[str, ...]
    """Commands that the user may not run."""


async def probe(server: Server, scope: FleetScope) -> Probe:
    """Run every command that an exchange needs, and read the state; FleetError if the server cannot be used."""
    name = f"check-{secrets.token_hex(8)}"
    keys = scope.named(f"{name}-1", f"{name}-2", "state", "answers", "stored", "hosts")
    raw = await server.run(CHECK, keys, [name])
    now, version, rate, hosts, missing, question, answer, denied = (
        one if isinstance(one, bytes) else str(one).encode() for one in raw
    )
    try:
        return Probe(
            float(now),
            version.decode(),
            float(rate) if rate else None,
            int(hosts),
            int(missing),
            question.decode(),
            answer,
            tuple(denied.decode().split()),
        )
    except ValueError as error:
        raise FleetError("the server's reply is not one of flowmap's script", reason="protocol") from error
