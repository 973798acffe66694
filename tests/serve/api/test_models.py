"""The answers in full, as JSON."""

from __future__ import annotations

from tests.support.fake_backend import FakeBackend
from tests.support.http_api import ADDRESSES, ask


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
                "containerName": None,
                "pod": None,
                "podName": None,
                "unit": "kafka.service",
                "runtime": None,
                "cgroup": "/system.slice/kafka.service",
                "pid": None,
                "command": None,
                "unknown": "",
            },
            "netns": "blue",
            "localServer": None,
            "observations": [],
        },
        "observed": True,
        "cause": None,
        "explanation": None,
    }


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
    with_health = peer | {"health": {"retransmits": 3, "roundTripSeconds": 0.0125}}
    assert ask("/api/v1/peers").json() == {"peers": [peer]}
    one = ask("/api/v1/deployments/id-1").json()
    assert (one["deploymentId"], one["traffic"], one["peers"], one["shared"]) == (
        "id-1",
        traffic,
        [with_health],
        [peer],
    )
    (listed,) = ask("/api/v1/deployments").json()["deployments"]
    assert listed == one | {"shared": []}
    assert ask("/api/v1/deployments/none").status_code == 404
    assert ask("/api/v1/deployments?x=1").status_code == 400
