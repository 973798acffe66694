"""The books in a world whose truth is known: a kernel with its event queue, addresses that move, a control plane.

Addresses change hands only while no connection of theirs is open (an address cannot move while a connection on it
lives) and not within ``grace`` of one; they never go back to an owner who had them. Whatever order events, reads,
losses, questions and answers come in, no flow may ever get a name that is not its own, and every byte is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowmap.attribute.answers import Answer
from flowmap.attribute.attribution import Decision, Settings
from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.view import Owner, State
from flowmap.books import Books
from flowmap.collect.base import CaughtUp, Lost, ReadFinished, ReadStarted, Step
from flowmap.flows.address import Address
from flowmap.flows.batch import Flag, Kind
from flowmap.flows.columns import Row
from flowmap.flows.index import Rows
from tests.accounts import Auditor, books_for
from tests.flows.records import Record, batch_of, replace

CLIENTS = ["10.0.0.1", "10.0.0.2", "2001:db8::1"]
SERVICES = [("10.1.0.1", 9092, 6), ("10.1.0.1", 53, 6), ("10.1.0.1", 53, 17)]
GRACE = 2.0


@dataclass
class Entry:
    """One connection as the kernel has it."""

    record: Record
    owner: Owners
    transmit: int = 0
    receive: int = 0

    def told(self, kind: Kind) -> Record:
        if kind in (Kind.OPENED, Kind.UPDATED):
            return replace(self.record, kind=kind)
        return replace(self.record, kind=kind, counters=(self.transmit, self.receive, 1, 1))


class World(RuleBasedStateMachine):
    """The kernel runs ahead of what the books were told; answers are true when they are given."""

    @initialize(
        max_flows=st.sampled_from([6, 40]),
        semantics=st.sampled_from(["both", "connection"]),
        ids=st.sampled_from([2, 1 << 30]),
        proves=st.booleans(),
    )
    def begin(self, max_flows: int, semantics: str, ids: int, proves: bool) -> None:
        wanted = Settings(
            ("ns",),
            semantics=semantics,  # type: ignore[arg-type]
            grace=GRACE,
            positive_ttl=8.0,
            negative_ttl=4.0,
            presence_proves=proves,
        )
        self.books = books_for(wanted, max_flows=max_flows)
        self.ids = ids
        self.auditor = Auditor(self.books)
        self.now = 1000.0
        self.owners: dict[str, Owner | None] = dict.fromkeys(CLIENTS)
        self.born = 0
        self.entries: dict[tuple[str, int, int], Entry] = {}
        self.flows: dict[tuple[str, int, int, int, int], list[Owners]] = {}  # by tuple and kernel id
        self.queue: list[Record] = []
        self.asked: dict[Question, float] = {}
        self.bytes = [0, 0]
        self.certain = ids > 2  # nothing was lost, and no two flows of one tuple look alike
        self.trusted = False
        self._watch_decisions()
        self._read()

    # The world.

    @rule(client=st.sampled_from(CLIENTS), somebody=st.integers(0, 3))
    def an_address_moves(self, client: str, somebody: int) -> None:
        self.now += GRACE + 1
        for entry in [entry for entry in self.entries.values() if entry.record.client == client]:
            self._close(entry)
        self.now += GRACE + 1
        self.born += 1
        self.owners[client] = Owner("w", "ns", f"job{self.born}", f"job{self.born}") if somebody else None

    @rule(client=st.sampled_from(CLIENTS), service=st.sampled_from(SERVICES), port=st.integers(1, 2))
    def a_connection_opens(self, client: str, service: tuple[str, int, int], port: int) -> None:
        server, server_port, protocol = service
        key = client, port, SERVICES.index(service)
        if key in self.entries:
            self._close(self.entries[key])
        self.now += 0.25
        self.born += 1
        owner = self.owners[client]
        record = Record(Kind.OPENED, client, port, server, server_port, protocol, id=1 + self.born % self.ids)
        entry = Entry(record, frozenset({owner} if owner else ()), 60, 40)
        self.entries[key] = entry
        self.flows.setdefault((client, port, server_port, protocol, record.id), []).append(entry.owner)
        self._add(60, 40)
        self.queue.append(entry.told(Kind.OPENED))

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), sent=st.integers(0, 1 << 40), got=st.integers(0, 1 << 40), change=st.booleans())
    def bytes_flow(self, data: st.DataObject, sent: int, got: int, change: bool) -> None:
        entry = data.draw(st.sampled_from(list(self.entries.values())))
        entry.transmit += sent
        entry.receive += got
        self._add(sent, got)
        if change:
            self.queue.append(entry.told(Kind.UPDATED))

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def a_connection_closes(self, data: st.DataObject) -> None:
        self._close(data.draw(st.sampled_from(list(self.entries.values()))))

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # What the daemon sees of it.

    @rule(part=st.booleans())
    def events_are_read(self, part: bool) -> None:
        at = self.now
        taken = self.queue[: len(self.queue) // 2] if part else self.queue
        self.queue = self.queue[len(taken) :]
        if taken:
            self._step(batch_of(*taken))
        if not self.queue and self.trusted:
            self._step(CaughtUp(at))

    @rule()
    def events_are_lost(self) -> None:
        self.certain = self.certain and not self.queue
        self.queue.clear()
        self.trusted = False
        self._step(Lost("overrun"))

    @rule()
    def everything_is_read(self) -> None:
        self._read()

    def _read(self) -> None:
        self._step(ReadStarted("timer"))
        shown = list(self.entries.values())
        if shown:
            half = len(shown) // 2
            self._step(batch_of(*(entry.told(Kind.SEEN) for entry in shown[:half])))
            self._step(batch_of(*(entry.told(Kind.SEEN) for entry in shown[half:])))
        if self.queue:
            self._step(batch_of(*self.queue))
            self.queue.clear()
        self.trusted = True
        self._step(ReadFinished(True))
        self._step(CaughtUp(self.now))

    # Questions and answers.

    @rule(limit=st.integers(1, 6))
    def questions_are_asked(self, limit: int) -> None:
        for question in self.books.attribution.ask(now=self.now, limit=limit):
            self.asked.setdefault(question, self.now)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), took=st.sampled_from([0.0, 0.5, 5.0]), late=st.booleans())
    def an_answer_comes(self, data: st.DataObject, took: float, late: bool) -> None:
        question = data.draw(st.sampled_from(sorted(self.asked, key=repr)))
        truth = self._truth(question)
        self.now += took
        asked = self.now - took if late else self.asked[question]
        del self.asked[question]
        self.books.attribution.answered(question, Answer(asked, self.now, truth))
        self.books.settle(self.now)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def a_question_fails(self, data: st.DataObject) -> None:
        question = data.draw(st.sampled_from(sorted(self.asked, key=repr)))
        del self.asked[question]
        self.books.attribution.failed(question, "timeout", now=self.now)

    @rule()
    def decisions_are_made(self) -> None:
        self.books.settle(self.now)

    @rule(sweep=st.booleans())
    def the_house_is_tidied(self, sweep: bool) -> None:
        self.books.tidy(self.now)
        if sweep:
            self.books.forget_ends(self.books.table.sweep_ends())

    @invariant()
    def the_books_are_in_order(self) -> None:
        if hasattr(self, "auditor"):
            self.auditor.check()

    def teardown(self) -> None:
        if not hasattr(self, "auditor"):
            return
        self._read()
        self.auditor.check()
        if self.certain and not self.books.shed:
            assert self.books.observed == self.bytes
        self._questions_end()

    def _questions_end(self) -> None:
        """Every end with a flow is asked about again sooner or later: none waits for an answer that came."""
        for question in list(self.asked):
            del self.asked[question]
            self.books.attribution.answered(question, Answer(self.now, self.now, self._truth(question)))
        self.now += 100
        columns, rows = self.books.table.columns, self.books.table.live()
        due = self.books.attribution.plan.choose(self.books.table, now=self.now, limit=1000)
        named = [row for row in rows.tolist() if self._owned(int(columns.client[row]))]
        wanted = set(columns.client[rows].tolist()) | set(columns.service[named].tolist())
        assert wanted <= set(due)

    def _owned(self, client: int) -> bool:
        questions = self.books.attribution.questions_about(client)
        timelines = [self.books.attribution.timeline(question) for question in questions]
        return any(timeline and timeline.answers and timeline.answers[-1].owners for timeline in timelines)

    def _truth(self, question: Question) -> Owners:
        if question.shape is Shape.SOURCE:
            return frozenset()
        if question.shape is Shape.CLIENT:
            assert question.source is not None
            owner = self.owners[str(question.source.address)]
            return frozenset({owner} if owner else ())
        return frozenset(owner for owner in self.owners.values() if owner)

    def _close(self, entry: Entry) -> None:
        self.now += 0.25
        self.entries = {key: one for key, one in self.entries.items() if one is not entry}
        if entry.record.protocol == 6:
            self.queue.append(replace(entry.told(Kind.UPDATED), flags=int(Flag.ENDING)))
        self.queue.append(entry.told(Kind.CLOSED))

    def _add(self, sent: int, got: int) -> None:
        self.bytes[0] += sent
        self.bytes[1] += got

    def _step(self, step: Step) -> None:
        read_at = self.now
        self.now += 0.125
        self.books.step(step, now=self.now, read_at=read_at)

    def _watch_decisions(self) -> None:
        credit = Books._take

        def checked(books: Books, decision: Decision, rows: Rows, now: float) -> None:
            if decision.state in (State.ATTRIBUTED, State.SHARED):
                for row in rows.tolist():
                    self._check_name(row, decision)
            credit(books, decision, rows, now)

        self.books._take = checked.__get__(self.books)  # type: ignore[method-assign]

    def _check_name(self, row: int, decision: Decision) -> None:
        columns = self.books.table.columns
        ports = int(columns.ports[row])
        client = str(Address(int(columns.client_high[row]), int(columns.client_low[row])))
        possible = self.flows[client, ports >> 48, ports >> 32 & 0xFFFF, ports & 0xFF, int(columns.id[row])]
        # One, unless the kernel gives ids a second time: then the flow must be the newest if everything was told.
        assert any(decision.owners == owners for owners in possible), (decision, possible)
        if int(columns.flags[row]) & Row.OPEN and len(self.queue) == 0 and self.trusted:
            key = client, ports >> 48, SERVICES.index(("10.1.0.1", ports >> 32 & 0xFFFF, ports & 0xFF))
            if key in self.entries:
                assert decision.owners == self.entries[key].owner


World.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWorld = World.TestCase
