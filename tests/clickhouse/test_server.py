"""The client: parameters, answers, and a reason for every failure."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flowmap.clickhouse.server import Server, ServerAddress, Value
from flowmap.errors import HistoryError, QueryError
from tests.clickhouse.stand_in import StandIn


@pytest.fixture
def server(stand_in: StandIn) -> Iterator[Server]:
    made = Server(ServerAddress(stand_in.url, stand_in.engine.database))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        ("String", "it's\ta \\ tab", "it's\ta \\ tab"),
        ("UInt64", 2**64 - 1, 2**64 - 1),
        ("Float64", 1.5, 1.5),
        ("Bool", True, True),
        ("Array(String)", ["a'b", "c\\d", ""], ["a'b", "c\\d", ""]),
        ("Array(String)", [], []),
    ],
)
def test_parameters(server: Server, kind: str, value: Value, read: Any) -> None:
    assert server.rows(f"SELECT {{value:{kind}}}", {"value": value}) == [[read]]


def test_tuples_are_lists(server: Server) -> None:
    assert server.rows("SELECT tuple('a', [1, 2])") == [[["a", [1, 2]]]]


@pytest.mark.parametrize(
    ("sql", "reason"), [("SELECT * FROM nowhere", "tables"), ("SELECT nothing", "tables"), ("SELEKT 1", "server")]
)
def test_refused(server: Server, sql: str, reason: str) -> None:
    with pytest.raises(HistoryError) as caught:
        server.rows(sql)
    assert caught.value.reason == reason


def test_too_long(server: Server, stand_in: StandIn) -> None:
    stand_in.faults.append("time")
    with pytest.raises(QueryError, match="narrow the question"):
        server.rows("SELECT 1")


def test_no_answer_in_time(server: Server, stand_in: StandIn) -> None:
    stand_in.faults.append("slow")
    with pytest.raises(HistoryError) as caught:
        server.rows("SELECT 1", seconds=-1.9)  # 0.1 s with the margin of the client
    assert caught.value.reason == "timeout"
    stand_in.released.set()


def test_closing_cancels_the_question_under_way(server: Server, stand_in: StandIn) -> None:
    stand_in.faults.append("held reply")
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(server.rows, "SELECT 1")
        assert stand_in.holding.acquire(timeout=60)
        server.close()
        with pytest.raises(HistoryError) as caught:
            asked.result()
    assert caught.value.reason == "connect", "not that of a question that was waited for to its end"
    stand_in.released.set()


def test_no_connection_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something listens, and does not shake hands."""
    monkeypatch.setattr("flowmap.clickhouse.server.CONNECT_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = Server(ServerAddress(f"https://127.0.0.1:{silent.getsockname()[1]}"))
        with pytest.raises(HistoryError, match="no connection within 0.1 s") as caught:
            server.rows("SELECT 1")
        server.close()
    assert (caught.value.reason, caught.value.remedy) == ("connect", "see history.clickhouse.url")


def test_nobody_listens() -> None:
    server = Server(ServerAddress("http://127.0.0.1:1"))
    with pytest.raises(HistoryError) as caught:
        server.rows("SELECT 1")
    assert (caught.value.reason, caught.value.remedy) == ("connect", "see history.clickhouse.url")
    server.close()


def test_the_password_is_in_no_message(stand_in: StandIn, tmp_path: Any) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2")
    server = Server(ServerAddress(stand_in.url, password_file=str(file)))
    stand_in.faults.extend(["reset", "denied"])
    for _ in range(2):
        with pytest.raises(HistoryError) as caught:
            server.rows("SELECT 1")
        assert "hunter2" not in f"{caught.value}{caught.value.__cause__}{caught.value.__context__!r}"
    server.close()
