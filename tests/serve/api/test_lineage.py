"""Lineage over HTTP."""

from __future__ import annotations

from flowmap.model.selection import LabelFilter, Selection
from tests.support.fake_backend import FakeBackend
from tests.support.http_api import ask, fields


def test_lineage() -> None:
    backend = FakeBackend()
    query = "deployment=a*&peer=k&label=team=x&from=1700000000&to=1700000100"
    answer = ask(f"/api/v1/lineage?{query}", backend=backend).json()
    assert backend.asked == [Selection("a*", "k", LabelFilter("team", ("x",)), 1_700_000_000.0, 1_700_000_100.0)]
    (edge,) = answer["edges"]
    (deployment,) = edge.pop("deployments")
    assert deployment["labels"] == {"team": "pay", "bad": "?"}
    assert edge.pop("traffic")["transmitBytes"] == 5_000_000
    assert edge == {
        "peer": "orders",
        "protocol": "tcp",
        "endpoints": ["10.0.0.9:9092"],
        "direction": "reads",
        "guessed": True,
        "firstSeen": "2023-11-14T22:13:20.000Z",
        "lastSeen": "2023-11-14T22:15:00.000Z",
        "counts": "",
    }
    assert (answer["from"], answer["to"]) == ("2023-11-14T22:13:20.000Z", "2023-11-14T22:16:40.000Z")
    assert ask("/api/v1/lineage").json()["from"] is None


def test_a_window_that_ends_before_it_begins() -> None:
    assert fields(ask("/api/v1/lineage?from=20&to=10")) == ["from"]
