"""Every route, both ways it can go, over httpx's ASGI transport."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from flowmap.config import HttpConfig
from flowmap.errors import HistoryError, Throttled
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.model.address import Address
from flowmap.model.deployment import State
from flowmap.model.views import EndpointFilter, FlowFilter
from flowmap.serve.api.app import build_app
from flowmap.serve.api.backend import Backend
from flowmap.serve.server.web import Web
from tests.support.fake_backend import FLOW, FakeBackend

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"


def ask(
    path: str,
    *,
    backend: FakeBackend | None = None,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    allowed: tuple[str, ...] = (),
    content: str | bytes | None = None,
) -> httpx.Response:
    used: Backend = backend or FakeBackend()
    app = build_app(used, Exposition(SelfMetrics("test")), Web(HttpConfig(allowed_hosts=allowed)))

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:10817") as client:
            head = {"accept-encoding": "identity"} | (headers or {})
            return await client.request(method, path, headers=head, content=content)

    return asyncio.run(request())


def fields(response: httpx.Response) -> list[str]:
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    return [error["field"] for error in response.json()["errors"]]


ADDRESSES = "srcIp=10.0.0.1&dstIp=10.0.0.9"


def test_an_explanation_in_full() -> None:
    backend = FakeBackend()
    assert ask(f"/api/v1/attribution?{ADDRESSES}", backend=backend).json()["explanation"] is None
    assert ask(f"/api/v1/attribution?{ADDRESSES}&explain=yes", backend=backend).status_code == 400
    chain = ask(f"/api/v1/attribution?{ADDRESSES}&explain=1", backend=backend).json()["explanation"]
    client, sink = chain.pop("questions")
    assert chain == {
        "seenBy": ["conntrack", "sockets"],
        "orientation": "seen: the handshake",
        "client": {"ip": "10.0.0.1", "port": 40000},
        "service": {"ip": "2001:db8::9", "port": 9092},
        "endpointReason": "because of NAT",
        "life": {
            "startedAfter": None,
            "startedBy": "2023-11-14T22:13:20.000Z",
            "openUntil": "2023-11-14T22:13:29.000Z",
            "clientSeenUntil": "2023-11-14T22:13:28.000Z",
            "endedBy": None,
        },
        "combination": "client {a} ∩ sink {?}",
        "decidedAt": None,
        "jobs": "not listed yet",
    }
    assert [answer["relation"] for answer in client["answers"]] == ["uncertain", "inside"]
    assert (client["source"], client["destination"]) == ({"ip": "10.0.0.1", "port": 0}, None)
    assert (client["namespace"], client["rule"], client["confirmedUntil"]) == (
        "ns ?",
        "inside",
        "2023-11-14T22:13:21.000Z",
    )
    assert (sink["answers"], sink["error"], sink["destination"]["port"]) == ([], "timeout: no answer", 9092)


def test_attribution_in_full() -> None:
    backend = FakeBackend()
    response = ask(f"/api/v1/attribution?{ADDRESSES}&srcPort=40000&dstPort=9092", backend=backend)
    assert backend.asked == [("10.0.0.1", 40000, "10.0.0.9", 9092, "tcp", None)]
    owner = {"workspace": "ws", "namespace": "default-namespace", "deploymentId": "id-1", "name": "orders <b>&\"'"}
    deployment = owner | {
        "jobs": [
            {"jobId": "job-1", "status": "RUNNING", "startedAt": "2023-11-14T22:13:20.000Z", "endedAt": None},
            {"jobId": "job-0", "status": "FAILED", "startedAt": None, "endedAt": "2023-11-14T22:13:20.000Z"},
        ],
        "jobSelection": "atStart",
        "jobsByState": {"running": 1},
        "labels": {"team": "pay", "bad": "?"},
        "executionMode": "STREAMING",
        "engineVersion": "vvr-8.0",
        "creator": "ann",
    }
    assert response.json() == {
        "state": "attributed",
        "deployments": [deployment],
        "evidence": [
            {
                "shape": "sink",
                "confidence": "strong",
                "askedAt": "2023-11-14T22:13:20.000Z",
                "answeredAt": "2023-11-14T22:13:21.500Z",
                "origin": "live",
                "rule": "inside",
                "owners": [owner],
                "error": None,
            }
        ],
        "flow": {
            "protocol": "tcp",
            "client": {"ip": "10.0.0.1", "port": 40000},
            "server": {"ip": "2001:db8::9", "port": 9092},
            "translated": {"client": {"ip": "10.0.0.2", "port": 40001}, "server": {"ip": "10.0.0.9", "port": 9092}},
            "startedAt": "2023-11-14T22:13:20.250Z",
            "endedAt": None,
            "transmitBytes": 1,
            "receiveBytes": 2,
            "transmitPackets": 3,
            "receivePackets": 4,
            "state": "attributed",
            "deployments": [deployment],
            "orientation": "guessed",
            "source": "conntrack",
            "local": {
                "side": "client",
                "namespace": "host",
                "container": None,
                "pod": None,
                "unit": "kafka.service",
                "runtime": None,
                "cgroup": "/system.slice/kafka.service",
                "pid": None,
                "command": None,
                "unknown": "",
            },
            "localServer": None,
        },
        "cause": None,
        "explanation": None,
    }


ATTRIBUTION_ROWS: list[tuple[str, Any]] = [
    (ADDRESSES, ("10.0.0.1", None, "10.0.0.9", None, "tcp", None)),
    ("srcIp=::ffff:1.2.3.4&dstIp=2001:DB8:0::1", ("1.2.3.4", None, "2001:db8::1", None, "tcp", None)),
    (f"{ADDRESSES}&protocol=17", ("10.0.0.1", None, "10.0.0.9", None, "udp", None)),
    (f"{ADDRESSES}&protocol=&srcPort=", ("10.0.0.1", None, "10.0.0.9", None, "tcp", None)),
    (f"{ADDRESSES}&at=1700000000.5", ("10.0.0.1", None, "10.0.0.9", None, "tcp", 1700000000.5)),
    (f"{ADDRESSES}&at=2023-11-14T22:13:20Z", ("10.0.0.1", None, "10.0.0.9", None, "tcp", 1700000000.0)),
    (f"{ADDRESSES}&at=2023-11-15T06:13:20.5+08:00", ("10.0.0.1", None, "10.0.0.9", None, "tcp", 1700000000.5)),
    ("", ["srcIp", "dstIp"]),
    ("srcIp=10.0.0.1", ["dstIp"]),
    ("srcIp=1.2.3&srcPort=0&dstIp=fe80::1%25eth0&dstPort=65536", ["srcIp", "srcPort", "dstIp", "dstPort"]),
    (f"{ADDRESSES}&srcPort=-1&dstPort=1e3", ["srcPort", "dstPort"]),
    (f"{ADDRESSES}&srcPort=%D9%A3&dstPort=+80", ["srcPort", "dstPort"]),
    (f"{ADDRESSES}&protocol=quic", ["protocol"]),
    (f"{ADDRESSES}&protocol=256", ["protocol"]),
    (f"{ADDRESSES}&at=yesterday", ["at"]),
    (f"{ADDRESSES}&at=2023-11-14T22:13:20", ["at"]),
    (f"{ADDRESSES}&at=2023-02-30T22:13:20Z", ["at"]),
    (f"{ADDRESSES}&at=0001-01-01T00:00:00%2B23:59", ["at"]),
    (f"{ADDRESSES}&at=999999999999", ["at"]),
    (f"{ADDRESSES}&at=nan", ["at"]),
    (f"{ADDRESSES}&srcIp=10.0.0.2", ["srcIp"]),
    (f"{ADDRESSES}&sourcePort=1", ["sourcePort"]),
    (f"{ADDRESSES}&srcPort=%00&%FF=%FF", ["\ufffd", "srcPort"]),
]


@pytest.mark.parametrize(("query", "expected"), ATTRIBUTION_ROWS)
def test_attribution_parameters(query: str, expected: Any) -> None:
    backend = FakeBackend()
    response = ask(f"/api/v1/attribution?{query}", backend=backend)
    if isinstance(expected, list):
        assert fields(response) == expected
        assert backend.asked == []
    else:
        assert response.status_code == 200
        assert backend.asked == [expected]


def client(address: str, port: int | None = None) -> EndpointFilter:
    return EndpointFilter(Address.parse(address), port)


FLOW_ROWS: list[tuple[str, Any]] = [
    ("", (FlowFilter(), 100, None)),
    ("limit=1000&cursor=abc", (FlowFilter(), 1000, "abc")),
    (
        "deployment=a%20b&peer=kafka&client=10.0.0.1&state=shared&protocol=UDP",
        (FlowFilter("a b", "kafka", client("10.0.0.1"), State.SHARED, 17), 100, None),
    ),
    ("client=[2001:DB8::1]:80", (FlowFilter(client=client("2001:db8::1", 80)), 100, None)),
    ("client=2001:db8::1", (FlowFilter(client=client("2001:db8::1")), 100, None)),
    ("client=10.0.0.1:80", (FlowFilter(client=client("10.0.0.1", 80)), 100, None)),
    ("client=::ffff:10.0.0.1", (FlowFilter(client=client("10.0.0.1")), 100, None)),
    ("peer=::ffff:10.1.0.1", (FlowFilter(peer="10.1.0.1"), 100, None)),
    ("peer=[2001:DB8::1]:443", (FlowFilter(peer="[2001:db8::1]:443"), 100, None)),
    ("peer=kafka:blue", (FlowFilter(peer="kafka:blue"), 100, None)),
    ("limit=0", ["limit"]),
    ("limit=1001", ["limit"]),
    ("limit=many&state=lost&client=x:1", ["client", "state", "limit"]),
    ("client=10.0.0.1:99999", ["client"]),
    ("depoyment=x", ["depoyment"]),
    ("deployment=" + "x" * 513, ["deployment"]),
    ("cursor=stale", ["cursor"]),
    ("from=1700000000&to=2023-11-14T22:13:21Z", (FlowFilter(since=1700000000.0, until=1700000001.0), 100, None)),
    ("from=yesterday&to=2x", ["from", "to"]),
]


@pytest.mark.parametrize(("query", "expected"), FLOW_ROWS)
def test_flow_parameters(query: str, expected: Any) -> None:
    backend = FakeBackend()
    response = ask(f"/api/v1/flows?{query}", backend=backend)
    if isinstance(expected, list):
        assert fields(response) == expected
    else:
        assert response.json()["nextCursor"] == "next"
        assert len(response.json()["flows"]) == 2
        assert backend.asked == [expected]


@pytest.mark.parametrize(("ago", "seconds"), [("2h", 7200), ("1h30m", 5400), ("0s", 0), ("1.5d", 129600)])
def test_a_time_can_be_so_long_ago(ago: str, seconds: float) -> None:
    backend = FakeBackend()
    ask(f"/api/v1/flows?from={ago}", backend=backend)
    [asked] = backend.asked
    assert isinstance(asked, tuple)
    wanted = asked[0]
    assert abs(time.time() - seconds - wanted.since) < 60


WINDOW_ROWS: list[tuple[str, Any]] = [
    ("?from=1700000000&to=1700003600", ("id-1", 1700000000.0, 1700003600.0)),
    ("?to=1700003600", ("id-1", 1700003600.0 - 86400, 1700003600.0)),
    ("?from=1700003600&to=1700000000", ["from"]),
    ("?since=1", ["since"]),
    ("/changes?from=1700000000&to=1700003600", ("id-1", (1699996400.0, 1700000000.0), (1700000000.0, 1700003600.0))),
    (
        "/changes?from=1700000000&to=1700003600&beforeFrom=1600000000&beforeTo=1600000001",
        ("id-1", (1600000000.0, 1600000001.0), (1700000000.0, 1700003600.0)),
    ),
    ("/changes?from=1700000000&to=1700003600&beforeFrom=1700000001", ["beforeFrom"]),
]


@pytest.mark.parametrize(("query", "expected"), WINDOW_ROWS)
def test_windows_of_peers(query: str, expected: Any) -> None:
    backend = FakeBackend()
    response = ask(f"/api/v1/deployments/id-1/peers{query}", backend=backend)
    if isinstance(expected, list):
        assert fields(response) == expected
    else:
        assert backend.asked == [expected]
        (seen,) = response.json()["new" if "changes" in query else "peers"]
        assert (seen["peer"], seen["firstSeen"]) == ("10.0.0.9:9092", "2023-11-14T22:13:20.000Z")
        if "changes" not in query:
            assert response.json()["to"] == "2023-11-14T23:13:20.000Z"


def test_a_history_that_cannot_be_read_is_503() -> None:
    backend = FakeBackend()
    backend.error = HistoryError("/secret/path: locked", reason="locked")
    response = ask("/api/v1/flows?from=1h", backend=backend)
    assert (response.status_code, "locked" in response.text, "secret" in response.text) == (503, True, False)


def test_deployments_and_peers() -> None:
    traffic = {
        "transmitBytes": 5_000_000,
        "receiveBytes": 20,
        "transmitPackets": 3,
        "receivePackets": 4,
        "connections": 2,
        "openConnections": 1,
    }
    owner = {"workspace": "ws", "namespace": "default-namespace", "deploymentId": "id-1", "name": "orders <b>&\"'"}
    peer = {"peer": "10.0.0.9:9092", "protocol": "tcp", "traffic": traffic, "deployments": [owner]}
    assert ask("/api/v1/peers").json() == {"peers": [peer]}
    one = ask("/api/v1/deployments/id-1").json()
    assert (one["deploymentId"], one["traffic"], one["peers"], one["shared"]) == ("id-1", traffic, [peer], [peer])
    (listed,) = ask("/api/v1/deployments").json()["deployments"]
    assert listed == one | {"shared": []}
    assert ask("/api/v1/deployments/none").status_code == 404
    assert ask("/api/v1/deployments?x=1").status_code == 400


def test_status() -> None:
    assert ask("/api/v1/status").json() == {
        "version": "1.2.3",
        "startedAt": "2023-11-14T22:13:20.000Z",
        "ready": True,
        "sources": [
            {
                "name": "conntrack",
                "up": True,
                "records": 5,
                "overruns": 1,
                "lost": {"malformed": 2},
                "resyncs": {"start": 1},
                "notes": {"accounting": "<script>alert(1)</script>"},
                "error": None,
                "role": "traffic",
                "why": "",
                "resyncSeconds": 0.0,
                "receiveBuffer": 0,
                "exceptionalPackets": {"duplicate": 3},
                "offloaded": {},
                "interfaces": {},
                "accounting": None,
            }
        ],
        "controlPlane": {
            "endpoint": "http://127.0.0.1:1",
            "answers": 7,
            "lastAnswerAt": "2023-11-14T22:13:20.000Z",
            "lastError": None,
            "unreadableElements": 1,
            "breakerOpen": False,
            "clockSkewSeconds": 0.5,
            "questionsCached": 4,
            "questionsWaiting": 3,
            "catalog": {
                "deployments": 5,
                "leftOut": 0,
                "listedAt": "2023-11-14T22:13:20.000Z",
                "ageSeconds": 2.5,
                "suspicious": None,
                "error": "timeout",
            },
        },
        "flows": {"open": 1, "pending": 0, "tracked": 2, "limit": 10},
        "bytes": {
            "observed": {"transmit": 0, "receive": 1},
            "attributed": {"transmit": 1, "receive": 2},
            "shared": {"transmit": 2, "receive": 3},
            "unattributed": {"transmit": 3, "receive": 4},
            "internal": {"transmit": 4, "receive": 5},
            "expired": {"transmit": 5, "receive": 6},
            "pending": {"transmit": 6, "receive": 7},
        },
        "conserved": True,
        "attribution": {
            "shapes": [{"shape": "client", "asked": 5, "answered": 4, "named": 0, "neverNames": True}],
            "contradictions": [
                {
                    "question": "client 10.0.0.1",
                    "namespace": "ns",
                    "askedAt": "2023-11-14T22:13:20.000Z",
                    "answeredAt": "2023-11-14T22:13:21.000Z",
                    "attributed": [
                        {
                            "workspace": "ws",
                            "namespace": "default-namespace",
                            "deploymentId": "id-1",
                            "name": "orders <b>&\"'",
                        }
                    ],
                    "answered": [],
                    "flows": 2,
                    "client": {"ip": str(FLOW.client.address), "port": FLOW.client.port},
                    "server": {"ip": str(FLOW.server.address), "port": FLOW.server.port},
                }
            ],
            "narrowingPairs": 1,
            "narrowingWaiting": 0,
            "hint": "set it",
            "pendingFor": {"answer": 0, "budget": 0, "outage": 0, "proof": 0},
        },
        "configuration": {
            "pid": 1,
            "file": None,
            "reloads": 2,
            "lastReloadSuccessful": True,
            "appliedAt": "2023-11-14T22:13:20.000Z",
            "lastError": None,
        },
        "recording": {"path": "/r", "size": 9, "active": False, "ended": "disk"},
        "history": {
            "up": True,
            "flows": 3,
            "oldestAt": "2023-11-14T22:13:20.000Z",
            "flowsWritten": 4,
            "flowsLost": 1,
            "flowsQueued": 0,
            "sizeBytes": 100,
            "limitBytes": 1000,
            "filesSetAside": 0,
            "blocksUnreadable": 0,
            "notes": None,
        },
    }


def test_health() -> None:
    backend = FakeBackend()
    assert (ask("/-/healthy", backend=backend).status_code, ask("/-/ready", backend=backend).status_code) == (200, 200)
    backend.is_ready = False
    assert (ask("/-/healthy", backend=backend).status_code, ask("/-/ready", backend=backend).status_code) == (200, 503)
    backend.is_healthy = False
    assert ask("/-/healthy", backend=backend).status_code == 503


@pytest.mark.parametrize("path", ["/metrics", "/", "/api/v1/flows", "/-/ready", "/openapi.json"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods(path: str, method: str) -> None:
    response = ask(path, method=method)
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path", ["/x", "/metrics/", "/api/v1/deployments/", "/api/v1/deployments/a/b", "/api/v1/%2e%2e"]
)
def test_unknown_paths(path: str) -> None:
    response = ask(path)
    assert response.status_code == 404
    assert response.json()["title"] == "Not Found"


HOST_ROWS = [
    ("127.0.0.1:10817", True),
    ("[::1]:10817", True),
    ("192.0.2.7", True),
    ("localhost:1", True),
    ("LOCALHOST.", True),
    ("flowmap.example:10817", True),
    ("a.b.internal", True),
    ("internal", False),
    ("evil.example", False),
    ("localhost.evil.example", False),
    ("127.0.0.1.evil.example", False),
    ("evil.example:127.0.0.1", False),
    ("", False),
]


@pytest.mark.parametrize(("host", "served"), HOST_ROWS)
def test_hosts(host: str, served: bool) -> None:
    response = ask("/api/v1/peers", headers={"host": host}, allowed=("Flowmap.example", "*.internal"))
    assert response.status_code == (200 if served else 403)
    if not served:
        assert "10.0.0.9" not in response.text
        assert response.headers["content-type"] == "application/problem+json"


def test_every_host() -> None:
    assert ask("/api/v1/peers", headers={"host": "evil.example"}, allowed=("*",)).status_code == 200


def test_errors_of_the_backend() -> None:
    backend = FakeBackend()
    backend.error = Throttled("slow down, secret-id", retry_after=1)
    response = ask(f"/api/v1/attribution?{ADDRESSES}", backend=backend)
    assert (response.status_code, response.headers["content-type"]) == (502, "application/problem+json")
    assert "throttled" in response.json()["detail"]
    backend.error = RuntimeError("inside of flowmap")
    response = ask(f"/api/v1/attribution?{ADDRESSES}", backend=backend)
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert "inside" not in response.text and "Traceback" not in response.text


def test_landing_page_escapes() -> None:
    response = ask("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "<script" not in response.text
    assert "&lt;script&gt;alert(1)" in response.text
    assert "orders &lt;b&gt;&amp;&quot;&#x27;" in response.text
    assert "4.8 MiB" in response.text


METRIC_ROWS = [
    ({}, TEXT),
    ({"accept": "application/openmetrics-text"}, OPENMETRICS),
    ({"accept": ";;;,q=,application/openmetrics-text;q=x;version="}, TEXT),
]


@pytest.mark.parametrize(("headers", "expected"), METRIC_ROWS)
def test_metrics_format(headers: dict[str, str], expected: str) -> None:
    response = ask("/metrics", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == expected
    families = list((parse_openmetrics if expected == OPENMETRICS else parse_text)(response.text))
    assert "flowmap_series" in [family.name for family in families]


def test_metrics_gzip() -> None:
    plain = ask("/metrics")
    packed = ask("/metrics", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    wanted = [line for line in plain.text.splitlines() if line.startswith("flowmap_deployment")]
    assert [line for line in packed.text.splitlines() if line.startswith("flowmap_deployment")] == wanted
    assert gzip.compress(b"") != plain.content


def test_scrapes_at_once_share_a_build() -> None:
    backend = FakeBackend()
    app = build_app(backend, Exposition(SelfMetrics("test")))

    async def scrape() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            plain = {"accept-encoding": "identity"}
            first = await asyncio.gather(*(client.get("/metrics", headers=plain) for _ in range(20)))
            return [*first, await client.get("/metrics", headers=plain)]

    responses = asyncio.run(scrape())
    assert {response.status_code for response in responses} == {200}
    assert backend.snapshots == 2


def test_openapi_describes_every_route() -> None:
    document = ask("/openapi.json").json()
    app = build_app(FakeBackend(), Exposition(SelfMetrics("test")))
    assert set(document["paths"]) == {route.path for route in app.routes}  # type: ignore[attr-defined]
    schemas = document["components"]["schemas"]
    references = [part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]]
    assert references and set(references) <= set(schemas)
    assert set(schemas["Flow"]["properties"]) >= {"transmitBytes", "startedAt", "orientation"}
    names = [parameter["name"] for parameter in document["paths"]["/api/v1/flows"]["get"]["parameters"]]
    assert names == ["deployment", "peer", "client", "state", "protocol", "limit", "cursor", "from", "to"]


def test_openapi_describes_parameters_as_they_are_read() -> None:
    paths = ask("/openapi.json").json()["paths"]
    listed = {one["name"]: one for one in paths["/api/v1/attribution"]["get"]["parameters"]}
    assert [name for name, one in listed.items() if one["required"]] == ["srcIp", "dstIp"]
    assert listed["protocol"]["schema"] == {"type": "string", "default": "tcp"}
    assert listed["explain"]["schema"] == {"type": "string", "enum": ["1", "true", "0", "false"], "default": "0"}
    assert listed["srcPort"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 65535}
    (first, *_) = paths["/api/v1/deployments/{deploymentId}/peers"]["get"]["parameters"]
    assert (first["name"], first["in"], first["required"]) == ("deploymentId", "path", True)


def test_a_parameter_of_the_path_is_none_of_the_query() -> None:
    assert fields(ask("/api/v1/deployments/id-1?deploymentId=id-2")) == ["deploymentId"]


def test_answers_fit_their_schema() -> None:
    document = ask("/openapi.json").json()
    for path in ("/api/v1/peers", "/api/v1/status", "/api/v1/deployments/id-1", "/api/v1/flows"):
        template = path.replace("id-1", "{deploymentId}")
        content = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]
        schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        assert set(schema["required"]) == set(schema["properties"]) == set(ask(path).json())


@pytest.mark.parametrize(("window", "status"), [("from=2&to=1", 400), ("from=1&to=1", 200), ("to=1", 200)])
def test_a_window_that_ends_before_it_begins(window: str, status: int) -> None:
    answer = ask(f"/api/v1/flows?{window}")
    assert answer.status_code == status
    assert status == 200 or "the window ends before it begins" in answer.text
