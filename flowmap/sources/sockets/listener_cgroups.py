"""The cgroup of connections that were accepted and closed between two reads, from their listener.

The kernel reports no cgroup when a socket closes. An accepted socket has its listener's. The listener is certain if all
listeners of the port, now and in the last two full reads, are in one cgroup, and one of them was there all the time.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from flowmap.sources.sockets.roles import LISTENER_LIMIT
from flowmap.wire.netlink.inet_diag_columns import Rows

Cgroups = npt.NDArray[np.uint64]
_Ports = dict[int, dict[int, int]]  # cgroup by cookie by port

READS = 2


class ListenerCgroups:
    """The listeners of the last full reads."""

    def __init__(self) -> None:
        self._reads: deque[_Ports | None] = deque(maxlen=READS)  # None: one with too many listeners
        self.dropped = 0
        """Listeners beyond the limit: while there are such, no listener is certain."""

    def forget(self) -> None:
        """Start again, after a time without reads."""
        self._reads.clear()

    def update(self, rows: Rows) -> None:
        """Take the listening sockets of a full read."""
        self._reads.append(_by_port(rows))
        self.dropped += max(0, len(rows) - LISTENER_LIMIT)

    def of_accepted(self, ports: npt.NDArray[np.uint32], listening: Rows) -> Cgroups:
        """The cgroup of sockets that were accepted on these local ports; 0 where it is not certain.

        ``listening``: the listening sockets now.
        """
        found = (*self._reads, _by_port(listening))
        reads = tuple(read for read in found if read is not None)
        if len(reads) <= READS:
            return np.zeros(len(ports), np.uint64)
        return np.array([_common(port, reads) for port in ports.tolist()], np.uint64)


def _by_port(rows: Rows) -> _Ports | None:
    if len(rows) > LISTENER_LIMIT:
        return None
    found: _Ports = {}
    for port, cookie, cgroup in rows[["local_port", "cookie", "cgroup"]].tolist():
        found.setdefault(port, {})[cookie] = cgroup
    return found


def _common(port: int, reads: tuple[_Ports, ...]) -> int:
    listeners = [read.get(port, {}) for read in reads]
    cgroups = {cgroup for one in listeners for cgroup in one.values()}
    lasting = set.intersection(*map(set, listeners))
    return cgroups.pop() if lasting and len(cgroups) == 1 else 0
