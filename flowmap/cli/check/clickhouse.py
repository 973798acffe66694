"""Checks of the store of all hosts: the server, its tables, the rights there, and its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flowmap.clickhouse import schema
from flowmap.clickhouse.bodies import COLUMNS
from flowmap.clickhouse.initialising import (
    REPAIR,
    check_version,
    explained,
    found_days,
    found_version,
    missing,
    server_version,
)
from flowmap.clickhouse.schema import ENDS, HOSTS, NAMES
from flowmap.clickhouse.server import Server
from flowmap.config import Config
from flowmap.daemon.clickhouse import host_of, server_of
from flowmap.errors import HistoryError
from flowmap.sources.base import Finding

NAME = "history.clickhouse"
COST = "flows wait in the history file"
CLOCK_SECONDS = 1.0
"""Difference from which the two endpoints of a short connection are not recognised as one connection."""


def look(config: Config) -> Iterator[Finding]:
    """All findings; never failed, as the daemon runs without the store."""
    if config.history.clickhouse.url is None:
        return
    server = server_of(config)
    try:
        yield from _findings(config, server)
    except HistoryError as refused:
        error = explained(refused, server)
        yield Finding(NAME, "degraded", f"{error}: {COST}", error.remedy or "see history.clickhouse")
    finally:
        server.close()


def _findings(config: Config, server: Server) -> Iterator[Finding]:
    version = server_version(server)
    found, known = found_version(server), schema.VERSION
    if found < known:
        check_version(found)
    if found == known and (absent := missing(server)):
        yield Finding(NAME, "degraded", f"{absent}: flows cannot be sent, or questions not be answered", REPAIR)
        return
    for table in (NAMES, HOSTS):
        server.rows(f"SELECT 1 FROM {table} WHERE 0")
    began = time.monotonic()
    wall = time.time()
    ((there,),) = server.rows(
        "SELECT toUnixTimestamp64Milli(now64(3)) / 1000 "
        f"FROM (SELECT count() FROM (SELECT {', '.join(COLUMNS)} FROM {ENDS} WHERE 0))"
    )
    took = time.monotonic() - began
    host = host_of(config)
    tables = "the tables" if found == known else f"tables of version {found}, which this flowmap ({known}) can use"
    yield Finding(NAME, "ok", f"{server.address.url} (ClickHouse {version}) has {tables}; this host is {host!r}")
    off = float(there) - (wall + took / 2)
    message = f"the server's clock is {abs(off):.3f} s {'ahead' if off >= 0 else 'behind'}"
    if abs(off) + took / 2 <= CLOCK_SECONDS:
        yield Finding(f"{NAME}.clock", "ok", message)
    else:
        cost = "the endpoints of a short connection may count as two connections"
        yield Finding(f"{NAME}.clock", "degraded", f"{message}: {cost}", "synchronize the clocks of all hosts")
    yield from _namesakes(server, host)
    try:
        recent = found_days(server, {}).recent
    except HistoryError as error:
        yield Finding(f"{NAME}.retain", "degraded", f"{error}: what arrives too late is not known", error.remedy)
        return
    if config.history.retain > recent * 86400:
        message = f"history.retain is longer than {recent} days: what arrives later is in no rollup"
        yield Finding(f"{NAME}.retain", "degraded", message, f"set history.retain to {recent}d or less")


def _namesakes(server: Server, host: str) -> Iterator[Finding]:
    """A finding if several history files send under the name of this host."""
    sql = f"SELECT uniqExact(spool) FROM {ENDS} WHERE host = {{host:String}} AND arrived > now() - 3600"
    ((spools,),) = server.rows(sql, {"host": host})
    if int(spools) > 1:
        message = f"{spools} history files were sent as {host!r} in the last hour: two hosts of one name count as one"
        remedy = "give each daemon its own history.clickhouse.host, unless its history file was replaced"
        yield Finding(f"{NAME}.host", "degraded", message, remedy)
