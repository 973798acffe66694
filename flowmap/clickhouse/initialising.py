"""Creates and upgrades the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from flowmap.clickhouse.schema import DEFAULT, VERSION, Kept, Statement, statements
from flowmap.errors import HistoryError

OLDEST_SERVER = (24, 10)
"""The first version of ClickHouse with refreshable views that are ready for use."""


class Database(Protocol):
    """What is needed of the server."""

    def rows(self, sql: str) -> list[list[Any]]: ...

    def run(self, statement: str, *, database: bool = True) -> None: ...


def server_version(server: Database) -> str:
    """The version of the server; HistoryError if it is too old."""
    ((text,),) = server.rows("SELECT version()")
    parts = str(text).split(".")
    if tuple(int(part) for part in parts[:2]) < OLDEST_SERVER:
        wanted = ".".join(map(str, OLDEST_SERVER))
        raise HistoryError(f"ClickHouse {text} is too old", reason="version", remedy=f"use {wanted} or later")
    return str(text)


def found_version(server: Database) -> int:
    """The version of the tables; 0 without any."""
    try:
        ((version,),) = server.rows("SELECT max(version) FROM schema_versions")
    except HistoryError as error:
        if error.reason != "tables":
            raise
        return 0
    return int(version)


def check_version(found: int) -> None:
    """HistoryError unless the tables are of the version that this flowmap writes."""
    if found > VERSION:
        raise HistoryError(
            f"the tables have version {found}, and this flowmap knows {VERSION}",
            reason="version",
            remedy="upgrade flowmap on this host",
        )
    if found < VERSION:
        what = f"the tables have version {found}, and this flowmap writes {VERSION}" if found else "there are no tables"
        raise HistoryError(what, reason="tables", remedy="run `flowmap fleet init`")


def due(found: int, kept: Kept = DEFAULT) -> list[Statement]:
    """The statements that lead from a version to the newest one; HistoryError if the tables are newer."""
    if found > VERSION:
        check_version(found)
    return [statement for statement in statements(kept) if statement.version > found]


def initialise(server: Database, database: str, kept: Kept = DEFAULT) -> Iterator[Statement]:
    """Create or upgrade the tables. Yields each statement that was run; an interrupted run can be repeated."""
    server.run(f"CREATE DATABASE IF NOT EXISTS {database}", database=False)
    for statement in due(found_version(server), kept):
        server.run(statement.text)
        yield statement
    server.run(f"INSERT INTO schema_versions (version) VALUES ({VERSION})")
