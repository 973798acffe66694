"""Flows that are not in the history yet. What the history gets at the stop: tests/history/test_writer.py."""

from __future__ import annotations

from flowmap.engine.commands import Finish, GiveUp
from flowmap.engine.unwritten import first_end
from flowmap.flows.records.batch import RecordKind
from tests.support.accounting import accounting_for
from tests.support.accounting_run import AccountingRun
from tests.support.closed_flows import X
from tests.support.history import FLOW
from tests.support.records import replace


def test_the_first_end() -> None:
    day = AccountingRun(accounting_for())
    table = day.accounting.table
    assert first_end(table) is None
    day(FLOW, replace(FLOW, client_port=2, id=2))
    assert first_end(table) is None, "they are open"
    day(replace(FLOW, kind=RecordKind.CLOSED))
    first = day.now
    day(replace(FLOW, client_port=2, id=2, kind=RecordKind.CLOSED))
    ended = first_end(table)
    assert ended is not None and ended <= first
    day.accounting.apply(GiveUp(day.now + 1, day.now))
    assert first_end(table) is None, "they are written"


def test_without_a_journal_nothing_is_left() -> None:
    day = AccountingRun(accounting_for())
    day(FLOW)
    day.answer(X)
    before = day.accounting.table.columns.last.copy()
    day.accounting.apply(Finish())
    assert (day.accounting.table.columns.last == before).all()
