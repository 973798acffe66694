"""Limits of connections, and which idle connection is closed to admit a new one.

Clients that hold connections open must not keep Prometheus out. A connection without a request yet is closed first,
then one of the client with the most connections, then the oldest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Protocol

MAX_CONNECTIONS = 64
"""Connections at one time."""
MAX_PER_CLIENT = 32
"""Connections of one client (``access.client_network``) at one time."""
IDLE_GRACE = 1.0
"""Seconds for which a connection may be idle before it can be closed."""


class Member(Protocol):
    """A connection, as the limits see it."""

    network: str
    answering: bool
    answered: int
    """Requests so far."""
    since: float
    """When it was accepted, or became idle."""


def over_limit(members: Collection[Member], network: str) -> str:
    """The limit that another connection of ``network`` exceeds: ``client`` or ``connections``; empty: none."""
    if sum(member.network == network for member in members) >= MAX_PER_CLIENT:
        return "client"
    return "connections" if len(members) >= MAX_CONNECTIONS else ""


def evict_idle(members: Collection[Member], network: str | None, now: float) -> Member | None:
    """The idle connection to close for a new one, among those of ``network`` or, for None, among all."""
    counts = Counter(member.network for member in members)
    idle = [member for member in members if not member.answering and now - member.since >= IDLE_GRACE]
    return min(
        (member for member in idle if network in (None, member.network)),
        key=lambda member: (member.answered > 0, -counts[member.network], member.since),
        default=None,
    )
