"""An accounting with a clock, and answers for everything that is asked."""

from __future__ import annotations

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Question
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Decide, TakeStep
from flowmap.model.deployment import Owner
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted, Step
from tests.support.accounting import Auditor
from tests.support.records import Record, batch_of


class AccountingRun:
    """An accounting with a clock, and answers for everything that is asked; audited after every step."""

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
            self.accounting.attribution.receive(question, Answer(self.now, self.now + 0.25, frozenset(owners)))
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
