"""A backend with known answers, on a real ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flowmap.errors import QueryError
from flowmap.export.series_table import SeriesKey, SeriesTable
from flowmap.export.snapshot import Snapshot
from flowmap.model.address import Address, Endpoint, protocol_name
from flowmap.model.deployment import DeploymentInfo, Job, JobSelection, Owner, State
from flowmap.model.explanation import AskedQuestion, Explanation, Lifetime, ReceivedAnswer, Relation
from flowmap.model.findings import PeerAboveLimit, StaleConnection, StaleReason, StaleView
from flowmap.model.lineage import Direction, LineageEdge, LineageView
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.selection import Selection
from flowmap.model.source import SourceFacts, SourceReport, SourceStats, SourceStatus
from flowmap.model.status import (
    AttributionReport,
    ByteTotals,
    CatalogStatus,
    ConfigurationStatus,
    Contradiction,
    ControlPlaneStatus,
    FlowCounts,
    HistoryStatus,
    QuestionCounts,
    RecordingReport,
    ShapeReport,
    StatusView,
)
from flowmap.model.traffic_map import Figures, MapDeployment, MapLink, MapPeer, MapQuery, TrafficMap
from flowmap.model.views import (
    AttributionView,
    ByteCount,
    Connection,
    DeploymentView,
    Evidence,
    FlowChanges,
    FlowFilter,
    FlowPage,
    FlowView,
    Health,
    Lookup,
    PeerChanges,
    PeerSeen,
    PeerTraffic,
    PeerWindow,
    Traffic,
)
from flowmap.model.workload import Local, Workload

OWNER = Owner("ws", "default-namespace", "id-1", "orders <b>&\"'")
CONNTRACK = SourceFacts("conntrack", "ip", announces_births=True)
INFO = DeploymentInfo(
    OWNER,
    "STREAMING",
    "vvr-8.0",
    "ann",
    labels={"team": "pay", "bad": "\ud800"},
    jobs_by_state={"running": 1},
    jobs=(Job("job-1", "RUNNING", 1_700_000_000), Job("job-0", "FAILED", None, 1_700_000_000, over=True)),
    job_selection=JobSelection.AT_START,
    packages=("oss://bucket/orders.jar",),
)
TRAFFIC = Traffic(5_000_000, 20, 3, 4, 2, 1)
PEER = PeerTraffic("10.0.0.9:9092", "tcp", TRAFFIC, (OWNER,), Health(3, 0.0125))
DUMPED = PeerSeen("10.0.0.9:9092", "tcp", TRAFFIC, (OWNER,), 1_700_000_000.0, 1_700_000_100.0)
FLOW = FlowView(
    "tcp",
    Endpoint(Address.parse("10.0.0.1"), 40000),
    Endpoint(Address.parse("2001:db8::9"), 9092),
    (Endpoint(Address.parse("10.0.0.2"), 40001), Endpoint(Address.parse("10.0.0.9"), 9092)),
    1_700_000_000.25,
    None,
    1,
    2,
    3,
    4,
    State.ATTRIBUTED,
    (INFO,),
    True,
    "conntrack",
    (Local("client", Workload("/system.slice/kafka.service", unit="kafka.service")),),
    namespace=NetworkNamespace(7, "blue"),
)
ATTRIBUTION = AttributionView(
    State.ATTRIBUTED,
    (INFO,),
    (Evidence("sink", "strong", 1_700_000_000.0, 1_700_000_001.5, "live", "inside", (OWNER,)),),
    FLOW,
)
EDGE = LineageEdge(
    (INFO,), "orders", "tcp", ("10.0.0.9:9092",), Direction.READS, True, TRAFFIC, 1_700_000_000.0, 1_700_000_100.0
)
STALE = StaleView(
    (StaleConnection(FLOW, (StaleReason.OLDER_THAN_RUN, StaleReason.IDLE), 61.5, 1_700_000_100.0),),
    5,
    (PeerAboveLimit((OWNER,), "10.0.0.9:9092", 12),),
    9,
    2,
    True,
)
EXPLANATION = Explanation(
    ("conntrack", "sockets"),
    "seen: the handshake",
    FLOW.client,
    FLOW.server,
    "because of NAT",
    Lifetime(None, 1_700_000_000.0, 1_700_000_009.0, 1_700_000_008.0, None),
    (
        AskedQuestion(
            "client",
            "",
            "ns \ud800",
            Endpoint(FLOW.client.address, 0),
            None,
            (
                ReceivedAnswer(1_700_000_000.0, 1_700_000_000.5, (), Relation.UNCERTAIN),
                ReceivedAnswer(1_700_000_001.0, 1_700_000_001.5, (OWNER,), Relation.INSIDE, True),
            ),
            "inside",
            (OWNER,),
            1_700_000_000.5,
            1_700_000_001.0,
        ),
        AskedQuestion("sink", "w", "ns", None, FLOW.server, (), "", (), error="timeout: no answer"),
    ),
    "client {a} ∩ sink {?}",
    None,
    "not listed yet",
)


FIGURES = Figures(5_000_000, 20, 1000.25, None, 2, 1)
MAP = TrafficMap(
    1_700_000_000.0,
    1_700_000_010.0,
    True,
    (
        MapDeployment("d1", "deployment", OWNER.name, "", (OWNER,), INFO.labels, FIGURES),
        MapDeployment("d2", "unattributed", "no deployment", "unknown", (), {}, FIGURES),
    ),
    (MapPeer("p1", "10.0.0.9:9092", "tcp", FIGURES),),
    (MapLink("d1", "p1", FIGURES), MapLink("d2", "p1", FIGURES)),
    FIGURES,
    ("default-namespace",),
)


def snapshot(rows: int = 3) -> Snapshot:
    series_table = SeriesTable(
        labels=("namespace", "deployment", "peer", "protocol"), max_series=rows * 2 + 10, idle_after=600
    )
    ids = np.array(
        [series_table.series(SeriesKey("deployment", (OWNER,), "", f"p{row}:1", "tcp"), now=0) for row in range(rows)],
        np.int32,
    )
    counts = np.arange(1, rows + 1, dtype=np.uint64)
    series_table.credit(ids, counts, counts, counts, counts, now=0)
    return Snapshot(
        source="conntrack",
        observed_transmit_bytes=int(counts.sum()),
        observed_receive_bytes=int(counts.sum()),
        series_table=series_table.freeze(),
        deployments=(INFO,),
        sources=(SourceReport(CONNTRACK, SourceStats(up=True)),),
    )


class FakeBackend:
    """Answers from the constants above; ``asked`` keeps what it was asked; ``error`` is raised instead, if set."""

    def __init__(self, rows: int = 3) -> None:
        self.asked: list[object] = []
        self.error: Exception | None = None
        self.is_ready = True
        self.is_healthy = True
        self.snapshots = 0
        self.samples = 0
        self.map = MAP
        self._snapshot = snapshot(rows)

    async def attribution(self, connection: Connection, at: float | None, *, explain: bool = False) -> AttributionView:
        ends = str(connection.source), connection.source_port, str(connection.destination), connection.destination_port
        self._note((*ends, protocol_name(connection.protocol), at))
        return replace(ATTRIBUTION, explanation=EXPLANATION) if explain else ATTRIBUTION

    async def attributions(self, lookups: Sequence[Lookup], at: float | None) -> tuple[AttributionView, ...]:
        self._note((tuple(lookups), at))
        return (ATTRIBUTION,) * len(lookups)

    async def flows(self, filter: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        self._note((filter, limit, cursor))
        if cursor == "stale":
            raise QueryError("this cursor is no longer valid; start again", field="cursor")
        return FlowPage((FLOW,) * min(limit, 2), "next")

    async def flow_changes(self, filter: FlowFilter, limit: int, before: object) -> FlowChanges:
        self._note((filter, limit, before))
        return FlowChanges((FLOW,), 1, () if before is None else (FLOW,), "marks")

    async def traffic_map(
        self,
        query: MapQuery,
        window: tuple[float, float] | None = None,
        before: tuple[float, float] | None = None,
    ) -> TrafficMap:
        self._note((query, window, before))
        return self.map

    def sample(self) -> None:
        self.samples += 1

    async def deployments(self) -> tuple[DeploymentView, ...]:
        return (DeploymentView(INFO, TRAFFIC, (PEER,)),)

    async def deployment(self, deployment_id: str) -> DeploymentView | None:
        self._note(deployment_id)
        return DeploymentView(INFO, TRAFFIC, (PEER,), (PEER,)) if deployment_id == "id-1" else None

    async def deployment_peers(self, deployment: str, since: float, until: float) -> PeerWindow:
        self._note((deployment, since, until))
        return PeerWindow(since, until, (DUMPED,))

    async def peer_changes(self, deployment: str, before: tuple[float, float], now: tuple[float, float]) -> PeerChanges:
        self._note((deployment, before, now))
        return PeerChanges(PeerWindow(*before, ()), PeerWindow(*now, (DUMPED,)), (DUMPED,), ())

    async def peers(self) -> tuple[PeerTraffic, ...]:
        return (PEER,)

    async def lineage(self, selection: Selection) -> LineageView:
        self._note(selection)
        return LineageView(selection.since, 1_700_000_200.0, (EDGE,))

    async def stale(
        self, selection: Selection, *, idle: float | None, connections: int | None, limit: int
    ) -> StaleView:
        self._note((selection, idle, connections, limit))
        return STALE

    def status(self) -> StatusView:
        notes = {"accounting": "<script>alert(1)</script>"}
        return StatusView(
            "1.2.3",
            1_700_000_000.0,
            self.is_ready,
            (
                SourceStatus(
                    "conntrack",
                    SourceStats(
                        True, 5, {"malformed": 2}, 1, {"start": 1}, exceptional_packets={"duplicate": 3}, notes=notes
                    ),
                ),
            ),
            ControlPlaneStatus(
                "http://127.0.0.1:1",
                QuestionCounts(7, 1_700_000_000.0, None, 1, 4, 3),
                False,
                0.5,
                CatalogStatus(5, 0, 1_700_000_000.0, 2.5, None, "timeout"),
            ),
            FlowCounts(1, 0, 2, 10),
            ByteTotals(*(ByteCount(number, number + 1) for number in range(7))),
            True,
            configuration=ConfigurationStatus(1, None, 2, True, 1_700_000_000.0, None),
            recording=RecordingReport("/r", 9, False, "disk"),
            attribution=AttributionReport(
                (ShapeReport("client", 5, 4, 0, True),),
                (
                    Contradiction(
                        1_700_000_000.0,
                        1_700_000_001.0,
                        "client 10.0.0.1",
                        "ns",
                        (INFO.owner,),
                        (),
                        2,
                        FLOW.client,
                        FLOW.server,
                    ),
                ),
                narrowing_pairs=1,
                hint="set it",
            ),
            history=HistoryStatus(True, 3, 1_700_000_000.0, 4, 1, 0, 100, 1000, 0, 0, None),
            problems=("Source conntrack: <script>alert(1)</script>",),
        )

    def ready(self) -> bool:
        return self.is_ready

    def healthy(self) -> bool:
        return self.is_healthy

    def snapshot(self) -> Snapshot:
        self.snapshots += 1
        return self._snapshot

    def _note(self, question: object) -> None:
        self.asked.append(question)
        if self.error is not None:
            raise self.error
