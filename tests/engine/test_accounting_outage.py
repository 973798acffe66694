"""The control plane is away for 30 minutes: no byte is lost, no name is wrong, and the largest flows come first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.calls.budget import CallBudget
from flowmap.attribute.decisions import CODE
from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import Ask, Decide, TakeStep
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner, State
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted, Step
from tests.support.accounting import Auditor, accounting_for
from tests.support.records import Record, batch_of, replace

CLIENTS = 40
RATE = 2.0
TTL = 60.0


def address(n: int) -> str:
    return f"10.0.1.{n}"


class OutageRun:
    """An accounting, a control plane that knows the truth, and a clock. Each client has its own service endpoint."""

    def __init__(self) -> None:
        self.accounting = accounting_for(
            AttributionSettings(namespaces=("ns",), semantics="connection", positive_ttl=TTL), max_flows=1000
        )
        self.auditor = Auditor(self.accounting)
        self.budget = CallBudget(rate=RATE, burst=5, max_in_flight=5)
        self.now, self.away, self.calls = 0.0, False, 0
        self.owners = {address(n): Owner("w", "ns", f"job{n}", f"job{n}") for n in range(CLIENTS)}
        self.truth: dict[int, Owner] = {}  # by the kernel's id of a flow
        self.named: dict[int, Owners] = {}  # by the id of the flow, in the order of naming
        self.observed = 0
        self.accounting.on_leaving(self._note_named)
        self.step(ReadStarted("start"))
        self.step(ReadFinished(True))

    def step(self, step: Step) -> None:
        self.accounting.apply(TakeStep(step, self.now, self.now - 0.01))

    def tell(self, kind: RecordKind, client: int, flow: int, transmit: int = 0) -> None:
        """A record of the flow; ``transmit`` are its bytes so far."""
        record = Record(kind, address(client), 1024 + flow, "10.1.0.1", 1000 + client, id=flow + 1)
        if kind is RecordKind.OPENED:
            self.truth[flow + 1] = self.owners[record.client]
        if kind is RecordKind.CLOSED:
            self.observed += transmit
            record = replace(record, counters=(transmit, 0, 1, 0))
        self.step(batch_of(replace(record, flags=int(Flag.PRESENT))))

    def spend(self, seconds: float, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Time passes; questions are asked as the budget allows."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.5
            meanwhile()
            for question in self.accounting.apply(Ask(self.now, self.budget.available(self.now))):
                self.call(question)
            self.step(CaughtUp(self.now))
            self.accounting.apply(Decide(self.now))
            self._note_named(self.accounting.table.live())
            if self.now % 10 == 0:
                self.auditor.check()

    def call(self, question: Question) -> None:
        self.budget.start(self.now)
        self.budget.finish()
        self.calls += 1
        if self.away:
            self.accounting.attribution.fail(question, "timeout: no answer", now=self.now)
        else:
            self.accounting.attribution.receive(question, Answer(self.now - 0.2, self.now - 0.1, self._said(question)))

    def _said(self, question: Question) -> Owners:
        if question.shape is Shape.CLIENT and question.source is not None:
            return frozenset({self.owners[str(question.source.address)]})
        assert question.destination is not None
        return frozenset({self.owners[address(question.destination.port - 1000)]})

    def _note_named(self, rows: Rows) -> None:
        columns, decisions = self.accounting.table.columns, self.accounting.attribution.decisions
        for row in rows[columns.state[rows] == CODE[State.ATTRIBUTED]].tolist():
            flow, owners = int(columns.id[row]), decisions[int(columns.verdict[row])].owners
            assert owners == {self.truth[flow]}, "a wrong name"
            self.named.setdefault(flow, owners)


@pytest.fixture(scope="module")
def run() -> OutageRun:
    """30 minutes without the control plane, in which every client had a short connection of its own size."""
    run = OutageRun()
    for client in range(CLIENTS):
        run.tell(RecordKind.OPENED, client, client)
    run.spend(300)
    assert len(run.named) == CLIENTS
    run.away = True
    run.spend(60)
    for client in range(CLIENTS):
        run.tell(RecordKind.OPENED, client, 100 + client)
    run.spend(600)
    for client in range(CLIENTS):
        run.tell(RecordKind.CLOSED, client, 100 + client, transmit=1000 * (1 + client * 7 % CLIENTS))
    moved = address(3)  # while nobody could be asked, one address changed hands: its open connection ended before
    run.tell(RecordKind.CLOSED, 3, 3, transmit=5)
    run.spend(60)
    run.owners[moved] = Owner("w", "ns", "another", "another")
    run.spend(1080)
    return run


def test_no_byte_lost_and_no_flow_named_during_the_outage(run: OutageRun) -> None:
    assert run.accounting.observed[0] == run.observed
    assert len(run.named) == CLIENTS
    assert run.accounting.pending_flows == CLIENTS


def test_largest_flows_are_named_first_after_the_outage(run: OutageRun) -> None:
    run.away, run.calls, began = False, 0, run.now
    before = len(run.named)
    run.spend(180)
    sizes = {101 + client: 1000 * (1 + client * 7 % CLIENTS) for client in range(CLIENTS)}
    named = [sizes[flow] for flow in list(run.named)[before:] if flow in sizes]
    assert len(named) == CLIENTS - 1, "all but the one whose address moved meanwhile"
    assert run.accounting.pending_flows == 0
    assert run.calls <= RATE * (run.now - began) + 5
    ten_largest = sorted(sizes.values(), reverse=True)[:10]
    assert set(named[:16]) >= set(ten_largest), "one call in four is for the longest wait"
    totals = run.accounting.series_table.totals()
    assert totals.unattributed.transmit == sizes[104]
    assert totals.deployment.transmit + totals.unattributed.transmit == run.observed
