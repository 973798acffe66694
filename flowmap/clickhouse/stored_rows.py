"""Rows of the view `connections` as stored flows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import numpy as np

from flowmap.attribute.questions import CONFIDENCE, Shape
from flowmap.errors import HistoryError
from flowmap.flows.index.lookups import EndpointColumns, LookupIndex, Matches
from flowmap.history.stored import StoredFlow
from flowmap.model.address import Address, Endpoint, protocol_name
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.model.namespace import HOST, NetworkNamespace
from flowmap.model.views import Evidence, FlowView, Lookup, Observation
from flowmap.model.workload import Local, Side, Workload

MICROSECONDS = 1_000_000
Value = TypeVar("Value", bound=StrEnum)


class Row(NamedTuple):
    """One row of `connections`, as :data:`CONNECTION` selects it. Times are µs since the epoch."""

    host: str
    spool: int
    number: int
    protocol: int
    client: str
    client_port: int
    server: str
    server_port: int
    translated: bool
    translated_client: str
    translated_client_port: int
    translated_server: str
    translated_server_port: int
    started: int
    ended: int
    started_after: int
    ended_after: int
    preexisting: bool
    unbounded: bool
    cut: bool
    guessed: bool
    transmit_bytes: int
    receive_bytes: int
    transmit_packets: int
    receive_packets: int
    source: str
    network_namespace: str
    state: str
    deployments: Sequence[str]
    evidence: str
    cause: str
    client_workload: str
    server_workload: str
    observations: Sequence[Sequence[Any]]

    @property
    def client_endpoint(self) -> Endpoint:
        return Endpoint(Address.parse(self.client), self.client_port)

    @property
    def server_endpoint(self) -> Endpoint:
        return Endpoint(Address.parse(self.server), self.server_port)

    @property
    def endpoints_after_nat(self) -> tuple[Endpoint, Endpoint]:
        """Client and server as the server sees them; the same without NAT."""
        if not self.translated:
            return self.client_endpoint, self.server_endpoint
        return (
            Endpoint(Address.parse(self.translated_client), self.translated_client_port),
            Endpoint(Address.parse(self.translated_server), self.translated_server_port),
        )


_TIMES = ("started", "ended", "started_after", "ended_after")
_ADDRESSES = ("client", "server", "translated_client", "translated_server")


def _selected(name: str) -> str:
    if name in _TIMES:
        return f"toUnixTimestamp64Micro({name})"
    return f"IPv6NumToString({name})" if name in _ADDRESSES else name


CONNECTION: Mapping[str, str] = {name: _selected(name) for name in Row._fields}
"""What is selected for each field of a :class:`Row`."""


def stored(row: Row, owners: Mapping[str, Owner], *, at: int | None) -> StoredFlow:
    """A row as a stored flow. ``owners``: by their keys. ``at``: the moment in question in µs; None: any."""
    unknown_start = row.preexisting or row.unbounded
    evidence = tuple(_evidence(row.evidence, owners))
    sure = at is None or row.started <= at <= row.ended_after
    after = -math.inf if unknown_start else row.started_after / MICROSECONDS
    return StoredFlow(_view(row, owners), evidence, row.cause, after, sure)


def _view(row: Row, owners: Mapping[str, Owner]) -> FlowView:
    return FlowView(
        protocol_name(row.protocol),
        row.client_endpoint,
        row.server_endpoint,
        row.endpoints_after_nat if row.translated else None,
        None if row.preexisting else row.started / MICROSECONDS,
        None if row.cut else row.ended / MICROSECONDS,
        row.transmit_bytes,
        row.receive_bytes,
        row.transmit_packets,
        row.receive_packets,
        state=known(State, row.state),
        deployments=tuple(DeploymentInfo(owners[key]) for key in row.deployments),
        guessed=row.guessed,
        source=row.source,
        local=tuple(_local(row)),
        namespace=_namespace(row.network_namespace),
        observations=tuple(_observation(one) for one in sorted(row.observations, key=lambda one: one[0] != row.host)),
    )


def _observation(one: Sequence[Any]) -> Observation:
    host, side, counts, sent, received, packets_sent, packets_received, state, source, started, ended, old, cut = one
    return Observation(
        side or None,
        host,
        counts,
        None if old else started / MICROSECONDS,
        None if cut else ended / MICROSECONDS,
        *(sent, received, packets_sent, packets_received),
        known(State, state),
        source,
    )


def _local(row: Row) -> Iterator[Local]:
    sides: tuple[tuple[Side, str], ...] = (("client", row.client_workload), ("server", row.server_workload))
    for side, text in sides:
        if text:
            fields = _decoded(text)[: len(Workload._fields)]  # a newer flowmap adds some at the end
            yield Local(side, Workload(*fields))


def _namespace(text: str) -> NetworkNamespace | None:
    if not text:
        return None
    inode = text.removeprefix("net:[").removesuffix("]")
    return NetworkNamespace(int(inode)) if text.startswith("net:[") and inode.isdecimal() else NetworkNamespace(0, text)


def _evidence(text: str, owners: Mapping[str, Owner]) -> Iterator[Evidence]:
    for shape, rule, keys, *_ in _decoded(text) if text else ():
        named = tuple(owners.get(key) or Owner("", "", key, key) for key in keys)
        yield Evidence(shape, CONFIDENCE[known(Shape, shape)], None, None, "history", rule, named)


def keys_of(row: Row) -> Iterator[str]:
    """The keys of the deployments that a row names, as owner or in evidence."""
    yield from row.deployments
    for _, _, keys, *_ in _decoded(row.evidence) if row.evidence else ():
        yield from keys


def known(kind: type[Value], text: str) -> Value:
    """A value as it is in a row; HistoryError if only a newer flowmap can know it."""
    try:
        return kind(text)
    except ValueError:
        what = f"the store has a {kind.__name__.lower()} {text!r} that this flowmap does not know"
        raise HistoryError(what, reason="version", remedy="upgrade flowmap on this host") from None


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise HistoryError(f"the store has a row that cannot be read: {error}", reason="corrupt") from error


def of_lookups(rows: Sequence[Row], lookups: Sequence[Lookup]) -> list[list[int]]:
    """For each lookup the positions of the rows that match, before or after NAT."""
    index = LookupIndex(lookups)
    protocols = np.array([row.protocol for row in rows], np.uint64)
    guessed = np.array([row.guessed for row in rows], np.bool_)
    seen = [(row.client_endpoint, row.server_endpoint) for row in rows]
    behind = [row.endpoints_after_nat for row in rows]
    both = [index.find(*_columns(pairs), protocols, guessed) for pairs in (seen, behind)]
    matches = Matches(*(np.concatenate(parts) for parts in zip(*both, strict=True)))
    found = [positions.tolist() for positions in matches.by_lookup(len(lookups))]
    return [
        [place for place in places if lookup.netns is None or _is_in(rows[place], lookup.netns)]
        for places, lookup in zip(found, lookups, strict=True)
    ]


def _is_in(row: Row, netns: str) -> bool:
    """Whether the connection was counted in this network namespace, or has an endpoint in it."""
    counted = _namespace(row.network_namespace)
    if netns == HOST if counted is None else counted.is_called(netns):
        return True
    return any(local.workload.namespace in (netns, f"net:[{netns}]") for local in _local(row))


def _columns(pairs: Sequence[tuple[Endpoint, Endpoint]]) -> tuple[EndpointColumns, EndpointColumns]:
    clients, servers = (
        EndpointColumns(
            np.array([pair[place].address.high for pair in pairs], np.uint64),
            np.array([pair[place].address.low for pair in pairs], np.uint64),
            np.array([pair[place].port for pair in pairs], np.uint64),
        )
        for place in (0, 1)
    )
    return clients, servers
