"""Creates and upgrades the tables, and tells which flowmap can use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from flowmap.clickhouse import schema
from flowmap.clickhouse.schema import DEFAULT, Kept, Statement
from flowmap.errors import HistoryError, QueryError

OLDEST_SERVER = (24, 10)
"""The first version of ClickHouse with refreshable views that are ready for use."""


REPAIR = "run `flowmap fleet init`"


class Rows(Protocol):
    """What answers queries."""

    def rows(self, sql: str, parameters: Mapping[str, Any], /) -> list[list[Any]]: ...


class Database(Rows, Protocol):
    """What is needed of the server."""

    def run(self, statement: str, *, database: bool = True) -> None: ...


def server_version(server: Rows) -> str:
    """The version of the server; HistoryError if it is too old."""
    ((text,),) = server.rows("SELECT version()", {})
    parts = str(text).split(".")
    if tuple(int(part) for part in parts[:2]) < OLDEST_SERVER:
        wanted = ".".join(map(str, OLDEST_SERVER))
        raise HistoryError(f"ClickHouse {text} is too old", reason="version", remedy=f"use {wanted} or later")
    return str(text)


def found_version(server: Rows) -> int:
    """The version of the tables; 0 without any."""
    rows = _rows_if_any(server, "SELECT max(version) FROM schema_versions")
    return int(rows[0][0]) if rows else 0


def found_days(server: Rows, wanted: Mapping[str, int]) -> Kept:
    """How long rows are kept: as the tables say, and for those that are not there as wanted.

    HistoryError if a table says otherwise than wanted, or does not say it in days.
    """
    sql = (
        "SELECT extract(name, '^[a-z]+'), toUInt32OrZero(extract(engine_full, 'toIntervalDay\\\\((\\\\d+)\\\\)')) "
        "FROM system.tables WHERE database = currentDatabase() AND match(name, '^(ends|hours|days)_[0-9]+$')"
    )
    days = DEFAULT._asdict() | dict(wanted)
    for name, number in _rows_if_any(server, sql):
        found = int(number)
        if not found and name not in wanted:
            remedy = f"change it to toIntervalDay(N), or give --keep-{name} to `flowmap fleet init`"
            raise HistoryError(f"the TTL of {name} is not in days", remedy=remedy)
        if found and found != wanted.get(name, found):
            remedy = f"leave --keep-{name} out: it is for tables that are not there yet"
            raise HistoryError(f"{name} are kept for {found} days", remedy=remedy)
        days[name] = found or days[name]
    return Kept(**days)


def check_version(found: int) -> None:
    """HistoryError unless the tables are of the version of this flowmap."""
    known = schema.VERSION
    if found > known:
        raise HistoryError(
            f"the tables have version {found}, and this flowmap knows {known}",
            reason="version",
            remedy="upgrade flowmap on this host",
        )
    if found < known:
        what = f"the tables have version {found}, and this flowmap knows {known}" if found else "there are no tables"
        raise HistoryError(what, reason="tables", remedy=REPAIR)


def explained(error: HistoryError, server: Rows) -> HistoryError:
    """Why the server refused a statement of this flowmap: the versions, if the tables are not what it expects.

    Newer tables have every name that older flowmaps may use. So only what was refused needs to be explained.
    """
    if error.reason != "tables":
        return error
    try:
        check_version(found_version(server))
        if absent := missing(server):
            raise HistoryError(absent, reason="tables", remedy=REPAIR)
    except HistoryError as reason:
        return reason
    except QueryError:
        return error
    remedy = "run `flowmap fleet init` of the newest flowmap; if it has nothing to do, the tables were changed by hand"
    return HistoryError(str(error), reason=error.reason, remedy=remedy)


def missing(server: Rows) -> str:
    """The tables and views of the newest version that are not there, in one line; empty if none is missing."""
    there = _names(server)
    absent = [names[-1] for names in schema.names() if there.isdisjoint(names)]
    return f"missing in the database: {', '.join(absent)}" if absent else ""


def due(server: Rows, found: int, wanted: Mapping[str, int]) -> list[Statement]:
    """The statements that lead from a version to the newest one, and those that make again what was removed by hand.

    HistoryError if the tables are newer.
    """
    if found > schema.VERSION:
        check_version(found)
    kept, there = found_days(server, wanted), _names(server)
    again = {name for names in schema.names() if there.isdisjoint(names) for name in names}
    return [one for one in schema.statements(kept) if one.version > found or one.name in again]


def initialise(server: Database, database: str, wanted: Mapping[str, int]) -> Iterator[Statement]:
    """Create or upgrade the tables. Yields each statement that was run; an interrupted run can be repeated."""
    found = found_version(server)
    if not found:
        server.run(f"CREATE DATABASE IF NOT EXISTS {database}", database=False)
    for statement in due(server, found, wanted):
        server.run(statement.text)
        yield statement


def _names(server: Rows) -> set[str]:
    """The tables and views that are there."""
    sql = "SELECT name FROM system.tables WHERE database = currentDatabase()"
    return {str(name) for (name,) in _rows_if_any(server, sql)}


def _rows_if_any(server: Rows, sql: str) -> list[list[Any]]:
    """The rows; none if there is no such table or database."""
    try:
        return server.rows(sql, {})
    except HistoryError as error:
        if error.reason != "tables":
            raise
        return []
