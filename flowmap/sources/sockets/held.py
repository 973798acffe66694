"""Destroyed sockets that wait for the notification of their peer socket in another namespace."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from flowmap.model.address import Address
from flowmap.sources.sockets.peers import LIMIT, Destroyed, Peers
from flowmap.sources.sockets.tracker import Facts, Known

PEER_WAIT = 0.1
"""Seconds a destroyed socket waits for the notification of its peer socket, which the kernel sends deferred."""


class Verdict(NamedTuple):
    """Whether the received bytes of a destroyed socket count the peer's FIN."""

    fin: bool
    unsure: bool = False


class _Waiting(NamedTuple):
    known: Known
    destroyed: Destroyed
    alone: Verdict  # without the peer socket
    until: float

    @property
    def pair(self) -> int:
        return int(self.known.facts["pair"][0])


class Held:
    """Those of one namespace. ``peers``: destroyed sockets of all namespaces; None: none is held."""

    def __init__(self, peers: Peers | None = None) -> None:
        self._peers = Peers() if peers is None else peers
        self._number = self._peers.join()
        self._waiting: deque[_Waiting] = deque()

    def set_addresses(self, addresses: set[Address]) -> None:
        """Set the addresses of the namespace."""
        self._peers.set_addresses(self._number, frozenset(addresses))

    def leave(self) -> None:
        """The namespace is not read any more; safe to call twice."""
        self._peers.leave(self._number)
        self._waiting.clear()

    def report(self) -> str:
        """How many closed connections of all namespaces are unsure, and why; empty if none is."""
        unsure, dropped = self._peers.unsure, self._peers.dropped
        if not unsure:
            return ""
        note = f"{unsure} closed connections may be off by one received byte: it may be the peer's FIN"
        return note + (f"; {dropped} closed sockets were dropped before their peer socket was found" if dropped else "")

    def forget(self) -> None:
        """Notifications were lost."""
        self._peers.forget()

    def count(self, verdict: Verdict) -> None:
        """Count the verdict of a record, if it is unsure."""
        self._peers.unsure += verdict.unsure

    def judge(self, known: Known, alone: Verdict, *, certain: bool, now: float) -> Verdict | None:
        """The verdict, or None: the socket is held. ``certain``: the one from this socket ``alone`` cannot be wrong."""
        is_client = bool(known.facts["role"][0] > 0)
        destroyed = self._peers.offer(self._number, known.socket, is_client=is_client, now=now)
        if destroyed is None:
            return alone
        waiting = _Waiting(known, destroyed, alone, now + PEER_WAIT)
        waits = not certain and destroyed.fin is None and (destroyed.may_be_met or alone.unsure)
        if waits and len(self._waiting) < LIMIT:
            self._waiting.append(waiting)
            return None
        verdict = self._end(waiting)
        return alone if certain else verdict

    def deadline(self) -> float:
        """When :meth:`release` is due; infinity if no socket is held."""
        return self._waiting[0].until if self._waiting else float("inf")

    def release(self, *, everything: bool = False) -> list[tuple[Known, Verdict]]:
        """Sockets whose peer socket was found, or not in time: the oldest ones until one still waits."""
        released = []
        while self._waiting:
            first = self._waiting[0]
            # At its deadline the notification of the peer socket may have arrived, but not be read yet.
            if not everything and first.destroyed.fin is None and first.until > self._peers.drained_at:
                break
            released.append((first.known, self._end(self._waiting.popleft())))
        return released

    def release_reused(self, open_sockets: Facts) -> list[tuple[Known, Verdict]]:
        """Sockets whose tuple an open socket has by now."""
        again, waiting = set(open_sockets["pair"].tolist()), self._waiting
        self._waiting = deque(one for one in waiting if one.pair not in again)
        return [(one.known, self._end(one)) for one in waiting if one.pair in again]

    def lower_bounds(self) -> list[Known]:
        """Copies of the sockets that are held, with the received bytes that are certainly no FIN."""
        copies = [one.known._replace(facts=one.known.facts.copy()) for one in self._waiting]
        for copy in copies:
            copy.facts["fin"] = np.True_
        return copies

    def _end(self, waiting: _Waiting) -> Verdict:
        if waiting.destroyed.fin is not None:
            return Verdict(waiting.destroyed.fin)
        if not waiting.destroyed.may_be_met:
            self._peers.give_up(waiting.destroyed)
        return waiting.alone
