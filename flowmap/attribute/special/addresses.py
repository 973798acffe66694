"""Special addresses, which no deployment can have: no question is about them, and their flows are decided at once.

    multicast     224.0.0.0/4, ff00::/8
    broadcast     255.255.255.255, and the directed broadcast addresses of this host's networks
    unspecified   0.0.0.0, ::
    link-local    169.254.0.0/16, fe80::/10
    outside       a client outside ``attribute.deployment_networks``, if those are given
    loopback      127.0.0.0/8, ::1; unless the control plane is on loopback itself (sandbox, demo), and in every other
                  network namespace than the daemon's own
    shared        an address that several network namespaces of this host have: an answer may be about any of them

One special endpoint is enough: a flow is named only if the answers about both endpoints agree on a deployment. The
client alone does not name it: mDNS, DHCP and name services come from other programs on the same host. Under the
data-flow reading only the service endpoint is asked about, so only its address matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from flowmap.attribute.answers.timeline import NO_OWNERS
from flowmap.attribute.decisions import Decision
from flowmap.attribute.settings import AttributionSettings
from flowmap.attribute.special.own_connections import OwnConnections, Pair
from flowmap.flows.bursts import is_unconfirmed
from flowmap.flows.columns import PENDING, Mask, Row
from flowmap.flows.filter import LOOPBACK, Network
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable
from flowmap.model.address import Address
from flowmap.model.deployment import State
from flowmap.model.namespace import OWN

OWN_REASON = "own_call"
"""Label ``reason`` of the bytes of flowmap's own calls to a control plane."""
REASON = "special_address"
"""Label ``reason`` of the bytes of such a flow."""
OUTSIDE_REASON = "outside_networks"
"""The same if its client is outside ``attribute.deployment_networks``."""

U64 = npt.NDArray[np.uint64]
Kinds = npt.NDArray[np.uint8]
"""A position in :data:`KINDS` for each address."""

KINDS = ("", "multicast", "broadcast", "unspecified", "link-local", "loopback", "shared", "outside")
"""The first one means: an address that a deployment can have."""

LOOPBACK_KIND, SHARED = KINDS.index("loopback"), KINDS.index("shared")
OUTSIDE = KINDS.index("outside")
"""A client outside ``attribute.deployment_networks``."""

_NETWORKS = {
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "broadcast": ("255.255.255.255",),
    "unspecified": ("0.0.0.0", "::"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
}


class SpecialAddresses:
    """The special addresses for one control plane and one host."""

    def __init__(
        self,
        *,
        loopback: bool,
        broadcasts: Iterable[Address] = (),
        networks: Iterable[str] = (),
        shared: Iterable[Address] = (),
    ) -> None:
        """``loopback``: whether the control plane can know loopback addresses. ``broadcasts``: directed broadcast
        addresses of the host's networks. ``networks``: where every client of a deployment is, if that is known.
        ``shared``: addresses that several network namespaces have."""
        self.shared = frozenset(shared)
        self.networks = tuple(networks)
        self.loopback = loopback
        self.broadcasts = tuple(broadcasts)
        self._networks = [(kind, Network.parse(text)) for kind, texts in _NETWORKS.items() for text in texts]
        self._networks += [("broadcast", Network.parse(str(address))) for address in self.broadcasts]
        self._networks += [] if loopback else [("loopback", network) for network in LOOPBACK]

    def kinds(self, high: U64, low: U64) -> Kinds:
        """The kind of every address."""
        found = np.zeros(len(high), np.uint8)
        for kind, network in self._networks:
            found[network.contains(high, low)] = KINDS.index(kind)
        if self.shared:
            lows = np.fromiter((address.low for address in self.shared), np.uint64, len(self.shared))
            for place in np.flatnonzero(np.isin(low, lows) & (found == 0)).tolist():
                found[place] = SHARED if Address(int(high[place]), int(low[place])) in self.shared else 0
        return found

    def kinds_of_clients(self, high: U64, low: U64) -> Kinds:
        """The same for addresses of clients, which may be outside the networks of deployments."""
        found = self.kinds(high, low)
        if self.networks:
            inside = np.zeros(len(high), np.bool_)
            for text in self.networks:
                inside |= Network.parse(text).contains(high, low)
            found[~inside & (found == 0)] = OUTSIDE
        return found

    def cause(self, client: Address, service: Address | None, *, by_client: bool) -> str:
        """Why a flow between these addresses has no owner; empty if it can have one.

        ``service``: None if it is not known. ``by_client``: whether the client's address matters.
        """
        high, low = (np.array(halves, np.uint64) for halves in zip(client, service or client, strict=True))
        of_service, of_client = int(self.kinds(high, low)[1]), int(self.kinds_of_clients(high, low)[0])
        of_service = 0 if service is None else of_service
        if of_client == OUTSIDE:
            return _cause(OUTSIDE, 0)
        return _cause(of_client if by_client else 0, of_service)


def _cause(of_client: int, of_service: int) -> str:
    if of_client == OUTSIDE:
        return "the client is outside attribute.deployment_networks"
    side, kind = ("service endpoint", of_service) if of_service else ("client", of_client)
    if kind == SHARED:
        return f"several network namespaces of this host have the {side}'s address: an answer may be about any of them"
    return f"no deployment can have the {side}'s address: it is {KINDS[kind]}" if kind else ""


class SpecialEndpoints:
    """The endpoints of one flow table that have special addresses, and the flows that they decide."""

    def __init__(self, table: FlowTable, settings: AttributionSettings) -> None:
        self.by_client = settings.semantics != "dataflow"
        self.addresses = SpecialAddresses(loopback=settings.loopback, networks=settings.deployment_networks)
        self._table = table
        self._kinds = np.zeros(table.endpoints.capacity, np.uint8)
        self._any = False
        self._opened: list[Rows] = []
        self._own = OwnConnections(table)

    def note_own(self, made: tuple[Pair, ...], now: float) -> None:
        """flowmap has just made these connections to control planes, or to the servers of its fleet."""
        self._own.note(made, now)
        self.resumed(self._table.live())

    def may_be_own(self, rows: Rows, now: float) -> Mask:
        """Whether it is not known yet that each flow is not one of flowmap's own."""
        return self._own.perhaps_among(rows, now)

    def set_broadcasts(self, broadcasts: Iterable[Address]) -> None:
        """Replace the directed broadcast addresses, also for flows without a decision."""
        self._replace(broadcasts, self.addresses.shared)

    def set_shared(self, shared: frozenset[Address]) -> None:
        """Replace the addresses that several network namespaces have, also for flows without a decision."""
        if shared != self.addresses.shared:
            self._replace(self.addresses.broadcasts, shared)

    def _replace(self, broadcasts: Iterable[Address], shared: Iterable[Address]) -> None:
        known = self.addresses
        self.addresses = SpecialAddresses(
            loopback=known.loopback, broadcasts=broadcasts, networks=known.networks, shared=shared
        )
        self.opened(self._table.live())

    def opened(self, rows: Rows) -> None:
        """Note the endpoints of new flows."""
        columns, endpoints = self._table.columns, self._table.endpoints
        numbers = np.unique(np.concatenate((columns.client[rows], columns.service[rows])))
        addresses = endpoints.addresses(numbers)
        services = endpoints.are_services(numbers)
        of_clients, of_services = self.addresses.kinds_of_clients(*addresses), self.addresses.kinds(*addresses)
        kinds = self._kinds[numbers] = np.where(services, of_services, of_clients)
        self._any |= bool(kinds.any())
        self._own.opened(numbers)
        self.resumed(rows)

    def resumed(self, rows: Rows) -> None:
        """Note flows of known endpoints that are undecided, or undecided again."""
        special = rows[self.holds(rows)]
        if len(special):
            self._opened.append(special)

    def holds(self, rows: Rows) -> Mask:
        """Whether each flow has a special endpoint that matters."""
        own = self._own.among(rows) | self._are_loopback_elsewhere(rows)
        if not self._any:  # a host may have a million flows, and this is asked often
            return own
        columns = self._table.columns
        special = self._kinds[columns.service[rows]] != 0
        of_client = self._kinds[columns.client[rows]]
        special |= (of_client != 0) if self.by_client else (of_client == OUTSIDE)
        return np.asarray(special | own)

    def _are_loopback_elsewhere(self, rows: Rows) -> Mask:
        """Whether each flow is on the loopback of another network namespace, which a control plane here cannot know."""
        columns = self._table.columns
        elsewhere = columns.namespace[rows] != OWN
        if not self.addresses.loopback or not elsewhere.any():
            return np.zeros(len(rows), np.bool_)
        loopback = np.zeros(len(rows), np.bool_)
        for network in LOOPBACK:
            loopback |= network.contains(columns.client_high[rows], columns.client_low[rows])
            loopback |= network.contains(columns.server_high[rows], columns.server_low[rows])
        return np.asarray(elsewhere & loopback)

    def is_special(self, number: int) -> bool:
        """Whether the endpoint has a special address."""
        return bool(self._kinds[number])

    def decide(self, now: float) -> Iterator[tuple[Decision, Rows]]:
        """Decisions about the special flows among those opened since the last call, with the rows of each."""
        if not self._opened:
            return
        rows, self._opened = np.unique(np.concatenate(self._opened)), []
        columns = self._table.columns
        used = (columns.flags[rows] & np.uint32(Row.USED)) != 0
        rows = rows[used & ((columns.series[rows] == PENDING) | is_unconfirmed(columns, rows))]
        rows = rows[self.holds(rows)]  # another flow may have taken the row since
        own = self._own.among(rows)
        if own.any():
            cause = "a connection of flowmap itself: to its control plane, or to the servers of its fleet"
            yield Decision(State.UNKNOWN, NO_OWNERS, {}, now, cause, OWN_REASON), rows[own]
        rows = rows[~own]
        of_client, of_service = (self._kinds[numbers[rows]] for numbers in (columns.client, columns.service))
        of_service[self._are_loopback_elsewhere(rows)] = LOOPBACK_KIND
        for pair in sorted(set(zip(of_client.tolist(), of_service.tolist(), strict=True))):
            outside = pair[0] == OUTSIDE
            cause = _cause(pair[0] if self.by_client or outside else 0, pair[1])
            decision = Decision(State.UNKNOWN, NO_OWNERS, {}, now, cause, OUTSIDE_REASON if outside else REASON)
            yield decision, rows[(of_client == pair[0]) & (of_service == pair[1])]

    def forget(self, numbers: Rows) -> None:
        """The numbers of these endpoints will stand for others."""
        self._kinds[numbers] = 0
        self._own.forget(numbers)
