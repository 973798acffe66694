"""Asking several daemons, and joining what they answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from flowmap.cli.shared.client import DaemonClient
from flowmap.cli.who.asking import ask, joined
from flowmap.cli.who.mentions import Mention, Place
from flowmap.errors import QueryError
from tests.support.attributions import answer

SEEN, OTHER, BOTH = answer("attributed", "a"), answer("attributed", "b"), answer("shared", "a", "b")
BY_ADDRESS, WAITING, NONE = answer("attributed", "b", observed=False), answer("pending"), answer("unknown")

JOINED = [
    ([SEEN], "attributed", ["a"]),
    ([SEEN, SEEN], "attributed", ["a"]),
    ([SEEN, BY_ADDRESS], "attributed", ["a"]),  # who saw it counts
    ([answer("unknown", observed=False), SEEN], "attributed", ["a"]),
    ([WAITING, BY_ADDRESS], "pending", []),
    ([NONE, WAITING], "pending", []),
    ([NONE, SEEN], "attributed", ["a"]),
    ([SEEN, OTHER], "ambiguous", []),
    ([SEEN, BOTH], "ambiguous", []),
    ([NONE, answer("failed")], "failed", []),
]


@pytest.mark.parametrize(("several", "state", "names"), JOINED)
def test_joined(several: list[dict[str, Any]], state: str, names: list[str]) -> None:
    for order in (several, several[::-1]):
        found = joined(order)
        assert (found["state"], [one["name"] for one in found["deployments"]]) == (state, names)


def daemon(status: int, asked: list[Any]) -> DaemonClient:
    def reply(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, json.loads(request.content)))
        return httpx.Response(status, json={"attributions": [SEEN, NONE], "detail": "no"})

    return DaemonClient("http://daemon", transport=httpx.MockTransport(reply))


MENTIONS = [Mention(Place("10.0.0.1", 7)), Mention(Place("10.0.0.2", None), Place("10.0.0.3", 80), "udp")]


def test_one_request_for_all() -> None:
    asked: list[Any] = []
    failures: list[str] = []
    answers = ask({"a": daemon(200, asked), "b": daemon(503, asked)}, MENTIONS, 5.0, failed=failures.append)
    assert [answers[mention]["state"] for mention in MENTIONS] == ["attributed", "unknown"]
    connections = [
        {"srcIp": "10.0.0.1", "srcPort": 7, "protocol": "tcp"},
        {"srcIp": "10.0.0.2", "dstIp": "10.0.0.3", "dstPort": 80, "protocol": "udp"},
    ]
    request = ("POST", "/api/v1/attribution/batch", {"connections": connections, "at": "5.000"})
    assert (asked, failures) == ([request, request], ["no"])


def test_no_daemon_answers() -> None:
    with pytest.raises(QueryError, match="no"):
        ask({"a": daemon(503, []), "b": daemon(500, [])}, MENTIONS, None, failed=print)
