"""When a host talks to the server next, and how many calls it may make without one.

Pure; times are monotonic seconds.
"""

from __future__ import annotations

EXCHANGES = 400.0
"""Exchanges a second that all hosts together aim at: some 100 µs of the server's time each."""

UNHURRIED = 125.0
"""Of these, exchanges of hosts where no flow waits for an answer."""

IDLE = 4.0
"""Longest pause in seconds between two exchanges in a fleet of a few hundred hosts; in a larger one up to twice that.
The server counts a host as missing after 20 s."""

SHORTEST = 0.01
"""Seconds between two exchanges of one host, at least."""

AT_ONCE = 4
"""Exchanges of one host that may follow each other without a longer pause."""

SOON = 0.05
"""Shortest pause in seconds to ask whether another host's call has an answer."""

LOCAL_AFTER = 25.0
"""Seconds without the server after which a host uses its own share of the rate. The server has counted it as missing
for five seconds then, and taken that share from the rate of the others."""

REFUSED = 60.0
"""Longest pause in seconds between two attempts to subscribe where the user has no right to."""

RETRY = 4.0
"""Longest pause in seconds between two attempts to reach the server. A server without state settles for longer."""


def next_exchange(
    *,
    hosts: int,
    waiting: int,
    hurried: bool,
    callable_: int,
    token_in: float,
    may_call: bool,
    told: bool,
    chance: float,
) -> float:
    """Seconds until the next exchange.

    ``hosts``: in the fleet. ``waiting``: questions of this host without an answer. ``hurried``: whether flows wait for
    one of them. ``callable_``: questions of any host that wait for a call. ``token_in``: seconds until the budget has
    one. ``may_call``: whether this host could make it. ``told``: whether the server passes answers on as they come.
    ``chance``: from 0 to 1, spreads the hosts.
    """
    if not waiting or (told and not (callable_ and may_call)):
        return idle(hosts) * (0.8 + 0.2 * chance)
    fair = hosts / (EXCHANGES if hurried else UNHURRIED)
    wanted = max(SOON, token_in) if may_call else SOON
    return min(idle(hosts) if told else IDLE / 2, max(wanted, fair) * (1 + 0.2 * chance))


def idle(hosts: int) -> float:
    """Longest pause in seconds between two exchanges of a host in a fleet of so many."""
    return max(IDLE, min(2 * IDLE, hosts / UNHURRIED))


def gathering(hosts: int) -> float:
    """Seconds for which a question that no flow waits for, or its answer, may wait for others to go with."""
    return min(idle(hosts), hosts / UNHURRIED)


class Throttle:
    """Limits the exchanges of one host, even if flows begin and calls end all the time.

    A few may follow each other at once, since a flow that begins needs two: one for its question, one for the answer.
    """

    def __init__(self) -> None:
        self._free_at = float("-inf")

    def note(self, now: float, hosts: int) -> None:
        """There is an exchange now."""
        self._free_at = max(self._free_at, now) + hosts / (10 * EXCHANGES)

    def pause(self, now: float, hosts: int) -> float:
        """Seconds until the next may be."""
        return max(SHORTEST, self._free_at - now - AT_ONCE * hosts / (10 * EXCHANGES))


def next_subscription(failures: int, *, hosts: int, refused: bool, chance: float) -> float:
    """Seconds until the next attempt to subscribe; ``refused``: the server answered that it may not be."""
    return REFUSED * (0.5 + 0.5 * chance) if refused else next_attempt(failures, hosts=hosts, chance=chance)


def next_attempt(failures: int, *, hosts: int, chance: float) -> float:
    """Seconds until the next attempt after so many failures in a row. An overloaded server gets fewer, not more."""
    pause = max(hosts / EXCHANGES, 0.25 * 2.0 ** min(failures, 8))
    return float(min(RETRY, pause)) * (0.5 + 0.5 * chance)


class OwnShare:
    """The calls of a host that cannot reach the server: ``rate / size``, one at a time, the first at a random moment.

    So the hosts of a fleet that lose their server together do not exceed the rate, and do not call all at once.
    """

    def __init__(self) -> None:
        self._next: float | None = None

    def close(self) -> None:
        """The server is reachable again."""
        self._next = None

    def open(self, now: float, *, rate: float, size: int, chance: float) -> None:
        """The server is not reachable. Further calls change nothing."""
        if self._next is None:
            self._next = now + chance * size / rate

    def take(self, now: float, *, rate: float, size: int) -> bool:
        """Whether a call may start now; then it is counted."""
        if self._next is None or now < self._next:
            return False
        self._next = now + size / rate
        return True

    def next_in(self, now: float) -> float:
        """Seconds until the next call may start; infinite while the share is not open."""
        return float("inf") if self._next is None else max(0.0, self._next - now)
