"""Closed flows for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flowmap.history.closed_flows import (
    COLUMNS,
    MICROSECONDS,
    NAMESPACE,
    WORKLOADS,
    ClosedFlows,
    Fact,
    StoredDecision,
    StoredEvidence,
)
from flowmap.model.address import Address
from flowmap.model.deployment import Owner, State
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.workload import Workload

__all__ = ["Flow", "NOW", "X", "Y", "closed", "replace", "rows", "decision"]

NOW = 1_700_000_000.0
X, Y = (Owner("w", "ns", f"id-{name}", name) for name in "xy")


def decision(*owners: Owner, source: str = "scripted", evidence: tuple[Owner, ...] = ()) -> StoredDecision:
    """A decision: no owner, one, or several. ``evidence``: owners in an answer, if they differ."""
    state = (State.UNKNOWN, State.ATTRIBUTED, State.SHARED)[min(2, len(owners))]
    pieces = (
        StoredEvidence("client", "inside", tuple(owners)),
        StoredEvidence("sink", "around", evidence or tuple(owners)),
    )
    return StoredDecision(state, source, tuple(owners), pieces, "")


@dataclass(frozen=True)
class Flow:
    """One flow; times are seconds since the epoch."""

    client: str = "10.0.0.1"
    client_port: int = 40000
    server: str = "10.1.0.1"
    server_port: int = 9092
    protocol: int = 6
    born: float = NOW - 10
    ended: float = NOW - 1
    counters: tuple[int, int, int, int] = (100, 200, 3, 4)
    owners: tuple[Owner, ...] = (X,)
    evidence: tuple[Owner, ...] = ()
    """Owners in one of the answers, if they differ."""
    flags: int = 0
    translated: tuple[str, int, str, int] | None = None
    doubt: float = 0.0
    """Seconds by which start and end may have been earlier."""
    client_workload: Workload | None = None
    server_workload: Workload | None = None
    namespace: NetworkNamespace | None = None


def closed(*flows: Flow) -> ClosedFlows:
    """The flows as history keeps them."""
    columns = {name: np.zeros(len(flows), dtype) for name, dtype in COLUMNS.items()}
    decisions: dict[StoredDecision, int] = {}
    workloads: dict[Workload, int] = {}
    namespaces: dict[NetworkNamespace, int] = {}
    for n, flow in enumerate(flows):
        client, server = Address.parse(flow.client), Address.parse(flow.server)
        values: dict[str, int] = {
            "decision": decisions.setdefault(decision(*flow.owners, evidence=flow.evidence), len(decisions)),
            "born_by": round(flow.born * MICROSECONDS),
            "ended_by": round(flow.ended * MICROSECONDS),
            "born_after": round((flow.born - flow.doubt) * MICROSECONDS),
            "ended_after": round(max(flow.born, flow.ended - flow.doubt) * MICROSECONDS),
            "flags": flow.flags | (Fact.TRANSLATED if flow.translated else 0),
            "ports": flow.client_port << 48 | flow.server_port << 32 | flow.protocol,
            "client_high": client.high,
            "client_low": client.low,
            "server_high": server.high,
            "server_low": server.low,
        }
        for name in WORKLOADS:
            workload = getattr(flow, name)
            values[name] = 0 if workload is None else workloads.setdefault(workload, len(workloads) + 1)
        if flow.namespace is not None:
            values["namespace"] = namespaces.setdefault(flow.namespace, len(namespaces) + 1)
        values |= dict(
            zip(("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets"), flow.counters, strict=True)
        )
        if flow.translated is not None:
            ends = [Address.parse(text) for text in flow.translated[::2] if isinstance(text, str)]
            for name, end in zip(("client", "server"), ends, strict=True):
                values[f"translated_{name}_high"], values[f"translated_{name}_low"] = end
            values["translated_ports"] = flow.translated[1] << 16 | flow.translated[3]
        for name, value in values.items():
            columns[name][n] = value
    return ClosedFlows(columns, tuple(decisions), tuple(workloads), tuple(namespaces))


def rows(flows: ClosedFlows) -> list[tuple[object, ...]]:
    """Every flow as a tuple with all that it refers to in full: for comparison."""
    names = [name for name in COLUMNS if name not in ("decision", *WORKLOADS, *NAMESPACE)]
    decisions = [flows.decisions[number] for number in flows.columns["decision"].tolist()]
    held = [[(None, *flows.workloads)[number] for number in flows.columns[name].tolist()] for name in WORKLOADS]
    within = [(None, *flows.namespaces)[number] for number in flows.columns["namespace"].tolist()]
    return list(zip(decisions, *(flows.columns[name].tolist() for name in names), *held, within, strict=True))


def spread(count: int, *, owners: Sequence[tuple[Owner, ...]] = ((X,), (Y,), (), (X, Y))) -> ClosedFlows:
    """Many flows that differ in everything; none compresses well."""
    rng = np.random.default_rng(count)
    columns = {name: np.zeros(count, dtype) for name, dtype in COLUMNS.items()}
    decisions = tuple(decision(*several) for several in owners)
    columns["decision"] = rng.integers(0, len(decisions), count).astype(np.uint32)
    columns["born_by"] = (np.full(count, NOW * MICROSECONDS) - rng.integers(1, 60 * MICROSECONDS, count)).astype(
        np.int64
    )
    columns["born_after"] = columns["born_by"] - 1000
    columns["ended_by"] = columns["born_by"] + rng.integers(1, 60 * MICROSECONDS, count)
    columns["ended_after"] = columns["ended_by"] - 1
    for name in ("client_low", "server_low"):
        columns[name] = (np.uint64(0xFFFF_0A00_0000) + rng.integers(0, 1 << 24, count).astype(np.uint64)).astype(
            np.uint64
        )
    columns["ports"] = rng.integers(1024, 65535, count).astype(np.uint64) << np.uint64(48) | np.uint64(443 << 32 | 6)
    for name in ("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets"):
        columns[name] = rng.integers(0, 1 << 62, count).astype(np.uint64)
    return ClosedFlows(columns, decisions)
