"""An accounting with a clock, for tests of questions, answers and decisions."""

from __future__ import annotations

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.attribution import Attribution
from flowmap.attribute.questions import Question
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Decide, TakeStep
from flowmap.model.deployment import Owner
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of


class AttributionRun:
    """An accounting and a clock that every step moves."""

    def __init__(self, settings: AttributionSettings | None = None, max_flows: int = 200) -> None:
        self.accounting: FlowAccounting = accounting_for(settings, max_flows=max_flows)
        self.now = 1000.0
        for step in (ReadStarted("start"), ReadFinished(True), CaughtUp(self.now)):
            self.accounting.apply(TakeStep(step, self.now, self.now))

    @property
    def attribution(self) -> Attribution:
        return self.accounting.attribution

    def observe(self, *records: Record) -> None:
        self.now += 1
        self.accounting.apply(TakeStep(batch_of(*records), self.now, self.now - 0.5))

    def ask(self, limit: int = 100) -> list[Question]:
        return self.attribution.ask(now=self.now, limit=limit)

    def answer(self, question: Question, *owners: Owner) -> None:
        self.attribution.receive(question, Answer(self.now, self.now + 0.25, frozenset(owners)))

    def decide(self) -> None:
        self.now += 1
        self.accounting.apply(TakeStep(CaughtUp(self.now), self.now, self.now))
        self.accounting.apply(Decide(self.now))
