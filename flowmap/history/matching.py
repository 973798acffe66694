"""Matches the flows of a block with a question: masks over its columns, each decoded when first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.endpoints import EndpointKey
from flowmap.flows.index.lookups import EndpointColumns, LookupIndex, Matches
from flowmap.flows.index.ports import client_ports, nat_ports, protocols, server_ports
from flowmap.history.block import Block, Referred
from flowmap.history.closed_flows import MICROSECONDS, Column, Fact, Mask, StoredDecision
from flowmap.model.address import Address, Endpoint
from flowmap.model.namespace import HOST, OWN, NetworkNamespace
from flowmap.model.views import Connection, FlowFilter
from flowmap.model.workload import Local, Side, Workload

U64 = npt.NDArray[np.uint64]


class BlockMatcher:
    """One block with its decoded columns. DecodeError for invalid bytes."""

    def __init__(self, block: Block, *, translated: bool) -> None:
        """``translated``: whether the service endpoint is the one after destination NAT."""
        self._block = block
        self._behind = translated
        self._columns: dict[str, Column] = {}

    def __len__(self) -> int:
        return len(self._block)

    def __getitem__(self, name: str) -> Column:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self._block.column(name)
        return column

    @cached_property
    def _referred(self) -> Referred:
        return self._block.referred()

    @property
    def decisions(self) -> tuple[StoredDecision, ...]:
        return self._referred.decisions

    def local(self, row: int) -> tuple[Local, ...]:
        """The workloads of one flow, the client's first."""
        workloads = self._referred.workloads
        ends: tuple[tuple[Side, int], ...] = (
            ("client", int(self["client_workload"][row])),
            ("server", int(self["server_workload"][row])),
        )
        return tuple(Local(side, workloads[number - 1]) for side, number in ends if number)

    def namespace(self, row: int) -> NetworkNamespace | None:
        """The network namespace of one flow; None for the daemon's own."""
        number = int(self["namespace"][row])
        return self._referred.namespaces[number - 1] if number else None

    @cached_property
    def protocol(self) -> U64:
        return protocols(self["ports"])

    @cached_property
    def translated(self) -> Mask:
        return np.asarray(self["flags"] & np.uint8(Fact.TRANSLATED) != 0)

    @cached_property
    def service(self) -> tuple[U64, U64, U64]:
        """Address and port of every service endpoint."""
        high, low = self["server_high"], self["server_low"]
        port = server_ports(self["ports"])
        if self._behind and self.translated.any():
            high = np.where(self.translated, self["translated_server_high"], high)
            low = np.where(self.translated, self["translated_server_low"], low)
            port = np.where(self.translated, nat_ports(self["translated_ports"])[1], port)
        return high, low, port

    def within(self, since: float, until: float) -> Mask:
        """Flows that were, or may have been, open at some moment between the two."""
        first, last = microseconds(since), microseconds(until)
        return np.asarray((self["born_after"] <= last) & (self["ended_by"] >= first))

    def surely_at(self, at: float) -> Mask:
        """Flows that were certainly open at the moment."""
        micro = microseconds(at)
        return np.asarray((self["born_by"] <= micro) & (self["ended_after"] >= micro))

    def between(self, wanted: Connection) -> Mask:
        """Flows with these endpoints, in either direction, before or after NAT."""
        endpoints = ((wanted.source, wanted.source_port), (wanted.destination, wanted.destination_port))
        found = self._has_endpoints(*endpoints) | self._has_endpoints(*reversed(endpoints))
        found &= self.protocol == np.uint64(wanted.protocol)
        if wanted.netns is not None and found.any():
            found &= self.in_namespace(wanted.netns)
        return np.asarray(found)

    def of_lookups(self, index: LookupIndex) -> list[npt.NDArray[np.intp]]:
        """For each lookup the flows that match, before or after NAT."""
        inside = {netns: self.in_namespace(netns) for netns in {*index.netns} if netns is not None}
        found = self._of_ends(index)
        return [
            flows if netns is None else flows[inside[netns][flows]]
            for flows, netns in zip(found, index.netns, strict=True)
        ]

    def _of_ends(self, index: LookupIndex) -> list[npt.NDArray[np.intp]]:
        count = len(index.netns)
        guessed = np.asarray(self["flags"] & np.uint8(Fact.GUESSED) != 0)
        protocol, ports = self.protocol, self["ports"]
        client, server = self._ends("client", client_ports(ports)), self._ends("server", server_ports(ports))
        found = index.find(client, server, protocol, guessed)
        if not self.translated.any():
            return found.by_lookup(count)
        behind = np.flatnonzero(self.translated)
        client_port, server_port = nat_ports(self["translated_ports"])
        client = self._ends("translated_client", client_port).take(behind)
        server = self._ends("translated_server", server_port).take(behind)
        hidden = index.find(client, server, protocol[behind], guessed[behind])
        flows = np.concatenate((found.flows, behind[hidden.flows]))
        return Matches(flows, np.concatenate((found.lookups, hidden.lookups))).by_lookup(count)

    def of_deployment(self, deployment: str) -> Mask:
        """Flows that the deployment owns, alone or with others."""
        return self._by_decision(lambda decision: any(owner.is_called(deployment) for owner in decision.owners))

    def passes(self, wanted: FlowFilter, peer_name: Callable[[EndpointKey], str]) -> Mask:
        """Flows of a listing."""
        passes = self.within(*wanted.window)
        if wanted.deployment is not None and passes.any():
            passes &= self.of_deployment(wanted.deployment)
        if wanted.state is not None and passes.any():
            passes &= self._by_decision(lambda decision: decision.state is wanted.state)
        if wanted.protocol is not None:
            passes &= self.protocol == np.uint64(wanted.protocol)
        if wanted.client is not None and passes.any():
            address, port = wanted.client
            passes &= _equals(self["client_high"], self["client_low"], address)
            passes &= _port(client_ports(self["ports"]), port)
        if wanted.of_workload and passes.any():
            passes &= self._held_by(wanted.admits)
        if wanted.netns is not None and passes.any():
            passes &= self.in_namespace(wanted.netns)
        if wanted.peer is not None and passes.any():
            rows = np.flatnonzero(passes)
            passes[rows] = self._is_peer(rows, wanted.peer, peer_name)
        return passes

    def in_namespace(self, netns: str) -> Mask:
        """Flows of the network namespace with this name or inode, or with an endpoint in it."""
        known = enumerate(self._referred.namespaces, 1)
        found = {number: one for number, one in known if one.is_called(netns)}
        names = {netns, *map(str, found.values())}
        numbers = [OWN, *found] if netns == HOST else list(found)
        inside = np.isin(self["namespace"], numbers) | self._held_by(lambda workload: workload.namespace in names)
        return np.asarray(inside)

    def _held_by(self, admits: Callable[[Workload], bool]) -> Mask:
        """Flows with a workload that passes."""
        numbers = [number for number, one in enumerate(self._referred.workloads, 1) if admits(one)]
        found = np.isin(self["client_workload"], numbers) | np.isin(self["server_workload"], numbers)
        return np.asarray(found)

    def services(self, rows: npt.NDArray[np.intp]) -> tuple[list[EndpointKey], npt.NDArray[np.intp]]:
        """The distinct service endpoints of some flows, and the position of each flow's own."""
        high, low, port = self.service
        parts = (high[rows], low[rows], port[rows] << np.uint64(8) | self.protocol[rows])
        distinct, position = np.unique(np.stack(parts, axis=1), axis=0, return_inverse=True)
        keys = [EndpointKey(Address(a, b), meta >> 8, meta & 0xFF, True) for a, b, meta in distinct.tolist()]
        return keys, position.reshape(-1)

    def _is_peer(self, rows: npt.NDArray[np.intp], peer: str, peer_name: Callable[[EndpointKey], str]) -> Mask:
        services, position = self.services(rows)
        names = [(peer_name(key), str(Endpoint(key.address, key.port)), str(key.address)) for key in services]
        return np.array([peer in several for several in names], np.bool_)[position]

    def _ends(self, name: str, port: U64) -> EndpointColumns:
        return EndpointColumns(self[f"{name}_high"], self[f"{name}_low"], port)

    def _by_decision(self, holds: Callable[[StoredDecision], bool]) -> Mask:
        chosen = [number for number, decision in enumerate(self.decisions) if holds(decision)]
        if not chosen:
            return np.zeros(len(self), np.bool_)
        return np.isin(self["decision"], np.array(chosen, np.uint32))

    def _has_endpoints(self, client: tuple[Address, int | None], server: tuple[Address, int | None]) -> Mask:
        seen = _equals(self["client_high"], self["client_low"], client[0])
        seen &= _equals(self["server_high"], self["server_low"], server[0])
        seen &= _port(client_ports(self["ports"]), client[1])
        seen &= _port(server_ports(self["ports"]), server[1])
        if not self.translated.any():
            return seen
        behind = _equals(self["translated_client_high"], self["translated_client_low"], client[0])
        behind &= _equals(self["translated_server_high"], self["translated_server_low"], server[0])
        client_port, server_port = nat_ports(self["translated_ports"])
        behind &= _port(client_port, client[1]) & _port(server_port, server[1])
        return np.asarray(seen | (behind & self.translated))


def totals(columns: Iterable[Column], position: npt.NDArray[np.intp], groups: int) -> list[list[int]]:
    """Exact sums of counters by group, one list per column. Halves are summed separately against overflow."""
    sums = []
    for column in columns:
        high, low = np.zeros(groups, np.uint64), np.zeros(groups, np.uint64)
        np.add.at(high, position, column >> np.uint64(32))
        np.add.at(low, position, column & np.uint64(0xFFFF_FFFF))
        sums.append([(int(upper) << 32) + int(lower) for upper, lower in zip(high, low, strict=True)])
    return sums


def microseconds(seconds: float) -> int:
    """Seconds as µs of the columns, limited to their range."""
    return round(min(max(seconds, -9e12), 9e12) * MICROSECONDS)


def _equals(high: Column, low: Column, address: Address) -> Mask:
    return np.asarray((high == np.uint64(address.high)) & (low == np.uint64(address.low)))


def _port(ports: Column, wanted: int | None) -> Mask:
    return np.asarray(ports == np.uint64(wanted)) if wanted is not None else np.ones(len(ports), np.bool_)
