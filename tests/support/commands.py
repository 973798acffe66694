"""Commands for tests, and the whole state of books."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Question, Shape
from flowmap.config import Config
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import (
    Apply,
    Ask,
    Configure,
    CountFlowless,
    Decide,
    Deliver,
    Finish,
    GiveUp,
    QuestionResult,
    Restore,
    TakeStep,
    Tidy,
)
from flowmap.engine.factory import make_accounting
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.source import SourceFacts, SourceStats
from flowmap.recording.file import RecordingFile
from flowmap.recording.recorder import Recorder
from flowmap.recording.settings import kept_settings
from flowmap.sources.base import Broadcasts, CaughtUp, Lost, MeasuringFinished, ReadFinished, ReadStarted, Step
from tests.support.records import Record, batch_of, replace

OWNERS = [Owner("w", "ns", name, name) for name in "xyz"]
SOURCE = SourceFacts("scripted", "payload", announces_births=True, tells_health=True)
WALL = 1_800_000_000.0

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
    flags=st.sampled_from([0, int(Flag.PRESENT), int(Flag.ENDING), int(Flag.END_UNANNOUNCED)]),
    retransmits=st.one_of(st.none(), st.integers(0, 9)),
)
steps = st.one_of(
    st.lists(records, min_size=0, max_size=8).map(lambda some: batch_of(*some)),
    st.lists(records, min_size=1, max_size=8).map(lambda some: batch_of(*some)),
    st.sampled_from([ReadStarted("start"), ReadStarted("timer"), ReadFinished(True), ReadFinished(False)]),
    st.sampled_from(
        [Lost("overrun"), MeasuringFinished(True), Broadcasts((Address.parse("10.1.0.2"),)), Broadcasts(())]
    ),
)
operations = st.one_of(
    st.tuples(st.just("step"), steps),
    st.just(("caught up",)),
    st.tuples(st.just("ask"), st.integers(1, 9)),
    st.tuples(st.just("answer"), st.integers(0, 9), st.frozensets(st.sampled_from(OWNERS))),
    st.tuples(st.just("fail"), st.integers(0, 9), st.sampled_from([None, 5.0])),
    st.just(("settle",)),
    st.tuples(st.just("give up"), st.sampled_from([0.0, 30.0])),
    st.tuples(st.just("tidy"), st.sampled_from([0.1, 10.0, 100.0])),
    st.tuples(
        st.just("configure"),
        st.fixed_dictionaries(
            {
                "confirm": st.sampled_from(["strict", "fast"]),
                "grace": st.sampled_from([0.0, 2.0]),
                "owners_limit": st.integers(1, 3),
                "positive_ttl": st.just(15.0),
                "negative_ttl": st.just(25.0),
            }
        ),
        st.sampled_from([(), ("tcp/9092",)]),
        st.sampled_from([(), ("10.0.0.2/32",)]),
        st.sampled_from([{}, {"orders": ("10.1.0.1/32:9092",)}]),
    ),
    st.just(("count flowless",)),
    st.just(("finish",)),
    st.tuples(st.just("confirm"), st.frozensets(st.sampled_from(OWNERS), min_size=1, max_size=1)),
)
restorations = st.tuples(st.just("restore"), st.frozensets(st.sampled_from(OWNERS)), st.sampled_from([1.0, 100.0]))
opened = records.map(lambda record: replace(record, kind=RecordKind.OPENED, flags=int(Flag.PRESENT)))
beginnings = st.tuples(
    st.just(("step", ReadStarted("start"))),
    st.just(("step", ReadFinished(True))),
    st.tuples(st.just("step"), st.lists(opened, min_size=2, max_size=8).map(lambda some: batch_of(*some))),
    st.just(("count flowless",)),
    st.just(("finish",)),
    st.tuples(st.just("confirm"), st.frozensets(st.sampled_from(OWNERS), min_size=1, max_size=1)),
).map(list)
"""Enough for flows to have owners: what comes after works on that."""

scripts = st.one_of(
    st.lists(operations, max_size=10),
    st.tuples(beginnings, st.lists(operations, min_size=5, max_size=40)).map(lambda parts: parts[0] + parts[1]),
    st.tuples(restorations, beginnings, st.lists(operations, max_size=40)).map(
        lambda parts: [parts[0], *parts[1], *parts[2]]
    ),
)


@dataclass
class Clock:
    now: float = 1000.0
    epoch: float = WALL - 1000.0

    def wall(self) -> float:
        return self.now + self.epoch


@dataclass
class Actor:
    """Applies a script, the way the engine does."""

    apply: Apply
    accounting: FlowAccounting
    clock: Clock
    asked: list[Question] = field(default_factory=list)

    def run(self, script: list[Any]) -> None:
        for name, *arguments in script:
            self.clock.now += 1
            getattr(self, name.replace(" ", "_"))(*arguments)

    def step(self, step: Step) -> None:
        self.apply(TakeStep(step, self.clock.now, self.clock.now - 0.5))

    def caught_up(self) -> None:
        self.step(CaughtUp(self.clock.now - 0.25))

    def ask(self, limit: int) -> None:
        self.asked += self.apply(Ask(self.clock.now, limit))

    def answer(self, place: int, owners: frozenset[Owner]) -> None:
        if self.asked:
            question = self.asked.pop(place % len(self.asked))
            infos = tuple(DeploymentInfo(owner, labels={"team": "t"}, seen_at=self.clock.wall()) for owner in owners)
            answer = Answer(self.clock.now - 0.2, self.clock.now - 0.1, owners)
            self.apply(Deliver(self.clock.now, QuestionResult(question, answer, infos)))

    def fail(self, place: int, retry_after: float | None) -> None:
        if self.asked:
            question = self.asked.pop(place % len(self.asked))
            self.apply(
                Deliver(self.clock.now, QuestionResult(question, None, cause="timeout", retry_after=retry_after))
            )

    def settle(self) -> None:
        self.apply(Decide(self.clock.now))

    def give_up(self, age: float) -> None:
        self.apply(GiveUp(self.clock.now - age, self.clock.now))

    def tidy(self, pause: float) -> None:
        self.clock.now += pause
        self.apply(Tidy(self.clock.now))

    def configure(
        self,
        attribute: dict[str, Any],
        include: tuple[str, ...],
        exclude: tuple[str, ...],
        peers: dict[str, tuple[str, ...]],
    ) -> None:
        semantics = self.accounting.attribution.settings.semantics
        wanted = {
            "attribute": {"semantics": semantics, **attribute},
            "collect": {"include": include, "exclude": exclude},
            "export": {"peers": peers, "idle_after": 40.0},
        }
        self.apply(Configure(Config.model_validate(wanted)))

    def count_flowless(self) -> None:
        self.apply(CountFlowless(self.clock.now, "late", (1 << 40, 2, 3, 4)))

    def finish(self) -> None:
        self.apply(Finish())

    def restore(self, owners: frozenset[Owner], age: float) -> None:
        """What a daemon before this one knew of one client, confirmed up to ``age`` seconds ago."""
        question = Question("ns", Shape.CLIENT, Endpoint(Address.parse("10.0.0.1"), 0), None)
        last = self.clock.now - age
        self.apply(
            Restore(((question, OwnershipInterval(owners, last - 9, last - 8, last - 1, last, 5)),), self.clock.now)
        )

    def confirm(self, owners: frozenset[Owner]) -> None:
        """Everything is asked, answered and counts."""
        self.ask(50)
        while self.asked:
            self.answer(0, owners)
        self.clock.now += 1
        self.caught_up()
        self.settle()


def config(**attribute: Any) -> Config:
    settings = {"positive_ttl": "20s", "negative_ttl": "20s", "owners_limit": 2} | attribute
    return Config.model_validate(
        {
            "control_plane": {"workspace": "w", "namespaces": ["ns"]},
            "collect": {"max_flows": 60},
            "attribute": settings,
            "export": {"idle_after": "40s", "max_series": 100},
        }
    )


def recorded(
    path: Path, script: list[Any], wanted: Config | None = None, **limits: Any
) -> tuple[FlowAccounting, Recorder]:
    """Books that ``script`` was done to, recorded in ``path``; the recorder is closed."""
    wanted = wanted or config()
    accounting = make_accounting(wanted, announces_births=SOURCE.announces_births)
    clock = Clock()
    file = RecordingFile(path, max_size=limits.pop("max_size", 1 << 30), overwrite=True)
    recorder = Recorder(
        accounting,
        file,
        facts={"source": SOURCE, "settings": kept_settings(wanted)},
        stats=lambda: SourceStats(up=True, records=7, lost={"malformed": 1}),
        clock=lambda: clock.now,
        wall_clock=clock.wall,
        **limits,
    )
    recorder.start()
    Actor(recorder.apply, accounting, clock).run(script)
    recorder.close()
    return accounting, recorder


def state(accounting: FlowAccounting) -> dict[str, Any]:
    """All that books hold of flows, owners and traffic; equal states go on equally."""
    live = accounting.table.live()
    arrays = {name: one for name, one in vars(accounting.table.columns).items() if isinstance(one, np.ndarray)}
    columns = {name: column[live].tolist() for name, column in arrays.items()}
    schedule = {
        name: value.tolist()
        for name, value in vars(accounting.attribution.schedule).items()
        if isinstance(value, np.ndarray)
    }
    series_table = accounting.series_table.freeze()
    return {
        "rows": live.tolist(),
        "columns": columns,
        "plan": schedule,
        "decisions": dict(accounting.attribution.decisions),
        "lookups": dict(accounting.attribution.lookups),
        "contradictions": accounting.attribution.contradictions.count,
        "totals": series_table.totals(),
        "series": series_table.texts,
        "connections": series_table.connections.tolist(),
        "open": series_table.open_connections.tolist(),
        "observed": list(accounting.observed),
        "pending": list(accounting.pending),
        "ignored": accounting.ignored,
        "shed": dict(accounting.shed),
        "deployments": dict(accounting.deployments),
        "reads": accounting.complete_reads,
    }
