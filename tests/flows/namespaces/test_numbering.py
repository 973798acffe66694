"""Network namespaces of flows: part of the key, named later, bounded."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.namespaces import numbering
from flowmap.flows.namespaces.numbering import Namespaces
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.namespace import NetworkNamespace
from tests.support.flow_table import bytes_of, started
from tests.support.records import Record, replace

HOST = Record(RecordKind.OPENED, id=7, counters=bytes_of(100))
BLUE, GREEN = replace(HOST, namespace=1), replace(HOST, namespace=2)


def test_the_same_tuple_in_two_namespaces_is_two_flows() -> None:
    feed = started()
    assert len(feed(HOST, BLUE, GREEN).opened) == 3
    grown = feed(replace(GREEN, kind=RecordKind.UPDATED, counters=bytes_of(170)))
    assert (len(grown.opened), grown.deltas.tolist()) == (0, [[70, 140, 7, 14]])
    (closed,) = feed(replace(BLUE, kind=RecordKind.CLOSED, counters=bytes_of(100)), free=False).closed.tolist()
    assert feed.table.columns.namespace[closed] == 1
    assert feed.total.tolist() == [370, 740, 37, 74]
    assert feed.table.open_flows == 2


def test_a_full_read_ends_flows_of_its_namespace_only() -> None:
    feed = started()
    blue, green = feed(BLUE, GREEN).opened.tolist()
    assert feed.read(replace(HOST, kind=RecordKind.DUMPED, counters=bytes_of(100))) == []
    feed.table.begin_read(1)
    (closed,) = feed.table.end_read(complete=True, now=feed.now, namespace=1)
    assert closed.closed.tolist() == [blue]
    (closed,) = feed.table.close_namespace(2, feed.now)
    assert closed.closed.tolist() == [green]
    assert feed.table.ended_unseen == 2


@pytest.mark.parametrize(("is_new", "counted"), [(True, 100), (False, 0)])
def test_flows_of_a_namespace_that_is_older_than_the_daemon_may_be_older_too(is_new: bool, counted: int) -> None:
    feed = started()
    feed.catch_up()
    feed.table.open_namespace(1, is_new=is_new)
    feed.table.begin_read(1)
    (row,) = feed(replace(BLUE, kind=RecordKind.DUMPED, counters=bytes_of(100))).opened.tolist()
    grown, _ = feed.table.end_read(complete=True, now=feed.now, namespace=1)
    assert grown.deltas[:, 0].sum() == counted
    assert np.isfinite(feed.table.columns.born_after[row]) == is_new


def test_a_flow_of_another_namespace_is_alive_as_of_its_own_records() -> None:
    feed = started()
    own = replace(BLUE, flags=int(Flag.END_UNANNOUNCED))
    (row,) = feed(own).opened.tolist()
    read_at = feed.now - 0.5
    feed.now += 10
    feed.catch_up()
    rows = np.array([row], np.int32)
    assert feed.table.alive_until(rows).tolist() == [read_at]
    feed(replace(own, kind=RecordKind.CLOSED), free=False)
    assert feed.table.columns.ended_after[row] == read_at


def test_a_row_that_is_used_again_has_the_namespace_of_its_new_flow() -> None:
    feed = started(max_flows=1)
    (row,) = feed(BLUE).opened.tolist()
    feed(replace(BLUE, kind=RecordKind.CLOSED))
    assert feed(HOST).opened.tolist() == [row]
    assert feed.table.columns.namespace[row] == 0
    assert len(feed(replace(HOST, kind=RecordKind.UPDATED)).opened) == 0


@pytest.mark.parametrize(
    ("called", "numbers"),
    [("host", [0]), ("blue", [1]), ("4026532001", [1]), ("net:[4026532002]", [2]), ("green", []), ("", [])],
)
def test_namespaces_are_found_by_name_or_inode(called: str, numbers: list[int]) -> None:
    known = Namespaces()
    known.learn([(1, NetworkNamespace(4026532001, "blue")), (2, NetworkNamespace(4026532002))])
    assert known.numbers(called) == numbers


def test_a_namespace_can_be_named_later() -> None:
    known = Namespaces()
    known.learn([(1, NetworkNamespace(4026532001))])
    assert str(known.get(1)) == "net:[4026532001]"
    known.learn([(1, NetworkNamespace(4026532001, "blue"))])
    assert (str(known.get(1)), known.get(0), known.get(5)) == ("blue", None, NetworkNamespace(0))


def test_namespaces_without_flows_are_dropped_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbering, "LIMIT", 2)
    feed = started()
    feed(BLUE)
    known = feed.table.namespaces
    known.learn([(number, NetworkNamespace(number + 100)) for number in (1, 2, 3)])
    known.tidy(feed.table.columns, lambda: np.flatnonzero(feed.table.columns.flags).astype(np.int32))
    assert [known.get(number) for number in (1, 2, 3)] == [
        NetworkNamespace(101),
        NetworkNamespace(0),
        NetworkNamespace(103),
    ]
