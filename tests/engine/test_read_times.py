"""What full reads of each namespace prove about its flows."""

from __future__ import annotations

import pytest

from flowmap.engine.read_times import ReadTimes, event_of
from flowmap.sources.base import Lost, NamespaceRead, ReadEvent, ReadFinished, ReadStarted

NEVER = float("-inf")


@pytest.mark.parametrize(
    ("step", "event"),
    [
        (ReadStarted("timer"), (0, "started")),
        (ReadFinished(complete=True), (0, "complete")),
        (ReadFinished(complete=False), (0, "incomplete")),
        (Lost("overrun"), (0, "lost")),
        (NamespaceRead(7, "complete"), (7, "complete")),
    ],
)
def test_events(step: ReadStarted | ReadFinished | Lost | NamespaceRead, event: tuple[int, ReadEvent]) -> None:
    assert event_of(step) == event


def test_each_namespace_has_its_own_times() -> None:
    times = ReadTimes()
    times.open(1, None)
    times.open(2, 5.0)
    for namespace in (0, 1, 2):
        times.begin(namespace, 10.0 + namespace)
    assert [times.born_after(namespace) for namespace in (0, 1, 2)] == [NEVER, NEVER, 5.0]
    times.lose(1)
    assert [times.is_trusted(namespace) for namespace in (0, 1, 2)] == [True, False, True]
    times.finish(0, announces_births=True)
    times.finish(2, announces_births=True)
    assert [times.born_after(namespace) for namespace in (0, 1, 2)] == [NEVER, NEVER, 12.0]
    times.catch_up(20.0, announces_births=True, counts_live=False)
    assert (times.born_after(0), times.counters_at, times.all_born_after) == (20.0, 10.0, NEVER)
    times.forget(1)
    assert times.all_born_after == 12.0


def test_counters_are_as_old_as_those_of_the_namespace_read_longest_ago() -> None:
    times = ReadTimes()
    assert times.counters_at == NEVER
    times.begin(0, 10.0)
    times.finish(0, announces_births=False)
    times.open(1, None)
    assert times.counters_at == 10.0  # none of its flows has been counted yet
    times.begin(1, 8.0)
    times.finish(1, announces_births=False)
    assert times.counters_at == 8.0


def test_live_counters() -> None:
    times = ReadTimes()
    times.catch_up(3.0, announces_births=True, counts_live=True)
    assert times.counters_at == 3.0
