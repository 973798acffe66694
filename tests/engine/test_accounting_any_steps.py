"""The books under any steps at all: nonsense from the source, any answers, little room."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.decisions import STATES
from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.config import Config
from flowmap.engine.commands import Configure, Decide, GiveUp, TakeStep, Tidy
from flowmap.export.open_flows import measure
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner, State
from flowmap.sources.base import CaughtUp, Lost, MeasuringFinished, ReadFinished, ReadStarted
from tests.support.accounting import Auditor, accounting_for, sweep
from tests.support.records import Record, batch_of, replace

OWNERS = [Owner("w", "ns", name, name) for name in "xyz"]

records = st.builds(
    Record,
    kind=st.sampled_from([kind for kind in RecordKind if kind is not RecordKind.MEASURED]),
    client=st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1"]),
    client_port=st.integers(1, 4),
    server_port=st.sampled_from([53, 9092]),
    server=st.sampled_from(["10.1.0.1", "10.1.0.2", "2001:db8::5"]),
    protocol=st.sampled_from([6, 6, 17]),
    id=st.integers(0, 3),
    counters=st.one_of(st.none(), st.tuples(*[st.one_of(st.integers(0, 50), st.integers(0, 1 << 50))] * 4)),
    flags=st.sampled_from([0, *map(int, (Flag.PRESENT, Flag.ENDING, Flag.END_UNANNOUNCED, Flag.ASSURED))]),
    retransmits=st.one_of(st.none(), st.integers(0, 9)),
)


class AnySteps(RuleBasedStateMachine):
    """Every rule is one thing the engine may do with the books."""

    @initialize(
        max_flows=st.sampled_from([3, 8, 60]),
        max_series=st.sampled_from([10, 100]),
        confirm=st.sampled_from(["strict", "strict", "fast"]),
        semantics=st.sampled_from(["both", "connection", "dataflow"]),
        namespaces=st.sampled_from([("ns",), ("ns", "other")]),
        exclude=st.sampled_from([(), ("10.0.0.2/32",)]),
        announces=st.booleans(),
    )
    def begin(self, max_flows, max_series, confirm, semantics, namespaces, exclude, announces) -> None:  # type: ignore[no-untyped-def]
        wanted = AttributionSettings(
            namespaces=namespaces,
            semantics=semantics,
            confirm=confirm,
            owners_limit=2,
            positive_ttl=20.0,
            negative_ttl=20.0,
        )
        self.accounting = accounting_for(
            wanted,
            max_flows=max_flows,
            max_series=max_series,
            idle_after=40.0,
            exclude=exclude,
            announces_births=announces,
        )
        self.auditor = Auditor(self.accounting)
        self.now = 1000.0
        self.asked: dict[Question, float] = {}
        self.known: dict[tuple[object, ...], tuple[State, Owners]] = {}

    @rule(batch=st.lists(records, min_size=1, max_size=8))
    def records_come(self, batch: list[Record]) -> None:
        self._step(batch_of(*batch))

    @rule(batch=st.lists(records, min_size=1, max_size=8), complete=st.booleans())
    def the_sockets_are_read(self, batch: list[Record], complete: bool) -> None:
        flags = int(Flag.PRESENT | Flag.ASSURED)
        self._step(batch_of(*(replace(one, kind=RecordKind.MEASURED, id=0, flags=flags) for one in batch)))
        self._step(MeasuringFinished(complete))

    @invariant()
    def no_more_than_there_are_clients_is_said_to_be_missing(self) -> None:
        assert 0 <= self.accounting.table.untracked.connections <= 8

    @rule()
    def a_read_starts(self) -> None:
        self._step(ReadStarted("timer"))

    @rule(complete=st.booleans())
    def a_read_ends(self, complete: bool) -> None:
        self._step(ReadFinished(complete))

    @rule()
    def caught_up(self) -> None:
        self._step(CaughtUp(self.now))

    @rule()
    def lost(self) -> None:
        self._step(Lost("overrun"))

    @rule(limit=st.integers(1, 5))
    def ask(self, limit: int) -> None:
        for question in self.accounting.attribution.ask(now=self.now, limit=limit):
            self.asked.setdefault(question, self.now)

    @rule(data=st.data(), owners=st.frozensets(st.sampled_from(OWNERS)))
    def an_answer_comes(self, data: st.DataObject, owners: frozenset[Owner]) -> None:
        if self.asked:
            question = data.draw(st.sampled_from(sorted(self.asked, key=repr)))
            self.now += 0.5
            self.accounting.attribution.receive(question, Answer(self.asked.pop(question), self.now, owners))

    @rule(owners=st.frozensets(st.sampled_from(OWNERS), max_size=2))
    def all_questions_get_one_answer(self, owners: frozenset[Owner]) -> None:
        for question in self.accounting.attribution.ask(now=self.now, limit=50):
            self.asked.setdefault(question, self.now)
        self.now += 25.0
        for question in list(self.asked):
            self.accounting.attribution.receive(question, Answer(self.now - 24.0, self.now - 23.0, owners))
        self.asked.clear()
        self._step(CaughtUp(self.now))
        self.accounting.apply(Decide(self.now))

    @rule(data=st.data(), retry_after=st.sampled_from([None, 5.0]))
    def a_question_fails(self, data: st.DataObject, retry_after: float | None) -> None:
        if self.asked:
            question = data.draw(st.sampled_from(sorted(self.asked, key=repr)))
            del self.asked[question]
            self.accounting.attribution.fail(question, "timeout", now=self.now, retry_after=retry_after)

    @rule()
    def an_answer_nobody_waits_for(self) -> None:
        self.now += 0.5
        question = Question("ns", Shape.CLIENT, None, None)
        self.accounting.attribution.receive(question, Answer(self.now - 0.25, self.now, frozenset(OWNERS[:1])))

    @rule()
    def settle(self) -> None:
        self.accounting.apply(Decide(self.now))

    @rule(age=st.sampled_from([0.0, 30.0]))
    def give_up(self, age: float) -> None:
        self.accounting.apply(GiveUp(self.now - age, self.now))

    @rule(pause=st.sampled_from([1.0, 10.0, 100.0]))
    def tidy(self, pause: float) -> None:
        self.now += pause
        self.accounting.apply(Tidy(self.now))

    @rule(
        confirm=st.sampled_from(["strict", "fast"]),
        grace=st.sampled_from([0.0, 2.0]),
        owners_limit=st.integers(1, 3),
        ttl=st.sampled_from([1.0, 20.0]),
        patterns=st.tuples(*[st.sampled_from([(), ("10.0.0.2/32",), ("tcp/53", "10.1.0.1:9092")])] * 2),
        peers=st.sampled_from([{}, {"orders": ("10.1.0.0/24:9092",)}, {"orders": ("10.1.0.2",), "dns": ("10.1.0.1",)}]),
        idle_after=st.sampled_from([20.0, 200.0]),
    )
    def the_configuration_changes(self, confirm, grace, owners_limit, ttl, patterns, peers, idle_after) -> None:  # type: ignore[no-untyped-def]
        include, exclude = patterns
        settings = self.accounting.attribution.settings
        attribute = {
            "semantics": settings.semantics,
            "confirm": confirm,
            "grace": grace,
            "owners_limit": owners_limit,
            "positive_ttl": ttl,
            "negative_ttl": ttl,
        }
        collect = {"include": include, "exclude": exclude}
        export = {"peers": peers, "idle_after": idle_after}
        wanted = Config.model_validate({"attribute": attribute, "collect": collect, "export": export})
        self.accounting.apply(Configure(wanted))

    @rule()
    def unused_endpoints_are_freed(self) -> None:
        sweep(self.accounting)

    @rule()
    def look_at_round_trips(self) -> None:
        measure(self.accounting.table, self.accounting.series_table.used, health=True)

    @invariant()
    def the_books_are_in_order(self) -> None:
        if hasattr(self, "auditor"):
            self.auditor.check()
            assert len(self.accounting.table) <= self.accounting.table.max_flows

    @invariant()
    def no_flow_changes_its_owner_silently(self) -> None:
        if not hasattr(self, "auditor"):
            return
        columns, rows = self.accounting.table.columns, self.accounting.table.live()
        known: dict[tuple[object, ...], tuple[State, Owners]] = {}
        for row in rows.tolist():
            state = STATES[int(columns.state[row])]
            if state is not State.PENDING:
                flow: tuple[object, ...] = row, columns.endpoints_of(row), int(columns.id[row])
                known[flow] = state, self.accounting.attribution.decisions[int(columns.verdict[row])].owners
        for key, (state, owners) in known.items():
            before, had = self.known.get(key, (State.UNKNOWN, owners))
            if before is not State.UNKNOWN and (before, had) != (state, owners):
                assert before in (State.SHARED, State.AMBIGUOUS)
                assert owners < had, "several become fewer, and that is all"
        self.known = known

    def _step(self, step) -> None:  # type: ignore[no-untyped-def]
        self.now += 1
        self.accounting.apply(TakeStep(step, self.now, self.now - 0.5))


AnySteps.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnySteps = AnySteps.TestCase
