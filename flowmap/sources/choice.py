"""Which source to read: ``collect.source``."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from flowmap.errors import SourceError
from flowmap.sources.base import Source
from flowmap.sources.conntrack import check
from flowmap.sources.kinds import KINDS, SOCKETS
from flowmap.system.proc import Unknown

if TYPE_CHECKING:
    from flowmap.config import CollectConfig


class Choice(NamedTuple):
    """What ``auto`` takes."""

    kind: str
    """conntrack: with the socket table for health."""
    why: str
    costs: bool
    """Whether something is not seen that could be."""


class Chosen(NamedTuple):
    """What to read."""

    source: Source
    why: str
    """Empty where the configuration names it."""


def choose_source(settings: CollectConfig, *, own_port: int = 0) -> Chosen:
    """The source that is configured; for ``auto`` as :func:`choose` says."""
    if settings.source != "auto":
        return Chosen(KINDS[settings.source].make(settings), "")
    choice = choose(settings, own_port=own_port)
    chosen = KINDS[choice.kind].make(settings)
    if choice.kind == "conntrack":
        from flowmap.sources.combined import CombinedSource
        from flowmap.sources.sockets.source import SocketsSource

        health = SocketsSource(interval=settings.sockets.interval, bytes_count=False)
        return Chosen(CombinedSource(chosen, health), choice.why)
    return Chosen(chosen, choice.why)


def choose(settings: CollectConfig, *, own_port: int = 0) -> Choice:
    """What ``auto`` takes: conntrack where it is permitted, tracks something and counts bytes, with the socket table
    for the health of TCP; else the socket table alone; and where that cannot be read either, packets, if interfaces
    are named. ``own_port``: see :func:`tracks`. Changes nothing."""
    choice = _best_table(settings, own_port)
    if not settings.capture.interfaces:
        return choice
    if choice.kind == "sockets":
        probe = SOCKETS.make(settings)
        try:
            probe.open()
        except SourceError as error:
            return Choice("capture", f"{choice.why}; the socket table cannot be read: {_told(error)}", costs=True)
        finally:
            probe.close()
    wish = "collect.capture.interfaces are not captured: collect.source: capture does that"
    return Choice(choice.kind, f"{choice.why}; {wish}", costs=True)


def _best_table(settings: CollectConfig, own_port: int) -> Choice:
    """conntrack needs a rule that tracks (else its table stays empty), bytes, and the permission to read it."""
    from flowmap.sources.conntrack.source import ConntrackSource

    tracked = tracks(own_port)
    if isinstance(tracked, Unknown):
        why = f"whether the kernel tracks connections here cannot be known: {tracked.cause}"
        return Choice("sockets", why, costs=True)
    if not tracked:
        why = "the kernel tracks no connections here (no rule with a ct match, or none for loopback)"
        return Choice("sockets", why, costs=True)
    probe = ConntrackSource(receive_buffer=1 << 16)
    try:
        probe.open()
    except SourceError as error:
        why = f"the kernel tracks connections, but its table cannot be read: {_told(error)}"
        return Choice("sockets", why, costs=True)
    finally:
        probe.close()
    if uncounted := _uncounted(own_port, enable=settings.conntrack.enable_accounting):
        return Choice("sockets", uncounted, costs=True)
    why = "the kernel tracks connections here; the socket table adds retransmissions and round trips"
    return Choice("conntrack", why, costs=False)


def _uncounted(own_port: int, *, enable: bool) -> str:
    """Why entries of conntrack would have no bytes; empty where they have, or will have."""
    settings = check.read_settings()
    counting = counts_bytes(own_port) if settings.accounting is None else bool(settings.accounting)
    if counting is None:
        unknown = f"the kernel tracks connections, but whether it counts their bytes cannot be known: {settings.cause}"
        return f"{unknown}; collect.source: conntrack reads them all the same"
    if counting:
        return ""
    off = "the kernel tracks connections but does not count their bytes (nf_conntrack_acct is 0)"
    if not enable:
        return f"{off}; sysctl -w net.netfilter.nf_conntrack_acct=1, or collect.conntrack.enable_accounting"
    try:
        check.try_accounting()
    except OSError as error:
        return f"{off}, and it cannot be switched on: {error.strerror}; sysctl -w net.netfilter.nf_conntrack_acct=1"
    return ""


def _told(error: SourceError) -> str:
    return f"{error} ({error.remedy})" if error.remedy else str(error)


def tracks(own_port: int = 0) -> bool | Unknown:
    """Whether the kernel tracks connections in this network namespace.

    An empty table says nothing yet: a gateway may be idle. One datagram from this process over loopback makes an entry
    wherever a rule with a ct match is loaded, unless loopback is excepted. It goes to ``own_port``, where flowmap will
    listen (for TCP), so that it is ignored as all that is its own; where that is 0, to its own socket.
    """
    entries = check.read_entries()
    if isinstance(entries, Unknown) or entries:
        return entries if isinstance(entries, Unknown) else True
    try:
        with _datagram(own_port):
            entries = check.read_entries()
    except OSError as error:
        return Unknown(f"its table is empty, and loopback cannot be used to try: {error.strerror}")
    return entries if isinstance(entries, Unknown) else entries > 0


def counts_bytes(own_port: int = 0) -> bool | None:
    """Whether the entry of a datagram over loopback (see :func:`tracks`) has counters; None where there is no entry."""
    from flowmap.flows.batch import Flag
    from flowmap.sources.conntrack.dump import Dump
    from flowmap.wire.netlink.conntrack_columns import ColumnDecoder

    try:
        with _datagram(own_port) as (source, target):
            for batch in Dump(ColumnDecoder()).batches():
                mine = batch.flags[(batch.client_port == source) & (batch.server_port == target)]
                if len(mine):
                    return bool((mine & Flag.COUNTERS).all())
    except (OSError, SourceError):
        pass  # no loopback, or no permission
    return None


@contextlib.contextmanager
def _datagram(own_port: int) -> Iterator[tuple[int, int]]:
    """Send it; the ports it went from and to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        port = own.getsockname()[1]
        own.sendto(b"", ("127.0.0.1", own_port or port))
        yield port, own_port or port
