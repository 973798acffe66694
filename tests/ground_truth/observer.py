"""What the daemon says during a run, over HTTP like anybody: its flows, and its page of metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.host import PARTS, SAMPLES, Daemon, total_of

RETRIES = 5
WAYS = ("transmit", "receive")
Tuple = tuple[str, str, int, str, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A flow as it was listed."""

    at: float
    started: float | None
    """None: older than the daemon, or it cannot tell."""
    state: str
    owners: frozenset[str]
    bytes: tuple[int, int]
    raw: Mapping[str, Any]

    def same(self, other: Seen) -> bool:
        """Whether both say the same of the same flow."""
        return (self.started, self.state, self.owners) == (other.started, other.state, other.owners)


@dataclass(frozen=True, slots=True)
class Use:
    """What a daemon used of its host."""

    begun: float
    """At first, in MiB of memory or open descriptors."""
    half: float
    """Most in the first half of the looks."""
    most: float
    """Most of all."""
    ended: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Use:
        half = values[: max(1, len(values) // 2)]
        return cls(values[0], max(half), max(values), values[-1])

    def __str__(self) -> str:
        first = f"{self.begun:.0f} at first, at most {self.half:.0f} in the first half"
        return f"{first}, {self.most:.0f} at most, {self.ended:.0f} at the end"


@dataclass(frozen=True, slots=True)
class Imbalance:
    """A page on which bytes are lost or counted twice."""

    at: float
    way: str
    observed: int
    parts: int


def imbalances(samples: SAMPLES, at: float) -> list[Imbalance]:
    """Where what was observed is not, exactly, the sum of what became of it."""
    found = []
    for way in WAYS:
        observed = total_of(samples, f"flowmap_observed_{way}_bytes_total")
        parts = sum(total_of(samples, "flowmap_" + part.format(way)) for part in PARTS)
        if observed != parts:
            found.append(Imbalance(at, way, observed, parts))
    return found


def fallen(before: SAMPLES, now: SAMPLES) -> list[str]:
    """Counters that are lower than they were."""
    return [
        f"{name}{dict(labels)}: {now.get((name, labels), 0)} after {value}"
        for (name, labels), value in before.items()
        if name.endswith("_total") and now.get((name, labels), 0.0) < value
    ]


class Observer:
    """Looks at a daemon again and again."""

    def __init__(self, daemon: Daemon) -> None:
        self.seen: dict[Tuple, list[Seen]] = {}
        """By tuple, the last listing of each thing that was said of each flow."""
        self.snapshots = 0
        self.imbalances: list[Imbalance] = []
        self.fallen: list[str] = []
        self.samples: SAMPLES = {}
        """The last page."""
        self.began = daemon.started
        self.clients: set[str] = set()
        self.ends: set[tuple[str, str, int]] = set()
        self._daemon = daemon
        self._memory: list[float] = []
        self._descriptors: list[float] = []
        self._listing: dict[Tuple, dict[Any, tuple[int, int]]] = {}

    @property
    def memory(self) -> Use:
        """Resident memory of the daemon in MiB."""
        return Use.of(self._memory)

    @property
    def descriptors(self) -> Use:
        """Open descriptors of the daemon."""
        return Use.of(self._descriptors)

    def counted(self) -> Mapping[Tuple, tuple[int, int]]:
        """Bytes each way of all flows with each tuple, as of :meth:`look_back`."""
        return {
            key: (sum(up for up, _ in flows.values()), sum(down for _, down in flows.values()))
            for key, flows in self._listing.items()
        }

    def look(self) -> None:
        """One page, and every flow. A daemon that is slow is asked again later, as one that closes a connection which
        took long on a busy machine."""
        with contextlib.suppress(OSError):
            self._page()
            self._flows()

    @property
    def pending(self) -> int:
        """Flows that wait, by the last page."""
        return total_of(self.samples, "flowmap_pending_flows")

    @property
    def observed(self) -> int:
        """Bytes of all flows, by the last page."""
        return sum(total_of(self.samples, f"flowmap_observed_{way}_bytes_total") for way in WAYS)

    def _page(self) -> None:
        samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self._daemon.get("/metrics"))
            for sample in family.samples
        }
        self.snapshots += 1
        self.imbalances += imbalances(samples, time.time())
        self.fallen += fallen(self.samples, samples)
        self.samples = samples
        self._memory.append(total_of(samples, "process_resident_memory_bytes") / 2**20)
        self._descriptors.append(total_of(samples, "process_open_fds"))

    def look_back(self, since: float) -> None:
        """Every flow that was open after ``since``: ended ones come from the history file."""
        for _ in range(RETRIES):
            with contextlib.suppress(OSError):
                self._page()
                listed = list(self._listed(f"&from={since:.3f}"))
                break
        else:
            raise AssertionError("the daemon does not list its flows")
        for flow in listed:
            self._sight(flow, time.time())
            moved = flow["transmitBytes"], flow["receiveBytes"]
            self._listing.setdefault(_key(flow), {})[flow["startedAt"], flow["endedAt"]] = moved

    def evidence(self, flow: Tuple, at: float) -> Any:
        """What the daemon says its name for a flow rests on; the error, where it does not."""
        protocol, client, client_port, server, server_port = flow
        ends = f"srcIp={client}&srcPort={client_port}&dstIp={server}&dstPort={server_port}"
        try:
            return self._daemon.json(f"/api/v1/attribution?{ends}&protocol={protocol}&at={at:.3f}")
        except OSError as error:
            return repr(error)

    def _flows(self) -> None:
        at = time.time()
        clients, ends = set(), set()
        for flow in self._listed(""):
            self._sight(flow, at)
            clients.add(flow["client"]["ip"])
            end = (flow["translated"] or flow)["server"]
            ends.add((flow["protocol"], end["ip"], end["port"]))
        self.clients |= clients
        self.ends |= ends

    def _listed(self, wanted: str) -> Iterator[Mapping[str, Any]]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._daemon.json(f"/api/v1/flows?limit=1000{wanted}" + (f"&cursor={cursor}" if cursor else ""))
            yield from page["flows"]
            cursor = page["nextCursor"]

    def _sight(self, flow: Mapping[str, Any], at: float) -> None:
        started = flow["startedAt"] and datetime.fromisoformat(flow["startedAt"]).timestamp()
        seen = Seen(
            at, started, flow["state"], frozenset(one["deploymentId"] for one in flow["deployments"]),
            (flow["transmitBytes"], flow["receiveBytes"]), flow,
        )  # fmt: skip
        told = self.seen.setdefault(_key(flow), [])
        if told and told[-1].same(seen):
            told.pop()
        told.append(seen)


def _key(flow: Mapping[str, Any]) -> Tuple:
    client, server = flow["client"], flow["server"]
    return flow["protocol"], client["ip"], client["port"], server["ip"], server["port"]
