"""The questions of flowmap/clickhouse/README.md: every command and every block of SQL is run."""

from __future__ import annotations

import re
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.clickhouse.store import ORDERS, A, Ask, B, Store
from tests.clickhouse.test_schema import NOON, insert

README = (Path(__file__).parents[2] / "flowmap" / "clickhouse" / "README.md").read_text()
USERS = "w/n/id-1"
COMMANDS = re.findall(r"^    flowmap fleet ((?:query|peers|flows) .*)$", README, re.MULTILINE)
BLOCKS = re.findall(r"^```sql\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
RIGHTS = [statement for block in BLOCKS for statement in block.split(";\n") if re.match("CREATE|GRANT", statement)]
QUESTIONS = [block for block in BLOCKS if block.startswith(("WITH ", "SELECT "))]


@pytest.fixture
def filled(store: Store) -> Store:
    """Traffic of now, of this month and of the last one, and what the commands ask about."""
    now = datetime.now(UTC)
    this = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
    store.name(USERS, "archive")
    for owner in (ORDERS, USERS):
        for start in (this, this - 86400):
            store.sums("days", start, owner, 1000, peer="orders-kafka")
    insert(store.engine, A, B)
    lately = time.time() - 60 - NOON
    insert(store.engine, A._replace(number=2, client="10.0.0.3:7", started=lately, ended=lately + 1))
    store.host("web-1", NOON + 59)
    return store


def test_there_is_what_is_run_here() -> None:
    assert len(COMMANDS) >= 4 and len(QUESTIONS) >= 5 and len(RIGHTS) >= 2


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_answered(filled: Store, ask: Ask, line: str) -> None:
    status, out, err = ask(*shlex.split(line), "-o", "json")
    assert (status, err) == (0, "") or (status == 0 and "sums" in err), err
    assert out.startswith("{")


@pytest.mark.parametrize("block", QUESTIONS, ids=lambda block: block.partition("FROM ")[2].split()[0])
def test_questions_find_something(filled: Store, block: str) -> None:
    assert filled.engine.rows(block)


def test_a_host_that_is_gone_for_good_is_removed(filled: Store) -> None:
    (block,) = (block for block in BLOCKS if block.startswith("DELETE "))
    filled.engine.execute(block)
    assert filled.engine.rows("SELECT host FROM hosts") == [["early"]]


@pytest.mark.parametrize("statement", RIGHTS)
def test_rights_are_valid_statements(store: Store, statement: str) -> None:
    """The engine in one process has no users, so they are parsed only."""
    assert store.engine.rows(f"EXPLAIN AST {statement}")
