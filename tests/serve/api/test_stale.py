"""Stale connections over HTTP."""

from __future__ import annotations

from flowmap.model.selection import LabelFilter, Selection
from tests.support.fake_backend import FakeBackend
from tests.support.http_api import ask, fields


def test_stale_connections() -> None:
    backend = FakeBackend()
    query = "deployment=a*&peer=10.0.0.9:9092&label=team=x,y&idle=1h30m&connections=9&limit=7"
    answer = ask(f"/api/v1/stale?{query}", backend=backend).json()
    selection = Selection("a*", "10.0.0.9:9092", LabelFilter("team", ("x", "y")))
    assert backend.asked == [(selection, 5400.0, 9, 7)]
    (connection,) = answer.pop("connections")
    assert connection.pop("flow")["client"] == {"ip": "10.0.0.1", "port": 40000}
    assert connection == {
        "reasons": ["older_than_run", "idle"],
        "idleSeconds": 61.5,
        "runStartedAt": "2023-11-14T22:15:00.000Z",
    }
    owner = {"workspace": "ws", "namespace": "default-namespace", "deploymentId": "id-1", "name": "orders <b>&\"'"}
    above = {"deployments": [owner], "peer": "10.0.0.9:9092", "connections": 12}
    assert answer == {"total": 5, "aboveLimit": [above], "checked": 9, "unjudged": 2, "idleKnown": True}


def test_wrong_parameters() -> None:
    wrong = ask("/api/v1/stale?idle=soon&connections=0&label=x&limit=1001")
    assert sorted(fields(wrong)) == ["connections", "idle", "label", "limit"]
