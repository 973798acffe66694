"""Two sources as one: the first counts, the second measures and may fail."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from flowmap.errors import SourceError
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.model.workload import Workload
from flowmap.sources.base import CaughtUp, Lost, MeasuringFinished, ReadFinished, ReadStarted, Step, WorkloadsNamed
from flowmap.sources.combined import CombinedSource, measured, names, parts
from tests.support.records import Record, batch_of
from tests.support.scripted_source import ScriptedSource

DUMPED = batch_of(
    Record(
        RecordKind.DUMPED, id=9, counters=(1, 2, 3, 4), retransmits=5, round_trip=6, flags=Flag.PRESENT | Flag.REPLIED
    )
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Pair:
    def __init__(self) -> None:
        self.clock = Clock()
        self.traffic, self.health = ScriptedSource("conntrack"), ScriptedSource("sockets")
        self.both = CombinedSource(self.traffic, self.health, clock=self.clock)

    def poll(self) -> list[Step]:
        return list(self.both.poll())

    def readable(self) -> bool:
        return bool(select.select([self.both.fileno()], [], [], 0)[0])


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.both.close()
    made.traffic.free()
    made.health.free()


def test_health_source_only_measures(pair: Pair) -> None:
    pair.both.open()
    first = batch_of(Record(RecordKind.OPENED, counters=(1, 1, 1, 1)))
    pair.traffic.hand(ReadStarted("start"), first, ReadFinished(True), CaughtUp(1.0))
    named = WorkloadsNamed(((2, Workload("/")),))
    pair.health.hand(
        ReadStarted("start"), named, DUMPED, FlowBatch(0), ReadFinished(True), CaughtUp(2.0), Lost("overrun")
    )
    *steps, also, told, over = pair.poll()
    assert also == named
    assert steps == [ReadStarted("start"), first, ReadFinished(True), CaughtUp(1.0)]
    assert over == MeasuringFinished(True)
    assert isinstance(told, FlowBatch)
    assert (told.kind.tolist(), told.id.tolist()) == ([RecordKind.MEASURED], [0])
    assert told.flags.tolist() == [Flag.HEALTH | Flag.PRESENT]
    assert (told.retransmits.tolist(), told.round_trip.tolist()) == ([5], [6])


def test_measured_copies_the_batch() -> None:
    before = DUMPED.rows()
    measured(DUMPED)
    assert DUMPED.rows() == before


def test_either_source_makes_it_readable(pair: Pair) -> None:
    pair.both.open()
    for source in (pair.traffic, pair.health):
        assert not pair.readable()
        source.hand(CaughtUp(1.0))
        assert pair.readable()
        pair.poll()


def test_names(pair: Pair) -> None:
    assert (names(pair.both), parts(pair.both)) == ("conntrack and sockets", (pair.traffic, pair.health))
    assert (names(pair.traffic), parts(pair.traffic)) == ("conntrack", (pair.traffic,))


def test_failures_of_either_source(pair: Pair) -> None:
    pair.both.open()
    pair.health.hand(SourceError("gone"))
    assert pair.poll() == [MeasuringFinished(False)]
    assert (pair.both.stats.up, pair.health.stats.up) == (True, False)
    assert "gone" in pair.health.stats.notes["failed"]
    pair.traffic.hand(SourceError("away"))
    with pytest.raises(SourceError, match="away"):
        pair.poll()


def test_health_source_is_retried_with_growing_pauses(pair: Pair) -> None:
    pair.health.refuses = 3
    pair.both.open()
    tries: list[float | str] = []
    for _ in range(80):
        due = pair.both.deadline() <= pair.clock.now
        before = pair.health.refuses
        pair.poll()
        if before != pair.health.refuses or (pair.health.stats.up and tries[-1:] != ["up"]):
            assert due
            tries.append("up" if pair.health.stats.up else pair.clock.now)
        pair.clock.now += 0.25
    assert tries == [101.0, 103.0, "up"]
    assert pair.health.stats.notes == {}
    pair.health.hand(DUMPED)
    assert len(pair.poll()) == 1


def test_open_fails_without_the_traffic_source(pair: Pair) -> None:
    pair.traffic.refuses = 1
    with pytest.raises(SourceError):
        pair.both.open()
    assert pair.health.opened == 0
    pair.both.open()
    pair.both.close()
    pair.both.close()
    assert (pair.both.fileno(), pair.traffic.stats.up, pair.health.stats.up) == (-1, False, False)
