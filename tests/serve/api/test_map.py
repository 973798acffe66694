"""The answer of /api/v1/map in full."""

from __future__ import annotations

from tests.support.fake_backend import OWNER
from tests.support.http_api import ask


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
