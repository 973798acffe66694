"""Checks of the sockets source, for ``flowmap check``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowmap.errors import SourceError
from flowmap.sources.base import Finding
from flowmap.sources.netlink_socket import NETLINK_SOCK_DIAG, NetlinkSocket
from flowmap.sources.sockets.kernel import SocketQueries, ephemeral_ports
from flowmap.sources.sockets.payload import CONNECTED
from flowmap.sources.sockets.source import RECEIVE_BUFFER
from flowmap.sources.workloads import check
from flowmap.wire.netlink.inet_diag import COUNTED, FAMILIES, SENT_COUNTED, TIMER_TIME_WAIT, DestroyGroup

_NOTIFICATION = 1_280
"""Bytes of (doubled) buffer for one destroy notification on Linux 6.18: a message of 380, the rest is overhead."""
_ENOUGH = 1 << 20


@dataclass(frozen=True, slots=True)
class SocketsProbe:
    """Result of reading the way the source does."""

    asked: int
    """Bytes of receive buffer requested."""
    granted: int = 0
    groups: SourceError | None = None
    """Why the destroy groups cannot be joined."""
    dump: SourceError | None = None
    """Why sockets cannot be listed."""
    sockets: int = 0
    info_size: int | None = None
    """Bytes of tcp_info of the listed sockets; None without sockets."""
    cgroups: frozenset[int] = frozenset()
    """Cgroup ids of the listed sockets; 0 for one without."""


def read_probe(receive_buffer: int = RECEIVE_BUFFER) -> SocketsProbe:
    """Join the groups and list the sockets of the calling thread's network namespace."""
    try:
        events = NetlinkSocket(NETLINK_SOCK_DIAG, groups=DestroyGroup, receive_buffer=receive_buffer)
    except SourceError as error:
        return SocketsProbe(receive_buffer, groups=error)
    granted = events.receive_buffer
    events.close()
    try:
        sockets, info_size, cgroups = _count()
    except SourceError as error:
        return SocketsProbe(receive_buffer, granted, dump=error)
    return SocketsProbe(receive_buffer, granted, sockets=sockets, info_size=info_size, cgroups=cgroups)


def _count() -> tuple[int, int | None, frozenset[int]]:
    queries = SocketQueries(receive_buffer=0)
    number, sizes, cgroups = 0, [0][:0], set[int]()
    try:
        for family in FAMILIES:
            for part in queries.dump(family, CONNECTED):
                rows = part.decoded.sockets
                rows = rows[rows["timer"] != TIMER_TIME_WAIT]
                number += len(rows)
                sizes += rows["info_size"][:1].tolist()
                cgroups |= set(np.unique(rows["cgroup"]).tolist())
    finally:
        queries.close()
    return number, min(sizes, default=None), frozenset(cgroups)


def findings(
    probe: SocketsProbe | None = None, *, processes: str = "auto", namespaces: Finding | None = None
) -> list[Finding]:
    """One finding for each check, the essential ones first; reads a ``probe`` if none is given. ``processes``: the
    setting of that name. ``namespaces``: the finding about other network namespaces; None: they are not wanted."""
    probe = probe or read_probe()
    if probe.groups is not None:
        message = f"{probe.groups}: connections shorter than the interval are not seen"
        return [Finding("sockets.destroy_events", "failed", message, probe.groups.remedy or "needs Linux 4.3 or later")]
    found = [Finding("sockets.destroy_events", "ok", "the kernel reports every closed socket with its final counters")]
    if probe.dump is not None:
        return [*found, Finding("sockets.dump", "failed", str(probe.dump), probe.dump.remedy)]
    workloads = check.findings(set(probe.cgroups), processes=processes, namespaces=namespaces)
    return [*found, _dump(probe), _buffer(probe), *ephemeral_ports().findings("sockets"), *workloads]


def _dump(probe: SocketsProbe) -> Finding:
    message = f"{probe.sockets} TCP connections of this network namespace are visible"
    if probe.info_size is None or probe.info_size >= SENT_COUNTED:
        return Finding("sockets.dump", "ok", message)
    if probe.info_size < COUNTED:
        message = f"{message}, but this kernel counts no bytes for them: they are not counted"
        return Finding("sockets.dump", "failed", message, "needs Linux 4.1 or later")
    message = f"{message}; this kernel includes SYN and FIN in payload counters: counts may be off by one byte"
    return Finding("sockets.dump", "degraded", message, "Linux 4.19 or later counts exactly")


def _buffer(probe: SocketsProbe) -> Finding:
    room = f"{probe.granted} bytes: about {probe.granted * 2 // _NOTIFICATION} sockets may close between two reads"
    if probe.granted >= min(probe.asked, _ENOUGH):
        return Finding("sockets.receive_buffer", "ok", room)
    remedy = f"sysctl -w net.core.rmem_max={probe.asked}, or grant CAP_NET_ADMIN"
    return Finding("sockets.receive_buffer", "degraded", f"{room}; {probe.asked} were requested", remedy)
