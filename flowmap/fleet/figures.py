"""What a member of a fleet counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flowmap.fleet.server.exchange import Reply


@dataclass(slots=True)
class Figures:
    """Counts since the start, and the state as of the last exchange. Changed in the event loop, read anywhere."""

    up: bool = False
    """Whether the last exchange succeeded."""
    problem: str | None = "the server was not reached yet"
    told: bool = False
    """Whether the server passes answers on as they come; else the host asks for them now and then."""
    subscriptions: int = 0
    """How often the host subscribed to what the server passes on."""
    push_problem: str | None = None
    """Why it does not."""
    lost_messages: int = 0
    """Answers that the server should have passed on, but that only an exchange found."""
    saved: int = 0
    """Answers of other hosts that this host did not have to ask for."""
    local_calls: int = 0
    """Calls from this host's own share of the rate, without the server."""
    waiting: int = 0
    """Questions that this host waits for."""
    failures: Counter[str] = field(default_factory=Counter)
    """Exchanges that failed, by reason."""
    refused: Counter[str] = field(default_factory=Counter)
    """Answers and questions of other hosts that were not used, by reason."""
    queued: int = 0
    oldest: float = 0.0
    hosts: int = 0
    missing: int = 0
    rate: float = 0.0

    def take(self, reply: Reply) -> None:
        """Note the state that the server reports."""
        self.queued, self.oldest, self.rate = reply.queued, reply.oldest, reply.rate
        self.hosts, self.missing = reply.hosts, reply.missing
