"""Which source to read: ``collect.source``."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from flowmap.collect.base import Source
from flowmap.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from flowmap.config import Collect

COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")


def choose_source(settings: Collect) -> Source:
    """The source that is configured. ``auto``: conntrack where it is permitted and tracks something, else sockets."""
    kind = settings.source if settings.source != "auto" else _best()
    if kind == "conntrack":
        from flowmap.collect.conntrack import ConntrackSource

        conntrack = settings.conntrack
        return ConntrackSource(
            resync=conntrack.resync,
            receive_buffer=conntrack.receive_buffer,
            enable_accounting=conntrack.enable_accounting,
        )
    if kind == "sockets":
        from flowmap.collect.sockets import SocketsSource

        return SocketsSource(interval=settings.sockets.interval)
    raise ConfigError(f"collect.source: {kind} is not available in this version")


def retime(source: Source, settings: Collect) -> None:
    """Other times between full reads (on the thread that reads the source only)."""
    from flowmap.collect.conntrack import ConntrackSource
    from flowmap.collect.sockets import SocketsSource

    if isinstance(source, ConntrackSource):
        source.resync = settings.conntrack.resync
    elif isinstance(source, SocketsSource):
        source.interval = settings.sockets.interval


def _best() -> str:
    """conntrack needs a rule that tracks (else its table stays empty) and the permission to read it."""
    from flowmap.collect.conntrack import ConntrackSource

    if not tracks():
        return "sockets"
    probe = ConntrackSource(receive_buffer=1 << 16)
    try:
        probe.open()
    except SourceError:
        return "sockets"
    finally:
        probe.close()
    return "conntrack"


def tracks() -> bool:
    """Whether the kernel tracks connections in this network namespace.

    An empty table says nothing yet: a gateway may be idle. One datagram from this process to itself, over loopback,
    makes an entry wherever a rule with a ct match is loaded.
    """
    try:
        if int(COUNT.read_text()):
            return True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.bind(("127.0.0.1", 0))
            own.sendto(b"", own.getsockname())
            return int(COUNT.read_text()) > 0
    except (OSError, ValueError):  # no such table, or no loopback
        return False
