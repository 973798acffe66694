"""Full reads that show a new flow, with its predecessor's tuple and id, before the events between the two."""

from __future__ import annotations

import pytest

from flowmap.flows.records.batch import RecordKind
from flowmap.flows.table import FlowTable
from tests.support.flow_table import Feed, started
from tests.support.records import Record, replace

OPENED, DUMPED, CLOSED = RecordKind.OPENED, RecordKind.DUMPED, RecordKind.CLOSED
FLOW = Record(OPENED, id=1)
Four = tuple[int, int, int, int]


def record(kind: RecordKind, counters: Four) -> Record:
    return replace(FLOW, kind=kind, counters=counters)


@pytest.mark.parametrize("flow_id", [1, 2], ids=["the same id", "another id"])
@pytest.mark.parametrize(
    ("before", "shown", "first", "second"),
    [
        # Two runs of the ground truth, in which the second flow was counted twice.
        pytest.param((357, 342, 5, 3), (484, 596, 5, 3), (357, 342, 5, 3), (484, 596, 5, 3), id="all was read"),
        pytest.param(
            (0, 0, 0, 0), (879, 1490, 4, 3), (361, 426, 5, 4), (3284, 5676, 12, 7), id="some packets are fewer"
        ),
        pytest.param((10, 10, 1, 1), (50, 50, 5, 5), (60, 40, 6, 4), (70, 70, 7, 7), id="fewer one way"),
        pytest.param((10, 10, 1, 1), (50, 50, 5, 5), (60, 60, 6, 6), (70, 70, 7, 7), id="not fewer"),
        pytest.param((10, 10, 1, 1), (5, 5, 1, 1), (60, 60, 6, 6), (70, 70, 7, 7), id="fewer than before"),
    ],
)
def test_both_flows_are_counted_once(flow_id: int, before: Four, shown: Four, first: Four, second: Four) -> None:
    feed, following = started(), replace(FLOW, id=flow_id)
    feed(FLOW)
    if any(before):
        feed.read(record(DUMPED, before))
    feed.table.begin_read()
    feed(replace(following, kind=DUMPED, counters=shown))
    feed(record(CLOSED, first), following)  # the events from before the read
    feed.table.end_read(complete=True, now=9)
    feed(replace(following, kind=CLOSED, counters=second))
    assert feed.total.tolist() == [a + b for a, b in zip(first, second, strict=True)]


def test_a_whole_life_between_the_two() -> None:
    feed = started()
    feed(FLOW)
    feed.read(record(DUMPED, (10, 10, 1, 1)))
    feed.table.begin_read()
    feed(record(DUMPED, (500, 600, 5, 6)))
    feed(record(CLOSED, (20, 30, 2, 3)), FLOW, record(CLOSED, (7, 8, 1, 2)), FLOW)
    feed.table.end_read(complete=True, now=9)
    feed.read(record(DUMPED, (510, 600, 6, 6)))
    assert feed.total.tolist() == [20 + 7 + 510, 30 + 8 + 600, 2 + 1 + 6, 3 + 2 + 6]


def test_the_first_read_shows_the_next_flow_of_an_older_one() -> None:
    feed = Feed(FlowTable(10))
    feed.table.begin_read()
    feed(record(DUMPED, (500, 600, 5, 6)))
    feed(record(CLOSED, (20, 30, 2, 3)), FLOW)
    feed.table.end_read(complete=True, now=9)
    feed(record(CLOSED, (510, 600, 6, 6)))
    assert feed.total.tolist() == [510, 600, 6, 6], "what the older one sent before the daemon is not known"


@pytest.mark.parametrize("complete", [True, False])
def test_counters_that_are_zeroed_after_the_read_are_new(complete: bool) -> None:
    feed = started()
    feed(FLOW)
    feed.table.begin_read()
    feed(record(DUMPED, (500, 600, 5, 6)))
    feed.table.end_read(complete=complete, now=9)
    feed(record(CLOSED, (20, 30, 2, 3)))
    assert feed.total.tolist() == [520, 630, 7, 9]


def test_nothing_is_kept_for_another_read() -> None:
    feed = started()
    feed(FLOW)
    feed.table.begin_read()
    feed(record(DUMPED, (500, 600, 5, 6)))
    feed(record(CLOSED, (20, 30, 2, 3)))
    feed.table.end_read(complete=True, now=9)
    feed(FLOW, record(CLOSED, (40, 50, 4, 5)))
    assert feed.total.tolist() == [540, 650, 9, 11]


def test_every_flow_of_a_read_is_corrected() -> None:
    feed = started()
    several = [replace(FLOW, client_port=port) for port in (1, 2, 3)]
    feed(*several)
    feed.table.begin_read()
    feed(*(replace(one, kind=DUMPED, counters=(50, 50, 5, 5)) for one in several))
    feed(*(replace(one, kind=CLOSED, counters=(20, 20, 2, 2)) for one in several))
    feed(*several)
    feed.table.end_read(complete=True, now=9)
    feed(*(replace(one, kind=CLOSED, counters=(60, 60, 6, 6)) for one in several))
    assert feed.total.tolist() == [3 * 80, 3 * 80, 3 * 8, 3 * 8]
