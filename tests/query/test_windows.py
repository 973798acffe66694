"""Tracked flows in a window of time."""

from __future__ import annotations

import pytest

from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner
from flowmap.model.views import PeerSeen, Traffic
from flowmap.query.windows import joined, peers_of, rows_at
from tests.support.accounting import accounting_for
from tests.support.accounting_run import AccountingRun
from tests.support.records import Record, replace

X, Y = (Owner("w", "ns", f"id-{name}", name) for name in "xy")
FLOW = Record(RecordKind.OPENED, counters=(100, 50, 2, 1), flags=int(Flag.PRESENT))


def seen(peer: str, owner: Owner, size: int, first: float = 1.0, last: float = 2.0) -> PeerSeen:
    return PeerSeen(peer, "tcp", Traffic(size, 0, 1, 0, 1, 0), (owner,), first, last)


def test_equal_peers_of_equal_owners_are_summed_in_order() -> None:
    found = joined([seen("b", X, 1), seen("a", Y, 2), seen("b", X, 4, 0.5, 9.0), seen("a", X, 8)])
    assert [(one.peer, one.owners[0], one.traffic.transmit_bytes) for one in found] == [
        ("a", X, 8),
        ("a", Y, 2),
        ("b", X, 5),
    ]
    assert (found[-1].first_seen, found[-1].last_seen) == (0.5, 9.0)


@pytest.fixture
def run() -> AccountingRun:
    """Two flows of x, to two services; the second has ended."""
    made = AccountingRun(accounting_for())
    other = replace(FLOW, server="10.1.0.2", id=2, client_port=2)
    made(FLOW, other)
    made.answer(X)
    made(replace(FLOW, kind=RecordKind.DUMPED, counters=(300, 50, 4, 1)))
    return made


@pytest.mark.parametrize(("deployment", "peers"), [("x", 2), ("id-x", 2), ("y", 0), ("ns", 0)])
def test_the_peers_of_a_deployment(run: AccountingRun, deployment: str, peers: int) -> None:
    found = peers_of(run.accounting, deployment, 0.0, 1e10, epoch=1000.0, now=run.now)
    assert len(found) == peers
    if found:
        first = found[0]
        assert (first.peer, first.protocol, first.owners) == ("10.1.0.1:9092", "tcp", (X,))
        assert first.traffic == Traffic(300, 50, 4, 1, 1, 1)
        assert first.first_seen < first.last_seen == run.now + 1000.0, "an open flow is seen up to now"


def test_only_flows_of_the_window(run: AccountingRun) -> None:
    assert peers_of(run.accounting, "x", 0.0, 1500.0, epoch=1000.0, now=run.now) == []


def test_flows_at_an_instant_have_one_row_for_each_decision(run: AccountingRun) -> None:
    rows = run.accounting.table.live()
    assert len(rows) == 2
    assert rows_at(run.accounting, rows, 0.0) == []
    run.accounting.table.columns.verdict[rows] = 3
    assert rows_at(run.accounting, rows, run.now) == [int(rows[-1])], "the newest"
    run.accounting.table.columns.verdict[rows[0]] = 4
    assert sorted(rows_at(run.accounting, rows, run.now)) == sorted(rows.tolist())
