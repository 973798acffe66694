"""Flows found by their endpoints after NAT."""

from __future__ import annotations

import pytest

from flowmap.flows.index.behind_nat import PAUSE, BehindNat
from flowmap.flows.records.batch import RecordKind
from tests.support.flow_table import Feed, started
from tests.support.records import Record, batch_of, replace

NAT = Record(RecordKind.OPENED, id=1, translated=("10.9.0.2", 1234, "10.8.0.1", 8080))
SOCKET = Record(
    RecordKind.MEASURED, client="10.9.0.2", client_port=1234, server="10.8.0.1", server_port=8080, namespace=3
)


def found(feed: Feed, behind: BehindNat, *records: Record, now: float = 0.0) -> list[int]:
    return [int(row) for row in behind.find(batch_of(*records), feed.table.live(), now)]


@pytest.mark.parametrize(
    ("record", "there"),
    [
        (SOCKET, True),
        (replace(SOCKET, client_port=1235), False),
        (replace(SOCKET, server="10.8.0.2"), False),
        (replace(SOCKET, protocol=17), False),
        (replace(NAT, translated=None), False),  # the endpoints before NAT
    ],
)
def test_endpoints_after_nat(record: Record, there: bool) -> None:
    feed = started()
    feed(replace(NAT, client_port=7, id=9, translated=None))
    (row,) = feed(NAT).opened.tolist()
    feed(replace(NAT, namespace=2, translated=("10.9.0.9", 1, "10.8.0.9", 2)))
    assert found(feed, BehindNat(feed.table.columns), record) == [row if there else -1]


def test_only_flows_of_the_own_namespace() -> None:
    feed = started()
    feed(replace(NAT, namespace=2))
    assert found(feed, BehindNat(feed.table.columns), SOCKET) == [-1]


def test_it_follows_the_table() -> None:
    feed = started()
    behind = BehindNat(feed.table.columns)
    assert found(feed, behind, SOCKET) == [-1]
    (row,) = feed(NAT).opened.tolist()
    assert found(feed, behind, SOCKET, SOCKET, now=PAUSE + 1) == [row, row]
    feed(replace(NAT, kind=RecordKind.CLOSED))
    assert found(feed, behind, SOCKET, now=PAUSE + 1) == [-1], "closed since"
