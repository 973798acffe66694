"""Full reads that show a new flow, with its predecessor's tuple and id, before the events between the two."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.flows.records.changes import Changes
from flowmap.flows.table import FlowTable
from tests.support.flow_table import Feed, started
from tests.support.records import Record, batch_of, replace

OPENED, DUMPED, CLOSED = RecordKind.OPENED, RecordKind.DUMPED, RecordKind.CLOSED
FLOW = Record(OPENED, id=1)
Four = tuple[int, int, int, int]


def record(kind: RecordKind, counters: Four) -> Record:
    return replace(FLOW, kind=kind, counters=counters)


@pytest.mark.parametrize("flow_id", [1, 2], ids=["the same id", "another id"])
@pytest.mark.parametrize(
    ("before", "shown", "first", "second"),
    [
        # Two runs of the ground truth.
        pytest.param((357, 342, 5, 3), (484, 596, 5, 3), (357, 342, 5, 3), (484, 596, 5, 3), id="all was read"),
        pytest.param(
            (0, 0, 0, 0), (879, 1490, 4, 3), (361, 426, 5, 4), (3284, 5676, 12, 7), id="some packets are fewer"
        ),
        pytest.param((10, 10, 1, 1), (50, 50, 5, 5), (60, 40, 6, 4), (70, 70, 7, 7), id="fewer one way"),
        pytest.param((10, 10, 1, 1), (50, 50, 5, 5), (60, 60, 6, 6), (70, 70, 7, 7), id="not fewer"),
        pytest.param((10, 10, 1, 1), (5, 5, 1, 1), (60, 60, 6, 6), (70, 70, 7, 7), id="fewer than before"),
    ],
)
def test_each_flow_has_its_own_bytes(flow_id: int, before: Four, shown: Four, first: Four, second: Four) -> None:
    feed, following = started(), replace(FLOW, id=flow_id)
    feed(FLOW)
    if any(before):
        feed.read(record(DUMPED, before))
    feed.table.begin_read()
    feed(replace(following, kind=DUMPED, counters=shown))
    feed(record(CLOSED, first))  # the events from before the read
    assert feed.total.tolist() == list(first)
    feed(following)
    feed.end_read()
    feed(replace(following, kind=CLOSED, counters=second))
    assert feed.total.tolist() == [a + b for a, b in zip(first, second, strict=True)]


def test_a_whole_life_between_the_two() -> None:
    feed = started()
    feed(FLOW)
    feed.read(record(DUMPED, (10, 10, 1, 1)))
    feed.table.begin_read()
    feed(record(DUMPED, (500, 600, 5, 6)))
    feed(record(CLOSED, (20, 30, 2, 3)), FLOW, record(CLOSED, (7, 8, 1, 2)), FLOW)
    feed.end_read()
    feed.read(record(DUMPED, (510, 600, 6, 6)))
    assert feed.total.tolist() == [20 + 7 + 510, 30 + 8 + 600, 2 + 1 + 6, 3 + 2 + 6]


def test_the_first_read_shows_the_next_flow_of_an_older_one() -> None:
    feed = Feed(FlowTable(10))
    feed.table.begin_read()
    feed(record(DUMPED, (500, 600, 5, 6)))
    feed(record(CLOSED, (20, 30, 2, 3)), FLOW)
    feed.end_read()
    feed(record(CLOSED, (510, 600, 6, 6)))
    assert feed.total.tolist() == [510, 600, 6, 6], "what the older one sent before the daemon is not known"


@pytest.mark.parametrize("complete", [True, False])
def test_what_a_read_shows_counts_when_it_ends(complete: bool) -> None:
    feed = started()
    feed(FLOW)
    feed.table.begin_read()
    feed(record(DUMPED, (500, 600, 5, 6)))
    assert not any(feed.total)
    feed(replace(FLOW, kind=RecordKind.UPDATED, flags=int(Flag.ENDING)))
    feed.end_read(complete=complete)
    assert feed.total.tolist() == [500, 600, 5, 6]
    feed(record(CLOSED, (20, 30, 2, 3)))
    assert feed.total.tolist() == [520, 630, 7, 9], "they were zeroed after the read"


def test_the_last_of_several_attempts_counts() -> None:
    feed = started()
    several = [replace(FLOW, client_port=port) for port in (1, 2, 3)]
    feed(*several)
    feed.table.begin_read()
    for counters in ((50, 50, 5, 5), (60, 60, 6, 6)):
        feed(*(replace(one, kind=DUMPED, counters=counters) for one in several))
    feed(replace(several[0], kind=DUMPED, counters=(0, 0, 0, 0)))  # the next flow with its tuple
    feed(replace(several[1], kind=CLOSED, counters=(70, 70, 7, 7)))
    feed.end_read()
    assert feed.total.tolist() == [70 + 60, 70 + 60, 7 + 6, 7 + 6]


def test_a_read_that_never_ended_counts_nothing() -> None:
    feed = started()
    feed(FLOW)
    feed.table.begin_read()
    feed(record(DUMPED, (500, 600, 5, 6)))
    feed.read()  # the source was opened again
    assert not any(feed.total)


def test_a_freed_row_holds_nothing() -> None:
    feed = started(max_flows=1)
    feed(FLOW)
    feed.table.begin_read()
    feed(record(DUMPED, (500, 600, 5, 6)))
    feed.table.free(feed.table.evict_unanswered(1))
    feed(replace(FLOW, client_port=7))
    feed.end_read(complete=False)
    assert not any(feed.total)


class Kernel(RuleBasedStateMachine):
    """One tuple and one id that flows use one after the other, events that wait in a queue, and full reads."""

    def __init__(self) -> None:
        super().__init__()
        self.table = FlowTable(100)
        self.table.begin_read()
        self.table.end_read(complete=True, now=0)
        self.now = 1.0
        self.sent: list[int] = []
        """Bytes of each flow so far."""
        self.open = self.reading = False
        self.queue: list[Record] = []
        self.lost = self.ever_lost = False
        self.counted: list[int] = []
        """Bytes of each flow, as counted; in the order in which the table opened them."""
        self.numbers: dict[int, int] = {}

    @rule()
    def begin_or_end(self) -> None:
        if self.open:
            self.queue.append(self._record(CLOSED))
        else:
            self.sent.append(0)
            self.queue.append(FLOW)
        self.open = not self.open

    @precondition(lambda self: self.open)
    @rule(n=st.integers(1, 100))
    def send(self, n: int) -> None:
        self.sent[-1] += n

    @rule(n=st.integers(1, 3))
    def deliver(self, n: int) -> None:
        some, self.queue = self.queue[:n], self.queue[n:]
        self._apply(some)

    @precondition(lambda self: self.queue)
    @rule(place=st.integers(0, 5))
    def lose(self, place: int) -> None:
        del self.queue[place % len(self.queue)]
        self.lost = self.ever_lost = True

    @rule()
    def begin_read(self) -> None:
        if not self.reading:
            self.table.begin_read()
            self.reading = True
        if self.open:
            self._apply([self._record(DUMPED)])

    @precondition(lambda self: self.reading)
    @rule()
    def end_read(self) -> None:
        some, self.queue = self.queue, []
        self._apply(some)
        self.now += 1
        for changes in self.table.end_read(complete=not self.lost, now=self.now):
            self._count(changes)
        self.lost = self.reading = False

    @invariant()
    def no_byte_counts_twice(self) -> None:
        assert sum(self.counted) <= sum(self.sent)

    @invariant()
    def each_flow_has_its_own_bytes(self) -> None:
        if not self.ever_lost:
            assert all(counted <= sent for counted, sent in zip(self.counted, self.sent, strict=False))

    def teardown(self) -> None:
        for _ in range(2):  # what the first one shows is dropped if it also ends a flow of the tuple
            self.begin_read()
            self.end_read()
        if not self.ever_lost:
            assert self.counted == self.sent

    def _record(self, kind: RecordKind) -> Record:
        return record(kind, (self.sent[-1], 0, 0, 0))

    def _apply(self, records: list[Record]) -> None:
        for one in records:
            self.now += 1
            self._count(self.table.apply(batch_of(one), now=self.now, read_at=self.now - 0.5))

    def _count(self, changes: Changes) -> None:
        for row in changes.opened.tolist():
            self.numbers[row] = len(self.counted)
            self.counted.append(0)
        for row, delta in zip(changes.rows.tolist(), changes.deltas[:, 0].tolist(), strict=True):
            self.counted[self.numbers[row]] += delta
        self.table.free(changes.closed)


Kernel.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestKernel = Kernel.TestCase
