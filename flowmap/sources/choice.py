"""The choice of the source: ``collect.source``, and what ``auto`` means on this host."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from flowmap.errors import SourceError
from flowmap.sources.base import Source
from flowmap.sources.conntrack import check
from flowmap.sources.kinds import KINDS, SOCKETS, make_sockets
from flowmap.system.proc import Unknown

if TYPE_CHECKING:
    from flowmap.config import CollectConfig


class Choice(NamedTuple):
    """The decision of ``auto``."""

    kind: str
    """A key of ``KINDS``; conntrack includes the socket table for TCP health."""
    why: str
    costs: bool
    """Whether a better source exists but cannot be used."""


class Chosen(NamedTuple):
    """The source to read."""

    source: Source
    why: str
    """Reason of the choice; empty if the configuration names the source."""


def choose_source(settings: CollectConfig, *, own_port: int = 0) -> Chosen:
    """The configured source, not opened yet; ``auto`` is resolved by :func:`choose`."""
    auto = settings.source == "auto"
    kind, why, _ = choose(settings, own_port=own_port) if auto else Choice(settings.source, "", costs=False)
    together = auto and kind == "conntrack"
    if settings.namespaces != "host" and kind in ("sockets", "conntrack"):
        from flowmap.sources.namespaces.making import every_namespace

        return Chosen(every_namespace(settings, kind, together=together), why)
    chosen = KINDS[kind].make(settings)
    if together:
        from flowmap.sources.combined import CombinedSource

        return Chosen(CombinedSource(chosen, make_sockets(settings, bytes_count=False)), why)
    return Chosen(chosen, why)


def choose(settings: CollectConfig, *, own_port: int = 0) -> Choice:
    """The kind that ``auto`` takes; changes nothing on the host.

    1. conntrack and the socket table (for TCP health), if conntrack is permitted, tracks connections and counts bytes.
    2. The socket table alone.
    3. Packets, if the socket table cannot be read and interfaces are configured.

    ``own_port``: see :func:`tracks`.
    """
    choice = _best_table(settings, own_port)
    if not settings.capture.interfaces:
        return choice
    if choice.kind == "sockets":
        probe = SOCKETS.make(settings)
        try:
            probe.open()
        except SourceError as error:
            return Choice("capture", f"{choice.why}; the socket table cannot be read: {_text(error)}", costs=True)
        finally:
            probe.close()
    unused = "collect.capture.interfaces is not used: set collect.source: capture to capture packets"
    return Choice(choice.kind, f"{choice.why}; {unused}", costs=True)


def _best_table(settings: CollectConfig, own_port: int) -> Choice:
    """conntrack if a rule tracks connections, entries have byte counters, and reading is permitted; else sockets."""
    from flowmap.sources.conntrack.source import ConntrackSource

    tracked = tracks(own_port)
    if isinstance(tracked, Unknown):
        why = f"unknown whether the kernel tracks connections here: {tracked.cause}"
        return Choice("sockets", why, costs=True)
    if not tracked:
        why = "the kernel tracks no connections here (no rule with a ct match, or none for loopback)"
        return Choice("sockets", why, costs=True)
    probe = ConntrackSource(receive_buffer=1 << 16)
    try:
        probe.open()
    except SourceError as error:
        why = f"the kernel tracks connections, but its table cannot be read: {_text(error)}"
        return Choice("sockets", why, costs=True)
    finally:
        probe.close()
    if uncounted := _uncounted(own_port, enable=settings.conntrack.enable_accounting):
        return Choice("sockets", uncounted, costs=True)
    why = "the kernel tracks connections here; the socket table adds retransmissions and round trips"
    return Choice("conntrack", why, costs=False)


def _uncounted(own_port: int, *, enable: bool) -> str:
    """Why conntrack entries would have no byte counters; empty if they have them, or will have."""
    settings = check.read_settings()
    counting = counts_bytes(own_port) if settings.accounting is None else bool(settings.accounting)
    if counting is None:
        unknown = f"the kernel tracks connections; unknown whether it counts their bytes: {settings.cause}"
        return f"{unknown}; set collect.source: conntrack to read them regardless"
    if counting:
        return ""
    off = "the kernel tracks connections but does not count their bytes (nf_conntrack_acct is 0)"
    if not enable:
        return f"{off}; sysctl -w net.netfilter.nf_conntrack_acct=1, or set collect.conntrack.enable_accounting"
    try:
        check.try_accounting()
    except OSError as error:
        return f"{off} and cannot be enabled: {error.strerror}; sysctl -w net.netfilter.nf_conntrack_acct=1"
    return ""


def _text(error: SourceError) -> str:
    return f"{error} ({error.remedy})" if error.remedy else str(error)


def tracks(own_port: int = 0) -> bool | Unknown:
    """Whether the kernel tracks connections in this network namespace.

    An empty table proves nothing: a gateway may be idle. One datagram over loopback creates an entry if a rule with a
    ct match is loaded, unless loopback is exempt. It is sent to ``own_port``, on which flowmap will listen (TCP), so
    that the flow is ignored like all of flowmap's own; if 0, to the sending socket.
    """
    entries = check.read_entries()
    if isinstance(entries, Unknown) or entries:
        return entries if isinstance(entries, Unknown) else True
    try:
        with _datagram(own_port):
            entries = check.read_entries()
    except OSError as error:
        return Unknown(f"its table is empty, and the test over loopback failed: {error.strerror}")
    return entries if isinstance(entries, Unknown) else entries > 0


def counts_bytes(own_port: int = 0) -> bool | None:
    """Whether the entry of a datagram over loopback (see :func:`tracks`) has counters; None if there is no entry."""
    from flowmap.flows.records.batch import Flag
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
    """Send one datagram over loopback; yields its source and destination port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        port = own.getsockname()[1]
        own.sendto(b"", ("127.0.0.1", own_port or port))
        yield port, own_port or port
