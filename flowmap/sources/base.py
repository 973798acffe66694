"""What every source of flows offers, and the steps it delivers.

A source is pulled: the engine waits until ``fileno()`` is readable or ``deadline()`` has come, then iterates
``poll()`` to its end, applying each step in order. Steps are small enough that the engine can do other work between
two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from flowmap.flows.batch import FlowBatch
from flowmap.model.address import Address
from flowmap.model.source import SourceFacts, SourceStats

if TYPE_CHECKING:
    from flowmap.config import CollectConfig

Level = Literal["ok", "degraded", "failed"]
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


class Source(Protocol):
    """One source of flows."""

    facts: SourceFacts
    as_of: float
    """The counters in the step last delivered hold all that came before this instant; infinite: before the poll."""
    stats: SourceStats

    def configure(self, settings: CollectConfig) -> None:
        """Apply the settings that a reload may change; called on the thread that polls."""

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
class Finding:
    """One line of ``flowmap check``."""

    name: str
    """What was looked at: ``conntrack.accounting``, ``sockets.destroy_events``, …"""
    level: Level
    message: str
    """What was found and, unless ok, what it costs the user."""
    remedy: str = ""
    """What to do about it; empty when ok."""
