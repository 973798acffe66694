"""Log lines of a member, each at most once in a while."""

from __future__ import annotations

import logging

from flowmap.errors import ControlError, FleetError
from flowmap.fleet.exchange import Reply
from flowmap.fleet.settings import MemberSettings

log = logging.getLogger(__name__)

LOG_EVERY = 60.0
"""Seconds between two lines about the same failure."""
SAME = 0.999
"""A rate is rounded on its way through the server."""
SETTINGS_EVERY = 3600.0
"""Seconds between two lines about the same setting."""


class Reporting:
    """Writes the lines. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def reached(self) -> None:
        """The server answered after failures."""
        log.info("fleet: the server answers again")

    def lost(self, error: FleetError | ControlError, now: float) -> None:
        """An exchange failed."""
        self._warn("lost", now, LOG_EVERY, f"{error}; this host asks alone, at rate / size, until the server answers")

    def refused(self, reason: str, now: float) -> None:
        """An answer of another host was not used."""
        if reason == "signature":
            line = "answers of other hosts are not signed with a key of this host and not used; is fleet.key_file equal"
            self._warn(reason, now, LOG_EVERY, f"{line} on all hosts? See flowmap_fleet_refused_total")

    def take(self, reply: Reply, settings: MemberSettings, now: float) -> None:
        """Compare the fleet with this host's settings."""
        hosts = reply.hosts + reply.missing
        if hosts > settings.size:
            cost = "while the server is away the hosts together make more calls than control_plane.rate"
            line = f"there are {hosts} hosts, more than fleet.size ({settings.size}): {cost}; raise fleet.size"
            self._warn("size", now, SETTINGS_EVERY, line)
        if reply.rate < settings.rate * SAME:
            line = f"the fleet keeps to {reply.rate:g} calls a second, the lowest control_plane.rate of its hosts, not"
            self._warn("rate", now, SETTINGS_EVERY, f"{line} to the {settings.rate:g} of this host")

    def _warn(self, what: str, now: float, every: float, line: str) -> None:
        if now - self._at.get(what, float("-inf")) >= every:
            self._at[what] = now
            log.warning("fleet: %s", line)
