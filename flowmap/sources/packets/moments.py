"""Times of events in flow records, from the times of packets; see :class:`flowmap.flows.records.batch.Moments`."""

from __future__ import annotations

import numpy as np

from flowmap.flows.index.hash_index import Positions, Rows
from flowmap.flows.records.batch import Moments
from flowmap.sources.packets.handshakes import FIN, RST, Slice
from flowmap.sources.packets.table import CLOSING, PacketFlowState, PacketTable

_CLIENT_HIGHER = np.uint16(PacketFlowState.CLIENT_HIGHER)


def first_moments(part: Slice, position: Positions, table: PacketTable, rows: Rows) -> Moments | None:
    """For flows that start with the packets at ``position``. Later packets of the client are reported separately."""
    if part.before is None:
        return None
    time, by_client = part.time[position], part.keys.turned[position] == ((table.state[rows] & _CLIENT_HIGHER) != 0)
    by_client &= (part.tcp_flags[position] & (FIN | RST)) == 0
    return Moments(part.before[position], time, np.where(by_client, time, -np.inf))


def end_moments(part: Slice, position: Positions, table: PacketTable, rows: Rows) -> Moments | None:
    """For flows that end with the packets at ``position``."""
    return None if part.before is None else Moments(part.before[position], part.time[position], table.sent(rows))


def now_moments(table: PacketTable, rows: Rows, now: float) -> Moments:
    """For flows that are reported at ``now``."""
    return Moments(table.last(rows), np.full(len(rows), now), table.sent(rows))


def silent_moments(table: PacketTable, rows: Rows) -> Moments:
    """For flows that timed out: they end between the last packet and the timeout after it."""
    last = table.last(rows)
    return Moments(last, last + table.timeouts(rows), table.sent(rows))


def restart_moments(part: Slice, begin: Positions, table: PacketTable, rows: Rows) -> Moments | None:
    """For flows that are replaced by new ones, which start with the packets at ``begin``."""
    if part.before is None:
        return None
    silent, time = silent_moments(table, rows), part.time[begin]
    before = np.where(silent.by < time, silent.before, part.before[begin])
    return Moments(before, np.minimum(silent.by, time), silent.sent)


def note_alive(part: Slice, group: Positions, table: PacketTable, rows: Rows) -> None:
    """Store the time of each endpoint's last packet before the first FIN or RST.

    Later packets may come from another host with the same address, so they do not prove that the client exists.
    """
    closing, ends = (table.state[rows] & CLOSING) != 0, np.flatnonzero(part.tcp_flags & (FIN | RST))[::-1]
    way, time = 2 * group + part.keys.turned, part.time
    if len(ends) or closing.any():
        end = np.where(closing, -1, len(group))
        end[group[ends]] = np.minimum(end[group[ends]], ends)
        earlier = np.flatnonzero(np.arange(len(group)) < end[group])
        way, time = way[earlier], time[earlier]
    alive = table.alive[rows]
    alive.reshape(-1)[way] = time  # in order: the last packet counts
    table.alive[rows] = alive
