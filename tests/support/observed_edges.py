"""Edges between deployments and peers as a daemon reports them."""

from __future__ import annotations

from typing import Any

import httpx


def deployment(name: str, number: str = "") -> dict[str, Any]:
    labels = {"team": name[:1]}
    return {"workspace": "w", "namespace": "ns", "deploymentId": f"id-{name}{number}", "name": name, "labels": labels}


def edge(peer: str, *deployments: dict[str, Any], sent: int = 10) -> dict[str, Any]:
    return {
        "deployments": list(deployments),
        "peer": peer,
        "protocol": "tcp",
        "endpoints": [],
        "direction": "reads",
        "guessed": True,
        "traffic": {"transmitBytes": sent, "receiveBytes": 5},
        "firstSeen": None,
        "lastSeen": "2026-11-21T20:16:07.000Z",
    }


class Daemon:
    """Saw ``edges``."""

    def __init__(self, *edges: dict[str, Any]) -> None:
        self.edges = list(edges)
        self.asked: list[dict[str, str]] = []
        self.history: dict[str, Any] | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/status"):
            return httpx.Response(200, json={"history": self.history})
        self.asked.append(dict(request.url.params))
        answer = {"from": None, "to": "2026-11-21T20:16:07.000Z", "edges": self.edges}
        return httpx.Response(200, json=answer)
