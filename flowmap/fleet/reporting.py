"""Log lines of a member, each at most once in a while."""

from __future__ import annotations

import logging

from flowmap.errors import ControlError, FleetError
from flowmap.fleet.server.exchange import Reply
from flowmap.fleet.settings import MemberSettings

log = logging.getLogger(__name__)

LOG_EVERY = 60.0
"""Seconds between two lines about the same failure."""
SAME = 0.999
"""A rate is rounded on its way through the server."""
LASTING = 30.0
"""Seconds for which there must be too many hosts: a daemon that was killed counts as missing until it runs for 25 s."""
SETTINGS_EVERY = 3600.0
"""Seconds between two lines about the same setting."""


class Reporting:
    """Writes the lines. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._lost, self._unreported = False, 0
        self._more_since: float | None = None

    def reached(self) -> None:
        """The server answered after failures: worth a line if there was one about them."""
        if self._lost:
            log.info("fleet: the server answers again")
        self._lost = False

    def lost(self, error: FleetError | ControlError, now: float) -> None:
        """An exchange failed."""
        more = f" ({self._unreported} more failures since the last such line)" if self._unreported else ""
        line = f"{error}; this host asks alone, at rate / size, until the server answers{more}"
        if self._warn("lost", now, LOG_EVERY, line):
            self._lost, self._unreported = True, 0
        else:
            self._unreported += 1

    def refused(self, reason: str, now: float) -> None:
        """An answer of another host was not used."""
        if reason == "signature":
            line = "answers of other hosts are not signed with a key of this host and not used; is fleet.key_file equal"
            self._warn(reason, now, LOG_EVERY, f"{line} on all hosts? See flowmap_fleet_refused_total")

    def take(self, reply: Reply, settings: MemberSettings, now: float) -> None:
        """Compare the fleet with this host's settings."""
        hosts = reply.hosts + reply.missing
        self._more_since = None if hosts <= settings.size else now if self._more_since is None else self._more_since
        if self._more_since is not None and now - self._more_since >= LASTING:
            cost = "while the server is away the hosts together make more calls than control_plane.rate"
            line = f"there are {hosts} hosts, more than fleet.size ({settings.size}): {cost}; raise fleet.size"
            self._warn("size", now, SETTINGS_EVERY, line)
        if reply.rate < settings.rate * SAME:
            line = f"the fleet keeps to {reply.rate:g} calls a second, the lowest control_plane.rate of its hosts, not"
            self._warn("rate", now, SETTINGS_EVERY, f"{line} to the {settings.rate:g} of this host")

    def _warn(self, what: str, now: float, every: float, line: str) -> bool:
        due = now - self._at.get(what, float("-inf")) >= every
        if due:
            self._at[what] = now
            log.warning("fleet: %s", line)
        return due
