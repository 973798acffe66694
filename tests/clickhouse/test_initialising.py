"""Creating and upgrading tables, and testing them, by the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.cli.command import main
from flowmap.clickhouse import schema
from flowmap.clickhouse.bodies import COLUMNS
from flowmap.clickhouse.initialising import explained
from flowmap.clickhouse.schema import VERSION
from flowmap.clickhouse.server import Server, ServerAddress
from flowmap.errors import HistoryError
from tests.clickhouse.engine import Engine
from tests.clickhouse.hosts import Operator
from tests.clickhouse.test_initialising_upgrade import definitions
from tests.clickhouse.test_schema import End, insert


def names_in(engine: Engine) -> set[str]:
    return {name for (name,) in engine.rows("SHOW TABLES")}


def test_init_twice(operator: Operator) -> None:
    engine = operator.stand_in.engine
    status, output = operator.run("init", "--dry-run")
    assert status == 0 and "CREATE TABLE IF NOT EXISTS ends_1" in output and not names_in(engine)
    status, output = operator.run("init", "--keep-ends", "30")
    assert (status, output.endswith(f"; version {VERSION}\n")) == (0, True)
    made = names_in(engine)
    assert {"ends_1", "connections", "minutes", "hosts", "schema_versions"} <= made
    (shown,) = engine.rows("SHOW CREATE TABLE ends_1")[0]
    assert "toIntervalDay(30)" in shown
    assert operator.run("init") == (0, f"{engine.database}: nothing to do; version {VERSION}\n")
    assert names_in(engine) == made


def test_an_interrupted_init_is_repeated(operator: Operator) -> None:
    operator.stand_in.faults.extend([""] * 6 + ["500"])
    status, output = operator.run("init")
    assert status == 1 and "something broke" in output
    assert "degraded" in operator.run("check")[1], "not whole yet"
    assert operator.run("init")[0] == 0
    assert "degraded" not in operator.run("check")[1]


def test_two_hosts_of_one_name(operator: Operator) -> None:
    operator.run("init")
    insert(operator.stand_in.engine, End("web-1"), End("web-2"))
    assert "degraded" not in operator.run("check")[1]
    operator.stand_in.engine.execute("INSERT INTO ends_1 (host, spool, ended) VALUES ('web-1', 8, now64(6))")
    status, output = operator.run("check")
    assert status == 0 and "degraded" in output and "2 history files were sent as 'web-1'" in output


def test_tables_without_a_column(operator: Operator) -> None:
    """Whatever their version says: the daemon says so, and its flows wait."""
    operator.run("init")
    operator.stand_in.engine.execute("ALTER TABLE ends_1 DROP COLUMN cause")
    server = Server(ServerAddress(operator.stand_in.url, operator.stand_in.engine.database))
    with pytest.raises(HistoryError) as caught:
        server.insert(f"INSERT INTO ends_1 ({', '.join(COLUMNS)}) FORMAT Native", b"")
    assert caught.value.reason == "tables"
    assert explained(caught.value, server).remedy.endswith("the tables were changed by hand")
    server.close()


@pytest.mark.parametrize(
    ("faults", "password", "expected"),
    [
        ([], "", "there are no tables: flows wait in the history file"),
        (["502"], "", "bad gateway"),
        ([], "other", "see user and password_file of history.clickhouse"),
        (["reset"], "", "see history.clickhouse.url"),
    ],
)
def test_check_says_what_to_do(operator: Operator, faults: list[str], password: str, expected: str) -> None:
    operator.stand_in.faults.extend(faults)
    operator.stand_in.password = password
    status, output = operator.run("check")
    assert status == 0 and "degraded" in output and expected in output


@pytest.mark.parametrize("text", ["x", "1", "20001", "-3", "2.5", ""])
def test_days_that_rows_cannot_be_kept(operator: Operator, text: str) -> None:
    with pytest.raises(SystemExit):
        operator.run("init", f"--keep-ends={text}")
    assert f"--keep-ends: {text!r} is not a number of days between 2 and 20000" in operator.capsys.readouterr().err


def test_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("{}")
    assert main(["fleet", "init", "-c", str(file)]) == 78
    assert "history.clickhouse.url: not set" in capsys.readouterr().err


REMOVED = [
    ("TABLE", "schema_versions"),
    ("TABLE", "ends_1"),
    ("TABLE", "hosts_1"),
    ("VIEW", "minutes_versions"),
    ("VIEW", "connections_of"),
    ("VIEW", "days_refresh"),
]


def test_the_names_that_there_must_be(tables: Engine) -> None:
    assert {names[-1] for names in schema.names()} == names_in(tables)


@pytest.mark.parametrize(("kind", "name"), REMOVED)
def test_what_was_removed_by_hand_is_named_and_made_again(operator: Operator, kind: str, name: str) -> None:
    """Nothing else is made, and everything is as before."""
    engine = operator.stand_in.engine
    operator.run("init")
    before = definitions(engine)
    engine.execute(f"DROP {kind} {name} SYNC")
    operator.stand_in.statements.clear()
    status, output = operator.run("check")
    what = "there are no tables" if name == "schema_versions" else f"missing in the database: {name}:"
    assert status == 0 and what in output and "run `flowmap fleet init`" in output
    status, output = operator.run("init")
    assert (status, name in output, output.endswith(f"; version {VERSION}\n")) == (0, True, True)
    assert len(operator.stand_in.statements) == 1 or name == "schema_versions"
    assert definitions(engine) == before
    assert "degraded" not in operator.run("check")[1]
    assert operator.run("init") == (0, f"{engine.database}: nothing to do; version {VERSION}\n")


def test_a_table_that_was_made_again_feeds_the_views_on_it(operator: Operator) -> None:
    engine = operator.stand_in.engine
    operator.run("init", "--keep-ends", "20000")
    engine.execute("DROP TABLE minutes_1 SYNC")
    operator.run("init")
    engine.execute("INSERT INTO minutes_1 (start, state, made) VALUES (now(), 'unknown', now64(3))")
    assert engine.rows("SELECT count() FROM minutes") == [[1]]


@pytest.mark.parametrize("name", ["connections", "hosts", "deployments"])
def test_questions_name_what_was_removed(operator: Operator, name: str) -> None:
    operator.run("init")
    operator.stand_in.engine.execute(f"DROP VIEW {name} SYNC")
    window = ("--deployment", "orders") if name == "deployments" else ()
    line = f"flowmap: missing in the database: {name}; run `flowmap fleet init`\n"
    assert operator.run("flows", *window) == (1, line)
