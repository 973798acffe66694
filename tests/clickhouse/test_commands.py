"""``flowmap fleet query | peers | flows``, from the arguments to what is printed, over ClickHouse's own engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowmap.cli import command
from tests.clickhouse.engine import Engine
from tests.clickhouse.stand_in import StandIn, standing_in
from tests.clickhouse.store import BILLING, ORDERS, A, Ask, B, Store
from tests.clickhouse.test_schema import NOON, End, insert

CONNECTION = ("10.0.0.1:40000", "10.0.0.2:9092")
WINDOW = ("--since", str(NOON - 60), "--until", str(NOON + 60))


def shown(ask: Ask, *words: str) -> Any:
    status, out, err = ask(*words, "-o", "json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_a_connection_of_two_hosts(store: Store, ask: Ask) -> None:
    insert(store.engine, A, B)
    answer = shown(ask, "query", *CONNECTION, "--at", str(NOON + 5))
    assert (answer["state"], answer["observed"]) == ("attributed", True)
    assert [one["name"] for one in answer["deployments"]] == ["orders"]
    assert {one["host"]: one["transmitBytes"] for one in answer["flow"]["observations"]} == {"a": 100, "b": 90}
    answer = shown(ask, "query", *CONNECTION)
    assert answer["cause"] == "this connection is closed; this is its final attribution"
    status, out, _ = ask("query", *CONNECTION, "-o", "table")
    assert status == 0
    assert "orders (n, d)" in out and "b: unknown, 90 B sent, 1.0 kB received (ip bytes" in out


def test_a_connection_that_no_host_saw(store: Store, ask: Ask) -> None:
    insert(store.engine, A)
    store.host("web-3", NOON - 3600)
    status, out, _ = ask("query", "10.0.0.1:1", CONNECTION[1], "--at", str(NOON + 5), "-o", "json")
    answer = json.loads(out)
    assert (status, answer["state"], answer["observed"]) == (3, "unknown", False)
    assert "no such connection" in answer["cause"] and "web-3 is behind" in answer["cause"]


def test_flows(store: Store, ask: Ask) -> None:
    insert(store.engine, A, B, A._replace(number=2, client="10.0.0.3:7", owners=(BILLING,), ended=5))
    answer = shown(ask, "flows", *WINDOW)
    assert [one["deployments"][0]["name"] for one in answer["flows"]] == ["orders", "billing"]
    assert answer["incomplete"] == []
    assert len(shown(ask, "flows", *WINDOW, "--deployment", "billing")["flows"]) == 1
    assert shown(ask, "flows", *WINDOW, "--deployment", "x' OR 1 --")["flows"] == []
    status, out, _ = ask("flows", *WINDOW, "--limit", "1", "-o", "table")
    header, row, cut = out.splitlines()
    assert (
        status == 0 and header.split()[-1] == "HOSTS" and {word.strip(",") for word in row.split()[-2:]} == {"a", "b"}
    )
    assert cut == "(the first 1; use --limit for more)"


def test_flows_of_a_fleet_with_a_host_that_is_behind(store: Store, ask: Ask) -> None:
    insert(store.engine, A)
    store.host("web-3", NOON - 3600)
    line = "web-3 is behind: its connections that ended after 2026-11-30T11:00:00Z are missing"
    for words in (("flows",), ("flows", "--by", "peer"), ("peers", "orders"), ("peers", "orders", "--compare", "1h")):
        status, out, err = ask(*words, *WINDOW, "-o", "json")
        assert (status, err) == (1, f"flowmap: {line}\n"), words
        if "--by" not in words:
            assert json.loads(out)["incomplete"] == [line]


def test_flows_summed_by_deployment(store: Store, ask: Ask) -> None:
    insert(store.engine, A, B, End("c", client="10.0.0.9:9", bytes="payload", sent=7, owners=(ORDERS,), number=3))
    status, out, err = ask("flows", *WINDOW, "--by", "deployment", "-o", "json")
    (group,) = json.loads(out)["groups"]
    assert (group["deployment"], group["connections"], group["transmitRate"]) == ("orders", 1, None)
    assert (status, err) == (1, "flowmap: 1 connections are left out: their bytes count payload, not ip\n")
    (group,) = shown(ask, "flows", *WINDOW, "--by", "deployment", "--counts", "payload")["groups"]
    assert (group["transmitBytes"], group["connections"]) == (7, 1)
    assert ask("flows", *WINDOW, "--by", "peer", "--unit", "kafka")[0] == 1


def test_peers(store: Store, ask: Ask) -> None:
    insert(store.engine, A, B, End("c", client="10.0.0.9:9", bytes="payload", sent=7, owners=(ORDERS,), number=3))
    store.peer("kafka")
    answer = shown(ask, "peers", "orders", *WINDOW)
    found = {one["counts"]: (one["peer"], one["traffic"]["connections"]) for one in answer["peers"]}
    assert found == {"ip": ("kafka", 1), "payload": ("kafka", 1)}
    assert (answer["from"], answer["sumsUntil"]) == ("2026-11-30T11:59:00.000Z", None)
    _, out, _ = ask("peers", "orders", *WINDOW, "-o", "table")
    assert {line.split()[-1] for line in out.splitlines()} == {"BYTES", "ip", "payload"}


def test_peers_compared(store: Store, ask: Ask) -> None:
    insert(store.engine, A._replace(started=-100, ended=-90), A._replace(number=2, client="10.0.0.1:2"))
    answer = shown(ask, "peers", "orders", *WINDOW, "--compare", "1h")
    assert (answer["new"], answer["vanished"], answer["incomplete"]) == ([], [], [])
    _, out, _ = ask("peers", "orders", *WINDOW, "--compare", "1h", "-o", "table")
    assert out.split()[0] == "CHANGE"


def test_peers_before_the_rows_that_are_kept(store: Store, ask: Ask) -> None:
    insert(store.engine, A)
    store.sums("hours", NOON - 5 * 86400, ORDERS, 1000)
    since = str(NOON - 5 * 86400 + 60)
    status, out, err = ask("peers", "orders", "--since", since, "--until", str(NOON + 60), "-o", "json")
    answer = json.loads(out)
    found = {one["peer"]: one["traffic"]["transmitBytes"] for one in answer["peers"]}
    assert found == {"kafka": 1000, "10.0.0.2:9092": 100}
    assert (answer["from"], answer["sumsUntil"]) == ("2026-11-25T12:00:00.000Z", "2026-11-30T00:00:00.000Z")
    line = "connections that ended before 2026-11-30T00:00:00.000Z are sums, by the hour or day in which they ended"
    assert (status, err) == (0, f"flowmap: {line}\n")


FAULTS = [
    ("reset", "history.clickhouse.url"),
    ("500", "something broke"),
    ("denied", "see the rights in flowmap/clickhouse/README.md"),
]


ASKED = [("query", *CONNECTION), ("flows",), ("peers", "orders"), ("flows", "--by", "peer")]


@pytest.mark.parametrize(("fault", "line"), FAULTS)
@pytest.mark.parametrize("words", ASKED)
def test_a_store_that_cannot_be_asked(
    store: Store, stand_in: StandIn, ask: Ask, fault: str, line: str, words: tuple[str, ...]
) -> None:
    stand_in.faults.append(fault)
    status, out, err = ask(*words)
    assert (status, out) == (1, "")
    assert err.startswith("flowmap: http://127.0.0.1:") and err.count("\n") == 1 and line in err


NARROWER = "narrow the question: a shorter time, or a smaller --limit; `flowmap fleet check` tests the server"
HANGING = [*((words, NARROWER) for words in ASKED), (("check",), "see whether the server hangs or has too much to do")]


@pytest.mark.parametrize(("words", "remedy"), HANGING)
def test_a_store_that_hangs(
    store: Store, stand_in: StandIn, ask: Ask, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], remedy: str
) -> None:
    """Nothing more is asked after a question without an answer."""
    monkeypatch.setattr("flowmap.clickhouse.server.LATE_SECONDS", -7.9)
    stand_in.faults.extend(["slow", "asked again"])
    _, out, err = ask(*words)
    assert "no answer in time" in out + err and remedy in out + err
    assert list(stand_in.faults) == ["asked again"]


FUTURE = ("--since", "2100-01-01T00:00:00Z")
WITHOUT_EFFECT = [
    (("flows", *FUTURE), "--since is in the future: the period ends before it begins"),
    (("flows", "--by", "peer", *FUTURE), "--since is in the future"),
    (("peers", "orders", *FUTURE), "--since is in the future"),
    (("peers", "orders", "--since", "2h", "--until", "3h"), "--since is after --until"),
    (("flows", "--counts", "ip"), "--counts is for sums; give --by, or leave it out"),
    (("flows", "--state", "pending"), "none of them is pending"),
    (("peers", "orders", "--compare", "0s"), "--compare: give a period that is longer than 0"),
]


@pytest.mark.parametrize(("words", "line"), WITHOUT_EFFECT)
def test_options_without_an_effect(store: Store, ask: Ask, words: tuple[str, ...], line: str) -> None:
    status, out, err = ask(*words)
    assert status != 0 and out == "" and line in err


@pytest.mark.parametrize("words", [("flows",), ("peers", "orders")])
def test_a_store_to_which_no_host_sends(tables: Engine, ask: Ask, words: tuple[str, ...]) -> None:
    status, _, err = ask(*words)
    assert status == 1 and "no host reports to the store" in err


def test_a_connection_that_is_not_stored(store: Store, ask: Ask) -> None:
    _, out, _ = ask("query", "10.0.0.9:1", "10.0.0.8:2", "-o", "json")
    assert "the fleet's store has no such connection; connections" in out


def test_a_server_without_tables(engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "flowmap.yaml"
    with standing_in(engine) as server:
        config.write_text(f"history: {{path: {tmp_path}/history.db, clickhouse: {{url: '{server.url}'}}}}")
        assert command.main(["fleet", "flows", "-c", str(config)]) == 1
    assert capsys.readouterr().err.endswith("; run `flowmap fleet init`\n")


def test_without_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("{}")
    assert command.main(["fleet", "peers", "orders", "-c", str(file)]) == 78
    assert "history.clickhouse.url: not set" in capsys.readouterr().err
