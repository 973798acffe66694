"""The immutable snapshot that scrapes and queries read; the engine publishes it as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.export.delays import DelayCounts
from flowmap.export.series import KINDS, SeriesKey, SeriesKind
from flowmap.model.deployment import DeploymentInfo, DeploymentKey, Owner
from flowmap.model.expectation import FindingKind
from flowmap.model.findings import StaleReason
from flowmap.model.source import SourceReport
from flowmap.model.status import AttributionReport, ByteTotals, QuestionCounts, RecordingReport
from flowmap.model.views import ByteCount, Health, Traffic

U64 = npt.NDArray[np.uint64]


class Totals(NamedTuple):
    """Bytes ever credited to series, by the kind that holds them now; the sum is all credited bytes."""

    deployment: ByteCount = ByteCount()
    shared: ByteCount = ByteCount()
    unattributed: ByteCount = ByteCount()
    internal: ByteCount = ByteCount()
    expired: ByteCount = ByteCount()
    """Bytes of series that were removed while idle."""


def _nothing() -> U64:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class SeriesSnapshot:
    """The series at one moment, one row per entry of a column. Unused rows have kind 0, no key and zeros."""

    kinds: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    """0 for an unused row, else 1 + the position in ``KINDS``."""
    keys: tuple[SeriesKey | None, ...] = ()
    """The key of each series, without the parts that its labels leave out."""
    texts: tuple[str, ...] = ()
    """Label text of each series as on the page: ``{…} ``."""
    transmit_bytes: U64 = field(default_factory=_nothing)
    receive_bytes: U64 = field(default_factory=_nothing)
    transmit_packets: U64 = field(default_factory=_nothing)
    receive_packets: U64 = field(default_factory=_nothing)
    connections: U64 = field(default_factory=_nothing)
    """Connections ever opened."""
    retransmits: U64 = field(default_factory=_nothing)
    open_connections: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    round_trip: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))
    """Seconds; NaN where there is no sample."""
    count: int = 0
    """Series in use."""
    limit: int = 0
    """``export.max_series``."""
    folded: int = 0
    """Look-ups folded at the limit."""
    expired: ByteCount = ByteCount()

    def rows(self, kind: SeriesKind) -> npt.NDArray[np.intp]:
        """Row numbers in use by ``kind``, ascending."""
        return np.flatnonzero(self.kinds == KINDS.index(kind) + 1)

    def traffic(self, row: int) -> Traffic:
        """The numbers of one row."""
        return Traffic(
            transmit_bytes=int(self.transmit_bytes[row]),
            receive_bytes=int(self.receive_bytes[row]),
            transmit_packets=int(self.transmit_packets[row]),
            receive_packets=int(self.receive_packets[row]),
            connections=int(self.connections[row]),
            open_connections=int(self.open_connections[row]),
        )

    def health(self, row: int) -> Health:
        """How well TCP does in one row. A mean over open connections needs an open one."""
        sample = float(self.round_trip[row])
        sampled = self.open_connections[row] > 0 and not np.isnan(sample)
        return Health(int(self.retransmits[row]), sample if sampled else None)

    def totals(self) -> Totals:
        """Exact sums by kind, and expired bytes."""
        sums = {kind: self._sum(self.rows(kind)) for kind in KINDS}
        return Totals(**sums, expired=self.expired)

    def _sum(self, rows: npt.NDArray[np.intp]) -> ByteCount:
        return ByteCount(exact_sum(self.transmit_bytes[rows]), exact_sum(self.receive_bytes[rows]))


def by_visible_key(infos: Iterable[DeploymentInfo]) -> dict[DeploymentKey, DeploymentInfo]:
    """Descriptions by identity, also without the workspace: series whose labels leave it out have owners without it."""
    whole = {info.owner.key: info for info in infos}
    return {key._replace(workspace=""): info for key, info in whole.items()} | whole


def exact_sum(column: U64) -> int:
    """Sum without overflow or rounding. numpy's own sum of uint64 wraps, so both halves are summed separately."""
    return (int((column >> np.uint64(32)).sum()) << 32) + int((column & np.uint64(0xFFFF_FFFF)).sum())


def exact_bytes(counters: U64) -> tuple[int, int]:
    """Transmitted and received bytes of flows, given their four counters side by side."""
    return exact_sum(counters[:, 0]), exact_sum(counters[:, 1])


@dataclass(frozen=True, slots=True)
class CatalogReport:
    """Figures of the deployment catalog, copied for the page."""

    deployments: int
    left_out: int
    """Deployments left out because the catalog is full."""
    suspicious: bool
    """Whether the last listing lost more than half of the deployments and is not applied yet."""
    succeeded_at: float | None
    """Epoch seconds at which every namespace had last been listed completely; None before the first time."""


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """Figures of the history, copied for the page; sizes in bytes."""

    up: bool
    """Whether the file can be written."""
    flows: int
    written: int
    lost: Mapping[str, int]
    """Flows missing in the file, by reason."""
    removed: Mapping[str, int]
    """Flows removed from it: ``age``, ``size``."""
    queued: int
    intervals_written: int
    intervals_lost: int
    size: int
    limit: int
    oldest: float | None
    """Epoch seconds at which the oldest flow ended; None without flows."""
    set_aside: int


class ContinuityCounts(NamedTuple):
    """Clients whose owner is kept without answers, while the same process has their connections."""

    clients: int = 0
    """Those now."""
    connections: int = 0
    """Connections that were named so."""
    questions: int = 0
    """Repetitions of questions about clients that were saved."""


@dataclass(frozen=True, slots=True)
class StoreReport:
    """Figures of what is sent to the store of all hosts, copied for the page."""

    up: bool
    """Whether the last exchange with the store succeeded, and none has been under way for long."""
    sent: int
    batches: int
    waiting: int
    oldest: float | None
    """Epoch seconds at which the oldest waiting flow ended; None without one."""
    complete_until: float | None
    """Epoch seconds before which every decided flow that ended was sent or lost; None before the first look."""
    lost: Mapping[str, int]
    """Flows that will never be sent, by reason."""
    failures: Mapping[str, int]
    """Exchanges that failed, by reason."""


@dataclass(frozen=True, slots=True)
class FleetReport:
    """Figures of the fleet, copied for the page."""

    up: bool
    """Whether the shared server answered the last exchange."""
    told: bool
    """Whether it passes answers on as they come."""
    lost_messages: int
    saved: int
    local_calls: int
    waiting: int
    failures: Mapping[str, int]
    """Exchanges that failed, by reason."""
    refused: Mapping[str, int]
    """Answers and questions of other hosts that were not used, by reason."""
    queued: int
    oldest: float
    """Seconds."""
    hosts: int
    missing: int
    rate: float
    """Calls a second that the fleet keeps to."""


@dataclass(frozen=True, slots=True)
class FindingsReport:
    """Open connections that are stale, and peers that are not expected, counted for the page."""

    stale: Mapping[tuple[tuple[Owner, ...], StaleReason], int] = field(default_factory=dict)
    """Connections by deployment, or set of deployments, and reason."""
    unexpected: Mapping[tuple[tuple[Owner, ...], FindingKind], int] = field(default_factory=dict)
    """Peers by deployment, or set of deployments, and kind; a deployment without an entry counts 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The data of the page and of the status answer, at one tick.

    In both directions, exactly: observed = deployments + shared + unattributed + internal + expired + pending.
    All parts but pending are in ``series_table``.
    """

    taken_at: float = 0.0
    """Seconds since the epoch."""
    source: str = ""
    """Label ``source`` of the observed and ignored bytes; empty: these families are left out."""
    observed_transmit_bytes: int = 0
    observed_receive_bytes: int = 0
    ignored_bytes: int = 0
    """Bytes of flows that the filters leave out, both directions together."""
    pending_transmit_bytes: int = 0
    """Observed and not yet credited to a series."""
    pending_receive_bytes: int = 0
    open_flows: int = 0
    """Open flows without ignored ones."""
    delays: Mapping[str, DelayCounts] = field(default_factory=dict)
    """Time from the first sight of flows to their decisions, by state."""
    counter_age: float | None = None
    """Seconds since the counters of open flows were read; None before the first time."""
    pending_flows: int = 0
    """Flows whose owner is not decided yet, open or closed."""
    unwritten_since: float | None = None
    """Seconds since the epoch at which the first of the flows ended that ended and are in the table only; None without
    one, or without history."""
    tracked_flows: int = 0
    """Flows in the table."""
    complete_reads: int = 0
    """Full reads of the source that were completed."""
    flows_limit: int = 0
    """``collect.max_flows``."""
    flows_ended_unseen: int = 0
    """Flows that disappeared between two full reads without a final record."""
    flows_unpaired: int = 0
    """Closed flows between two network namespaces that no longer wait for the socket of the other end."""
    shed: Mapping[str, int] = field(default_factory=dict)
    """Flows evicted or refused, by reason."""
    addresses_shared: int = 0
    """Addresses that several network namespaces have, without loopback and link-local ones."""
    workloads_dropped: int = 0
    """Containers and processes of flows that were dropped; sources have their own tables."""
    contradictions: int = 0
    """Answers that contradict an earlier attribution in the time they cover."""
    continuity: ContinuityCounts = ContinuityCounts()
    attribution: AttributionReport = AttributionReport()
    """Times in it are monotonic seconds."""
    questions: QuestionCounts = QuestionCounts()
    health: bool = False
    """Whether a source reports retransmits and round-trip times (the socket table does)."""
    series_table: SeriesSnapshot = field(default_factory=SeriesSnapshot)
    deployments: tuple[DeploymentInfo, ...] = ()
    """Deployments for the info metrics; the caller limits their number."""
    sources: tuple[SourceReport, ...] = ()
    catalog: CatalogReport | None = None
    """None leaves its metrics out."""
    recording: RecordingReport | None = None
    """None leaves its metrics out."""
    history: HistoryReport | None = None
    """None leaves its metrics out."""
    store: StoreReport | None = None
    fleet: FleetReport | None = None
    findings: FindingsReport | None = None
    """None leaves its metrics out."""

    def byte_totals(self) -> ByteTotals:
        """Observed bytes and the parts that they are the sum of."""
        totals = self.series_table.totals()
        return ByteTotals(
            observed=ByteCount(self.observed_transmit_bytes, self.observed_receive_bytes),
            attributed=totals.deployment,
            shared=totals.shared,
            unattributed=totals.unattributed,
            internal=totals.internal,
            expired=totals.expired,
            pending=ByteCount(self.pending_transmit_bytes, self.pending_receive_bytes),
        )

    def conserved(self) -> bool:
        """Whether observed equals the sum of its parts, exactly, in both directions."""
        parts = self.series_table.totals()
        transmit = sum(part.transmit for part in parts) + self.pending_transmit_bytes
        receive = sum(part.receive for part in parts) + self.pending_receive_bytes
        return (transmit, receive) == (self.observed_transmit_bytes, self.observed_receive_bytes)
