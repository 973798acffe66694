"""The kinds of sources a daemon can read: one table with everything that differs between them.

Modules of a source are imported only when it is made or checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowmap.model.source import SourceFacts
from flowmap.system.privileges import Capability

if TYPE_CHECKING:
    from flowmap.config import CollectConfig
    from flowmap.sources.base import Finding, Source


@dataclass(frozen=True, slots=True)
class SourceKind:
    """One kind of source."""

    facts: SourceFacts
    make: Callable[[CollectConfig], Source]
    """A source as configured, not opened yet; ConfigError if the settings cannot be used."""
    check: Callable[[CollectConfig], list[Finding]]
    """What this source can read on this host, for ``flowmap check``; changes nothing."""
    orientation: str
    """How the client endpoint is known where it is not guessed, for explanations."""
    capabilities: frozenset[Capability] = frozenset()
    """Kept for as long as the source runs."""
    without: str = ""
    """What is not possible without the capabilities."""


def _make_conntrack(settings: CollectConfig) -> Source:
    from flowmap.sources.conntrack.source import ConntrackSource

    return ConntrackSource(**dict(settings.conntrack))


def _check_conntrack(settings: CollectConfig) -> list[Finding]:
    from flowmap.sources.conntrack.check import look

    return look(settings.conntrack)


def make_sockets(settings: CollectConfig, *, bytes_count: bool = True) -> Source:
    """The socket table; ``bytes_count`` as for the source."""
    from flowmap.sources.sockets.source import SocketsSource
    from flowmap.sources.workloads.processes import ProcessSearch

    sockets = settings.sockets
    processes = None if sockets.processes == "off" else ProcessSearch()
    return SocketsSource(
        interval=sockets.interval, bytes_count=bytes_count, processes=processes, cgroups=sockets.cgroups
    )


def _check_sockets(settings: CollectConfig) -> list[Finding]:
    from flowmap.sources.namespaces.check import finding
    from flowmap.sources.sockets.check import findings

    namespaces = None if settings.namespaces == "host" else finding(settings)
    return findings(processes=settings.sockets.processes, namespaces=namespaces)


def _make_capture(settings: CollectConfig) -> Source:
    from flowmap.sources.capture.source import CaptureSource

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


def _check_capture(settings: CollectConfig) -> list[Finding]:
    from flowmap.sources.capture.check import findings

    capture = settings.capture
    return findings(interfaces=capture.listened_on, ring=capture.ring, pcap=capture.filter)


CONNTRACK = SourceKind(
    SourceFacts("conntrack", "ip", announces_births=True),
    _make_conntrack,
    _check_conntrack,
    orientation="seen: the kernel tracks the connection from the client's first packet on",
    # The kernel checks the sender of each dump request, not only who opened the socket (netlink_net_capable).
    capabilities=frozenset({Capability.NET_ADMIN}),
    without="the connection tracking table cannot be read: only TCP of this network namespace can be seen",
)
SOCKETS = SourceKind(
    # A new connection is first seen in a full read, or when it is destroyed.
    SourceFacts("sockets", "payload", announces_births=False, tells_health=True),
    make_sockets,
    _check_sockets,
    orientation="seen: a listening socket, or the port a socket was given, shows which endpoint is the client",
)
CAPTURE = SourceKind(
    SourceFacts("capture", "ip", announces_births=True, counts_live=True),
    _make_capture,
    _check_capture,
    orientation="seen: the handshake shows who opened the connection",
    capabilities=frozenset({Capability.NET_RAW}),  # a new socket is opened when an interface comes back
    without="packets cannot be captured",
)

KINDS = {kind.facts.name: kind for kind in (CONNTRACK, SOCKETS, CAPTURE)}
"""By ``collect.source``."""

PREFERRED = CONNTRACK
"""What ``collect.source: auto`` takes if it can."""


def kept_capabilities(name: str, settings: CollectConfig | None = None) -> frozenset[Capability]:
    """The capabilities the source called ``name`` needs while it runs."""
    own = KINDS[name].capabilities if name in KINDS else frozenset[Capability]()
    return own | {Capability.SYS_PTRACE} if settings is not None and settings.sockets.processes == "all" else own
