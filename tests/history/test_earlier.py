"""Entries that the kernel still keeps when the daemon starts: which of them are in the file already."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.history.closed_flows import MICROSECONDS
from flowmap.history.earlier import EarlierConnections
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.accounting_run import AccountingRun
from tests.support.closed_flows import Flow, closed
from tests.support.history import FLOW
from tests.support.records import replace

COUNTED = int(Flag.COUNTERS)
ENTRY = replace(FLOW, kind=RecordKind.DUMPED, flags=COUNTED | int(Flag.ENDING), counters=(500, 70, 5, 1))


@pytest.mark.parametrize(
    ("kept", "entry", "later", "expected"),
    [
        ({}, {}, {}, True),
        ({"ended": 99.0}, {}, {}, False),
        ({"client_port": 1}, {}, {}, False),
        ({}, {"client": "10.0.0.2"}, {}, False),
        ({}, {"server": "10.1.0.9"}, {}, False),
        ({}, {"protocol": 17}, {}, False),
        ({}, {"flags": COUNTED}, {}, False),
        ({}, {}, {"counters": (500, 110, 5, 2)}, False),
    ],
    ids=["the same", "long ago", "port", "client", "server", "protocol", "still open", "moved something"],
)
def test_what_the_file_has(kept: dict[str, Any], entry: dict[str, Any], later: dict[str, Any], expected: bool) -> None:
    earlier = EarlierConnections([closed(Flow(client_port=7)), closed(Flow(**kept))], since=100 * MICROSECONDS)
    day = AccountingRun(accounting_for(), read=False)
    seen = replace(ENTRY, **entry)
    day(ReadStarted("start"), seen, ReadFinished(True), CaughtUp(day.now), replace(seen, **later))
    table = day.accounting.table
    assert earlier.have(table, table.live()).tolist() == [expected]


def test_what_begins_later_is_another_connection() -> None:
    day = AccountingRun(accounting_for())
    day(FLOW, replace(FLOW, kind=RecordKind.CLOSED))
    table = day.accounting.table
    assert EarlierConnections([closed(Flow())]).have(table, table.live()).tolist() == [False]
