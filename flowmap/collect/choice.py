"""Which source to read: ``collect.source``."""

from __future__ import annotations

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


def _best() -> str:
    """conntrack needs a table with something in it (without a rule that tracks, it stays empty) and the permission."""
    from flowmap.collect.conntrack import ConntrackSource

    try:
        tracked = int(COUNT.read_text())
    except (OSError, ValueError):
        return "sockets"
    if not tracked:
        return "sockets"
    probe = ConntrackSource(receive_buffer=1 << 16)
    try:
        probe.open()
    except SourceError:
        return "sockets"
    finally:
        probe.close()
    return "conntrack"
