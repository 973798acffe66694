"""The batch of connections over HTTP: what is read, and what is rejected with which reason."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from flowmap.model.address import Address
from flowmap.model.views import EndpointFilter, Lookup
from flowmap.serve.api.bodies import LARGEST, MOST_CONNECTIONS
from tests.support.fake_backend import FakeBackend
from tests.support.http_api import ask

PATH = "/api/v1/attribution/batch"
JSON = {"content-type": "application/json"}
ONE, TWO = Address.parse("10.0.0.1"), Address.parse("2001:db8::9")


def post(body: object, *, backend: FakeBackend | None = None, headers: dict[str, str] = JSON) -> httpx.Response:
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    return ask(PATH, method="POST", backend=backend, headers=headers, content=text)


def test_connections_in_their_order() -> None:
    backend = FakeBackend()
    whole = {"srcIp": "10.0.0.1", "srcPort": 40000, "dstIp": "2001:db8::9", "dstPort": 9092, "protocol": "udp"}
    connections: list[dict[str, Any]] = [whole, {"srcIp": "10.0.0.1"}, {"srcIp": "2001:db8::9", "dstIp": None}]
    response = post({"connections": connections, "at": "1700000000"}, backend=backend)
    lookups = (
        Lookup(EndpointFilter(ONE, 40000), EndpointFilter(TWO, 9092), 17),
        Lookup(EndpointFilter(ONE, None), None, 6),
        Lookup(EndpointFilter(TWO, None), None, 6),
    )
    assert backend.asked == [(lookups, 1_700_000_000.0)]
    assert [one["state"] for one in response.json()["attributions"]] == ["attributed"] * 3


def test_nothing_is_asked_for_nothing() -> None:
    assert post({"connections": []}).json() == {"attributions": []}


def test_a_thousand_fit() -> None:
    longest = {"srcIp": "2001:0db8:1111:2222:3333:4444:5555:6666", "srcPort": 65535, "protocol": "tcp"}
    longest |= {"dstIp": longest["srcIp"], "dstPort": 65535}
    body = json.dumps({"connections": [longest] * MOST_CONNECTIONS})
    assert len(body) < LARGEST
    assert len(post(body).json()["attributions"]) == MOST_CONNECTIONS


REJECTED: list[tuple[object, dict[str, str], int, list[str]]] = [
    # body, headers, status, fields at fault
    ("{", JSON, 400, ["body"]),
    ([], JSON, 400, ["body"]),
    ({}, JSON, 400, ["connections"]),
    ({"connections": {}}, JSON, 400, ["connections"]),
    ({"connections": [{}]}, JSON, 400, ["connections.0.srcIp"]),
    ({"connections": [{"srcIp": 7}]}, JSON, 400, ["connections.0.srcIp"]),
    (
        {"connections": [{"srcIp": "x"}, {"srcIp": "10.0.0.1", "srcPort": "1"}]},
        JSON,
        400,
        ["connections.0.srcIp", "connections.1.srcPort"],
    ),
    ({"connections": [{"srcIp": "10.0.0.1", "srcPort": True}]}, JSON, 400, ["connections.0.srcPort"]),
    ({"connections": [{"srcIp": "10.0.0.1", "dstPort": 1}]}, JSON, 400, ["connections.0"]),
    ({"connections": [{"srcIp": "10.0.0.1", "port": 1}]}, JSON, 400, ["connections.0.port"]),
    ({"connections": [{"srcIp": "10.0.0.1", "protocol": "x"}]}, JSON, 400, ["connections.0.protocol"]),
    ({"connections": [], "at": "soon"}, JSON, 400, ["at"]),
    ({"connections": [], "at": 3}, JSON, 400, ["at"]),
    ({"connections": [{"srcIp": "10.0.0.1"}] * (MOST_CONNECTIONS + 1)}, JSON, 400, ["connections"]),
    ({"connections": []}, {"content-type": "text/plain"}, 415, []),
    ("", JSON, 400, ["body"]),
    (b"\xff\xfe", JSON, 400, ["body"]),
    (" " * (LARGEST + 1), JSON, 413, []),
]


@pytest.mark.parametrize(("body", "headers", "status", "fields"), REJECTED)
def test_what_cannot_be_read(body: object, headers: dict[str, str], status: int, fields: list[str]) -> None:
    response = post(body, headers=headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    if fields:
        assert [error["field"] for error in response.json()["errors"]] == fields


def test_many_problems_are_listed_in_part() -> None:
    assert len(post({"connections": [{}] * 500}).json()["errors"]) == 10


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_it_is_a_post(method: str) -> None:
    response = ask(PATH, method=method)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert "use POST" in response.json()["detail"]
