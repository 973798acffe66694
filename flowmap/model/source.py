"""A source of flows as readers see it: what it is, what it has counted, how it stands."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal, Self

ByteMeaning = Literal["ip", "payload"]
"""What byte counters hold: IP packet lengths, or TCP payload."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Properties of a source that never change."""

    name: str
    """Metric label: ``conntrack``, ``sockets``, …"""
    counts: ByteMeaning
    announces_births: bool
    """Whether a flow is reported when it begins. If not, a new flow may have begun since the last full read began."""
    counts_live: bool = False
    """Whether records bring the counters as traffic flows. If not, open flows get theirs in full reads."""
    tells_health: bool = False
    """Whether it reports retransmissions and round-trip times of TCP."""


@dataclass(slots=True)
class SourceStats:
    """Statistics of one source: the only declaration of each.

    The thread of the source writes them. Other threads read a :meth:`snapshot`.
    """

    up: bool = False
    records: int = 0
    """Entries, events or packets read."""
    lost: dict[str, int] = field(default_factory=dict)
    """Records known to be lost or skipped, by reason (``malformed``, ``truncated``, …); never an estimate."""
    overruns: int = 0
    """Times the kernel reported that it dropped changes; it does not report how many."""
    resyncs: dict[str, int] = field(default_factory=dict)
    """Full reads started, by reason (``start``, ``timer``, ``overrun``)."""
    resync_seconds: float = 0.0
    """Wall time of the last full read."""
    receive_buffer: int = 0
    """Bytes of socket buffer granted by the kernel; 0 where unknown."""
    exceptional_packets: dict[str, int] = field(default_factory=dict)
    """Packets handled specially, by reason: ``duplicate`` (seen on a second interface), ``not_ip``,
    ``lone_fragment`` (counts without ports), ``unopened`` (counts as the tunnel's own flow)."""
    offloaded: dict[str, int] = field(default_factory=dict)
    """Connections of the last full read that a flowtable forwards, by path (``software``, ``hardware``); empty where
    unknown."""
    workloads_dropped: dict[str, int] = field(default_factory=dict)
    """What tables about containers and processes dropped at their limits, by table: ``cgroups`` (paths), ``workloads``,
    ``container_names``, ``listeners``."""
    interfaces: dict[str, bool] = field(default_factory=dict)
    """Whether each configured interface exists and is up."""
    notes: dict[str, str] = field(default_factory=dict)
    """Active degradations: a short key, and one line with the cost and the remedy."""
    namespaces: dict[str, int] = field(default_factory=dict)
    """Other network namespaces by state: ``read`` now; ``over_limit`` and ``failed``, not read. Empty where none is
    wanted."""
    namespace_pause: float | None = None
    """Seconds between two full reads of each other network namespace; None where none is wanted."""
    opener: bool | None = None
    """Whether the opener of other network namespaces is connected; None where none is wanted."""
    accounting: bool | None = None
    """Whether the kernel counts bytes of conntrack entries; None for other sources."""

    def count_lost(self, reason: str, number: int) -> None:
        """Add to :attr:`lost`."""
        if number:
            self.lost = {**self.lost, reason: self.lost.get(reason, 0) + number}

    def count_resync(self, reason: str) -> None:
        """Add one to :attr:`resyncs`."""
        self.resyncs = {**self.resyncs, reason: self.resyncs.get(reason, 0) + 1}

    def snapshot(self) -> Self:
        """An immutable copy."""
        taken = replace(self)
        for one in fields(self):
            if isinstance(value := getattr(self, one.name), dict):
                setattr(taken, one.name, dict(value))
        return taken


@dataclass(frozen=True, slots=True)
class SourceReport:
    """One source at one instant, for the metrics page."""

    facts: SourceFacts
    stats: SourceStats
    """A snapshot."""
    untracked: int | None = None
    """Connections it sees that the counting source does not; None where unknown, or not its task."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """State of one source, for the status answer."""

    name: str
    stats: SourceStats
    """A snapshot."""
    error: str | None = None
    role: Literal["traffic", "health"] = "traffic"
    """``traffic``: its records are counted; ``health``: it measures what another source counts."""
    why: str = ""
    """Why this source was chosen; empty where the configuration names it."""
