"""Ties: what is asked to break them, what may narrow, how long flows wait, and that nothing else changes an owner."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.attribute.answers.shape_stats import ENOUGH
from flowmap.attribute.calls.narrowing_questions import EXACT_EACH
from flowmap.attribute.decisions import STATES
from flowmap.attribute.questions import UNREADABLE, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep, Tidy
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner, State
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import Auditor, sweep
from tests.support.attribution import AttributionRun
from tests.support.records import Record, replace

X, Y, Z = (Owner("w", "ns", name, name) for name in "xyz")
THERE = int(Flag.PRESENT)
FLOW = Record(RecordKind.OPENED, flags=THERE, counters=(100, 10, 1, 1))
TIED = (Shape.LINK, Shape.EXACT)
SETTINGS = AttributionSettings(namespaces=("ns",), semantics="connection", tie_wait=30.0)


class TieRun(AttributionRun):
    """A run at which both ends name everybody in ``both``."""

    def __init__(self, settings: AttributionSettings = SETTINGS, *, both: tuple[Owner, ...] = (X, Y)) -> None:
        super().__init__(settings)
        self.both = both
        self.auditor = Auditor(self.accounting)

    def ends(self) -> list[Question]:
        """Answer what is asked about single ends; the questions about both together that were asked beside."""
        asked = self.ask()
        for one in asked:
            if one.shape not in TIED:
                self.answer(one, *(owner for owner in self.both if owner.namespace == one.namespace))
        self.decide()
        self.auditor.check()
        return [one for one in asked if one.shape in TIED]

    def open(self, *records: Record) -> list[Question]:
        """Flows begin and their ends are known; what is asked about both together then."""
        self.observe(*records)
        self.ends()
        return self.ends()

    def decide(self) -> None:
        super().decide()
        self.auditor.check()

    def states(self) -> list[State]:
        columns, rows = self.accounting.table.columns, self.accounting.table.live()
        return [STATES[state] for state in columns.state[rows].tolist()]

    def owners(self) -> list[set[str]]:
        columns, rows = self.accounting.table.columns, self.accounting.table.live()
        numbers = columns.verdict[rows].tolist()
        return [{owner.name for owner in self.attribution.decisions[number].owners} for number in numbers]

    def bytes(self) -> dict[tuple[str, str], int]:
        """Transmitted bytes by kind and names (or reason)."""
        frozen = self.accounting.series_table.freeze()
        return {
            (key.kind, key.reason or "+".join(owner.name for owner in key.owners)): int(frozen.transmit_bytes[row])
            for row, key in enumerate(frozen.keys)
            if key is not None
        }


def test_link_names_all_connections_of_a_pair() -> None:
    tie = TieRun()
    (link,) = tie.open(FLOW, replace(FLOW, client_port=2, id=2))
    assert (link.shape, str(link.source), str(link.destination)) == ("link", "10.0.0.1:0", "10.1.0.1:9092")
    assert tie.states() == [State.PENDING] * 2, "they wait for it"
    tie.answer(link, X, Z)
    tie.decide()
    assert (tie.states(), tie.owners()) == ([State.ATTRIBUTED] * 2, [{"x"}, {"x"}])
    assert tie.bytes() == {("deployment", "x"): 200}
    (decision,) = {id(one): one for one in tie.attribution.decisions.values() if one.state == "attributed"}.values()
    assert [question.shape for question in decision.outcomes] == [Shape.CLIENT, Shape.SINK, Shape.LINK]


def test_exact_asks_about_the_largest_connection() -> None:
    tie = TieRun()
    (link,) = tie.open(FLOW, replace(FLOW, client_port=2, id=2, counters=(900, 9, 1, 1)))
    tie.answer(link, X, Y)
    tie.decide()
    first, second = tie.ask()
    assert [(one.shape, one.source.port) for one in (first, second) if one.source] == [("exact", 2), ("exact", 40000)]
    tie.answer(first, X)
    tie.answer(second, Y)
    tie.decide()
    assert (tie.states(), tie.owners()) == ([State.ATTRIBUTED] * 2, [{"y"}, {"x"}])
    assert tie.ask() == [], "nothing is asked twice"


@pytest.mark.parametrize("said", [[], [Z], [X, Y], [Owner("w", "ns", UNREADABLE, UNREADABLE)]])
def test_answers_that_tell_nothing_apart_remove_nobody(said: list[Owner]) -> None:
    tie = TieRun()
    (link,) = tie.open(FLOW)
    tie.answer(link, *said)
    tie.decide()
    (exact,) = tie.ask()
    assert exact.shape is Shape.EXACT
    assert tie.states() == [State.PENDING]
    tie.answer(exact, *said)
    tie.decide()
    assert (tie.states(), tie.owners()) == ([State.SHARED], [{"x", "y"}]), "all was asked: it waits no longer"
    assert tie.bytes() == {("shared", "x+y"): 100}


def test_every_place_narrows_its_own_candidates_only() -> None:
    other = Owner("w", "other", "o", "o")
    tie = TieRun(AttributionSettings(namespaces=("ns", "other"), semantics="connection"), both=(X, Y, other))
    links = tie.open(FLOW)
    assert sorted(one.namespace for one in links) == ["ns", "other"]
    for link in links:
        tie.answer(link, *([X] if link.namespace == "ns" else []))
    tie.decide()
    assert (tie.states(), tie.owners()) == ([State.PENDING], [{"x", "y", "o"}])
    for exact in tie.ask():
        tie.answer(exact)
    tie.decide()
    assert (tie.states(), tie.owners()) == ([State.SHARED], [{"x", "o"}])


def test_narrowing_asks_in_places_of_candidates_only() -> None:
    tie = TieRun(AttributionSettings(namespaces=("ns", "other"), semantics="connection"))
    assert [one.namespace for one in tie.open(FLOW)] == ["ns"]


def test_tie_wait_ends_and_narrowing_continues() -> None:
    tie = TieRun()
    (link,) = tie.open(FLOW)
    tie.attribution.fail(link, "timeout", now=tie.now, retry_after=40.0)
    tie.now += 27
    tie.decide()
    assert tie.states() == [State.PENDING]
    tie.now += 3
    tie.decide()
    assert tie.states() == [State.SHARED]
    (decision,) = [one for one in tie.attribution.decisions.values() if one.state == "shared"]
    assert "attribute.tie_wait" in decision.cause
    tie.observe(replace(FLOW, kind=RecordKind.DUMPED, counters=(150, 10, 2, 1)))
    tie.now += 10
    (link,) = tie.ends()
    tie.answer(link, Y)
    tie.decide()
    tie.observe(replace(FLOW, kind=RecordKind.CLOSED, counters=(175, 10, 3, 1)))
    assert tie.bytes() == {("shared", "x+y"): 150, ("deployment", "y"): 25}


def test_a_flow_that_is_over_waits_for_nothing() -> None:
    tie = TieRun()
    (link,) = tie.open(FLOW)
    tie.observe(replace(FLOW, kind=RecordKind.CLOSED, counters=(300, 30, 3, 3)))
    tie.answer(link, X)
    tie.decide()
    assert tie.bytes() == {("shared", "x+y"): 300}, "the answer came after its end: another's connection may be meant"
    assert len(tie.accounting.table) == 0
    assert tie.ask() == []
    (decision,) = [one for one in tie.attribution.decisions.values() if one.state == "shared"]
    assert "ended before" in decision.cause


def test_inside_counts_for_a_flow_closed_by_now() -> None:
    tie = TieRun()
    (link,) = tie.open(FLOW)
    tie.answer(link, X)
    tie.now += 1
    tie.accounting.apply(TakeStep(CaughtUp(tie.now), tie.now, tie.now))
    tie.observe(replace(FLOW, kind=RecordKind.CLOSED, counters=(300, 30, 3, 3)))
    tie.decide()
    assert tie.bytes() == {("deployment", "x"): 300}


def test_narrowing_needs_client_traffic_after_the_answer() -> None:
    # Its entry may be left over, and the connections the answer speaks of may be others'.
    tie = TieRun(AttributionSettings(namespaces=("ns",), semantics="connection", grace=60.0, tie_wait=30.0))
    silent = replace(FLOW, flags=0)
    tie.observe(silent)
    for one in tie.ask():
        tie.answer(one, X, Y)
    tie.decide()
    tie.now += 61
    (link,) = tie.ends() or tie.ask()
    tie.answer(link, X)
    tie.decide()
    assert tie.states() == [State.SHARED]


def test_first_questions_come_before_narrowing() -> None:
    tie = TieRun()
    tie.observe(FLOW)
    tie.ends()
    tie.observe(*[replace(FLOW, client=f"10.0.1.{n}", server_port=1000 + n, id=9) for n in range(4)])
    assert {one.shape for one in tie.ask(limit=3)} <= {Shape.CLIENT, Shape.SINK}
    assert {one.shape for one in tie.ask(limit=4)} <= {Shape.CLIENT, Shape.SINK}
    (last, link) = tie.ask(limit=2)
    assert (last.shape in TIED, link.shape) == (False, Shape.LINK)


def test_the_pair_with_the_largest_traffic_is_asked_about_first() -> None:
    tie = TieRun()
    flows = [replace(FLOW, client=f"10.0.0.{n}", id=n, counters=(n * 10, 0, 1, 0)) for n in (1, 3, 2)]
    tie.observe(*flows)
    tie.ends()
    turns = []
    for _ in flows:
        (link,) = tie.ask(limit=1)
        turns.append(str(link.source))
        assert tie.attribution.waiting == 3 - len(turns)
    assert turns == ["10.0.0.3:0", "10.0.0.2:0", "10.0.0.1:0"]


def test_exact_questions_are_bounded() -> None:
    tie = TieRun()
    (link,) = tie.open(*[replace(FLOW, client_port=n, id=n) for n in range(1, 100)])
    tie.answer(link, X, Y)
    tie.decide()
    asked = tie.ask() + tie.ask()
    assert [one.shape for one in asked] == [Shape.EXACT] * EXACT_EACH
    for one in asked:
        tie.answer(one, X, Y)
    tie.decide()
    assert tie.states().count(State.SHARED) == EXACT_EACH
    assert tie.ask() == []
    tie.now += 61
    tie.decide()
    assert set(tie.states()) == {State.SHARED}


def test_link_is_repeated_for_new_flows_only() -> None:
    tie = TieRun()
    (link,) = tie.open(FLOW)
    tie.answer(link, X)
    tie.decide()
    tie.now += 61
    assert tie.ends() == [], "everybody is named"
    tie.observe(replace(FLOW, client_port=2, id=2))
    tie.now += 61
    tie.ends()
    (again,) = tie.ask()
    assert again == link
    tie.answer(again, X, Y)
    tie.observe(replace(FLOW, client_port=3, id=3))
    tie.ends()
    tie.ends()  # about the service endpoint, after those about the client
    assert {one.shape for one in tie.ask()} <= {Shape.EXACT}


def test_shapes_that_never_tell_are_not_waited_for() -> None:
    tie = TieRun()
    for n in range(ENOUGH + 1):
        links = tie.open(replace(FLOW, client=f"10.0.1.{n}", server_port=n + 1, id=n + 2))
        for one in links:
            tie.answer(one)
        tie.decide()
        for one in tie.ask():
            tie.answer(one)
        tie.decide()
    assert all(tie.attribution.shape_stats.never_names(shape, now=tie.now) for shape in TIED)
    assert tie.open(replace(FLOW, client="10.0.2.1", server_port=99, id=99)) == []
    assert set(tie.states()) == {State.SHARED}


def test_data_flow_has_no_ties_to_break() -> None:
    tie = TieRun(AttributionSettings(namespaces=("ns",), semantics="dataflow"))
    assert tie.open(FLOW) == []
    assert tie.states() == [State.SHARED]


def test_more_than_the_limit_is_ambiguous_until_told_apart() -> None:
    tie = TieRun(AttributionSettings(namespaces=("ns",), semantics="connection", owners_limit=1))
    (link,) = tie.open(FLOW)
    tie.answer(link)
    (exact,) = tie.ends() or tie.ask()
    tie.answer(exact)
    tie.decide()
    assert tie.states() == [State.AMBIGUOUS]
    assert tie.bytes() == {("unattributed", "ambiguous"): 100}


def test_ends_that_are_gone_take_their_ties_with_them() -> None:
    tie = TieRun()
    (link,) = tie.open(FLOW)
    tie.observe(replace(FLOW, kind=RecordKind.CLOSED))
    tie.now += 2
    tie.decide()
    sweep(tie.accounting)
    tie.answer(link, X)
    tie.decide()
    assert len(tie.attribution.narrowing) == 0
    tie.accounting.apply(Tidy(tie.now))
    assert tie.attribution.timeline(link) is None, "no flow can need it"
    numbers = np.arange(tie.accounting.table.endpoints.capacity, dtype=np.int32)
    assert not tie.attribution.schedule.has_inside_answer(numbers, np.ones(len(numbers))).any()


def read(tie: TieRun, flow: Record, sent: int) -> None:
    """A full read that shows so much traffic of the flow."""
    tie.accounting.apply(TakeStep(ReadStarted("timer"), tie.now, tie.now))
    tie.observe(replace(flow, kind=RecordKind.DUMPED, counters=(sent, 0, sent, 0)))
    tie.accounting.apply(TakeStep(ReadFinished(True), tie.now, tie.now))
    tie.decide()


def test_a_full_read_that_shows_the_client_sending_decides_a_tie() -> None:
    tie = TieRun()
    flow = replace(FLOW, flags=0)
    tie.observe(flow)
    tie.ends()
    read(tie, flow, 200)
    (link,) = tie.ends()
    tie.answer(link, X)
    tie.decide()
    assert tie.states() == [State.PENDING], "the client may have been gone when the answer was given"
    read(tie, flow, 300)
    assert tie.states() == [State.PENDING], "it may have sent this before the answer"
    read(tie, flow, 400)
    assert (tie.states(), tie.owners()) == ([State.ATTRIBUTED], [{"x"}])


def test_a_full_read_narrows_what_was_credited_to_several() -> None:
    tie = TieRun()
    flow = replace(FLOW, flags=0)
    tie.observe(flow)
    tie.ends()
    read(tie, flow, 200)
    (link,) = tie.ends()
    tie.answer(link, X)
    tie.now += SETTINGS.tie_wait
    tie.decide()
    assert tie.states() == [State.SHARED]
    read(tie, flow, 300)
    assert tie.states() == [State.SHARED], "it may have sent this before the answer"
    read(tie, flow, 400)
    assert (tie.states(), tie.owners()) == ([State.ATTRIBUTED], [{"x"}])
