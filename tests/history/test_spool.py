"""The history file as a spool: positions, parts of blocks, and numbers that go on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowmap.errors import HistoryError
from flowmap.history.file import Limits
from flowmap.history.spool import Position, Spool
from flowmap.history.store import HistoryStore
from tests.support.closed_flows import NOW, Flow, closed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    made = HistoryStore(str(tmp_path / "history.db"), Limits(retain=1e9, max_size=16 << 20))
    made.open()
    yield made
    made.close()


def write(store: HistoryStore, *ports: int) -> None:
    store.write(closed(*(Flow(client_port=port) for port in ports)), (), now=NOW)


def ports(spool: Spool, after: int, most: int = 1000) -> list[list[int]]:
    return [
        [port >> 48 for port in part.block.column("ports")[part.skip :].tolist()] for part in spool.parts(after, most)
    ]


def test_parts_and_position(store: HistoryStore) -> None:
    write(store, 11, 12, 13)
    write(store, 14)
    spool = Spool(store.path)
    start = spool.position()
    assert start == Position(start.file, 1, 5, 0, NOW - 1) and start.waiting == 4
    assert ports(spool, 1) == [[11, 12, 13], [14]]
    assert ports(spool, 1, most=2) == [[11, 12, 13]], "whole blocks"
    assert ports(spool, 3) == [[13], [14]], "the rest of a block"
    assert [(part.first, part.end) for part in spool.parts(3, 9)] == [(3, 4), (4, 5)]
    spool.hand_on(start.file, 4, 1)
    assert spool.position() == Position(start.file, 4, 5, 1, NOW - 1)
    spool.hand_on(start.file + 1, 5, 0)
    assert spool.position().handed == 4, "another file"
    spool.hand_on(start.file, 5, 0)
    assert spool.position() == Position(start.file, 5, 5, 1, None)
    assert ports(spool, 5) == []


def test_merged_blocks_keep_their_numbers(store: HistoryStore) -> None:
    for port in range(8):
        write(store, port)
    spool = Spool(store.path)
    assert store.merge()
    assert ports(spool, 3) == [[2, 3, 4, 5, 6, 7]]


def test_the_oldest_flow_that_waits(store: HistoryStore) -> None:
    """Flows are written when they are decided, not when they end, and a merged block has some that were handed on."""
    spool = Spool(store.path)
    file = spool.position().file
    for ended in (90_000, 50, 70, *[60] * 5):
        store.write(closed(Flow(born=NOW - 100_000, ended=NOW - ended)), (), now=NOW)
    spool.hand_on(file, 2, 0)
    assert spool.position().oldest == NOW - 70, "of a later block"
    assert store.merge()
    assert spool.position().oldest == NOW - 70, "not of the flow that was handed on"
    spool.hand_on(file, 4, 0)
    assert spool.position().oldest == NOW - 60
    spool.hand_on(file, 9, 0)
    assert spool.position().oldest is None


def test_a_file_of_an_earlier_flowmap(store: HistoryStore) -> None:
    write(store, 1, 2)
    store.close()
    with sqlite3.connect(store.path) as database:
        database.execute("DROP TABLE spool")
    database.close()
    with pytest.raises(HistoryError):
        Spool(store.path).position()
    store.open()
    write(store, 3)
    position = Spool(store.path).position()
    assert (position.handed, position.following) == (1, 4)


def test_another_file_has_another_number(store: HistoryStore, tmp_path: Path) -> None:
    other = HistoryStore(str(tmp_path / "other.db"), store.limits)
    other.open()
    assert Spool(store.path).position().file != Spool(other.path).position().file
    other.close()


def test_a_block_that_cannot_be_read_is_passed_over(store: HistoryStore) -> None:
    write(store, 1, 2)
    write(store, 3)
    with sqlite3.connect(store.path) as database:
        database.execute("UPDATE block SET data = x'00' WHERE seq = 1")
    database.close()
    spool = Spool(store.path)
    assert ports(spool, 1) == [[3]] and spool.unreadable == 2


def test_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(HistoryError) as caught:
        Spool(str(tmp_path / "none.db")).position()
    assert caught.value.reason == "cannot_open"
