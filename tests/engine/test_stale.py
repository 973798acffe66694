"""Which open connections are stale: of earlier runs, of ended jobs, idle; and which deployments have too many."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest

from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.engine.stale import above_limit, find_stale, open_rows
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Job
from flowmap.model.findings import PeerAboveLimit, StaleReason
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.live_traffic import EPOCH, LiveTraffic, X, Y
from tests.support.open_connections import (
    BEFORE,
    BORN,
    OF_X,
    OF_Y,
    OVER,
    OWNERS,
    RUNNING,
    listed,
    open_connections,
    read_again,
)
from tests.support.records import batch_of, replace


class Judged(NamedTuple):
    """Of one connection."""

    reasons: tuple[StaleReason, ...]
    judged: bool
    idle_for: float


def judge(traffic: LiveTraffic, idle: float | None = None) -> dict[int, Judged]:
    """Every open connection, by the port of its client."""
    found = find_stale(traffic.accounting, open_rows(traffic.accounting), epoch=EPOCH, idle=idle)
    assert (found.stale == (found.older | found.ended | found.idle)).all()
    return {
        int(port): Judged(
            tuple(
                reason
                for reason, holds in (
                    (StaleReason.OLDER_THAN_RUN, found.older[place]),
                    (StaleReason.JOB_ENDED, found.ended[place]),
                    (StaleReason.IDLE, found.idle[place]),
                )
                if holds
            ),
            bool(found.judged[place]),
            float(found.idle_for[place]),
        )
        for place, port in enumerate(traffic.accounting.table.columns.client_port(found.rows))
    }


@pytest.fixture
def traffic() -> LiveTraffic:
    """Connections of X from the ports 40000 and 2, and of Y from port 3."""
    return open_connections()


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ((RUNNING,), (StaleReason.OLDER_THAN_RUN,)),
        ((RUNNING, OVER), (StaleReason.OLDER_THAN_RUN,)),
        ((BEFORE, RUNNING), ()),
        ((Job("at once", "RUNNING", EPOCH + BORN + 2),), ()),  # within the uncertainty of the list
        ((OVER,), (StaleReason.JOB_ENDED,)),
        ((), ()),
    ],
)
def test_runs(traffic: LiveTraffic, jobs: tuple[Job, ...], expected: tuple[StaleReason, ...]) -> None:
    listed(traffic, X, *jobs)
    listed(traffic, Y, BEFORE)
    found = judge(traffic)
    assert {port: one.reasons for port, one in found.items()} == {40000: expected, 2: expected, 3: ()}
    assert {port: one.judged for port, one in found.items()} == {40000: bool(jobs), 2: bool(jobs), 3: True}


def test_a_closed_connection_is_not_stale(traffic: LiveTraffic) -> None:
    traffic.see(replace(OF_X, kind=RecordKind.CLOSED))
    assert sorted(judge(traffic)) == [2, 3]


def test_idle(traffic: LiveTraffic) -> None:
    both = [replace(one, kind=RecordKind.DUMPED) for one in (OF_X, replace(OF_X, client_port=2, id=3))]
    both.append(replace(OF_Y, kind=RecordKind.DUMPED, counters=(500, 71, 5, 2)))
    assert not any(one.reasons for one in judge(traffic, 60).values()), "no full read after the start"
    read_again(traffic, 50, *both)
    read_again(traffic, 50, *both)
    found = judge(traffic, 60)
    assert {port for port, one in found.items() if one.reasons == (StaleReason.IDLE,)} == {40000, 2}
    assert all(60 < found[port].idle_for <= 103 for port in (40000, 2))
    assert all(one.reasons == (StaleReason.IDLE,) for one in judge(traffic, 40).values())
    assert all(one.reasons == () for one in judge(traffic).values())


def test_idle_is_unknown_without_counters(traffic: LiveTraffic) -> None:
    silent = replace(OF_X, client_port=4, id=5, counters=None)
    traffic.see(silent)
    traffic.answer(OWNERS)
    shown = [replace(one, kind=RecordKind.DUMPED) for one in (OF_X, OF_Y, silent)]
    read_again(traffic, 50, *shown)
    read_again(traffic, 50, *shown)
    found = judge(traffic, 60)
    assert (found[4].reasons, math.isnan(found[4].idle_for)) == ((), True)
    assert found[40000].reasons == (StaleReason.IDLE,)


@pytest.mark.parametrize(
    ("lost", "again", "idle"),
    [
        (False, False, (100.0, 100.0)),
        (False, True, (100.0, 50.0)),
        (True, False, (math.nan, math.nan)),
        (True, True, (math.nan, 50.0)),  # a packet since the loss
    ],
)
def test_idle_where_packets_are_counted_as_they_come(lost: bool, again: bool, idle: tuple[float, float]) -> None:
    traffic = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",), tie_wait=0), counts_live=True))
    for step in (ReadStarted("start"), ReadFinished(True)):
        traffic.accounting.apply(TakeStep(step, traffic.now, traffic.now))
    traffic.see(OF_X, OF_Y)
    traffic.answer(OWNERS)
    began = traffic.now - 1
    if lost:
        doubtful = int(Flag.PRESENT | Flag.DOUBTFUL | Flag.PICKED_UP)
        marked = [replace(one, kind=RecordKind.DUMPED, counters=None, flags=doubtful) for one in (OF_X, OF_Y)]
        traffic.accounting.apply(TakeStep(batch_of(*marked), began + 10, began + 10))
    if again:
        grown = replace(OF_Y, kind=RecordKind.UPDATED, counters=(600, 80, 6, 2))
        traffic.accounting.apply(TakeStep(batch_of(grown), began + 50, began + 50))
    traffic.accounting.apply(TakeStep(CaughtUp(began + 100), began + 100, began + 100))
    found = judge(traffic, 60)
    assert [found[port].idle_for for port in (40000, 3)] == pytest.approx(idle, nan_ok=True)
    assert [StaleReason.IDLE in found[port].reasons for port in (40000, 3)] == [one == 100 for one in idle]


def test_too_many_to_one_peer(traffic: LiveTraffic) -> None:
    rows = open_rows(traffic.accounting)
    assert above_limit(traffic.accounting, rows, 1) == [PeerAboveLimit((X,), "10.1.0.1:9092", 2)]
    assert above_limit(traffic.accounting, rows, 2) == []
    both = [PeerAboveLimit((X,), "10.1.0.1:9092", 2), PeerAboveLimit((Y,), "10.1.0.1:9092", 1)]
    assert above_limit(traffic.accounting, rows, 0) == both
