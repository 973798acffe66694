"""Which source to read: ``collect.source``."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flowmap.collect.base import Source
from flowmap.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from flowmap.config import Collect

COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")


class Chosen(NamedTuple):
    """What to read."""

    source: Source
    why: str
    """Empty where the configuration names it."""


def choose_source(settings: Collect) -> Chosen:
    """The source that is configured. ``auto``: conntrack where it is permitted and tracks something, with the socket
    table for the health of TCP; else the socket table alone; and where that cannot be read either, packets, if
    interfaces are named."""
    if settings.source != "auto":
        return Chosen(_named(settings.source, settings), "")
    kind, why = _best(settings)
    chosen = _named(kind, settings)
    if kind == "conntrack":
        from flowmap.collect.paired import PairedSource

        return Chosen(PairedSource(chosen, _named("sockets", settings)), why)
    return Chosen(chosen, why)


def _named(kind: str, settings: Collect) -> Source:
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
    if kind == "capture":
        return _capture(settings)
    raise ConfigError(f"collect.source: {kind} is read by `flowmap replay`, not here")


def _capture(settings: Collect) -> Source:
    from flowmap.collect.capture import CaptureSource

    capture = settings.capture
    return CaptureSource(
        interfaces=capture.listened_on,
        ring=capture.ring,
        snap=capture.kept,
        pcap=capture.filter,
        include=settings.include,
        exclude=settings.exclude,
        tunnels=capture.tunnels,
        max_flows=settings.max_flows,
    )


def retime(source: Source, settings: Collect) -> None:
    """Other times between full reads, and other filters (on the thread that reads the source only)."""
    from flowmap.collect.capture import CaptureSource
    from flowmap.collect.conntrack import ConntrackSource
    from flowmap.collect.paired import parts
    from flowmap.collect.sockets import SocketsSource

    for part in parts(source):
        if isinstance(part, ConntrackSource):
            part.resync = settings.conntrack.resync
        elif isinstance(part, SocketsSource):
            part.interval = settings.sockets.interval
        elif isinstance(part, CaptureSource):
            part.refilter(settings.include, settings.exclude)


def _best(settings: Collect) -> tuple[str, str]:
    kind, why = _best_table()
    if kind == "sockets" and settings.capture.interfaces:
        probe = _named(kind, settings)
        try:
            probe.open()
        except SourceError as error:
            return "capture", f"{why}; the socket table cannot be read: {error}"
        finally:
            probe.close()
    return kind, why


def _best_table() -> tuple[str, str]:
    """conntrack needs a rule that tracks (else its table stays empty) and the permission to read it."""
    from flowmap.collect.conntrack import ConntrackSource

    if not tracks():
        return "sockets", "the kernel tracks no connections here (no rule with a ct match, or none for loopback)"
    probe = ConntrackSource(receive_buffer=1 << 16)
    try:
        probe.open()
    except SourceError as error:
        return "sockets", f"the kernel tracks connections, but its table cannot be read: {error}"
    finally:
        probe.close()
    return "conntrack", "the kernel tracks connections here; the socket table adds retransmissions and round trips"


def tracks() -> bool:
    """Whether the kernel tracks connections in this network namespace.

    An empty table says nothing yet: a gateway may be idle. One datagram from this process to itself, over loopback,
    makes an entry wherever a rule with a ct match is loaded, unless loopback is excepted.
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
