"""ClickHouse's engine in this process (chDB): the real SQL, tables and formats, but no server and no port."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import cache
from itertools import count
from typing import Any

import pytest

from flowmap.clickhouse.schema import Kept, statements

_numbers = count(1)
_LOCK = threading.Lock()  # one statement at a time
FOREVER = Kept(ends=20_000, hours=20_000, days=20_000)
"""Days: flows of tests are of any time."""


@cache
def _session() -> Any:
    return pytest.importorskip("chdb.session", reason="needs chDB: pip install -e '.[chdb]'").Session()


class Engine:
    """A database of its own in the one engine of this process."""

    def __init__(self) -> None:
        self._session = _session()
        self.database = f"flowmap_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {self.database}")
        self.use()

    def use(self) -> None:
        """Make it the database of further statements."""
        self.execute(f"USE {self.database}")

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run one statement."""
        with _LOCK:
            self._session.query(sql, params=dict(parameters or {}))

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[list[Any]]:
        """The rows of a query, as in JSON."""
        found: list[list[Any]] = json.loads(self.answer(sql, "JSONCompact", parameters))["data"]
        return found

    def answer(self, sql: str, form: str, parameters: Mapping[str, Any] | None = None) -> bytes:
        """The answer to a query in a format of ClickHouse."""
        with _LOCK:
            return bytes(self._session.query(sql, form, params=dict(parameters or {})).bytes())

    def make_tables(self) -> None:
        """Every table and view of the newest version."""
        for statement in statements(FOREVER):
            self.execute(statement.text)
            if statement.name.endswith("_refresh"):  # tests say when
                self.execute(f"SYSTEM STOP VIEW {statement.name}")

    def empty(self) -> None:
        """Remove every row of every table."""
        tables = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
        for (name,) in self.rows(tables):
            self.execute(f"TRUNCATE TABLE {name} SYNC")

    def close(self) -> None:
        """Drop the database. The engine stays: a process can have one only."""
        self.execute(f"DROP DATABASE {self.database} SYNC")
