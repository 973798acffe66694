"""Questions about the past, from a real history file and tracked flows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flowmap.attribute.answers.timeline import Answer
from flowmap.engine.commands import Deliver, QuestionResult
from flowmap.errors import HistoryError, QueryError
from flowmap.export.peers import Peers
from flowmap.flows.records.batch import RecordKind
from flowmap.history.reader import HistoryReader
from flowmap.model.address import Address
from flowmap.model.deployment import State
from flowmap.model.views import Connection, FlowFilter
from flowmap.query.history import HistoryQueries
from flowmap.query.live import LiveQueries
from tests.support.closed_flows import X, Y
from tests.support.history import EPOCH, FLOW, RecordedAccounting
from tests.support.records import Record, replace

T = TypeVar("T")
EVER = FlowFilter(since=0.0)


class Calls:
    """The engine's part of a question, done at once."""

    def __init__(self, queries: LiveQueries) -> None:
        self._queries = queries

    async def call(self, function: Callable[[LiveQueries], T]) -> T:
        return function(self._queries)


class Past(RecordedAccounting):
    """An accounting with a history, and what can be asked of both."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        calls: Any = Calls(LiveQueries(self.day.accounting, source="scripted", epoch=EPOCH))
        reader = HistoryReader(self.path, peer_name=Peers({}).name, translated_ends=True)
        self.queries = HistoryQueries(calls, self.writer, reader)

    def confirm(self) -> None:
        """Three answers that name x for both endpoints of a flow, 100 s apart."""
        self.day(FLOW)
        for _ in range(3):
            self.day.now += 100
            for question in self.day.accounting.attribution.ask(now=self.day.now, limit=100):
                answer = Answer(self.day.now, self.day.now + 0.25, frozenset({X}))
                self.day.accounting.apply(Deliver(self.day.now, QuestionResult(question, answer)))
        self.flush()
        self.day.now += 100

    def open(self, *records: Record) -> None:
        """Flows of x that stay open."""
        self.day(*records)
        self.day.answer(X, after=100)


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    made = Past(tmp_path / "history.db")
    yield made
    made.queries.close()
    made.stop()


def tcp(port: int | None, server: str = "10.1.0.1") -> Connection:
    return Connection(Address.parse("10.0.0.1"), port, Address.parse(server), 9092, 6)


def test_a_closed_connection(past: Past) -> None:
    past.close_some(2)
    at = EPOCH + past.day.now - 2
    view = asyncio.run(past.queries.attribution(tcp(1), at))
    assert (view.state, [info.owner for info in view.deployments]) == (State.ATTRIBUTED, [X])
    assert view.flow is not None and view.flow.client.port == 1
    last = asyncio.run(past.queries.last(tcp(2)))
    assert last is not None and last.cause == "this connection is closed; this is its final attribution"
    assert asyncio.run(past.queries.last(tcp(3))) is None


def test_a_tracked_connection_needs_no_file(past: Past) -> None:
    past.open(FLOW)
    view = asyncio.run(past.queries.attribution(tcp(40000), EPOCH + past.day.now))
    assert (view.state, view.flow is not None and view.flow.ended_at) == (State.ATTRIBUTED, None)


def test_connections_that_match_and_differ_are_not_guessed(past: Past) -> None:
    past.open(FLOW)
    past.day(replace(FLOW, client_port=9, id=9))
    past.day.answer(X, Y, after=100)
    past.day(replace(FLOW, kind=RecordKind.CLOSED))
    view = asyncio.run(past.queries.attribution(tcp(None), EPOCH + past.day.now - 3))
    assert (view.state, view.deployments) == (State.AMBIGUOUS, ())
    assert view.cause == "2 connections match at that time and differ in their owners; give both ports"


@pytest.mark.parametrize(
    ("server", "state", "cause"),
    [
        ("10.1.0.1", State.ATTRIBUTED, "these are the owners of its endpoints then"),
        ("10.1.0.9", State.UNKNOWN, "no answers confirm owners of its endpoints"),
    ],
)
def test_a_connection_that_was_not_seen_has_the_owners_of_its_endpoints(
    past: Past, server: str, state: State, cause: str
) -> None:
    past.confirm()
    view = asyncio.run(past.queries.attribution(tcp(12345, server), EPOCH + past.day.now - 250))
    assert (view.state, view.flow) == (state, None)
    assert cause in str(view.cause)


def test_pages_list_every_flow_once(past: Past) -> None:
    past.close_some(5)
    past.open(replace(FLOW, client_port=100, id=100), replace(FLOW, client_port=101, id=101))

    async def pages(limit: int) -> list[list[int]]:
        found, cursor = [], None
        while True:
            page = await past.queries.flows(EVER, limit, cursor)
            found.append([flow.client.port for flow in page.flows])
            if page.next_cursor is None:
                return found
            cursor = page.next_cursor

    for limit in (1, 2, 3, 100):
        listed = asyncio.run(pages(limit))
        assert sorted(sum(listed, [])) == [1, 2, 3, 4, 5, 100, 101]
        assert all(len(page) <= limit for page in listed)
        assert set(sum(listed, [])[:2]) == {100, 101}, "tracked flows first"


@pytest.mark.parametrize("cursor", ["hx", "h-1", "h" + "9" * 30])
def test_not_a_cursor(past: Past, cursor: str) -> None:
    with pytest.raises(QueryError, match="not a cursor"):
        asyncio.run(past.queries.flows(EVER, 10, cursor))


def test_peers_of_both_windows(past: Past) -> None:
    past.close_some(1)
    middle = EPOCH + past.day.now - 3
    past.day.now += 10
    past.open(replace(FLOW, server="10.1.0.2", client_port=50, id=50))
    now = EPOCH + past.day.now
    window = asyncio.run(past.queries.peers("x", 0.0, now))
    assert [one.peer for one in window.peers] == ["10.1.0.1:9092", "10.1.0.2:9092"]
    changes = asyncio.run(past.queries.changes("x", (0.0, middle), (middle + 5, now)))
    assert [one.peer for one in changes.new] == ["10.1.0.2:9092"]
    assert [one.peer for one in changes.vanished] == ["10.1.0.1:9092"]


def test_status(past: Past) -> None:
    past.close_some(3)
    past.flush()
    status = past.queries.status()
    assert (status.up, status.flows, status.flows_written, status.flows_queued) == (True, 3, 3, 0)
    assert (status.flows_lost, status.files_set_aside, status.blocks_unreadable, status.notes) == (0, 0, 0, None)
    assert status.oldest_at is not None and status.oldest_at > EPOCH


def test_a_broken_file_is_reported_to_the_writer(past: Past) -> None:
    suspected: list[HistoryError] = []

    def corrupt(*_: object) -> None:
        raise HistoryError("page 7", reason="corrupt")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HistoryReader, "last", corrupt)
        patch.setattr(past.writer, "suspect", suspected.append)
        with pytest.raises(HistoryError):
            asyncio.run(past.queries.last(tcp(1)))
    assert [error.reason for error in suspected] == ["corrupt"]
