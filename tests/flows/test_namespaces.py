"""Network namespaces of flows: part of the key, named later, bounded."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows import namespaces
from flowmap.flows.namespaces import Namespaces
from flowmap.flows.records.batch import RecordKind
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


def test_a_full_read_ends_the_flow_of_the_namespace_that_is_gone() -> None:
    feed = started()
    feed(HOST, BLUE)
    (gone,) = feed.read(replace(HOST, kind=RecordKind.DUMPED, counters=bytes_of(100)))
    assert feed.table.columns.namespace[gone] == 1


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
    monkeypatch.setattr(namespaces, "LIMIT", 2)
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
