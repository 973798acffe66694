"""A store with tables in ClickHouse's own engine, and what reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowmap.clickhouse.filters import Value
from flowmap.clickhouse.reader import StoreReader
from flowmap.history.stored import StoredFlow
from flowmap.model.views import FlowFilter
from tests.clickhouse.engine import Engine
from tests.clickhouse.test_schema import NOON, End

EVER, RECENT = FlowFilter(), FlowFilter(since=NOON - 600)
"""The same here: nothing is older. All of the past takes eleven statements, 0.1 s of CPU each."""
ORDERS, BILLING = "w/n/d", "w/n/e"
A, B = End("a", owners=(ORDERS,)), End("b", sent=90)


Ask = Callable[..., tuple[int, str, str]]
"""Runs a subcommand of ``flowmap fleet``: its status, and what it printed on stdout and stderr."""


class EngineStore:
    """Asks the engine of this process, as a server is asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def rows(self, sql: str, parameters: Mapping[str, Value]) -> list[list[Any]]:
        plain = f"{sql} SETTINGS output_format_json_quote_64bit_integers = 0"
        return self._engine.rows(plain, {name: _text(value) for name, value in parameters.items()})

    def close(self) -> None:
        pass


def _text(value: Value) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join("'" + one.replace("\\", "\\\\").replace("'", "\\'") + "'" for one in value) + "]"
    return str(value)


class Store:
    """Tables, and what reads them one minute after noon."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.server = EngineStore(engine)
        self.reader = StoreReader(self.server, translated_ends=True, clock=lambda: NOON + 60)
        self.name(ORDERS, "orders")
        self.name(BILLING, "billing")

    def name(self, key: str, name: str) -> None:
        parts = ", ".join(f"splitByChar('/', {{k:String}})[{n}]" for n in (1, 2, 3))
        self.engine.execute(
            f"INSERT INTO deployment_names_1 SELECT {{k:String}}, {parts}, {{name:String}}, now64()",
            {"k": key, "name": name},
        )

    def peer(self, peer: str) -> None:
        """Give every row this peer."""
        self.engine.execute(
            "ALTER TABLE ends_1 UPDATE peer = {p:String} WHERE 1 SETTINGS mutations_sync = 2", {"p": peer}
        )

    def host(self, host: str, complete_until: float) -> None:
        self.engine.execute(
            "INSERT INTO hosts_1 (host, complete_until) VALUES ({h:String}, toDateTime64({t:Float64}, 6, 'UTC'))",
            {"h": host, "t": complete_until},
        )

    def sums(self, table: str, start: float, owner: str, sent: int, peer: str = "kafka") -> None:
        """One row of a rollup: two connections of a deployment."""
        columns = "start, state, deployments, peer, protocol, bytes, connections, transmit_bytes, made"
        self.engine.execute(
            f"INSERT INTO {table}_1 ({columns}) VALUES "
            "(toDateTime({s:UInt32}, 'UTC'), 'attributed', [{o:String}], {p:String}, 6, 'ip', 2, {b:UInt64}, now64(3))",
            {"s": round(start), "o": owner, "b": sent, "p": peer},
        )

    def flows(self, wanted: FlowFilter = RECENT, limit: int = 100) -> list[StoredFlow]:
        return list(self.reader.flows(wanted, limit, None)[0])
