"""When what the records of flows tell happened: the times of the packets they are about, see :class:`Moments`."""

from __future__ import annotations

import numpy as np

from flowmap.flows.batch import Moments
from flowmap.flows.hash_index import Positions, Rows
from flowmap.sources.packets.handshakes import FIN, RST, Slice
from flowmap.sources.packets.table import CLOSING, PacketFlowState, PacketTable

_CLIENT_HIGHER = np.uint16(PacketFlowState.CLIENT_HIGHER)


def first_moments(part: Slice, position: Positions, table: PacketTable, rows: Rows) -> Moments | None:
    """Of flows that begin with the packets at ``position``. What their clients sent later is not told with that."""
    if part.before is None:
        return None
    time, by_client = part.time[position], part.keys.turned[position] == ((table.state[rows] & _CLIENT_HIGHER) != 0)
    by_client &= (part.tcp_flags[position] & (FIN | RST)) == 0
    return Moments(part.before[position], time, np.where(by_client, time, -np.inf))


def end_moments(part: Slice, position: Positions, table: PacketTable, rows: Rows) -> Moments | None:
    """Of flows that end with the packets at ``position``."""
    return None if part.before is None else Moments(part.before[position], part.time[position], table.sent(rows))


def now_moments(table: PacketTable, rows: Rows, now: float) -> Moments:
    """Of flows about which something is told only now."""
    return Moments(table.last(rows), np.full(len(rows), now), table.sent(rows))


def silent_moments(table: PacketTable, rows: Rows) -> Moments:
    """Of flows that are over because they are silent: the last packet and the time-out after it."""
    last = table.last(rows)
    return Moments(last, last + table.timeouts(rows), table.sent(rows))


def restart_moments(part: Slice, begin: Positions, table: PacketTable, rows: Rows) -> Moments | None:
    """Of flows after which others begin with the packets at ``begin``."""
    if part.before is None:
        return None
    silent, time = silent_moments(table, rows), part.time[begin]
    before = np.where(silent.by < time, silent.before, part.before[begin])
    return Moments(before, np.minimum(silent.by, time), silent.sent)


def note_spoken(part: Slice, group: Positions, table: PacketTable, rows: Rows) -> None:
    """Keep when each end of the flows sent its last packet before the first FIN or RST: who sends after it may be
    another that has the address by now."""
    closing, ends = (table.state[rows] & CLOSING) != 0, np.flatnonzero(part.tcp_flags & (FIN | RST))[::-1]
    way, time = 2 * group + part.keys.turned, part.time
    if len(ends) or closing.any():
        end = np.where(closing, -1, len(group))
        end[group[ends]] = np.minimum(end[group[ends]], ends)
        alive = np.flatnonzero(np.arange(len(group)) < end[group])
        way, time = way[alive], time[alive]
    spoke = table.spoke[rows]
    spoke.reshape(-1)[way] = time  # in order: the last one stays
    table.spoke[rows] = spoke
