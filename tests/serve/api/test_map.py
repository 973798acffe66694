"""/api/v1/map: what it asks the backend, and its answer in full."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.model.deployment import State
from flowmap.model.traffic_map import MapQuery, Order
from tests.support.fake_backend import OWNER, FakeBackend
from tests.support.http_api import ask, fields

MAP_ROWS: list[tuple[str, Any]] = [
    ("", (MapQuery(), None, None)),
    (
        "text=a+b&namespace=n&label=team%3Dx%3Dy&state=shared&deployment=d&peer=1.2.3.4:5&order=bytes&limit=7",
        (
            MapQuery("a b", "n", ("team", "x=y"), State.SHARED, "d", "1.2.3.4:5", Order.BYTES, 7),
            None,
            None,
        ),
    ),
    ("from=100&to=200", (MapQuery(), (100.0, 200.0), None)),
    ("from=100&to=200&beforeTo=90", (MapQuery(), (100.0, 200.0), (-10.0, 90.0))),
    ("from=100&to=200&beforeFrom=10", (MapQuery(), (100.0, 200.0), (10.0, 100.0))),
]


@pytest.mark.parametrize(("query", "expected"), MAP_ROWS)
def test_map_parameters(query: str, expected: Any) -> None:
    backend = FakeBackend()
    assert ask(f"/api/v1/map?{query}", backend=backend).status_code == 200
    assert backend.asked == [expected]


BAD_MAP_ROWS = [
    ("label=x", ["label"]),
    ("label=%3Dx", ["label"]),
    ("order=size", ["order"]),
    ("limit=201&state=x", ["state", "limit"]),
    ("from=200&to=100", ["from"]),
    ("from=100&to=200&beforeFrom=150&beforeTo=140", ["beforeFrom"]),
]


@pytest.mark.parametrize(("query", "expected"), BAD_MAP_ROWS)
def test_bad_map_parameters(query: str, expected: list[str]) -> None:
    assert fields(ask(f"/api/v1/map?{query}")) == expected


def test_a_map_in_full() -> None:
    answer = ask("/api/v1/map").json()
    figures = {
        "transmitBytes": 5_000_000,
        "receiveBytes": 20,
        "transmitRate": 1000.2,
        "receiveRate": None,
        "connections": 2,
        "openConnections": 1,
    }
    owner = {"workspace": "ws", "namespace": "default-namespace", "deploymentId": "id-1", "name": OWNER.name}
    node = figures | {"folded": 0}
    assert answer["deployments"][0] == node | {
        "id": "d1",
        "kind": "deployment",
        "name": OWNER.name,
        "reason": "",
        "deployments": [owner],
        "labels": {"team": "pay", "bad": "?"},
    }
    assert answer["peers"] == [node | {"id": "p1", "peer": "10.0.0.9:9092", "protocol": "tcp"}]
    assert answer["links"][0] == figures | {"deployment": "d1", "peer": "p1", "change": "", "before": None}
    assert (answer["live"], answer["total"], answer["namespaces"]) == (True, figures, ["default-namespace"])
    assert (answer["from"], answer["to"]) == ("2023-11-14T22:13:20.000Z", "2023-11-14T22:13:30.000Z")
