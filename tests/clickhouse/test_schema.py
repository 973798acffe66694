"""The tables: made twice, connections seen by several hosts, rollups."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, NamedTuple

import pytest

from flowmap.clickhouse.schema import VERSION, statements
from tests.clickhouse.engine import FOREVER, Engine

NOWHERE = "::"
NOON = 1_796_040_000  # 2026-11-30 12:00 UTC
ROLL_UP = "INSERT INTO minutes_1 SELECT * FROM minutes_changed"


class End(NamedTuple):
    """A row of ``ends_1``; times in seconds since noon."""

    host: str
    client: str = "10.0.0.1:40000"
    server: str = "10.0.0.2:9092"
    started: float = 0
    ended: float = 10
    sent: int = 100
    received: int = 1000
    bytes: str = "ip"
    owners: tuple[str, ...] = ()
    behind: tuple[str, str] | None = None
    number: int = 1
    revision: int = 0
    preexisting: bool = False
    spool: int = 7
    cut: bool = False

    def values(self) -> str:
        client, server = _pair(self.client), _pair(self.server)
        inner = [(NOWHERE, 0), (NOWHERE, 0)]
        if self.behind is not None:
            (outside, behind), inner = map(_pair, self.behind), [client, server]
            client, inner[1] = outside, behind
        low, high = sorted([client, server], key=lambda end: (ip_address(end[0]).packed, end[1]))
        row: list[Any] = [self.host, self.spool, self.number, self.revision, 6, *low, *high, low != client]
        row += [self.behind is not None, *inner[0], *inner[1]]
        row += [self.sent, self.received, self.bytes, "attributed" if self.owners else "unknown", list(self.owners)]
        row += [self.preexisting, self.cut]
        times = f"toDateTime64({NOON + self.started}, 6, 'UTC'), toDateTime64({NOON + self.ended}, 6, 'UTC')"
        return f"({', '.join(map(_literal, row))}, {times}, now() - 60)"


COLUMNS = (
    "host, spool, number, revision, protocol, low, low_port, high, high_port, swapped, translated, inner_client, "
    "inner_client_port, inner_server, inner_server_port, transmit_bytes, receive_bytes, bytes, state, deployments, "
    "preexisting, cut, started, ended, arrived"
)
DAY = f"(since = toDateTime64({NOON - 43200}, 6, 'UTC'), until = toDateTime64({NOON + 43200}, 6, 'UTC'))"


def _pair(end: str) -> tuple[str, int]:
    address, _, port = end.rpartition(":")
    return f"::ffff:{address}", int(port)


def _literal(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else repr(value)


def insert(engine: Engine, *ends: End) -> None:
    engine.execute(f"INSERT INTO ends_1 ({COLUMNS}) VALUES {', '.join(end.values() for end in ends)}")


def connections(engine: Engine, columns: str = "host, transmit_bytes, deployments") -> list[list[Any]]:
    return engine.rows(f"SELECT {columns} FROM connections{DAY} ORDER BY started, host, number")


def test_every_statement_can_be_repeated(tables: Engine) -> None:
    tables.make_tables()
    names = {name for (name,) in tables.rows("SHOW TABLES")}
    assert {statement.name for statement in statements(FOREVER)} <= names
    assert max(statement.version for statement in statements()) == VERSION


A, B = End("a", owners=("w/n/d",)), End("b")
TURNED = B._replace(client=B.server, server=B.client)


@pytest.mark.parametrize(
    ("ends", "counted"),
    [
        pytest.param([A], [["a", 100, ["w/n/d"]]], id="one end"),
        pytest.param([A, B], [["b", 100, ["w/n/d"]]], id="both ends, the name of the one that knows"),
        pytest.param([A, TURNED], [["b", 100, ["w/n/d"]]], id="one host took the server for the client"),
        pytest.param(
            [A._replace(bytes="payload", sent=60), B], [["b", 100, ["w/n/d"]]], id="IP bytes before payload bytes"
        ),
        pytest.param(
            [A, B._replace(bytes="payload", sent=60)], [["a", 100, ["w/n/d"]]], id="IP bytes before, other host"
        ),
        pytest.param(
            [A, B, *(one._replace(number=2, started=70, ended=80, sent=5) for one in (A, B))],
            [["b", 100, ["w/n/d"]], ["b", 5, ["w/n/d"]]],
            id="the ports used again",
        ),
        pytest.param(
            [A, B._replace(started=0.5, ended=130)], [["b", 100, ["w/n/d"]]], id="one host's kernel keeps it for longer"
        ),
        pytest.param(
            [
                A,
                B._replace(number=1, ended=4, sent=40, cut=True),
                B._replace(number=2, started=5, sent=55, preexisting=True),
            ],
            [["a", 100, ["w/n/d"]]],
            id="a daemon restarted: the other one saw all",
        ),
        pytest.param(
            [A, B._replace(started=5, sent=55, preexisting=True)],
            [["a", 100, ["w/n/d"]]],
            id="a daemon was killed: the other one saw all",
        ),
        pytest.param(
            [
                B._replace(number=1, ended=4, sent=40, cut=True),
                B._replace(number=2, started=4.5, sent=55, preexisting=True, owners=("w/n/d",)),
            ],
            [["b", 40, []], ["b", 55, ["w/n/d"]]],
            id="a daemon restarted: its two parts count, each with its own name",
        ),
        pytest.param(
            [A._replace(ended=4), A._replace(number=2, started=4.2, sent=5, owners=("w/n/e",))],
            [["a", 100, ["w/n/d"]], ["a", 5, ["w/n/e"]]],
            id="the ports used again at once",
        ),
        pytest.param(
            [A, A._replace(spool=8, sent=99, owners=())],
            [["a", 99, ["w/n/d"]]],
            id="two daemons of one host name",
        ),
        pytest.param(
            [
                A._replace(ended=5, sent=50, cut=True),
                B._replace(started=4, ended=12, sent=70, preexisting=True, cut=True),
                A._replace(number=2, started=11, ended=20, sent=40, preexisting=True),
            ],
            [["b", 70, ["w/n/d"]]],
            id="two parts that only a third one joins: no row saw all, and none counts twice",
        ),
        pytest.param([A, A], [["a", 100, ["w/n/d"]]], id="sent twice"),
        pytest.param(
            [A, A._replace(revision=1, owners=("w/n/e",))], [["a", 100, ["w/n/e"]]], id="a later revision replaces it"
        ),
        pytest.param(
            [A._replace(server="10.9.9.9:80", behind=("10.0.0.1:40000", "10.0.0.2:9092")), B],
            [["a", 100, ["w/n/d"]]],
            id="a service address: the server translated on the client's host",
        ),
        pytest.param(
            [A._replace(client="172.17.0.2:5", behind=("10.0.0.1:40000", "10.0.0.2:9092")), B],
            [["b", 100, ["w/n/d"]]],
            id="a container: the client translated on its host",
        ),
        pytest.param(
            [A, B._replace(behind=("10.0.0.1:40000", "172.17.0.2:80"))],
            [["b", 100, ["w/n/d"]]],
            id="a published port: the server translated on its host",
        ),
        pytest.param(
            [
                A,
                End("gateway", behind=("10.5.5.5:1111", "10.6.6.6:2222"), owners=("w/n/d",)),
                End("s", client="10.5.5.5:1111", server="10.6.6.6:2222"),
            ],
            [["gateway", 100, ["w/n/d"]]],
            id="both translated in between",
        ),
        pytest.param(
            [
                A,
                End("gateway", behind=("10.5.5.5:1111", "10.0.0.2:9092"), owners=("w/n/d",)),
                End("s", client="10.5.5.5:1111"),
            ],
            [["s", 100, ["w/n/d"]]],
            id="the client translated in between",
        ),
        pytest.param(
            [A, End("b", client="10.0.0.1:40001")],
            [["a", 100, ["w/n/d"]], ["b", 100, []]],
            id="two connections",
        ),
    ],
)
def test_a_connection_counts_once(tables: Engine, ends: list[End], counted: list[list[Any]]) -> None:
    for end in ends:
        insert(tables, end)
    assert sorted(map(str, connections(tables))) == sorted(str([host, sent, owners]) for host, sent, owners in counted)
    # The rollups count the same, in whatever order the rows arrived.
    for _ in range(2):
        tables.execute(ROLL_UP)
        sums = tables.rows("SELECT toInt64(sum(transmit_bytes)), count() FROM minutes")
        assert int(sums[0][0]) == sum(sent for _, sent, _ in counted)


def test_an_end_that_arrives_late_moves_its_connection(tables: Engine) -> None:
    seen = "SELECT toUnixTimestamp(start) - {noon:UInt32}, transmit_bytes, deployments FROM minutes ORDER BY start"
    insert(tables, A._replace(ended=59))
    tables.execute(ROLL_UP)
    assert tables.rows(seen, {"noon": NOON}) == [[0, 100, ["w/n/d"]]]
    insert(tables, B._replace(ended=61, sent=101))
    tables.execute(ROLL_UP)
    assert tables.rows(seen, {"noon": NOON}) == [[60, 101, ["w/n/d"]]]


def test_one_deployment(tables: Engine) -> None:
    insert(tables, A, B, A._replace(number=2, client="10.0.0.1:40002", owners=("w/n/e",)))
    found = tables.rows(f"SELECT host, deployments FROM connections_of{DAY[:-1]}, deployment = 'w/n/d')")
    assert found == [["b", ["w/n/d"]]]


def test_hosts_disagree(tables: Engine) -> None:
    insert(tables, A, B._replace(owners=("w/n/other",)))
    assert connections(tables, "disagree, seen_by") == [[1, ["a", "b"]]]
    observed = tables.rows(f"SELECT arrayMap(one -> one.1, observations) FROM connections{DAY}")
    assert observed == [[["a", "b"]]]


def test_rollups_follow_by_themselves(tables: Engine) -> None:
    """The server's own refreshes, from minutes to hours to days; here the test says when."""
    insert(tables, A, B, A._replace(number=2, client="10.0.0.1:40002", ended=7300, sent=7))
    for name in ("minutes", "hours", "days"):
        for step in ("START", "REFRESH", "WAIT", "STOP"):
            tables.execute(f"SYSTEM {step} VIEW {name}_refresh")
        sums = tables.rows(f"SELECT sum(connections), sum(transmit_bytes), count() FROM {name}")
        assert sums == [[2, 107, {"days": 1}.get(name, 2)]], name
