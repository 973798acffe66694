"""What a scrape or a query reads: immutable, handed over whole by the one writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.export.series import KINDS, SeriesKey, SeriesKind
from flowmap.model.deployment import DeploymentInfo
from flowmap.model.status import AttributionReport
from flowmap.model.views import Traffic

U64 = npt.NDArray[np.uint64]


class ByteCount(NamedTuple):
    """Exact bytes in both directions."""

    transmit: int = 0
    receive: int = 0


class Totals(NamedTuple):
    """Bytes the ledger was ever credited, by where they are now; their sum is everything credited."""

    deployment: ByteCount = ByteCount()
    shared: ByteCount = ByteCount()
    unattributed: ByteCount = ByteCount()
    expired: ByteCount = ByteCount()
    """Bytes of series that were idle and left."""


def _nothing() -> U64:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class SeriesSnapshot:
    """The series at one moment. Columns have one entry a row; rows not in use have kind 0, no key and zeros."""

    kinds: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    """0 for a row not in use, else 1 + the place in ``KINDS``."""
    keys: tuple[SeriesKey | None, ...] = ()
    """What each series stands for, as far as its labels say it."""
    texts: tuple[str, ...] = ()
    """Label text: ``{…} ``, as it stands on the page."""
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
    """Look-ups the cap turned away."""
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

    def totals(self) -> Totals:
        """Exact sums by kind, and what expired."""
        sums = {kind: self._sum(self.rows(kind)) for kind in KINDS}
        return Totals(**sums, expired=self.expired)

    def _sum(self, rows: npt.NDArray[np.intp]) -> ByteCount:
        return ByteCount(exact_sum(self.transmit_bytes[rows]), exact_sum(self.receive_bytes[rows]))


def exact_sum(column: U64) -> int:
    """Sum without overflow or rounding: the halves are summed apart (numpy's own sum of uint64 wraps)."""
    return (int((column >> np.uint64(32)).sum()) << 32) + int((column & np.uint64(0xFFFF_FFFF)).sum())


def exact_bytes(counters: U64) -> tuple[int, int]:
    """Transmitted and received bytes of flows whose four counters stand side by side."""
    return exact_sum(counters[:, 0]), exact_sum(counters[:, 1])


@dataclass(frozen=True, slots=True)
class SourceReport:
    """One source's own figures (see ``collect.base.SourceStats``), copied for the page."""

    name: str
    """Label ``source``."""
    counts: Literal["ip", "payload"] = "ip"
    """What its byte counters hold."""
    up: bool = False
    records: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    """By reason; known losses only."""
    overruns: int = 0
    resyncs: Mapping[str, int] = field(default_factory=dict)
    """By reason: ``start``, ``timer``, ``overrun``."""
    resync_seconds: float = 0.0
    receive_buffer: int = 0
    """Bytes granted; 0 leaves the metric out."""
    exceptional_packets: Mapping[str, int] = field(default_factory=dict)
    """Packets by reason."""
    interfaces: Mapping[str, bool] = field(default_factory=dict)
    """Whether each that is named is there and up."""
    offloaded: Mapping[str, int] = field(default_factory=dict)
    """Connections that a flowtable forwards, by path."""
    accounting: bool | None = None
    """Whether the kernel's conntrack accounting is on; None where that does not matter, and the metric is left out."""
    untracked: int | None = None
    """Connections it sees that the source that counts does not; None where that is not known, or not its part."""


@dataclass(frozen=True, slots=True)
class CatalogReport:
    """Figures of the list of deployments, copied for the page."""

    deployments: int
    left_out: int
    """Deployments for which there was no room."""
    suspicious: bool
    """Whether a listing lost too much to be believed yet."""
    succeeded_at: float | None
    """Epoch seconds by which every namespace was last listed whole; None until each was once."""


@dataclass(frozen=True, slots=True)
class RecordingReport:
    """How the recording of what happens stands (``run --record``)."""

    path: str
    size: int
    """Bytes written."""
    active: bool
    ended: str
    """Why it ended: ``stopped``, ``size``, ``disk``, ``behind``, ``defect``; empty while it goes on."""


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """Figures of the history, copied for the page; sizes in bytes."""

    up: bool
    """Whether the file can be written."""
    flows: int
    written: int
    lost: Mapping[str, int]
    """Flows that are not in the file, by reason."""
    removed: Mapping[str, int]
    """Flows that left it: ``age``, ``size``."""
    queued: int
    intervals_written: int
    intervals_lost: int
    size: int
    limit: int
    oldest: float | None
    """Epoch seconds at which the oldest flow ended; None while there is none."""
    set_aside: int


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything the page and the status answer are made from, at one tick.

    Exactly, in both directions: observed = deployments + shared + unattributed + expired + pending. All but the last
    are in ``series_table``.
    """

    taken_at: float = 0.0
    """Seconds since the epoch."""
    source: str = ""
    """Label ``source`` of the observed and ignored bytes; while it is empty those families are left out."""
    observed_transmit_bytes: int = 0
    observed_receive_bytes: int = 0
    ignored_bytes: int = 0
    """Bytes of flows the filters leave out, both directions together."""
    pending_transmit_bytes: int = 0
    """Observed and not yet credited to any series."""
    pending_receive_bytes: int = 0
    open_flows: int = 0
    """Open flows, ignored ones left out."""
    pending_flows: int = 0
    """Flows that wait for an answer, open or ended."""
    flows_limit: int = 0
    """``collect.max_flows``."""
    flows_ended_unseen: int = 0
    """Flows that vanished between two full reads without a final record."""
    shed: Mapping[str, int] = field(default_factory=dict)
    """Flows not tracked, by reason."""
    contradictions: int = 0
    """Answers that denied what had been attributed in their range."""
    attribution: AttributionReport = AttributionReport()
    """Its times are monotonic seconds."""
    health: bool = False
    """Whether the source tells retransmits and round-trip times (the socket table does)."""
    series_table: SeriesSnapshot = field(default_factory=SeriesSnapshot)
    deployments: tuple[DeploymentInfo, ...] = ()
    """Deployments to describe with info metrics; the caller bounds them."""
    sources: tuple[SourceReport, ...] = ()
    catalog: CatalogReport | None = None
    """None leaves its metrics out."""
    recording: RecordingReport | None = None
    """None leaves its metrics out."""
    history: HistoryReport | None = None
    """As ``catalog``."""

    def conserved(self) -> bool:
        """Whether observed equals the sum of its parts, exactly, in both directions."""
        parts = self.series_table.totals()
        transmit = sum(part.transmit for part in parts) + self.pending_transmit_bytes
        receive = sum(part.receive for part in parts) + self.pending_receive_bytes
        return (transmit, receive) == (self.observed_transmit_bytes, self.observed_receive_bytes)
