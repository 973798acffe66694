"""The name of a member, and what it reports about itself in an exchange.

    name       place/start
    place      host name, port, and a mark of the network namespace: equal after a restart or a reboot
    start      another one for each start of the daemon

So two daemons are never one member, also if their hosts have one name. A daemon that was killed left the name of its
last start behind, which counts as missing. Its next start removes those names of its place that the server saw last
before this start.
"""

from __future__ import annotations

import hashlib
import secrets

PREDECESSOR = 25.0
"""Seconds after the first exchange: by then the server counts a host as missing that was killed before."""


def new_name(host: str, port: int, hardware: bytes | None) -> str:
    """The name of a member that starts now. ``hardware``: address of a network interface; None: nothing is removed."""
    mark = secrets.token_bytes(8) if hardware is None else hardware
    return f"{host}:{port}/{hashlib.sha256(mark).hexdigest()[:8]}/{secrets.token_hex(4)}"


class Notices:
    """What the next exchange reports beside questions and results: ``Exchange.notice``."""

    def __init__(self) -> None:
        self.jumped = False
        """The server's clock was set."""
        self.lost_reply = False
        self._first: float | None = None
        self._started = False

    def next(self, now: float) -> str:
        """The notice of an exchange at a monotonic instant."""
        if self.jumped or self.lost_reply:
            return "jump" if self.jumped else "lost"
        if self._started or self._first is None or now - self._first < PREDECESSOR:
            return ""
        return f"start {now - self._first:.3f}"

    def delivered(self, notice: str, now: float) -> None:
        """The server replied to an exchange with this notice."""
        self.lost_reply = False
        self._first = now if self._first is None else self._first
        self._started = self._started or notice.startswith("start")
