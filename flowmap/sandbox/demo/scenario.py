"""The scenario of the demo: services, deployments, their traffic, and the expected result.

All addresses are in one block 127.<block>.0.0/16, so two demos on one machine do not see each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from flowmap.sandbox.demo.jobs import Truth, Worker

SERVICES = {
    "orders-kafka": ("1.10", 9092),
    "clickstream-kafka": ("1.20", 9092),
    "warehouse-mysql": ("2.20", 3306),
    "features-redis": ("2.30", 6379),
}
"""Services: the last two numbers of the address, and the port."""


@dataclass(frozen=True, slots=True)
class Link:
    """Traffic of a TaskManager with a service, and the deployments on that TaskManager."""

    deployments: tuple[str, ...]
    task_manager: str
    """Last two numbers of the address."""
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
    # A new connection for every look-up, shorter than any poll of the socket table.
    Link(("feature-lookup",), "0.16", "features-redis", "reads", 80, 300, 0.05, 0),
    # Two deployments in one session cluster: packets cannot distinguish them.
    Link(("session-alerts", "session-report"), "0.17", "warehouse-mysql", "writes", 4_000, 80, 0.5, 1),
    # Unowned: a backup script on the same network.
    Link((), "0.99", "orders-kafka", "reads", 100, 10_000, 0.5, 1),
)


class SeriesName(NamedTuple):
    """A row of the table: owners and peer."""

    deployments: tuple[str, ...]
    """One: attributed. Several: shared. Empty: unknown."""
    peer: str

    @property
    def state(self) -> str:
        return "attributed" if len(self.deployments) == 1 else "shared" if self.deployments else "unknown"


class Amount(NamedTuple):
    """TCP payload bytes and connections of a row."""

    transmit: int = 0
    receive: int = 0
    connections: int | None = 0
    """None if the metrics have no number."""


def address(block: int, suffix: str) -> str:
    """An address in the block of the demo."""
    return f"127.{block}.{suffix}"


def deployment_id(name: str) -> str:
    """An id that is the same in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"flowmap-demo/{name}"))


def worker(block: int, number: int, ports: Mapping[str, int], links: Sequence[Link] = LINKS) -> Worker:
    """The worker of ``links[number]``. ``ports``: listening port of each service."""
    link = links[number]
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
    """The catalog for the embedded control plane: deployments, addresses and services."""
    names = sorted({name for link in LINKS for name in link.deployments})
    deployments = [_deployment(name, block, ports) for name in names]
    return {"workspace": "demo", "semantics": "connection", "deployments": deployments}


def _deployment(name: str, block: int, ports: Mapping[str, int]) -> dict[str, Any]:
    own = [link for link in LINKS if name in link.deployments]
    services: dict[str, list[str]] = {"reads": [], "writes": []}
    for link in own:
        service = f"{address(block, SERVICES[link.service][0])}:{ports[link.service]}"
        if service not in services[link.role]:
            services[link.role].append(service)
    return {
        "id": deployment_id(name),
        "name": name,
        "labels": {"team": name.partition("-")[0]},
        "addresses": sorted({address(block, link.task_manager) for link in own}),
        "jobs": [{"id": f"job-{name}", "status": "RUNNING"}],
        **services,
    }


def expected(truths: Iterable[Truth], links: Sequence[Link] = LINKS) -> dict[SeriesName, Amount]:
    """The bytes that the workers counted, by row. The name of each is a place in ``links``."""
    rows: dict[SeriesName, Amount] = {}
    for truth in truths:
        link = links[int(truth.name)]
        name = SeriesName(tuple(sorted(link.deployments)), link.service)
        before = rows.get(name, Amount())
        rows[name] = Amount(
            before.transmit + truth.transmit_bytes,
            before.receive + truth.receive_bytes,
            (before.connections or 0) + truth.connections,
        )
    return rows


class ExpectedVerdict(NamedTuple):
    """The comparison of the daemon's bytes with the expected ones, both directions together."""

    attributed: int
    """Bytes with the right owner or set of owners."""
    misattributed: int
    """Bytes with a wrong owner. Must be 0."""
    missing: int
    """Bytes that are missing from their row."""

    @property
    def right(self) -> bool:
        return self.misattributed == 0 and self.missing == 0


def judge(seen: Mapping[SeriesName, Amount], truth: Mapping[SeriesName, Amount]) -> ExpectedVerdict:
    """Compare row by row. Bytes above the expected number are misattributed, bytes below are missing."""
    attributed = misattributed = missing = 0
    for name in seen.keys() | truth.keys():
        found, real = seen.get(name, Amount()), truth.get(name, Amount())
        for got, true in ((found.transmit, real.transmit), (found.receive, real.receive)):
            attributed += min(got, true) if name.deployments else 0
            misattributed += max(0, got - true) if name.deployments else 0
            missing += max(0, true - got)
    return ExpectedVerdict(attributed, misattributed, missing)
