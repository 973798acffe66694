"""The world of the demo: services, deployments, who talks to whom, and what the daemon ought to find out about it.

Everything is in one block 127.<block>.0.0/16 of loopback, so that two demos on one machine do not see each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from flowmap.sandbox.demo.jobs import Truth, Worker

SERVICES = {
    "orders-kafka": ("1.10", 9092),
    "clickstream-kafka": ("1.20", 9092),
    "warehouse-mysql": ("2.20", 3306),
    "features-redis": ("2.30", 6379),
}
"""Name of each service, the end of its address, and its port."""


@dataclass(frozen=True, slots=True)
class Link:
    """One TaskManager's traffic with one service, and the deployments that run on that TaskManager."""

    deployments: tuple[str, ...]
    task_manager: str
    """End of its address."""
    service: str
    role: Literal["reads", "writes"]
    upload: int
    download: int
    pause: float
    connections: int


LINKS = (
    Link(("orders-enrichment",), "0.11", "orders-kafka", "reads", 200, 40_000, 0.2, 2),
    Link(("orders-enrichment",), "0.11", "features-redis", "reads", 60, 400, 0.1, 1),
    Link(("orders-archive",), "0.12", "orders-kafka", "reads", 200, 25_000, 0.25, 1),
    Link(("clickstream-sessions",), "0.13", "clickstream-kafka", "reads", 150, 60_000, 0.2, 1),
    Link(("clickstream-sessions",), "0.14", "clickstream-kafka", "reads", 150, 60_000, 0.2, 1),
    Link(("warehouse-loader",), "0.15", "warehouse-mysql", "writes", 30_000, 120, 0.3, 1),
    # A new connection for every look-up: each is shorter than any poll of the socket table.
    Link(("feature-lookup",), "0.16", "features-redis", "reads", 80, 300, 0.05, 0),
    # Two deployments in one session cluster: nothing on the wire tells them apart.
    Link(("session-alerts", "session-report"), "0.17", "warehouse-mysql", "writes", 4_000, 80, 0.5, 1),
    # Nobody's: a backup script on the same network.
    Link((), "0.99", "orders-kafka", "reads", 100, 10_000, 0.5, 1),
)


class SeriesName(NamedTuple):
    """One row of the demo's table: whose traffic, with whom."""

    deployments: tuple[str, ...]
    """One: attributed. Several: shared. None: unknown."""
    peer: str

    @property
    def state(self) -> str:
        return "attributed" if len(self.deployments) == 1 else "shared" if self.deployments else "unknown"


class Amount(NamedTuple):
    """Payload bytes and connections of one row."""

    transmit: int = 0
    receive: int = 0
    connections: int | None = 0
    """None where the metrics do not say."""


def address(block: int, end: str) -> str:
    """An address of the demo's block."""
    return f"127.{block}.{end}"


def deployment_id(name: str) -> str:
    """The same id for the same name in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"flowmap-demo/{name}"))


def worker(block: int, number: int, ports: Mapping[str, int]) -> Worker:
    """The process behind ``LINKS[number]``; ``ports`` are those the services really listen on."""
    link = LINKS[number]
    return Worker(
        name=str(number),
        source=address(block, link.task_manager),
        service=address(block, SERVICES[link.service][0]),
        port=ports[link.service],
        upload=link.upload,
        download=link.download,
        pause=link.pause,
        connections=link.connections,
    )


def catalog(block: int, ports: Mapping[str, int]) -> dict[str, Any]:
    """What the embedded control plane knows: the deployments, where they run, and what they read and write."""
    names = sorted({name for link in LINKS for name in link.deployments})
    return {"workspace": "demo", "deployments": [_deployment(name, block, ports) for name in names]}


def _deployment(name: str, block: int, ports: Mapping[str, int]) -> dict[str, Any]:
    own = [link for link in LINKS if name in link.deployments]
    ends: dict[str, list[str]] = {"reads": [], "writes": []}
    for link in own:
        end = f"{address(block, SERVICES[link.service][0])}:{ports[link.service]}"
        if end not in ends[link.role]:
            ends[link.role].append(end)
    return {
        "id": deployment_id(name),
        "name": name,
        "labels": {"team": name.partition("-")[0]},
        "addresses": sorted({address(block, link.task_manager) for link in own}),
        "jobs": [{"id": f"job-{name}", "status": "RUNNING"}],
        **ends,
    }


def expected(truths: Iterable[Truth]) -> dict[SeriesName, Amount]:
    """What the workers really did, by the row it belongs to."""
    rows: dict[SeriesName, Amount] = {}
    for truth in truths:
        link = LINKS[int(truth.name)]
        name = SeriesName(tuple(sorted(link.deployments)), link.service)
        before = rows.get(name, Amount())
        rows[name] = Amount(
            before.transmit + truth.transmit_bytes,
            before.receive + truth.receive_bytes,
            (before.connections or 0) + truth.connections,
        )
    return rows


class ExpectedVerdict(NamedTuple):
    """How the daemon's figures compare with the truth, in bytes of both directions."""

    attributed: int
    """Bytes under the name, or the set of names, they belong to."""
    misattributed: int
    """Bytes under a name they do not belong to. Must be 0."""
    missing: int
    """Bytes that never came to where they belong."""

    @property
    def right(self) -> bool:
        return self.misattributed == 0 and self.missing == 0


def judge(seen: Mapping[SeriesName, Amount], truth: Mapping[SeriesName, Amount]) -> ExpectedVerdict:
    """Compare row by row. A row with more than the truth has taken bytes of another; one with less lacks some."""
    attributed = misattributed = missing = 0
    for name in seen.keys() | truth.keys():
        found, real = seen.get(name, Amount()), truth.get(name, Amount())
        for got, true in ((found.transmit, real.transmit), (found.receive, real.receive)):
            attributed += min(got, true) if name.deployments else 0
            misattributed += max(0, got - true) if name.deployments else 0
            missing += max(0, true - got)
    return ExpectedVerdict(attributed, misattributed, missing)
