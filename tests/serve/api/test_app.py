"""Every route, both ways it can go, over httpx's ASGI transport."""

from __future__ import annotations

from tests.support.fake_backend import FLOW, FakeBackend
from tests.support.http_api import ask


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
                "workloadsDropped": {},
                "offloaded": {},
                "interfaces": {},
                "namespaces": {},
                "namespacePause": None,
                "opener": None,
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
            "pendingFor": {"answer": 0, "budget": 0, "outage": 0, "proof": 0, "narrowing": 0, "judging": 0},
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
        "fleet": None,
        "store": None,
        "flink": [],
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
        "problems": ["Source conntrack: <script>alert(1)</script>"],
    }


def test_health() -> None:
    backend = FakeBackend()
    assert (ask("/-/healthy", backend=backend).status_code, ask("/-/ready", backend=backend).status_code) == (200, 200)
    backend.is_ready = False
    assert (ask("/-/healthy", backend=backend).status_code, ask("/-/ready", backend=backend).status_code) == (200, 503)
    backend.is_healthy = False
    assert ask("/-/healthy", backend=backend).status_code == 503
