"""Closed flows as columns: the form in which history stores them, and the copy that it is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.attribute.decisions import Decision
from flowmap.flows.bursts import Times
from flowmap.flows.columns import Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable
from flowmap.model.deployment import FLINK_ROLES, Owner, State
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.workload import Workload

Column = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

MICROSECONDS = 1_000_000

COLUMNS: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in {
        "decision": np.uint32,  # position in the list of decisions
        "born_by": np.int64,  # µs since the epoch, as all times here: the flow began in (born_after, born_by]
        "ended_by": np.int64,  # and ended in [ended_after, ended_by]
        "born_after": np.int64,
        "ended_after": np.int64,
        "flags": np.uint8,  # Fact
        "ports": np.uint64,  # with zone and protocol, packed: see ``flows.index.ports``
        "client_low": np.uint64,
        "server_low": np.uint64,
        "client_high": np.uint64,
        "server_high": np.uint64,
        "transmit_bytes": np.uint64,
        "receive_bytes": np.uint64,
        "transmit_packets": np.uint64,
        "receive_packets": np.uint64,
        # Endpoints as the server sees them; zero without Fact.TRANSLATED.
        "translated_client_high": np.uint64,
        "translated_client_low": np.uint64,
        "translated_server_high": np.uint64,
        "translated_server_low": np.uint64,
        "translated_ports": np.uint32,  # packed
        # 1 + position in the list of workloads; 0: the endpoint is not known to be on this host.
        "client_workload": np.uint32,
        "server_workload": np.uint32,
        "namespace": np.uint32,  # 1 + position in the list of network namespaces; 0: the daemon's own
    }.items()
}
"""Name and type of every column, in the order of a block."""
WORKLOADS = ("client_workload", "server_workload")
NAMESPACE = ("namespace",)


class Fact(IntFlag):
    """Facts about one flow."""

    PREEXISTING = 1
    """The flow is older than the daemon, so its start is unknown. ``born_by`` is when it was first seen."""
    GUESSED = 2
    TRANSLATED = 4
    UNBOUNDED = 8
    """The earliest possible start is unknown: ``born_after`` is ``born_by``."""
    CUT = 16
    """The flow was still open at ``ended_by``, when the daemon stopped."""


class StoredEvidence(NamedTuple):
    """The contribution of one answer to a decision."""

    shape: str
    rule: str
    owners: tuple[Owner, ...]


class StoredDecision(NamedTuple):
    """A decision about some flows, with its evidence."""

    state: State
    source: str
    """Name of the source of these flows."""
    owners: tuple[Owner, ...]
    evidence: tuple[StoredEvidence, ...]
    cause: str


@dataclass(frozen=True, slots=True)
class ClosedFlows:
    """Flows in the order in which the table freed them, in the columns of :data:`COLUMNS`, with what they refer to."""

    columns: Mapping[str, Column]
    decisions: tuple[StoredDecision, ...]
    workloads: tuple[Workload, ...] = ()
    namespaces: tuple[NetworkNamespace, ...] = ()

    def __len__(self) -> int:
        return len(self.columns["decision"])

    def take(self, index: npt.NDArray[Any] | slice) -> ClosedFlows:
        """The flows at ``index``, with what they refer to and nothing else."""
        columns = {name: column[index] for name, column in self.columns.items()}
        return ClosedFlows(columns, self.decisions, self.workloads, self.namespaces).compact()

    @classmethod
    def concatenate(cls, parts: Iterable[ClosedFlows]) -> ClosedFlows:
        """All flows of the parts in order, with everything that they refer to once."""
        parts = tuple(parts)
        known: dict[StoredDecision, int] = {}
        held: dict[Workload, int] = {}
        within: dict[NetworkNamespace, int] = {}
        columns: dict[str, list[Column]] = {name: [] for name in COLUMNS}
        for part in parts:
            places = {"decision": [known.setdefault(decision, len(known)) for decision in part.decisions]}
            numbers = [0, *(held.setdefault(workload, len(held) + 1) for workload in part.workloads)]
            places |= dict.fromkeys(WORKLOADS, numbers)
            places["namespace"] = [0, *(within.setdefault(one, len(within) + 1) for one in part.namespaces)]
            for name, column in part.columns.items():
                place = places.get(name)
                columns[name].append(column if place is None else np.array(place, np.uint32)[column])
        joined = {
            name: np.concatenate(columns[name]) if parts else np.zeros(0, dtype) for name, dtype in COLUMNS.items()
        }
        return cls(joined, tuple(known), tuple(held), tuple(within))

    def compact(self) -> ClosedFlows:
        """The same flows without what no flow refers to; the rest keeps its order."""
        used, place = np.unique(self.columns["decision"], return_inverse=True)
        columns = {**self.columns, "decision": place.reshape(-1).astype(np.uint32)}
        decisions = tuple(self.decisions[number] for number in used.tolist())
        workloads = tuple(self.workloads[number] for number in _renumber(columns, WORKLOADS))
        namespaces = tuple(self.namespaces[number] for number in _renumber(columns, NAMESPACE))
        return ClosedFlows(columns, decisions, workloads, namespaces)


def _renumber(columns: dict[str, Column], names: Sequence[str]) -> list[int]:
    """Number anew what columns refer to (0: nothing), without gaps. Returns the former positions in the list."""
    used = np.concatenate([np.zeros(1, np.uint32), *(columns[name] for name in names)])
    kept, place = np.unique(used, return_inverse=True)  # the first is 0
    for name, numbers in zip(names, np.split(place.reshape(-1)[1:], len(names)), strict=True):
        columns[name] = numbers.astype(np.uint32)
    positions: list[int] = (kept[1:].astype(np.int64) - 1).tolist()
    return positions


class CopiedFlows(NamedTuple):
    """Copied rows of the flow table."""

    columns: Mapping[str, Column]
    """As in :class:`ClosedFlows`, with times in monotonic seconds (float) and keys of ``decisions``."""
    decisions: Mapping[int, Decision]
    """The decisions of these rows. The attribution drops its own when no tracked flow has them."""
    workloads: Mapping[int, Workload]
    """The workloads of these rows, by number."""
    namespaces: Mapping[int, NetworkNamespace]
    """The network namespaces of these rows besides the daemon's own, by number."""
    epoch: float
    """The seconds to add to a monotonic instant for seconds since the epoch."""
    source: str

    def __len__(self) -> int:
        return len(self.columns["decision"])


def copy_flows(
    table: FlowTable,
    rows: Rows,
    decisions: Mapping[int, Decision],
    *,
    epoch: float,
    source: str,
    open_until: Times | None = None,
    now: float = 0.0,
) -> CopiedFlows:
    """Copy the facts of ``rows`` that history stores: the engine's part of the work, some µs for a hundred flows."""
    given = table.columns
    flags = given.flags[rows]
    names = ("born_after", "born_by", "ended_after", "ended_by", "client_high", "client_low", "server_high")
    columns: dict[str, Column] = {name: getattr(given, name)[rows] for name in (*names, "server_low", "ports")}
    columns["decision"] = given.verdict[rows]
    columns |= {name: getattr(given, name)[rows] for name in WORKLOADS}
    held = np.unique(np.concatenate([columns[name] for name in WORKLOADS])).tolist()
    by_number = {number: workload for number in held if (workload := table.workloads.get(number)) is not None}
    columns["namespace"] = given.namespace[rows]
    within = np.unique(columns["namespace"]).tolist()
    spaces = {number: namespace for number in within if (namespace := table.namespaces.get(number)) is not None}
    columns["flags"] = flags
    total = given.last[rows] - given.base[rows]
    for place, name in enumerate(("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets")):
        columns[name] = total[:, place]
    translated = flags & np.uint32(Row.TRANSLATED) != 0
    if translated.any():
        columns["translated"] = np.where(translated[:, None], given.translated[rows], np.uint64(0))
        columns["translated_ports"] = np.where(translated, given.translated_ports[rows], np.uint32(0))
    if open_until is not None:
        columns["ended_after"] = open_until
        columns["ended_by"] = np.maximum(columns["born_by"], now)  # the flow is open; it was read until now
        columns["cut"] = np.ones(len(rows), np.bool_)
    numbers = np.unique(columns["decision"]).tolist()
    return CopiedFlows(columns, {number: decisions[number] for number in numbers}, by_number, spaces, epoch, source)


def convert(handed: CopiedFlows) -> ClosedFlows:
    """Convert copied rows to the stored form (wall time, flags, decisions): the part of history's thread."""
    given, n = handed.columns, len(handed)
    born_by = _microseconds(given["born_by"] + handed.epoch)
    ended_by = np.maximum(_microseconds(given["ended_by"] + handed.epoch), born_by)
    bounded = np.isfinite(given["born_after"])
    born_after = np.where(bounded, np.nan_to_num(given["born_after"], neginf=0.0) + handed.epoch, 0.0)
    seen_last = np.isfinite(given["ended_after"])
    ended_after = np.where(seen_last, np.nan_to_num(given["ended_after"], neginf=0.0, posinf=0.0) + handed.epoch, 0.0)
    flags = np.zeros(n, np.uint8)
    for row, fact in ((Row.PREEXISTING, Fact.PREEXISTING), (Row.GUESSED, Fact.GUESSED)):
        flags |= np.where(given["flags"] & np.uint32(row) != 0, np.uint8(fact), np.uint8(0))
    flags |= np.where(bounded, np.uint8(0), np.uint8(Fact.UNBOUNDED))
    columns: dict[str, Column] = {name: np.zeros(n, dtype) for name, dtype in COLUMNS.items()}
    if "translated_ports" in given:
        flags |= np.where(given["flags"] & np.uint32(Row.TRANSLATED) != 0, np.uint8(Fact.TRANSLATED), np.uint8(0))
        names = ("client_high", "client_low", "server_high", "server_low")
        columns |= {f"translated_{name}": given["translated"][:, place] for place, name in enumerate(names)}
        columns["translated_ports"] = given["translated_ports"]
    if "cut" in given:
        flags |= np.uint8(Fact.CUT)
    same = ("client_high", "client_low", "server_high", "server_low", "ports", "transmit_bytes", "receive_bytes")
    columns |= {name: given[name] for name in (*same, "transmit_packets", "receive_packets")}
    columns["born_by"], columns["ended_by"], columns["flags"] = born_by, ended_by, flags
    columns["born_after"] = np.where(bounded, np.minimum(_microseconds(born_after), born_by), born_by)
    clear = np.where(seen_last, np.clip(_microseconds(ended_after), born_by, ended_by), born_by)
    columns["ended_after"] = clear
    columns["decision"], decisions = _stored_decisions(handed)
    for name in (*WORKLOADS, *NAMESPACE):
        referred = handed.workloads if name in WORKLOADS else handed.namespaces
        numbers = np.array([0, *referred], np.uint32)  # ascending
        columns[name] = np.searchsorted(numbers, given[name]).astype(np.uint32)
    return ClosedFlows(columns, decisions, tuple(handed.workloads.values()), tuple(handed.namespaces.values()))


def _microseconds(seconds: Column) -> npt.NDArray[np.int64]:
    whole: npt.NDArray[np.int64] = np.rint(seconds * MICROSECONDS).astype(np.int64)
    return whole


def _stored_decisions(handed: CopiedFlows) -> tuple[npt.NDArray[np.uint32], tuple[StoredDecision, ...]]:
    distinct, position = np.unique(handed.columns["decision"], return_inverse=True)
    known: dict[StoredDecision, int] = {}
    decisions = [_stored_decision(handed.decisions[number], handed.source) for number in distinct.tolist()]
    place = [known.setdefault(decision, len(known)) for decision in decisions]
    return np.array(place, np.uint32)[position.reshape(-1)], tuple(known)


def _stored_decision(decision: Decision, source: str) -> StoredDecision:
    evidence = tuple(
        StoredEvidence(str(question.shape), outcome.rule, tuple(sorted(outcome.owners)))
        for question, outcome in decision.outcomes.items()
    )
    owners = tuple(sorted(owner for owner in decision.owners if owner.workspace != FLINK_ROLES))
    return StoredDecision(decision.state, source, owners, evidence, decision.cause)
