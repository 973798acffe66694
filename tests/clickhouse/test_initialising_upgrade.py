"""Upgrades to versions that are made up here, while hosts of version 1 send and read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

import pytest

from flowmap.clickhouse import bodies, schema
from flowmap.clickhouse.initialising import initialise
from flowmap.clickhouse.schema import Kept
from flowmap.clickhouse.server import Server, ServerAddress
from flowmap.model.workload import Workload
from tests.clickhouse.engine import Engine
from tests.clickhouse.hosts import Host, Operator, flows
from tests.clickhouse.store import Ask, Store
from tests.clickhouse.test_schema import DAY, NOON, A, B, insert
from tests.support.closed_flows import NOW

DAYS = 19_999
KEEP = ("--keep-ends", str(DAYS))
"""Rows of tests are of any time."""
ROLLED_UP = f"(SELECT * FROM minutes WHERE start >= toDateTime({NOON}, 'UTC'))"
"""Without the flows of the host, which the server may add at any time."""
QUESTIONS = 4
"""Requests of an upgrade before its first statement: the versions of server and tables, the days, and what is there."""
LINE = "the tables have version {}, and this flowmap knows 1; upgrade flowmap on this host"

SECOND = """-- version 2

ALTER TABLE ends_1 ADD COLUMN IF NOT EXISTS region LowCardinality(String) DEFAULT 'home';

CREATE TABLE IF NOT EXISTS regions_1 (region String, seen DateTime) ENGINE = ReplacingMergeTree ORDER BY region
TTL seen + toIntervalDay({ends_days});

ALTER TABLE minutes_1 ADD COLUMN IF NOT EXISTS counted UInt64;

ALTER TABLE minutes_versions MODIFY QUERY
SELECT 'minute' AS step, start, max(made) AS made FROM minutes_1 WHERE bytes != 'none' GROUP BY start;

DROP VIEW IF EXISTS minutes_refresh;

"""
THIRD = """-- version 3

RENAME TABLE IF EXISTS ends_1 TO ends_2;

"""
ALWAYS = "-- every version\n"
TO_SECOND = (
    ("schema.sql", ALWAYS, SECOND + ALWAYS),
    ("schema.sql", "EVERY 5 MINUTE", "EVERY 7 MINUTE"),
    ("schema.sql", "server_workload\nFROM ends_1", "server_workload, region\nFROM ends_1"),
    ("minutes.sql", "AS made\nFROM", "AS made, count() AS counted\nFROM"),
    ("minutes.sql", "'UTC') FROM changed", "'UTC'), 0 FROM changed"),
    ("connections.sql", " AS disagree,", " AS disagree, length(same) AS ends_seen,"),
)
OF_DEPLOYMENT = "SELECT * FROM ends_2 WHERE has(deployments, {deployment:String})"
TO_THIRD = (
    ("schema.sql", "{connections_of}", OF_DEPLOYMENT),
    ("schema.sql", "region\nFROM ends_1", "region\nFROM ends_2"),
    ("schema.sql", ALWAYS, THIRD + ALWAYS),
    *((file, "FROM ends_1", "FROM ends_2") for file in ("connections.sql", "minutes.sql")),
)


class Release:
    """A flowmap with SQL of its own."""

    def __init__(self, directory: Path, version: int, *edits: tuple[str, str, str]) -> None:
        self.version, self.files = version, directory
        for file in schema.FILES.glob("*.sql"):
            (self.files / file.name).write_text(file.read_text())
        for name, old, new in edits:
            text = (self.files / name).read_text()
            assert old in text, old
            (self.files / name).write_text(text.replace(old, new))

    @contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schema, "FILES", self.files)
            patch.setattr(schema, "VERSION", self.version)
            yield

    @cached_property
    def new_tables(self) -> dict[str, str]:
        """How it makes tables where there were none."""
        engine = Engine()
        with self.installed():
            for statement in schema.statements(Kept(ends=DAYS)):
                engine.execute(statement.text)
        found = definitions(engine)
        engine.close()
        return found


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Adds what older hosts can live with."""
    return Release(tmp_path_factory.mktemp("second"), 2, *TO_SECOND)


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Also takes a name away from older hosts."""
    return Release(tmp_path_factory.mktemp("third"), 3, *TO_SECOND, *TO_THIRD)


@pytest.fixture
def host(tmp_path: Path, operator: Operator) -> Iterator[Host]:
    """A host of version 1, which is not restarted."""
    made = Host(tmp_path / "sent.db", operator.stand_in)
    yield made
    made.close()


def definitions(engine: Engine) -> dict[str, str]:
    """How each table and view was made."""
    engine.use()
    names = [name for (name,) in engine.rows("SHOW TABLES")]
    shown = {name: engine.rows(f"SHOW CREATE TABLE {name}")[0][0] for name in names}
    return {name: text.replace(engine.database, "flowmap") for name, text in shown.items()}


def refresh(engine: Engine) -> None:
    for step in ("STOP", "START", "REFRESH", "WAIT", "STOP"):
        engine.execute(f"SYSTEM {step} VIEW minutes_refresh")


def columns(engine: Engine) -> dict[str, str]:
    """The columns of the views."""
    views = ("ends", f"connections{DAY}", ROLLED_UP, "deployments", "hosts")
    described = {view: engine.rows(f"DESCRIBE TABLE (SELECT * FROM {view})") for view in views}
    return {view: ", ".join(row[0] for row in rows) for view, rows in described.items()}


def read(engine: Engine, names: dict[str, str]) -> dict[str, list[list[object]]]:
    """What these columns have."""
    return {view: engine.rows(f"SELECT {some} FROM {view} ORDER BY ALL") for view, some in names.items()}


def test_hosts_of_the_old_version_send_and_read(operator: Operator, host: Host, second: Release) -> None:
    engine = operator.stand_in.engine
    operator.run("init", *KEEP)
    insert(engine, A, B)
    host.write(*flows(1, 2))
    host.sender.turn()
    refresh(engine)
    names = columns(engine)
    before = read(engine, names)
    assert [len(rows) for rows in before.values()] == [4, 1, 1, 1, 1]
    with second.installed():
        status, output = operator.run("check")
        assert status == 0 and "version 1, and this flowmap knows 2" in output and "run `flowmap fleet init`" in output
        assert operator.run("init")[0] == 0
        assert "degraded" not in operator.run("check")[1]
    assert read(engine, names) == before

    host.write(*flows(3))
    host.sender.turn()
    assert (host.sender.figures.problem, host.sender.figures.sent) == (None, 3)
    insert(engine, A._replace(number=2, client="10.0.0.1:7"))
    values = f"('new', 1, 1, toDateTime64({NOW}, 6), 'unknown', 'away')"
    engine.execute(f"INSERT INTO ends_1 (host, spool, number, ended, state, region) VALUES {values}")
    assert engine.rows("SELECT region, count() FROM ends GROUP BY region ORDER BY region") == [["away", 1], ["home", 6]]
    assert engine.rows(f"SELECT max(ends_seen) FROM connections{DAY}") == [[2]]
    refresh(engine)
    assert engine.rows(f"SELECT sum(connections), sum(counted) FROM {ROLLED_UP}") == [[2, 2]]
    assert "EVERY 7 MINUTE" in definitions(engine)["minutes_refresh"]

    status, output = operator.run("check")
    assert status == 0 and "has tables of version 2, which this flowmap (1) can use" in output
    status, output = operator.run("flows", "--since", str(NOW - 60), "--until", str(NOW + 60), "-o", "json")
    assert (status, len(json.loads(output)["flows"])) == (0, 4)
    assert operator.run("init") == (1, f"flowmap: {LINE.format(2)}\n")


def test_how_long_rows_are_kept_survives(operator: Operator, second: Release) -> None:
    operator.stand_in.faults.extend([""] * 8 + ["500"])
    assert operator.run("init", *KEEP)[0] == 1
    assert operator.run("init")[0] == 0
    with second.installed():
        status, output = operator.run("init", "--keep-ends", "30")
        line = f"ends are kept for {DAYS} days; leave --keep-ends out: it is for tables that are not there yet"
        assert (status, output) == (1, f"flowmap: {line}\n")
        assert operator.run("init", "--keep-hours", "400")[0] == 0
    made = definitions(operator.stand_in.engine)
    for name in ("ends_1", "hosts_1", "minutes_1", "regions_1"):
        assert f"toIntervalDay({DAYS})" in made[name], name
    assert "toIntervalDay(400)" in made["hours_1"]
    assert f"toIntervalDay({DAYS - 1})" in made["minutes_changed"]


def test_days_that_the_table_does_not_say(operator: Operator, second: Release) -> None:
    operator.run("init")
    operator.stand_in.engine.execute("ALTER TABLE ends_1 MODIFY TTL toDateTime(ended) + toIntervalMonth(1)")
    with second.installed():
        status, output = operator.run("init")
        line = (
            "the TTL of ends is not in days; change it to toIntervalDay(N), or give --keep-ends to `flowmap fleet init`"
        )
        assert (status, output) == (1, f"flowmap: {line}\n")
        assert operator.run("init", "--keep-ends", "28")[0] == 0
        status, output = operator.run("check")
        assert status == 0 and "the TTL of ends is not in days: what arrives too late is not known" in output
    made = definitions(operator.stand_in.engine)
    assert "toIntervalMonth(1)" in made["ends_1"] and "toIntervalDay(27)" in made["minutes_changed"]


def test_dry_run_shows_what_runs(operator: Operator, second: Release) -> None:
    done = operator.stand_in.statements
    for version, installed in ((1, nullcontext), (2, second.installed)):
        with installed():
            done.clear()
            _, shown = operator.run("init", "--dry-run")
            assert not done
            operator.run("init")
            assert done == shown.rstrip().removesuffix(";").split(";\n\n")
            done.clear()
            assert operator.run("init")[1].endswith(f"nothing to do; version {version}\n")
            nothing = f"flowmap: {operator.stand_in.engine.database}: nothing to do; version {version}\n"
            assert operator.run("init", "--dry-run") == (0, nothing)
            assert not done


def test_interrupted_at_each_statement(operator: Operator, host: Host, second: Release) -> None:
    """After each of them what there was reads as before, and hosts of version 1 can send."""
    engine = operator.stand_in.engine
    operator.run("init", *KEEP)
    insert(engine, A, B)
    refresh(engine)
    names = columns(engine)
    before = read(engine, names)
    with second.installed():
        statements = [one for one in schema.statements(Kept(ends=DAYS)) if one.version == 2]
    assert len(statements) > 15
    for place in range(len(statements)):
        operator.stand_in.faults.extend([""] * (QUESTIONS + place) + [("500", "lost reply")[place % 2]])
        with second.installed():
            status, output = operator.run("init")
        assert status == 1 and output.count("\n") == 1
        assert not operator.stand_in.faults
        assert read(engine, names) == before
    host.write(*flows(1))
    host.sender.turn()
    assert host.sender.figures.sent == 1, "to tables that are half upgraded"
    with second.installed():
        assert operator.run("init")[0] == 0
    assert second.new_tables == definitions(engine)


@pytest.mark.parametrize("at", ["CREATE TABLE IF NOT EXISTS hosts_1", "INSERT INTO schema_versions", "RENAME TABLE"])
def test_interrupted_where_there_were_no_tables(operator: Operator, third: Release, at: str) -> None:
    """A version whose statements have run does not start again, so a name that was taken away is not made again."""
    engine = operator.stand_in.engine
    with third.installed():
        place = next(n for n, one in enumerate(schema.statements()) if one.text.startswith(at))
        operator.stand_in.faults.extend([""] * (QUESTIONS + 1 + place) + ["lost reply"])
        assert operator.run("init", *KEEP)[0] == 1
        assert operator.run("init", *KEEP)[0] == 0
        assert operator.run("init") == (0, f"{engine.database}: nothing to do; version 3\n")
    assert third.new_tables == definitions(engine)


def test_a_renamed_table_that_was_removed_is_made_again(operator: Operator, third: Release) -> None:
    """With all that the versions did to it, and without its former name."""
    with third.installed():
        operator.run("init", *KEEP)
        operator.stand_in.engine.execute("DROP TABLE ends_2 SYNC")
        assert "missing in the database: ends_2" in operator.run("check")[1]
        assert operator.run("init", *KEEP)[0] == 0
        assert "nothing to do" in operator.run("init", *KEEP)[1]
    assert third.new_tables == definitions(operator.stand_in.engine)


def test_two_at_once(operator: Operator, second: Release) -> None:
    engine = operator.stand_in.engine
    servers = [Server(ServerAddress(operator.stand_in.url, engine.database)) for _ in range(2)]
    for installed in (nullcontext, second.installed):
        with installed():
            for _ in zip_longest(*(initialise(server, engine.database, {"ends": DAYS}) for server in servers)):
                pass
    assert second.new_tables == definitions(engine)
    for server in servers:
        server.close()


def test_hosts_that_must_be_upgraded_first(
    operator: Operator, host: Host, third: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their flows wait, and one line says why, wherever it is asked."""
    operator.run("init", *KEEP)
    host.write(*flows(1))
    host.sender.turn()
    with third.installed():
        assert operator.run("init")[0] == 0
    host.write(*flows(2))
    host.sender.turn()
    figures = host.sender.figures
    assert (figures.problem, figures.waiting, figures.up) == (LINE.format(3), 1, False)
    assert dict(figures.failures) == {"version": 1}
    status, output = operator.run("check")
    assert status == 0 and LINE.format(3).partition(";")[0] in output and "upgrade flowmap on this host" in output
    assert operator.run("flows") == (1, f"flowmap: {LINE.format(3)}\n")
    monkeypatch.setattr("flowmap.clickhouse.sender.ENDS", "ends_2")
    host.restarted().turn()
    assert host.ports() == [1, 2]


def test_a_host_that_is_upgraded_before_the_tables(
    operator: Operator, host: Host, second: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.run("init", *KEEP)
    monkeypatch.setattr(bodies, "COLUMNS", (*bodies.COLUMNS, "region"))
    with second.installed():
        host.write(*flows(1))
        host.sender.turn()
        wanted = "the tables have version 1, and this flowmap knows 2; run `flowmap fleet init`"
        assert (host.sender.figures.problem, host.sender.figures.waiting) == (wanted, 1)
        operator.run("init")
        host.sender.turn()
    assert host.ports() == [1]


def test_rows_of_a_newer_host(store: Store, ask: Ask) -> None:
    """What was added at the end is left out; a value that this flowmap does not know is named."""
    insert(store.engine, A)

    def change(column: str, text: str) -> None:
        update = f"ALTER TABLE ends_1 UPDATE {column} = {{t:String}} WHERE 1 SETTINGS mutations_sync = 2"
        store.engine.execute(update, {"t": text})

    change("client_workload", json.dumps([*Workload(container="box"), "more"]))
    change("evidence", '[["client","inside",["w/n/d"],"more"]]')
    window = ("--since", str(NOON - 60), "--until", str(NOON + 60))
    status, output, _ = ask("flows", *window, "-o", "json")
    (flow,) = json.loads(output)["flows"]
    assert status == 0 and "box" in json.dumps(flow)

    line = "flowmap: the store has a {} that this flowmap does not know; upgrade flowmap on this host\n"
    change("state", "dreamed")
    for words in (("flows",), ("peers", "orders")):
        assert ask(*words, *window) == (1, "", line.format("state 'dreamed'"))
    change("state", "attributed")
    change("evidence", '[["dream","inside",["w/n/d"]]]')
    assert ask("flows", *window) == (1, "", line.format("shape 'dream'"))
