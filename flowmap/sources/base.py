"""What every source of flows offers, and the steps it delivers.

A source is pulled: the engine waits until ``fileno()`` is readable or ``deadline()`` has come, then iterates
``poll()`` to its end, applying each step in order. Steps are small enough that the engine can do other work between
two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from flowmap.flows.batch import FlowBatch
from flowmap.model.address import Address

ReadReason = Literal["start", "timer", "overrun"]


@dataclass(frozen=True, slots=True)
class ReadStarted:
    """A full read begins; every open flow will follow as a ``Kind.DUMPED`` record."""

    reason: ReadReason


@dataclass(frozen=True, slots=True)
class ReadFinished:
    """The full read is over and all changes that happened meanwhile were delivered too.

    If ``complete``, a flow without a record since ``ReadStarted`` is gone. An interrupted or cut read is not complete.
    """

    complete: bool


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Every change before ``at`` (monotonic seconds) was delivered: a flow that is still open was alive at ``at``.

    Taken before the read that found nothing more to read. Never sent between a loss and the next complete full read.
    """

    at: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The kernel dropped changes (``reason``: ``overrun``, …). How many is unknown; a full read follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class MeasuringFinished:
    """The source that only measures has read all its connections, which came as ``Kind.MEASURED``.

    If not ``complete``, those since the last such step are only some of them.
    """

    complete: bool


@dataclass(frozen=True, slots=True)
class Broadcasts:
    """From now on these are the directed broadcast addresses of the host's networks."""

    addresses: tuple[Address, ...]


Step = FlowBatch | ReadStarted | ReadFinished | CaughtUp | Lost | MeasuringFinished | Broadcasts


@dataclass(slots=True)
class SourceStats:
    """Running counts of one source; written by its thread, read by anyone (each field is one reference)."""

    up: bool = False
    records: int = 0
    """Entries, events or packets read."""
    lost: dict[str, int] = field(default_factory=dict)
    """Records known to be lost or skipped, by reason (``malformed``, ``truncated``, …); never a guess."""
    overruns: int = 0
    """Times the kernel said it dropped changes; says nothing about how many."""
    resyncs: dict[str, int] = field(default_factory=dict)
    """Full reads begun, by reason (``start``, ``timer``, ``overrun``)."""
    resync_seconds: float = 0.0
    """Wall time of the last full read."""
    receive_buffer: int = 0
    """Bytes of socket buffer really granted."""
    exceptional_packets: dict[str, int] = field(default_factory=dict)
    """Packets that do not count as flows of their own ends, by reason: ``duplicate`` (seen on a second interface),
    ``not_ip``, ``lone_fragment`` (counts without ports), ``unopened`` (counts as the tunnel's own)."""
    offloaded: dict[str, int] = field(default_factory=dict)
    """Connections of the last full read that a flowtable forwards, by path (``software``, ``hardware``); empty where
    that is not known."""
    interfaces: dict[str, bool] = field(default_factory=dict)
    """Whether each interface that is named is there and up."""
    notes: dict[str, str] = field(default_factory=dict)
    """Degradations in force: a short key and one line with what it means and how to mend it."""


class Source(Protocol):
    """One source of flows."""

    name: str
    """Metric label: ``conntrack``, ``sockets``, …"""
    counts: Literal["ip", "payload"]
    """What its byte counters hold: IP packet lengths, or TCP payload."""
    announces_births: bool
    """Whether a flow is reported when it begins. If not, a new one may have begun since the last full read began."""
    tells_health: bool
    """Whether it tells retransmissions and round-trip times of TCP."""
    as_of: float
    """The counters in the step last delivered hold all that came before this instant; infinite: before the poll."""
    stats: SourceStats

    def open(self) -> None:
        """Open the descriptors; SourceError (with a remedy) if that cannot be done."""

    def close(self) -> None:
        """Close the descriptors; safe to call twice."""

    def fileno(self) -> int:
        """A descriptor that is readable while changes wait."""

    def deadline(self) -> float:
        """Monotonic time at which ``poll`` wants to be called even if nothing is readable."""

    def poll(self) -> Iterator[Step]:
        """Read what waits (and do a full read where due) and deliver it as steps.

        Returns when nothing more waits. SourceError if the source can no longer be read: the caller closes it and
        opens it again later.
        """

    def finish(self) -> Iterator[Step]:
        """As ``poll``, for the last time: also the counters of what is open, as far as they can be had in a moment."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What of a source never changes; see :class:`Source`."""

    name: str
    counts: Literal["ip", "payload"]
    announces_births: bool
    tells_health: bool = False

    @classmethod
    def of(cls, source: Source) -> SourceFacts:
        """Those of ``source``."""
        return cls(source.name, source.counts, source.announces_births, source.tells_health)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``flowmap check``."""

    name: str
    """What was looked at: ``conntrack.accounting``, ``sockets.destroy_events``, …"""
    level: Literal["ok", "degraded", "failed"]
    message: str
    """What was found and, unless ok, what it costs the user."""
    remedy: str = ""
    """What to do about it; empty when ok."""
