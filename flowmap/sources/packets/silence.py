"""Finds the packets of a long slice before which their flow may have timed out."""

from __future__ import annotations

import numpy as np

from flowmap.flows.index.hash_index import Positions, Rows
from flowmap.sources.packets.handshakes import FIN, RST, Slice
from flowmap.sources.packets.keys import Mask
from flowmap.sources.packets.table import CLOSING, LEAST_SILENCE, LINGER, TCP, PacketTable, Times

SPAN = 300.0
"""Longest slice in seconds; within it a flow can time out at most SPAN / LINGER times."""


def may_restart(part: Slice, group: Positions, table: PacketTable, rows: Rows) -> Positions:
    """Position of the first packet of each group after a silence that may have ended the flow.

    The number of packets if there is none. The silence before the group's first packet is left to the caller.
    """
    found = np.full(len(rows), len(group))
    if not len(group) or part.time[-1] - part.time[0] <= LINGER:
        return found
    order = np.argsort(group, kind="stable")
    groups, times = group[order], part.time[order]
    after = np.flatnonzero((np.diff(times) > LINGER) & (np.diff(groups) == 0))
    if len(after):
        some = groups[after]
        after = after[times[after + 1] - times[after] > _least_silence(part, group, table, rows)[some]]
        places = order[after + 1][::-1]
        found[group[places]] = places
    return found


def _least_silence(part: Slice, group: Positions, table: PacketTable, rows: Rows) -> Times:
    """By group, the shortest timeout in seconds that the flow can have during this slice."""
    protocol = table.meta[rows] & np.uint16(0xFF)
    closing: Mask = (table.state[rows] & CLOSING) != 0
    closing[group[(part.tcp_flags & (FIN | RST)) != 0]] = True
    return np.where(closing & (protocol == TCP), LINGER, LEAST_SILENCE[protocol])
