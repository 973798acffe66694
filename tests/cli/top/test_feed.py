"""What the daemon gives a screen: the stream, connections, explanations, and failures."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from flowmap.cli.shared.client import DaemonClient
from flowmap.cli.top.feed import connections, explanation
from flowmap.cli.traffic.grouped import Group
from flowmap.errors import QueryError
from tests.support.fake_backend import FLOW
from tests.support.http_api import ask

FLOWS = ask("/api/v1/flows").json()["flows"]
GROUP = Group("attributed", "orders", "kafka", {}, {"deployment": "id-1", "peer": "kafka"})


def client(answers: dict[str, Any], asked: list[dict[str, str]]) -> DaemonClient:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        found = answers[request.url.path.rpartition("/")[2]]
        return httpx.Response(200, content=json.dumps(found)) if found else httpx.Response(503, json={"detail": "busy"})

    return DaemonClient("http://daemon", transport=httpx.MockTransport(answer))


def test_connections_of_a_group_the_largest_first() -> None:
    asked: list[dict[str, str]] = []
    small, large = FLOWS[0], FLOWS[0] | {"receiveBytes": 10**9}
    found, more = connections(client({"flows": {"flows": [small, large], "nextCursor": "2"}}, asked), GROUP)
    assert (found, more) == ([large, small], True)
    assert asked == [{"deployment": "id-1", "peer": "kafka", "limit": "200"}]


def test_an_explanation_line_by_line() -> None:
    asked: list[dict[str, str]] = []
    answer = ask("/api/v1/attribution?srcIp=10.0.0.1&dstIp=10.0.0.9&explain=1").json() | {"cause": "for \x1b this"}
    lines = explanation(client({"attribution": answer}, asked), FLOWS[0])
    assert lines[:2] == ["attributed: orders <b>&\"'", r"for \x1b this"]
    assert any(line.startswith("combined") and "client {a}" in line for line in lines)
    assert any("22:13:21" in line for line in lines) and not any("2023-11-14" in line for line in lines)
    assert asked[0] | {"srcPort": str(FLOW.client.port), "explain": "1", "protocol": "tcp"} == asked[0]


def test_a_failure() -> None:
    with pytest.raises(QueryError, match="busy"):
        connections(client({"flows": None}, []), GROUP)
