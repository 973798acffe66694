"""The books: cases worth a name."""

from __future__ import annotations

import pytest

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import UNREADABLE, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Decide, GiveUp, TakeStep, Tidy
from flowmap.export.open_flows import measure
from flowmap.export.series import OTHER, SeriesKey
from flowmap.flows.batch import Flag, RecordKind
from flowmap.model.deployment import Owner, State
from flowmap.sources.base import CaughtUp, Lost, ReadFinished, ReadStarted, Step
from tests.support.accounting import Auditor, books_for, sweep
from tests.support.records import Record, batch_of, replace

OPENED, DUMPED, CLOSED = RecordKind.OPENED, RecordKind.DUMPED, RecordKind.CLOSED
X, Y = (Owner("w", "ns", name, name) for name in "xy")
FLOW = Record(OPENED, flags=int(Flag.PRESENT))


class Day:
    """Books with a clock, and answers for everything that is asked."""

    def __init__(self, accounting: FlowAccounting, *, read: bool = True) -> None:
        self.accounting, self.now = accounting, 1000.0
        self.auditor = Auditor(accounting)
        if read:
            self(ReadStarted("start"), ReadFinished(True), CaughtUp(self.now))

    def __call__(self, *steps: Step | Record) -> None:
        for step in steps:
            self.now += 1
            given = batch_of(step) if isinstance(step, Record) else step
            self.accounting.apply(TakeStep(given, self.now, self.now - 0.5))
            self.auditor.check()

    def catch_up(self) -> None:
        self(CaughtUp(self.now))

    def answer(self, *owners: Owner, after: float = 0.0, catch_up: bool = True) -> list[Question]:
        """Ask what is due; every question gets this answer."""
        self.now += after
        asked = self.accounting.attribution.ask(now=self.now, limit=100)
        for question in asked:
            self.accounting.attribution.answered(question, Answer(self.now, self.now + 0.25, frozenset(owners)))
        self.now += 1
        if catch_up:
            self.catch_up()
        self.accounting.apply(Decide(self.now))
        self.auditor.check()
        return asked

    def totals(self) -> dict[tuple[str, frozenset[str], str, str], tuple[int, int]]:
        """Bytes by kind, owners, reason and peer of every series that has any."""
        snapshot = self.accounting.series_table.freeze()
        found: dict[tuple[str, frozenset[str], str, str], tuple[int, int]] = {}
        for row, key in enumerate(snapshot.keys):
            if key is not None and (snapshot.transmit_bytes[row] or snapshot.receive_bytes[row]):
                place = (key.kind, frozenset(owner.name for owner in key.owners), key.reason, key.peer)
                found[place] = int(snapshot.transmit_bytes[row]), int(snapshot.receive_bytes[row])
        return found


def named(name: str, peer: str = "10.1.0.1:9092") -> tuple[str, frozenset[str], str, str]:
    return "deployment", frozenset({name}), "", peer


def nobody(reason: str, peer: str = "10.1.0.1:9092") -> tuple[str, frozenset[str], str, str]:
    return "unattributed", frozenset(), reason, peer


def test_bytes_that_waited_are_credited_whole_and_later_ones_at_once() -> None:
    day = Day(books_for())
    day(FLOW, replace(FLOW, kind=DUMPED, counters=(500, 70, 5, 1)))
    assert (day.accounting.pending, day.accounting.pending_flows, day.totals()) == ([500, 70], 1, {})
    day.answer(X)
    assert (day.accounting.pending, day.accounting.pending_flows) == ([0, 0], 0)
    day(replace(FLOW, kind=CLOSED, counters=(600, 80, 6, 2)))
    assert day.totals() == {named("x"): (600, 80)}
    assert (len(day.accounting.table), day.accounting.observed) == (0, [600, 80])


def test_a_flow_that_was_nobodys_keeps_its_earlier_bytes_there() -> None:
    day = Day(books_for(AttributionSettings(namespaces=("ns",))))
    day(FLOW, replace(FLOW, kind=DUMPED, counters=(500, 70, 5, 1)))
    day.answer()
    assert day.totals() == {nobody("unknown"): (500, 70)}
    assert [question.shape for question in day.answer(X, after=31)] == [Shape.CLIENT]
    day.answer(X)  # its service end is worth asking about only now
    assert day.totals() == {nobody("unknown"): (500, 70)}
    day(replace(FLOW, kind=CLOSED, counters=(600, 80, 6, 2)))
    assert day.totals() == {nobody("unknown"): (500, 70), named("x"): (100, 10)}


def test_a_closed_flow_waits_and_is_named_by_the_answers_around_it() -> None:
    day = Day(books_for())
    day(FLOW)
    day.answer(X)
    other = replace(FLOW, client_port=2, id=2)
    day.now += 30
    day.catch_up()
    day(other, replace(other, kind=CLOSED, counters=(9, 8, 1, 1)))
    assert (day.accounting.pending, len(day.accounting.table)) == ([9, 8], 2)
    day.answer(X, after=60)
    assert (day.totals(), len(day.accounting.table)) == ({named("x"): (9, 8)}, 1)


def test_a_flow_on_a_reused_address_does_not_inherit() -> None:
    day = Day(books_for())
    day(FLOW)
    day.answer(X)
    day(replace(FLOW, kind=CLOSED, counters=(1, 1, 1, 1)))
    day.now += 10
    day.catch_up()
    day(replace(FLOW, id=2), replace(FLOW, id=2, kind=CLOSED, counters=(9, 9, 1, 1)))
    day.accounting.apply(Decide(day.now))
    assert day.accounting.pending == [9, 9]
    day.answer(Y, after=60)
    assert day.totals() == {named("x"): (1, 1), nobody("unknown"): (9, 9)}


def test_the_cache_names_at_once_where_the_user_asked_for_that() -> None:
    day = Day(books_for(AttributionSettings(namespaces=("ns",), confirm="fast")))
    day(FLOW)
    day.answer(X)
    day(replace(FLOW, client_port=2, id=2, kind=CLOSED, counters=(9, 9, 1, 1)))
    day.accounting.apply(Decide(day.now))
    assert day.totals() == {named("x"): (9, 9)}


@pytest.mark.parametrize(
    ("owners", "kind", "reason", "names"),
    [
        ([], "unattributed", "unknown", set()),
        ([X], "deployment", "", {"x"}),
        ([X, Y], "shared", "", {"x", "y"}),
        ([X, Y, Owner("w", "ns", "z", "z")], "unattributed", "ambiguous", set()),
        ([Owner("w", "ns", UNREADABLE, UNREADABLE)], "unattributed", "unknown", set()),
    ],
)
def test_where_the_bytes_go(owners: list[Owner], kind: str, reason: str, names: set[str]) -> None:
    day = Day(books_for(AttributionSettings(namespaces=("ns",), owners_limit=2, tie_wait=0)))
    day(replace(FLOW, counters=(5, 6, 1, 1)))
    day.answer(*owners)
    assert day.totals() == {(kind, frozenset(names), reason, "10.1.0.1:9092"): (5, 6)}


def test_answers_that_never_come_end_as_failed() -> None:
    day = Day(books_for())
    day(FLOW, replace(FLOW, kind=CLOSED, counters=(5, 6, 1, 1)))
    day.accounting.apply(GiveUp(day.now, day.now))
    assert len(day.accounting.table) == 1, "not older yet"
    day.accounting.apply(GiveUp(day.now + 1, day.now))
    day.auditor.check()
    assert (day.totals(), len(day.accounting.table)) == ({nobody("failed"): (5, 6)}, 0)


def test_a_full_table_gives_up_who_waited_longest_and_counts_who_found_no_room() -> None:
    day = Day(books_for(max_flows=2))
    for port in (1, 2):
        day(replace(FLOW, client_port=port, id=port, kind=CLOSED, counters=(port, port, 1, 1)))
    day(replace(FLOW, client_port=3, id=3))
    assert (day.totals(), dict(day.accounting.shed)) == ({nobody("failed"): (1, 1)}, {"pending": 1})
    day(replace(FLOW, client_port=4, id=4), replace(FLOW, client_port=5, id=5, kind=CLOSED, counters=(7, 8, 1, 1)))
    assert day.totals()["unattributed", frozenset(), "shed", OTHER] == (7, 8)
    assert day.accounting.shed["table_full"] == 1
    assert day.accounting.observed == [1 + 2 + 7, 1 + 2 + 8]


def test_filtered_flows_are_ignored_apart() -> None:
    day = Day(books_for(exclude=("tcp/9092",)))
    day(replace(FLOW, counters=(5, 6, 1, 1)), replace(FLOW, kind=CLOSED, counters=(10, 20, 1, 1)))
    assert (day.accounting.ignored, day.accounting.observed, len(day.accounting.table)) == (30, [0, 0], 0)
    assert day.answer(X) == []


def test_a_read_that_lost_changes_ends_no_flow() -> None:
    day = Day(books_for())
    day(FLOW, ReadStarted("timer"), Lost("overrun"), ReadFinished(True))
    assert (len(day.accounting.table), day.accounting.complete_reads) == (1, 1)
    day(ReadStarted("overrun"), ReadFinished(True))
    assert (day.accounting.table.open_flows, day.accounting.complete_reads) == (0, 2)


@pytest.mark.parametrize("announces", [True, False])
def test_when_a_flow_can_have_begun(announces: bool) -> None:
    day = Day(books_for(announces_births=announces))
    first_read = 1000.5
    day.now += 50
    day.catch_up()
    caught_up = day.now - 1
    day(replace(FLOW, kind=DUMPED))
    (row,) = day.accounting.table.live()
    assert day.accounting.table.columns.born_after[row] == (caught_up if announces else first_read)


def test_idle_series_leave_and_what_no_flow_needs_is_forgotten() -> None:
    day = Day(books_for(max_flows=4, idle_after=100.0))
    for n in range(3):
        record = replace(FLOW, client=f"10.0.0.{n}", server=f"10.1.0.{n}", id=n + 1, counters=(5, 6, 1, 1))
        day(record)
        day.answer(X)
        day(replace(record, kind=CLOSED))
    assert len(day.accounting.table.ends) == 6
    day.now += 200
    day.accounting.apply(Tidy(day.now))
    day.auditor.check()
    assert (len(day.accounting.series_table), day.accounting.series_table.expired) == (0, (15, 18))
    assert (len(day.accounting.table.ends), len(day.accounting.attribution.decisions)) == (0, 0)


def test_a_peer_keeps_its_own_name_when_numbers_of_ends_change_hands() -> None:
    # Ends are freed while a batch is applied when they run out: nobody may go on with the old meaning of a number.
    day = Day(books_for(max_flows=2))
    for n in range(20):
        record = replace(FLOW, client=f"10.0.0.{n}", server=f"10.1.0.{n}", id=n + 1, counters=(n + 1, 1, 1, 1))
        day(record)
        day.answer(X)
        day(replace(record, kind=CLOSED))
    assert day.totals() == {named("x", f"10.1.0.{n}:9092"): (n + 1, 1) for n in range(20)}


def test_an_answer_for_an_end_that_is_gone_says_nothing_of_the_end_with_its_number() -> None:
    day = Day(books_for())
    day(FLOW)
    asked = day.accounting.attribution.ask(now=day.now, limit=100)
    day(replace(FLOW, kind=CLOSED, counters=(1, 1, 1, 1)))
    day.accounting.apply(GiveUp(day.now + 1, day.now))
    sweep(day.accounting)
    day(replace(FLOW, client="10.0.0.9", server="10.1.0.9", id=2, counters=(2, 2, 1, 1)))
    for question in asked:
        day.accounting.attribution.answered(question, Answer(day.now, day.now + 0.5, frozenset({X})))
    day.now += 1
    day.catch_up()
    day.accounting.apply(Decide(day.now))
    assert day.accounting.pending == [2, 2]
    assert {question.shape for question in day.answer(Y)} == {Shape.CLIENT, Shape.SINK, Shape.SOURCE}
    assert day.totals()[named("y", "10.1.0.9:9092")] == (2, 2)


def test_round_trips_are_means_of_open_connections() -> None:
    day = Day(books_for())
    for port, round_trip in ((1, 1000), (2, 3000)):
        day(replace(FLOW, client_port=port, id=port, retransmits=port, round_trip=round_trip))
    day.answer(X)
    flows = measure(day.accounting.table, day.accounting.series_table.used, health=True)
    series = day.accounting.series_table.series(SeriesKey("deployment", (X,), "", "10.1.0.1:9092", "tcp"), now=day.now)
    assert day.accounting.series_table.freeze(flows).round_trip[series] == pytest.approx(0.002)
    assert day.accounting.series_table.retransmits[series] == 3


def test_states_are_told_as_they_are() -> None:
    day = Day(books_for())
    day(FLOW)
    day.answer(X)
    (decision,) = day.accounting.attribution.decisions.values()
    assert (decision.state, decision.owners) == (State.ATTRIBUTED, frozenset({X}))


def test_a_flood_keeps_nobody_out_who_is_answered_and_every_byte_counts_once() -> None:
    day = Day(books_for(max_flows=4))
    real = replace(FLOW, client="10.0.0.9", flags=int(Flag.PRESENT | Flag.ASSURED))
    day(real)
    for n in range(1, 50):
        flood = replace(FLOW, client=f"10.0.1.{n}", id=n + 1, flags=0)
        day(flood, replace(flood, kind=DUMPED, counters=(60, 0, 1, 0)))
    assert day.accounting.shed["unanswered"] == 46
    late = replace(real, client_port=2, id=99)
    day(replace(late, kind=DUMPED, counters=(500, 600, 5, 6)))
    assert len(day.accounting.table) == 4
    day.answer(X)
    day(replace(late, kind=CLOSED, counters=(700, 800, 7, 8)), replace(real, kind=CLOSED, counters=(9, 9, 1, 1)))
    for n in range(1, 50):
        day(replace(FLOW, client=f"10.0.1.{n}", id=n + 1, flags=0, kind=CLOSED, counters=(60, 0, 1, 0)))
    day.answer(X)
    assert day.accounting.observed == [49 * 60 + 709, 809]
    assert day.totals()["deployment", frozenset("x"), "", "10.1.0.1:9092"][0] >= 709


def test_what_is_over_and_was_answered_gives_way_only_to_what_is_answered() -> None:
    day = Day(books_for(max_flows=2))
    for port in (1, 2):
        day(replace(FLOW, client_port=port, id=port, kind=CLOSED, counters=(5, 5, 1, 1), flags=int(Flag.ASSURED)))
    day(replace(FLOW, client_port=3, id=3, flags=0))
    assert dict(day.accounting.shed) == {"table_full": 1}
    day(replace(FLOW, client_port=4, id=4, kind=RecordKind.UPDATED, flags=int(Flag.ASSURED)))
    assert dict(day.accounting.shed) == {"table_full": 1, "pending": 1}
