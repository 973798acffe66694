"""The dashboard for ClickHouse: every query finds what it asks for, in ClickHouse's own engine.

Only Grafana itself is missing: this replaces its variables and macros as its data source plugin for ClickHouse does.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.clickhouse.store import BILLING, ORDERS, A, B, Store
from tests.clickhouse.test_schema import NOON, ROLL_UP, End, insert

DASHBOARD = json.loads((Path(__file__).parents[2] / "config" / "grafana" / "flowmap-fleet.json").read_text())
SOURCE = {"type": "grafana-clickhouse-datasource", "uid": "${datasource}"}
ALL = "''"
"""What ``${deployment:singlequote}`` becomes if all deployments are chosen: the variable's ``allValue``."""


class Panel(NamedTuple):
    """One query of the dashboard."""

    title: str
    sql: str
    kind: str


PANELS = [
    Panel(panel["title"], target["rawSql"], target["queryType"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}


def filled(sql: str, **chosen: str) -> str:
    """The query as Grafana sends it, for an hour before and after noon."""
    times = {"$__fromTime": f"toDateTime({NOON - 3600})", "$__toTime": f"toDateTime({NOON + 3600})"}
    sql = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 >= $__fromTime AND \1 <= $__toTime", sql)
    values = {"deployment:singlequote": ALL, "peer:singlequote": "''", "bytes": "ip", "step": "minutes"} | chosen
    for name, value in ({f"${{{name}}}": value for name, value in values.items()} | times).items():
        sql = sql.replace(name, value)
    sql = sql.replace("$__interval_s", "60")
    assert "$" not in sql, sql
    return sql


@pytest.fixture
def traffic(store: Store) -> Store:
    """Connections of two deployments and of none, one that hosts attribute differently, and a host that is behind."""
    insert(store.engine, A._replace(number=4, client="10.0.0.4:7", owners=(BILLING,)))
    other = A._replace(number=2, client="10.0.0.3:7", owners=(BILLING,))
    insert(store.engine, A, B, other, other._replace(host="b", owners=(ORDERS,)))
    insert(store.engine, A._replace(number=3, client="10.0.0.5:7", owners=()))
    insert(store.engine, End("c", client="10.0.0.6:6", bytes="payload", owners=(ORDERS,)))
    store.peer("it's kafka")
    store.host("web-3", NOON - 3600)
    store.engine.execute(ROLL_UP)
    return store


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_every_panel_finds_something(traffic: Store, panel: Panel) -> None:
    rows = traffic.engine.rows(filled(panel.sql))
    assert rows
    if panel.kind == "timeseries":
        assert all(re.fullmatch(r"[0-9-]{10} [0-9:]{8}", row[0]) for row in rows)


def found(traffic: Store, title: str, **chosen: str) -> list[list[Any]]:
    (sql,) = (panel.sql for panel in PANELS if panel.title == title)
    return traffic.engine.rows(filled(sql, **chosen))


def test_variables_choose(traffic: Store) -> None:
    bill = "Bill by deployment"
    assert {row[0] for row in found(traffic, bill)} == {"orders", "billing", "(unknown)"}
    assert {row[0] for row in found(traffic, bill, **{"deployment:singlequote": "'orders','x'"})} == {"orders"}
    assert {row[0] for row in found(traffic, bill, bytes="payload")} == {"orders"}
    assert {row[1] for row in found(traffic, "Deployments and their peers")} == {"it's kafka"}
    assert found(traffic, bill, **{"peer:singlequote": "'IT''S'"})
    assert not found(traffic, bill, **{"peer:singlequote": "'mysql'"})
    for name in ("bytes", "deployment"):
        values = traffic.engine.rows(filled(VARIABLES[name]["query"]))
        assert {row[0] for row in values} == {"bytes": {"ip", "payload"}, "deployment": {"orders", "billing"}}[name]


def test_a_peer_without_a_name_is_any_address_with_its_port(store: Store) -> None:
    insert(store.engine, A)
    store.engine.execute(ROLL_UP)
    assert [row[1] for row in found(store, "Deployments and their peers")] == ["*:9092"]


@pytest.mark.parametrize("step", VARIABLES["step"]["query"].split(","))
def test_every_step_is_a_view(store: Store, step: str) -> None:
    assert store.engine.rows(filled("SELECT count() FROM ${step}", step=step))


def test_every_panel_says_what_it_shows_and_where_it_is_from() -> None:
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            assert panel["description"] and panel["datasource"] == SOURCE
            assert all(target["datasource"] == SOURCE for target in panel["targets"])
    assert VARIABLES["deployment"]["allValue"] == ALL
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
