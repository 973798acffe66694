"""Which connections are let in, and which must go for them.

The house is small on purpose. When it is full, or one client has its share, a newcomer gets the place of a connection
that does nothing: first one that never asked anything, then one of the client that has most, then the oldest. So
whoever holds connections open, or reads an answer slowly, cannot keep Prometheus out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

MAX_CONNECTIONS = 64
"""Connections at one time."""
MAX_PER_CLIENT = 32
"""Connections of one client (``access.client_network``) at one time."""
WAITING_GRACE = 1.0
"""Seconds a connection may ask nothing before it can lose its place."""
ANSWERING_GRACE = 10.0
"""The same for one that is being answered."""


class Member(Protocol):
    """A connection as the crowd sees it."""

    network: str
    answering: bool
    answered: int
    """Requests so far."""
    since: float
    """When it came, or began to wait or to be answered."""


def over_limit(members: Iterable[Member], network: str) -> str:
    """Why another connection of ``network`` is too many: ``client`` or ``connections``; empty if it is not."""
    counts = Counter(member.network for member in members)
    if counts[network] >= MAX_PER_CLIENT:
        return "client"
    return "connections" if counts.total() >= MAX_CONNECTIONS else ""


def evict_idle(members: Iterable[Member], network: str | None, now: float) -> Member | None:
    """The connection that must go for a newcomer, among those of ``network`` or, for None, among all."""
    everyone = list(members)
    counts = Counter(member.network for member in everyone)
    candidates = [
        member
        for member in everyone
        if network in (None, member.network)
        and now - member.since >= (ANSWERING_GRACE if member.answering else WAITING_GRACE)
    ]
    return min(
        candidates,
        key=lambda member: (member.answering, member.answered > 0, -counts[member.network], member.since),
        default=None,
    )
