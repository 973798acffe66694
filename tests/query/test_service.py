"""What HTTP asks, over a real engine with a source and a control plane that tests play."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.calls.budget import CallBudget
from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.control.port import ControlStatus
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Restore
from flowmap.engine.engine import Engine
from flowmap.errors import QueryError
from flowmap.export.snapshot import Snapshot
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner, State
from flowmap.model.views import Connection, EndpointFilter, FlowFilter, Lookup
from flowmap.query.asking import EngineCalls
from flowmap.query.live import LiveQueries
from flowmap.query.service import MOST_ASKED, QueryService
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of, replace
from tests.support.scripted_source import ScriptedResolver, ScriptedSource, until

X, Y = (Owner("w", "ns", f"id-{name}", name) for name in "xy")
FLOW = Record(RecordKind.OPENED, counters=(500, 70, 5, 1), flags=int(Flag.PRESENT))
T = TypeVar("T")


class Control:
    """A control plane that is only asked for its state."""

    endpoint = "http://127.0.0.1:1"

    def status(self) -> ControlStatus:
        return ControlStatus()


def snapshot_of(accounting: FlowAccounting) -> Snapshot:
    return Snapshot(
        observed_transmit_bytes=accounting.observed[0],
        observed_receive_bytes=accounting.observed[1],
        pending_transmit_bytes=accounting.pending[0],
        pending_receive_bytes=accounting.pending[1],
        open_flows=accounting.table.open_flows,
        pending_flows=accounting.pending_flows,
        tracked_flows=len(accounting.table),
        complete_reads=accounting.complete_reads,
        flows_limit=accounting.table.max_flows,
        series_table=accounting.series_table.freeze(),
        deployments=accounting.described(),
    )


class House:
    """The daemon without its sockets."""

    def __init__(self) -> None:
        self.source, self.resolver = ScriptedSource(), ScriptedResolver()
        self.accounting = accounting_for(AttributionSettings(namespaces=("ns",)))
        self.engine = Engine(
            self.accounting,
            self.source,
            CallBudget(rate=1000.0, burst=100, max_in_flight=100),
            ask=self.resolver.start,
            take_snapshot=snapshot_of,
        )
        queries = LiveQueries(self.accounting, source="scripted", epoch=time.time() - time.monotonic())
        self.backend = QueryService(
            EngineCalls(self.engine, queries, timeout=0.5),
            Control(),  # type: ignore[arg-type]
            stale_for=600,
            source_status=lambda: (),
        )
        self.source.open()

    def named(self) -> House:
        """One flow, open and attributed."""
        self.resolver.answers = lambda _: (X,)
        self.source.hand(batch_of(FLOW))
        until(lambda: self.engine.answers >= 3, "three answers")
        self.source.hand(CaughtUp(time.monotonic()))
        until(lambda: self.backend.snapshot().series_table.totals().deployment == (500, 70), "a name")
        return self


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    made.source.hand(ReadStarted("start"), ReadFinished(True))
    made.engine.start()
    yield made
    made.engine.stop()
    made.engine.join(10)
    made.source.free()
    assert made.engine.failure is None


def tcp(source: str, source_port: int | None, destination: str, destination_port: int | None) -> Connection:
    return Connection(Address.parse(source), source_port, Address.parse(destination), destination_port, 6)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def test_a_connection_that_was_seen(house: House) -> None:
    house.named()
    view = run(house.backend.attribution(tcp("10.0.0.1", 40000, "10.1.0.1", 9092), None))
    assert (view.state, [info.owner for info in view.deployments]) == (State.ATTRIBUTED, [X])
    asked = len(house.resolver.all)
    run(house.backend.attribution(tcp("10.0.0.1", 40000, "10.1.0.1", 9092), None))
    assert len(house.resolver.all) == asked, "nothing more was asked"
    (flow,) = run(house.backend.flows(FlowFilter(), 10, None)).flows
    assert flow.transmit_bytes == 500


def test_what_was_known_before_a_restart_answers_nobody(house: House) -> None:
    now = time.monotonic()
    client = Question("ns", Shape.CLIENT, Endpoint(Address.parse("10.0.0.9"), 0), None)
    known = OwnershipInterval(frozenset({Y}), now - 9, now - 8, now - 2, now - 1, 5)
    run_on_writer(house, lambda: house.accounting.apply(Restore(((client, known),), now)))
    house.resolver.answers = lambda question: (X,) if question.shape is Shape.CLIENT else (X, Y)
    view = run(house.backend.attribution(tcp("10.0.0.9", None, "10.1.0.9", 80), None))
    assert (view.state, [info.owner for info in view.deployments]) == (State.ATTRIBUTED, [X])
    assert client in house.resolver.all, "it was asked again"


def run_on_writer(house: House, function: Callable[[], object]) -> None:
    house.engine.call(function).result(10)


def test_a_connection_that_was_not_seen_is_asked_about(house: House) -> None:
    house.resolver.answers = lambda question: (X,) if question.shape is Shape.CLIENT else (X, Y)
    view = run(house.backend.attribution(tcp("10.0.0.9", None, "10.1.0.9", 80), None))
    assert (view.state, [info.owner for info in view.deployments], view.flow) == (State.ATTRIBUTED, [X], None)
    run(house.backend.attribution(tcp("10.0.0.9", None, "10.1.0.9", 80), None))
    assert len(house.resolver.all) == 4, "the second time the answers are there"


def test_a_control_plane_that_does_not_answer_keeps_nobody_waiting_for_long(house: House) -> None:
    view = run(house.backend.attribution(tcp("10.0.0.9", None, "10.1.0.9", 80), None))
    assert (view.state, view.deployments) == (State.PENDING, ())


def test_a_control_plane_that_fails(house: House) -> None:
    house.resolver.refuses = "auth: no"
    view = run(house.backend.attribution(tcp("10.0.0.9", None, "10.1.0.9", 80), None))
    assert (view.state, view.cause) == (State.FAILED, "auth: no")


def test_the_past_needs_a_history(house: House) -> None:
    with pytest.raises(QueryError) as caught:
        run(house.backend.attribution(tcp("10.0.0.1", None, "10.1.0.1", 80), 12345.0))
    assert caught.value.field == "at"


def test_the_future_cannot_be_answered(house: House) -> None:
    with pytest.raises(QueryError, match="future") as caught:
        run(house.backend.attribution(tcp("10.0.0.1", None, "10.1.0.1", 80), time.time() + 60))
    assert caught.value.field == "at"


def test_a_busy_writer_is_told(house: House) -> None:
    house.engine.call(lambda: time.sleep(1.0))
    with pytest.raises(QueryError, match="busy"):
        run(house.backend.flows(FlowFilter(), 10, None))


def test_deployments_and_peers(house: House) -> None:
    house.named()
    (view,) = run(house.backend.deployments())
    assert (view.info.owner, view.traffic.transmit_bytes, view.traffic.open_connections) == (X, 500, 1)
    assert [(peer.peer, peer.traffic.receive_bytes) for peer in view.peers] == [("10.1.0.1:9092", 70)]
    (peer,) = run(house.backend.peers())
    assert (peer.peer, peer.protocol, peer.traffic.transmit_bytes) == ("10.1.0.1:9092", "tcp", 500)
    assert run(house.backend.deployment("id-x")) == view
    assert run(house.backend.deployment("id-z")) is None


def test_status_adds_up(house: House) -> None:
    house.named()
    status = house.backend.status()
    assert status.conserved and status.ready and house.backend.healthy()
    assert status.bytes.observed == (500, 70)
    assert status.bytes.attributed == (500, 70)
    assert (status.flows.open, status.flows.pending, status.flows.tracked) == (1, 0, 1)
    until(lambda: house.backend.status().control_plane.questions.answers == 4, "four answers")


def test_ready_after_the_first_read_and_an_answer() -> None:
    made = House()
    assert not made.backend.ready() and not made.backend.healthy()
    made.source.hand(ReadStarted("start"), batch_of(replace(FLOW, kind=RecordKind.DUMPED)), ReadFinished(True))
    made.engine.start()
    until(lambda: made.resolver.waiting and made.backend.snapshot().open_flows, "a question")
    assert not made.backend.ready()
    made.resolver.answer(next(iter(made.resolver.waiting)))
    until(made.backend.ready, "ready")
    made.engine.stop()
    made.engine.join(10)
    made.source.free()


def test_while_the_control_plane_fails_an_old_answer_serves_and_says_so(house: House) -> None:
    house.resolver.answers = lambda _: (X,)
    ends = tcp("10.9.0.1", 40000, "10.9.0.2", 9092), None
    assert run(house.backend.attribution(*ends)).state is State.ATTRIBUTED
    house.accounting.attribution.settings.positive_ttl = 0.0
    house.resolver.answers = None
    view = run(house.backend.attribution(*ends))
    assert (view.state, {one.origin for one in view.evidence}) == (State.ATTRIBUTED, {"stale"})
    assert view.cause is not None and "last answered" in view.cause
    house.backend.configure(timeout=0.5, stale_for=0.0)
    assert run(house.backend.attribution(*ends)).state is not State.ATTRIBUTED


def test_many_connections_at_a_time(house: House) -> None:
    house.named()
    house.resolver.answers = lambda question: (X,) if question.shape is Shape.CLIENT else ()
    seen = Lookup(EndpointFilter(Address.parse("10.0.0.1"), 40000), None, 6)
    unseen = [Lookup(EndpointFilter(Address.parse(f"10.9.{n // 250}.{n % 250}"), 1), None, 6) for n in range(600)]
    views = run(house.backend.attributions([*unseen, seen], None))
    assert len(views) == 601
    assert views[-1].flow is not None
    asked = [view for view in views if view.state is State.ATTRIBUTED]
    assert len(asked) == MOST_ASKED + 1
    assert {view.cause for view in views if view not in asked} == {"not asked yet"}


def test_many_connections_of_the_past_need_history(house: House) -> None:
    with pytest.raises(QueryError, match="history"):
        run(house.backend.attributions([], time.time() - 60))
    with pytest.raises(QueryError, match="future"):
        run(house.backend.attributions([], time.time() + 60))
