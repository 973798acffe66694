"""Counts a packet once if it is seen on several interfaces.

For each flow and direction one interface counts: the first with a packet. Packets on other interfaces are copies. If
the counting interface was silent for :data:`SILENCE` seconds, the interface of the next packet replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.hash_index import Positions, Rows
from flowmap.sources.packets.keys import Mask
from flowmap.sources.packets.table import PacketTable, Times

SILENCE = 1.0
"""Seconds of silence after which an interface stops counting; longer than any queue delays a packet."""

UNSEEN = -1
"""In place of an interface: no packet in this direction yet."""

Interfaces = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Seen:
    """Packets with their flows; ``rows`` and ``first`` by group, the rest by packet."""

    rows: Rows
    group: Positions
    first: Positions
    turned: Mask
    time: Times
    interface: Interfaces


class Duplicates:
    """The interface that counts, for each flow and direction."""

    def __init__(self, table: PacketTable) -> None:
        self._table = table
        self._only: int | None = None
        self._several = False

    def interfaces(self, interfaces: Interfaces | int, count: int) -> Interfaces | None:
        """The interface of each packet; None while there was only one interface."""
        if not self._several:
            first = interfaces if isinstance(interfaces, int) else int(interfaces[0])
            only = first if self._only is None else self._only
            self._only = only
            if first == only and (isinstance(interfaces, int) or bool((interfaces == only).all())):
                return None
            self._begin(only)
        return np.full(count, interfaces, np.int32) if isinstance(interfaces, int) else interfaces

    def _begin(self, only: int) -> None:
        """Set the interface of all flows so far, which came from one."""
        self._several = True
        self._table.interface[self._table.live()] = only

    def counted_on(self, interface: int) -> Rows:
        """Flows that are counted on an interface in at least one direction."""
        rows = self._table.live()
        if not self._several:
            return rows if interface == self._only else rows[:0]
        there: Rows = rows[(self._table.interface[rows] == interface).any(axis=1)]
        return there

    def first(self, seen: Seen) -> Mask:
        """Which packets count."""
        way = seen.group * 2 + seen.turned
        n = 2 * len(seen.rows)
        last_seen, owner = self._table.last_seen[seen.rows].reshape(n), self._table.interface[seen.rows].reshape(n)
        position = np.arange(len(way))
        first, last = np.full(n, -1), np.full(n, -1)
        first[way[::-1]], last[way] = position[::-1], position
        there = np.flatnonzero(first >= 0)
        begin, end = seen.time[first[there]], seen.time[last[there]]
        newest, holder = seen.interface[first[there]], owner[there]
        held = (holder != UNSEEN) & (holder != newest) & (begin - last_seen[there] <= SILENCE)
        since = np.where(held, last_seen[there], begin)
        owner[there] = np.where(held, holder, newest)
        counts: Mask = seen.interface == owner[way]
        # Within SILENCE the interface cannot change. In longer slices, mixed directions are checked packet by packet.
        long = np.zeros(n, np.bool_)
        long[there] = end - since > SILENCE
        if long.any():
            mixed = np.zeros(n, np.bool_)
            mixed[way[~counts]] = True
            for one in np.flatnonzero(long & mixed).tolist():
                members = np.flatnonzero(way == one)
                counts[members], owner[one] = self._one_by_one(seen, members, one)
        self._table.interface[seen.rows] = owner.reshape(-1, 2)
        return counts

    def _one_by_one(self, seen: Seen, members: Positions, way: int) -> tuple[list[bool], int]:
        row, side = int(seen.rows[way // 2]), way % 2
        owner, last_seen = int(self._table.interface[row, side]), float(self._table.last_seen[row, side])
        counts = []
        for interface, time in zip(seen.interface[members].tolist(), seen.time[members].tolist(), strict=True):
            if interface == owner or owner == UNSEEN or time - last_seen > SILENCE:
                owner, last_seen = interface, time
                counts.append(True)
            else:
                counts.append(False)
        return counts, owner
