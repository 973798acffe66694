"""The protocol of all sources of flows, and the steps a source delivers.

The engine waits until ``fileno()`` is readable or ``deadline()`` has passed. Then it iterates ``poll()`` to its end and
applies each step in order. Steps are small, so that the engine can do other work between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from flowmap.flows.records.batch import FlowBatch
from flowmap.model.address import Address, Endpoint
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.source import SourceFacts, SourceStats
from flowmap.model.workload import Workload

if TYPE_CHECKING:
    from flowmap.config import CollectConfig

Level = Literal["ok", "degraded", "failed"]
ReadReason = Literal["start", "timer", "overrun"]
ReadEvent = Literal["started", "complete", "incomplete", "lost"]


@dataclass(frozen=True, slots=True)
class ReadStarted:
    """A full read starts; every open flow follows as a ``RecordKind.DUMPED`` record."""

    reason: ReadReason


@dataclass(frozen=True, slots=True)
class ReadFinished:
    """The full read has ended, and all changes during it were delivered.

    If ``complete``, a flow without a record since ``ReadStarted`` has ended. An interrupted or truncated read is not
    complete.
    """

    complete: bool


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Every change before ``at`` (monotonic seconds) was delivered: a flow that is still open was alive at ``at``.

    ``at`` is the time before the read that found the queue empty. Not sent between a loss and the next complete read.
    """

    at: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The kernel dropped changes (``reason``: ``overrun``, …). Their number is unknown; a full read follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class MeasuringFinished:
    """A full read of the source that only measures has ended; its records are ``RecordKind.MEASURED``.

    If not ``complete``, records of some connections are missing since the previous step of this type.
    """

    complete: bool


@dataclass(frozen=True, slots=True)
class Broadcasts:
    """The directed broadcast addresses of the host's networks, valid from now on."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class AddressesRemoved:
    """Addresses that were taken off this host since the last step of this type, even if they are back; None: any may
    have been."""

    addresses: tuple[Address, ...] | None


@dataclass(frozen=True, slots=True)
class OwnCalls:
    """Connections to control planes that flowmap itself has just made: local and remote endpoint of each."""

    made: tuple[tuple[Endpoint, Endpoint], ...]


@dataclass(frozen=True, slots=True)
class WorkloadsNamed:
    """What the numbers of workloads in records stand for, from now on."""

    workloads: tuple[tuple[int, Workload], ...]


@dataclass(frozen=True, slots=True)
class NamespacesNamed:
    """What the numbers of network namespaces in records stand for, from now on. A namespace can get a name later."""

    namespaces: tuple[tuple[int, NetworkNamespace], ...]


@dataclass(frozen=True, slots=True)
class NamespaceOpened:
    """Another network namespace is read from now on; precedes its records. A batch has records of one namespace."""

    number: int
    absent_at: float | None
    """The namespace did not exist at this instant (monotonic seconds), so its flows began later; None: it may be older
    than the daemon."""


@dataclass(frozen=True, slots=True)
class NamespaceRead:
    """A full read of another network namespace: ``started`` as :class:`ReadStarted`, ``complete`` and ``incomplete`` as
    :class:`ReadFinished`, and ``lost`` as :class:`Lost`, each for the flows of this namespace only."""

    number: int
    event: ReadEvent


@dataclass(frozen=True, slots=True)
class NamespaceGone:
    """Another network namespace is not read any more, as it is gone or failed: its open flows have ended."""

    number: int


@dataclass(frozen=True, slots=True)
class NamespaceAddresses:
    """The addresses of a network namespace (0: the daemon's own) from now on; precedes the records that need them.

    Only from sources that read several namespaces.
    """

    number: int
    addresses: tuple[Address, ...]


Step = (
    FlowBatch
    | ReadStarted
    | ReadFinished
    | CaughtUp
    | Lost
    | MeasuringFinished
    | Broadcasts
    | WorkloadsNamed
    | NamespacesNamed
    | AddressesRemoved
    | OwnCalls
    | NamespaceOpened
    | NamespaceRead
    | NamespaceGone
    | NamespaceAddresses
)


class Source(Protocol):
    """One source of flows."""

    facts: SourceFacts
    as_of: float
    """The counters of the last step include everything before this instant; infinity: everything before the poll."""
    stats: SourceStats

    def configure(self, settings: CollectConfig) -> None:
        """Apply the settings that a reload may change; called on the thread that polls."""

    def open(self) -> None:
        """Open the descriptors; SourceError, with a remedy, on failure."""

    def close(self) -> None:
        """Close the descriptors; safe to call twice."""

    def fileno(self) -> int:
        """A descriptor that is readable while changes are waiting."""

    def deadline(self) -> float:
        """Monotonic time at which ``poll`` must be called even if nothing is readable."""

    def poll(self) -> Iterator[Step]:
        """Steps of all waiting changes, after a full read if one is due.

        SourceError if the source can no longer be read: the caller closes it and opens it again later.
        """

    def finish(self) -> Iterator[Step]:
        """The last ``poll``: also reads the counters of open flows if that takes about a second at most."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``flowmap check``."""

    name: str
    """The subject: ``conntrack.accounting``, ``sockets.destroy_events``, …"""
    level: Level
    message: str
    """What was found and, unless ok, its cost."""
    remedy: str = ""
    """What to do; empty when ok."""
