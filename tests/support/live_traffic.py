"""Live flows with owners, and the queries of users about them."""

from __future__ import annotations

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Decide, TakeStep
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.address import Address
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.views import Connection
from flowmap.query.live import LiveQueries
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of, replace

X, Y, Z = (Owner("w", "ns", f"id-{name}", name) for name in "xyz")
EPOCH = 5000.0
FLOW = Record(RecordKind.OPENED, counters=(500, 70, 5, 1), flags=int(Flag.PRESENT))
NAT = replace(FLOW, client="10.0.0.2", id=2, translated=("10.9.0.2", 1234, "10.8.0.1", 8080))
SIX = replace(FLOW, client="2001:db8::1", server="2001:db8::2", protocol=17, server_port=53, id=3, flags=Flag.GUESSED)
OWNERS = {"10.0.0.1": [X], "10.0.0.2": [X, Y], "2001:db8::1": []}


class LiveTraffic:
    """An accounting with flows, the queries of users about it, and answers by client address."""

    def __init__(self, accounting: FlowAccounting) -> None:
        self.accounting, self.now = accounting, 1000.0
        self.queries = LiveQueries(accounting, source="test", epoch=EPOCH)
        for owner in (X, Y):
            accounting.deployments[owner.key] = DeploymentInfo(owner, creator="me")

    def see(self, *records: Record) -> None:
        """Take a batch of records, a second later."""
        self.now += 1
        self.accounting.apply(TakeStep(batch_of(*records), self.now, self.now - 0.5))

    def answer(self, owners: dict[str, list[Owner]] | None = None) -> None:
        """Answer every due question, by client address, and decide."""
        owners = OWNERS if owners is None else owners
        everybody = [owner for some in owners.values() for owner in some]
        for question in self.accounting.attribution.ask(now=self.now, limit=1000):
            named = everybody
            if question.shape is Shape.CLIENT and question.source is not None:
                named = owners.get(str(question.source.address), [])
            self.accounting.attribution.receive(question, Answer(self.now, self.now + 0.25, frozenset(named)))
        self.now += 1
        self.accounting.apply(TakeStep(CaughtUp(self.now), self.now, self.now))
        self.accounting.apply(Decide(self.now))

    def connection(
        self, source: str, destination: str, ports: tuple[int | None, int | None] = (None, None), protocol: int = 6
    ) -> Connection:
        """A connection as a user names it."""
        return Connection(Address.parse(source), ports[0], Address.parse(destination), ports[1], protocol)


def decided_traffic() -> LiveTraffic:
    """Flows that are attributed, shared (behind NAT), unknown (IPv6) and left out, read twice."""
    made = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",), tie_wait=0), exclude=("tcp/22",)))
    for step in (ReadStarted("start"), ReadFinished(True)):
        made.accounting.apply(TakeStep(step, made.now, made.now))
    made.see(FLOW, NAT, SIX, replace(FLOW, server_port=22, id=4))
    made.answer()
    # UDP has no end that is told: its client is there while it sends.
    made.see(replace(SIX, kind=RecordKind.DUMPED, counters=(600, 70, 6, 1)))
    made.accounting.apply(TakeStep(ReadStarted("timer"), made.now, made.now))
    shown = [
        replace(one, kind=RecordKind.DUMPED, counters=None) for one in (FLOW, NAT, replace(FLOW, server_port=22, id=4))
    ]
    made.see(*shown, replace(SIX, kind=RecordKind.DUMPED, counters=(700, 70, 7, 1)))
    made.accounting.apply(TakeStep(ReadFinished(True), made.now, made.now))
    made.answer()
    return made
