"""Encodes flows of the history as rows of the table ``ends_1``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.clickhouse import native
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.flows.index.ports import client_ports, nat_ports, protocols, server_ports, zones
from flowmap.history.closed_flows import Fact, Mask, StoredDecision
from flowmap.history.spool import Part
from flowmap.model.address import V4_MAPPED, Address
from flowmap.model.deployment import FLINK_ROLES, DeploymentKey, Owner
from flowmap.model.workload import Workload

Numbers = npt.NDArray[Any]

LOOPBACK_AND_LINK = ("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10")
"""Networks that exist on each host for itself."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What all rows of a host have in common."""

    host: str
    network: str = ""
    """Name of the address space: rows of hosts with the same one may be ends of one connection."""
    counts: Mapping[str, str] | None = None
    """What the bytes of each source are: ``ip`` or ``payload``. A source that is not in it counts ``ip``."""
    local_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that exist on each host for itself: rows with an endpoint in one are of this host only."""
    peer_name: Callable[[EndpointKey], str] | None = None
    """The configured name of a service endpoint, empty without one. None: no service endpoint has a name."""
    translated_ends: bool = True
    """Whether the service endpoint is the one after NAT."""


class Ends(NamedTuple):
    """One endpoint of each flow."""

    high: Numbers
    low: Numbers
    port: Numbers

    def where(self, mask: Mask, other: Ends) -> Ends:
        """These, and ``other`` where the mask does not hold."""
        return Ends(*(np.where(mask, own, alien) for own, alien in zip(self, other, strict=True)))

    def before(self, other: Ends) -> Mask:
        """Whether each is less than that of ``other``, as ClickHouse compares (address, port)."""
        less = self.port < other.port
        less = np.where(self.low == other.low, less, self.low < other.low)
        return np.asarray(np.where(self.high == other.high, less, self.high < other.high))

    def within(self, networks: tuple[IPv4Network | IPv6Network, ...]) -> Mask:
        """Whether each address is in one of the networks."""
        found = np.zeros(len(self.low), np.bool_)
        for network in networks:
            v4 = isinstance(network, IPv4Network)
            bits = network.prefixlen + (96 if v4 else 0)
            first = int(network.network_address) | (V4_MAPPED if v4 else 0)
            mask = ((1 << bits) - 1) << (128 - bits)
            high, low = mask >> 64, mask & 0xFFFF_FFFF_FFFF_FFFF
            matches = (self.high & np.uint64(high)) == np.uint64(first >> 64)
            found |= matches & ((self.low & np.uint64(low)) == np.uint64(first & 0xFFFF_FFFF_FFFF_FFFF))
        return found


COLUMNS = (
    *("host", "spool", "number", "network", "network_namespace", "zone", "protocol"),
    *("low", "low_port", "high", "high_port", "swapped"),
    *("translated", "inner_network", "inner_client", "inner_client_port", "inner_server", "inner_server_port"),
    *("started", "ended", "started_within", "ended_within", "preexisting", "unbounded", "cut", "guessed"),
    *("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets", "bytes", "source"),
    *("state", "deployments", "rule", "evidence", "cause", "peer"),
    *("client_container", "client_unit", "client_workload", "server_container", "server_unit", "server_workload"),
)
"""The columns of a row. A block leaves out those that are zero or empty in each of its rows."""


def encode(part: Part, file: int, origin: Origin) -> bytes:
    """The flows as one block of rows. ``file``: the number of their history file. DecodeError for invalid bytes."""
    return native.block(len(part), [column for column in _Rows(part, file, origin).columns() if column is not None])


def key_of(deployment: DeploymentKey) -> str:
    """How rows name a deployment: the workspace has no slash, and neither has the id."""
    return "/".join(deployment)


def named(part: Part) -> dict[str, tuple[Owner, int]]:
    """Deployments by their keys, each as the newest of these flows names it, with when that flow began (µs).

    A name was given to a flow soon after it began. A long flow that ends after a rename still has the former name, so
    the end says nothing about the name.
    """
    decisions = part.block.referred().decisions
    newest = np.full(len(decisions), -1, np.int64)
    np.maximum.at(newest, part.block.column("decision")[part.skip :], part.block.column("born_by")[part.skip :])
    found: dict[str, tuple[Owner, int]] = {}
    for decision, began in zip(decisions, newest.tolist(), strict=True):
        if began < 0:  # the decision of a flow before these
            continue
        reasons = (owner for piece in decision.evidence for owner in piece.owners if owner.workspace != FLINK_ROLES)
        for owner in (*reasons, *decision.owners):
            key = key_of(owner.key)
            if key not in found or found[key][1] <= began:
                found[key] = owner, began
    return found


class _Rows:
    def __init__(self, part: Part, file: int, origin: Origin) -> None:
        self._part = part
        self._file = file
        self._origin = origin
        self._count = len(part)
        self._referred = part.block.referred()

    def _stored(self, name: str) -> Numbers:
        return self._part.block.column(name)[self._part.skip :]

    def columns(self) -> Iterator[native.Column | None]:
        yield native.constant("host", self._origin.host, self._count)
        yield native.unsigned("spool", np.full(self._count, self._file, np.uint64))
        yield native.unsigned("number", np.arange(self._part.first, self._part.end, dtype=np.uint64))
        yield from self._tuple()
        yield from self._facts()
        for name in ("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets"):
            yield native.unsigned(name, self._stored(name))
        yield from self._decision()
        yield from self._workloads()
        spaces = ("", *(str(namespace) for namespace in self._referred.namespaces))
        yield native.strings("network_namespace", spaces, self._stored("namespace"))

    def _tuple(self) -> Iterator[native.Column | None]:
        ports = self._stored("ports")
        yield native.unsigned("zone", zones(ports))
        protocol = protocols(ports)
        yield native.unsigned("protocol", protocol)
        client, server = self._ends("client", client_ports(ports)), self._ends("server", server_ports(ports))
        translated = self._stored("flags") & np.uint8(Fact.TRANSLATED) != 0
        outside, inner_client, inner_server = client, _nowhere(self._count), _nowhere(self._count)
        local = client.within(self._origin.local_networks) | server.within(self._origin.local_networks)
        inner_local = local
        if translated.any():
            client_port, server_port = nat_ports(self._stored("translated_ports"))
            outside = self._ends("translated_client", client_port).where(translated, client)
            inner_client = client.where(translated, inner_client)
            inner_server = self._ends("translated_server", server_port).where(translated, inner_server)
            inner_local = local | (translated & inner_server.within(self._origin.local_networks))
            local = outside.within(self._origin.local_networks) | server.within(self._origin.local_networks)
        swapped = server.before(outside)
        low, high = server.where(swapped, outside), outside.where(swapped, server)
        networks = (self._origin.network, f"{self._origin.network}@{self._origin.host}")
        yield native.strings("network", networks, local.astype(np.uint8))
        yield native.strings("inner_network", networks, inner_local.astype(np.uint8))
        yield native.flags("swapped", swapped)
        yield native.flags("translated", translated)
        for name, ends in (
            ("low", low),
            ("high", high),
            ("inner_client", inner_client),
            ("inner_server", inner_server),
        ):
            yield native.addresses(name, ends.high, ends.low)
            yield native.unsigned(f"{name}_port", ends.port)
        service = inner_server.where(translated, server) if self._origin.translated_ends else server
        yield self._peers(service, protocol)

    def _ends(self, name: str, port: Numbers) -> Ends:
        return Ends(self._stored(f"{name}_high"), self._stored(f"{name}_low"), port)

    def _peers(self, service: Ends, protocol: Numbers) -> native.Column | None:
        name = self._origin.peer_name
        if name is None:
            return None
        joined = np.stack((service.high, service.low, service.port << np.uint64(8) | protocol), axis=1)
        mixed = joined[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ joined[:, 1]
        mixed = mixed * np.uint64(0xC2B2AE3D27D4EB4F) ^ joined[:, 2]
        _, first, place = np.unique(mixed, return_index=True, return_inverse=True)
        if not np.array_equal(joined[first][place], joined):  # two endpoints with one hash
            distinct, place = np.unique(joined, axis=0, return_inverse=True)
        else:
            distinct = joined[first]
        keys = (EndpointKey(Address(high, low), port >> 8, port & 0xFF, True) for high, low, port in distinct.tolist())
        return native.strings("peer", [name(key) for key in keys], place.reshape(-1))

    def _facts(self) -> Iterator[native.Column | None]:
        facts = self._stored("flags")
        for name, fact in (
            ("preexisting", Fact.PREEXISTING),
            ("unbounded", Fact.UNBOUNDED),
            ("cut", Fact.CUT),
            ("guessed", Fact.GUESSED),
        ):
            yield native.flags(name, facts & np.uint8(fact) != 0)
        started, ended = self._stored("born_by"), self._stored("ended_by")
        yield native.times("started", started)
        yield native.times("ended", ended)
        yield native.unsigned("started_within", started - self._stored("born_after"))
        yield native.unsigned("ended_within", ended - self._stored("ended_after"))

    def _decision(self) -> Iterator[native.Column | None]:
        decisions, number = self._referred.decisions, self._stored("decision")
        counts = self._origin.counts or {}
        for name, value in (
            ("state", [decision.state.value for decision in decisions]),
            ("source", [decision.source for decision in decisions]),
            ("bytes", [counts.get(decision.source, "ip") for decision in decisions]),
            ("rule", [_rules(decision) for decision in decisions]),
            ("evidence", [_evidence(decision) for decision in decisions]),
            ("cause", [decision.cause for decision in decisions]),
        ):
            yield _mapped(name, value, number)
        yield self._owners(decisions, number)

    def _owners(self, decisions: tuple[StoredDecision, ...], number: Numbers) -> native.Column | None:
        keys: dict[str, int] = {}
        owned = [[keys.setdefault(key_of(owner.key), len(keys)) for owner in decision.owners] for decision in decisions]
        lengths = np.array([len(some) for some in owned], np.int64)
        starts = np.cumsum(lengths) - lengths
        flat = np.array([one for some in owned for one in some], np.int64)
        ends = np.cumsum(lengths[number])
        # The position within its row of each owner, added to where its decision's owners begin.
        within = np.arange(int(ends[-1])) - np.repeat(ends - lengths[number], lengths[number])
        return native.arrays(
            "deployments", tuple(keys), ends, flat[np.repeat(starts[number], lengths[number]) + within]
        )

    def _workloads(self) -> Iterator[native.Column | None]:
        workloads = self._referred.workloads
        for side in ("client", "server"):
            number = self._stored(f"{side}_workload")
            yield _mapped(
                f"{side}_container", ["", *(one.container_name or one.container or "" for one in workloads)], number
            )
            yield _mapped(f"{side}_unit", ["", *(one.unit or "" for one in workloads)], number)
            yield _mapped(f"{side}_workload", ["", *map(_json, workloads)], number)


def _nowhere(rows: int) -> Ends:
    none = np.zeros(rows, np.uint64)
    return Ends(none, none, none)


def _mapped(name: str, texts: list[str], number: Numbers) -> native.Column | None:
    """A column of strings that are the same for many numbers."""
    distinct: dict[str, int] = {}
    places = np.array([distinct.setdefault(text, len(distinct)) for text in texts], np.uint32)
    return native.strings(name, tuple(distinct), places[number])


def _rules(decision: StoredDecision) -> str:
    return ",".join(sorted({piece.rule for piece in decision.evidence if piece.rule}))


def _evidence(decision: StoredDecision) -> str:
    if not decision.evidence:
        return ""
    pieces = [[piece.shape, piece.rule, [key_of(owner.key) for owner in piece.owners]] for piece in decision.evidence]
    return json.dumps(pieces, separators=(",", ":"))


def _json(workload: Workload) -> str:
    return json.dumps(workload, separators=(",", ":"))
