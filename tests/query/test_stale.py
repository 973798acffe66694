"""Stale connections: of earlier runs, of ended jobs, idle, and above a limit."""

from __future__ import annotations

import pytest

from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.engine.findings import count_stale
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import DeploymentInfo, Job, Jobs, Owner
from flowmap.model.findings import ConnectionLimits, PeerAboveLimit, StaleReason, StaleView
from flowmap.model.selection import LabelFilter, Selection
from flowmap.query.stale import stale_view
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.query.test_live import EPOCH, Desk, X, Y
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of, replace

OF_X = Record(RecordKind.OPENED, counters=(500, 70, 5, 1), flags=int(Flag.PRESENT))
OF_Y = replace(OF_X, client="10.0.0.2", id=2)
EVERYTHING = Selection()
OWNERS = {"10.0.0.1": [X], "10.0.0.2": [Y]}
BORN = 1001.0
"""When the first flows are opened, monotonic; they are decided afterwards."""


@pytest.fixture
def desk() -> Desk:
    made = Desk(accounting_for(AttributionSettings(namespaces=("ns",), tie_wait=0)))
    for step in (ReadStarted("start"), ReadFinished(True)):
        made.accounting.apply(TakeStep(step, made.now, made.now))
    made.tell(OF_X, replace(OF_X, client_port=2, id=3), OF_Y)
    made.answer(OWNERS)
    return made


def listed(desk: Desk, owner: Owner, *jobs: Job, labels: dict[str, str] | None = None) -> None:
    """What the list of the owner's jobs says, read long after the flows began."""
    jobs_then = Jobs(jobs, EPOCH + 5000, True, 0.0, 0.0)
    desk.accounting.deployments[owner.key] = DeploymentInfo(owner, listed=jobs_then, labels=labels or {})


def read_again(desk: Desk, after: float, *records: Record) -> None:
    """A full read some seconds later."""
    desk.now += after
    desk.accounting.apply(TakeStep(ReadStarted("timer"), desk.now, desk.now))
    desk.accounting.apply(TakeStep(batch_of(*records), desk.now, desk.now))
    desk.accounting.apply(TakeStep(ReadFinished(True), desk.now, desk.now))


def view(desk: Desk, selection: Selection = EVERYTHING, *, limit: int = 10, **limits: float) -> StaleView:
    connections = limits.get("connections")
    return stale_view(
        desk.queries,
        selection,
        idle=limits.get("idle"),
        connections=None if connections is None else int(connections),
        limit=limit,
    )


def reasons(found: StaleView) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(str(one.flow.client.address), one.flow.client.port, one.reasons) for one in found.connections]


RUNNING = Job("new", "RUNNING", EPOCH + BORN + 60)
BEFORE = Job("old", "RUNNING", EPOCH + BORN - 60)
OVER = Job("over", "FINISHED", EPOCH + 1, EPOCH + BORN + 30, over=True)

RUNS = [
    # jobs of X, reasons of its flows
    ((RUNNING,), (StaleReason.OLDER_THAN_RUN,)),
    ((RUNNING, OVER), (StaleReason.OLDER_THAN_RUN,)),
    ((BEFORE, RUNNING), ()),
    ((Job("at once", "RUNNING", EPOCH + BORN + 2),), ()),  # within the uncertainty of the list
    ((OVER,), (StaleReason.JOB_ENDED,)),
    ((), ()),
]


@pytest.mark.parametrize(("jobs", "expected"), RUNS)
def test_runs(desk: Desk, jobs: tuple[Job, ...], expected: tuple[StaleReason, ...]) -> None:
    listed(desk, X, *jobs)
    listed(desk, Y, BEFORE)
    found = view(desk)
    assert reasons(found) == ([("10.0.0.1", 40000, expected), ("10.0.0.1", 2, expected)] if expected else [])
    assert (found.checked, found.unjudged) == (3, 0 if jobs else 2)


def test_a_closed_connection_is_not_stale(desk: Desk) -> None:
    listed(desk, X, RUNNING)
    listed(desk, Y, RUNNING)
    desk.tell(replace(OF_X, kind=RecordKind.CLOSED))
    assert [port for _, port, _ in reasons(view(desk))] == [2, 40000]


def test_idle(desk: Desk) -> None:
    both = [replace(one, kind=RecordKind.DUMPED) for one in (OF_X, replace(OF_X, client_port=2, id=3))]
    assert not view(desk, idle=60).connections, "there was no full read after the start"
    read_again(desk, 50, *both, replace(OF_Y, kind=RecordKind.DUMPED, counters=(500, 71, 5, 2)))
    read_again(desk, 50, *both, replace(OF_Y, kind=RecordKind.DUMPED, counters=(500, 71, 5, 2)))
    found = view(desk, idle=60)
    assert {(port, why) for _, port, why in reasons(found)} == {(40000, (StaleReason.IDLE,)), (2, (StaleReason.IDLE,))}
    assert all(one.idle_seconds is not None and 60 < one.idle_seconds <= 103 for one in found.connections)
    assert len(view(desk, idle=40).connections) == 3
    assert not view(desk).connections


def test_idle_is_unknown_without_counters(desk: Desk) -> None:
    desk.tell(replace(OF_X, client_port=3, id=4, counters=None))
    desk.answer(OWNERS)
    both = [replace(one, kind=RecordKind.DUMPED) for one in (OF_X, OF_Y)]
    both.append(replace(OF_X, kind=RecordKind.DUMPED, client_port=3, id=4, counters=None))
    assert view(desk).idle_known, "no read of the counters has left it out"
    read_again(desk, 50, *both)
    read_again(desk, 50, *both)
    found = view(desk, idle=60)
    assert [one.flow.client.port for one in found.connections if one.flow.client.port == 3] == []
    assert (len(found.connections), found.idle_known) == (2, False)


@pytest.mark.parametrize(
    ("lost", "again", "idle"),
    [
        (False, False, (100.0, 100.0)),
        (False, True, (100.0, 50.0)),
        (True, False, (None, None)),
        (True, True, (None, 50.0)),  # a packet since the loss
    ],
)
def test_idle_where_packets_are_counted_as_they_come(
    lost: bool, again: bool, idle: tuple[float | None, float | None]
) -> None:
    desk = Desk(accounting_for(AttributionSettings(namespaces=("ns",), tie_wait=0), counts_live=True))
    for step in (ReadStarted("start"), ReadFinished(True)):
        desk.accounting.apply(TakeStep(step, desk.now, desk.now))
    desk.tell(OF_X, OF_Y)
    desk.answer(OWNERS)
    began = desk.now - 1
    for owner in (X, Y):
        listed(desk, owner, OVER)  # so that both are listed
    if lost:
        doubtful = int(Flag.PRESENT | Flag.DOUBTFUL | Flag.PICKED_UP)
        marked = [replace(one, kind=RecordKind.DUMPED, counters=None, flags=doubtful) for one in (OF_X, OF_Y)]
        desk.accounting.apply(TakeStep(batch_of(*marked), began + 10, began + 10))
    if again:
        grown = replace(OF_Y, kind=RecordKind.UPDATED, counters=(600, 80, 6, 2))
        desk.accounting.apply(TakeStep(batch_of(grown), began + 50, began + 50))
    desk.accounting.apply(TakeStep(CaughtUp(began + 100), began + 100, began + 100))
    found = view(desk, idle=60)
    assert {str(one.flow.client.address): one.idle_seconds for one in found.connections} == {
        "10.0.0.1": idle[0],
        "10.0.0.2": idle[1],
    }
    assert found.idle_known is (None not in idle)
    named = {str(one.flow.client.address) for one in found.connections if StaleReason.IDLE in one.reasons}
    assert named == {at for at, seconds in zip(("10.0.0.1", "10.0.0.2"), idle, strict=True) if seconds == 100}


def test_selection_and_limit(desk: Desk) -> None:
    for owner in (X, Y):
        listed(desk, owner, RUNNING, labels={"team": owner.name})
    assert (len(view(desk, limit=1).connections), view(desk, limit=1).total) == (1, 3)
    for selection, count_of in (
        (Selection(deployment="x"), 2),
        (Selection(deployment="id-y"), 1),
        (Selection(label=LabelFilter("team", ("y",))), 1),
        (Selection(label=LabelFilter("team", ("z",))), 0),
        (Selection(peer="10.1.0.1:9092"), 3),
        (Selection(peer="10.1.*"), 3),
        (Selection(peer="kafka"), 0),
    ):
        assert (view(desk, selection).total, view(desk, selection).checked) == (count_of, count_of)


def test_too_many_to_one_peer(desk: Desk) -> None:
    assert view(desk, connections=1).above_limit == (PeerAboveLimit((X,), "10.1.0.1:9092", 2),)
    assert view(desk, connections=2).above_limit == ()
    assert view(desk, Selection(deployment="y"), connections=1).above_limit == ()


def test_counts_for_the_metric(desk: Desk) -> None:
    listed(desk, X, RUNNING)
    listed(desk, Y, OVER)
    counts = count_stale(desk.accounting, ConnectionLimits(connections=1), epoch=EPOCH)
    assert counts == {
        ((X,), StaleReason.OLDER_THAN_RUN): 2,
        ((Y,), StaleReason.JOB_ENDED): 1,
        ((X,), StaleReason.ABOVE_LIMIT): 1,
    }
    assert count_stale(accounting_for(), ConnectionLimits(1, 1.0), epoch=EPOCH) == {}
