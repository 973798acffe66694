"""Which flows of the table a question is about. Runs on the engine's thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from flowmap.attribute.decisions import STATES
from flowmap.engine.accounting import FlowAccounting
from flowmap.flows.columns import IGNORED, U64, FlowColumns, Mask, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.lookups import EndpointColumns, LookupIndex, Matches
from flowmap.flows.index.ports import nat_ports
from flowmap.flows.table import FlowTable
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import State
from flowmap.model.namespace import HOST, OWN, NetworkNamespace
from flowmap.model.views import Connection, EndpointFilter, FlowFilter, Lookup


def of_connection(table: FlowTable, rows: Rows, connection: Connection) -> Rows:
    """The rows that match in either direction, before or after NAT; the newest last."""
    columns = table.columns
    rows = rows[(columns.protocol(rows) == np.uint64(connection.protocol)) & (columns.series[rows] != IGNORED)]
    source = EndpointFilter(connection.source, connection.source_port)
    destination = EndpointFilter(connection.destination, connection.destination_port)
    mask = _between(columns, rows, source, destination) | _between(columns, rows, destination, source)
    found: Rows = rows[mask]
    if connection.netns is not None:
        found = found[in_namespace(table, found, connection.netns)]
    newest_last: Rows = found[np.argsort(columns.born_by[found], kind="stable")]
    return newest_last


def of_lookups(table: FlowTable, rows: Rows, lookups: Sequence[Lookup]) -> list[Rows]:
    """For each lookup the rows that match, before or after NAT; the newest last. See :class:`LookupIndex`."""
    columns = table.columns
    rows = rows[columns.series[rows] != IGNORED]
    index = LookupIndex(lookups)
    found = index.find(*_ends(columns, rows))
    behind = np.flatnonzero(columns.flags[rows] & np.uint32(Row.TRANSLATED) != 0)
    hidden = index.find(*_ends_after_nat(columns, rows[behind]))
    flows = np.concatenate((found.flows, behind[hidden.flows]))
    matches = Matches(flows, np.concatenate((found.lookups, hidden.lookups)))
    matching = [rows[positions] for positions in matches.by_lookup(len(lookups))]
    for n, lookup in enumerate(lookups):
        if lookup.netns is not None:
            matching[n] = matching[n][in_namespace(table, matching[n], lookup.netns)]
    return [one[np.argsort(columns.born_by[one], kind="stable")] for one in matching]


def in_namespace(table: FlowTable, rows: Rows, netns: str) -> Mask:
    """The rows of flows that were counted in this network namespace, or have an endpoint in it."""
    columns, numbers = table.columns, table.namespaces.numbers(netns)
    names = {netns, *(str(table.namespaces.get(number)) for number in numbers if number != OWN)}
    workloads = table.workloads.numbers(lambda workload: workload.namespace in names)
    inside: Mask = np.isin(columns.namespace[rows], numbers)
    inside |= np.isin(columns.client_workload[rows], workloads) | np.isin(columns.server_workload[rows], workloads)
    return inside


def _ends(columns: FlowColumns, rows: Rows) -> tuple[EndpointColumns, EndpointColumns, U64, Mask]:
    client = EndpointColumns(columns.client_high[rows], columns.client_low[rows], columns.client_port(rows))
    server = EndpointColumns(columns.server_high[rows], columns.server_low[rows], columns.server_port(rows))
    return client, server, columns.protocol(rows), _guessed(columns, rows)


def _ends_after_nat(columns: FlowColumns, rows: Rows) -> tuple[EndpointColumns, EndpointColumns, U64, Mask]:
    ends, (client_port, server_port) = columns.translated[rows], nat_ports(columns.translated_ports[rows])
    client = EndpointColumns(ends[:, 0], ends[:, 1], client_port)
    server = EndpointColumns(ends[:, 2], ends[:, 3], server_port)
    return client, server, columns.protocol(rows), _guessed(columns, rows)


def _guessed(columns: FlowColumns, rows: Rows) -> Mask:
    guessed: Mask = columns.flags[rows] & np.uint32(Row.GUESSED) != 0
    return guessed


def in_namespaces(spaces: Iterable[NetworkNamespace | None]) -> str:
    """How connections differ that have the same endpoints in several network namespaces."""
    names = sorted({HOST if space is None else str(space) for space in spaces})
    return f"in the network namespaces {', '.join(names[:-1])} and {names[-1]}; give one (netns)"


def passing(accounting: FlowAccounting, rows: Rows, wanted: FlowFilter, epoch: float) -> Rows:
    """The rows that pass a filter; ``epoch`` is added to a monotonic instant for seconds since the epoch."""
    columns, decisions = accounting.table.columns, accounting.attribution.decisions
    passes = within(columns, rows, *wanted.window, epoch)
    if wanted.protocol is not None:
        passes &= columns.protocol(rows) == np.uint64(wanted.protocol)
    if wanted.state is not None:
        passes &= columns.state[rows] == STATES.index(wanted.state)
    if wanted.client is not None:
        passes &= _equals(columns.client_high[rows], columns.client_low[rows], wanted.client.address)
        passes &= _port(columns.client_port(rows), wanted.client.port)
    if wanted.deployment is not None:
        # The candidates of a pending flow do not own it yet.
        numbers = [
            number
            for number, one in decisions.items()
            if one.state is not State.PENDING and any(owner.is_called(wanted.deployment) for owner in one.owners)
        ]
        passes &= np.isin(columns.verdict[rows], numbers)
    if wanted.of_workload:
        numbers = accounting.table.workloads.numbers(wanted.admits)
        passes &= np.isin(columns.client_workload[rows], numbers) | np.isin(columns.server_workload[rows], numbers)
    if wanted.netns is not None:
        passes &= in_namespace(accounting.table, rows, wanted.netns)
    if wanted.peer is not None:
        services = np.unique(columns.service[rows[passes]]).tolist()
        passes &= np.isin(columns.service[rows], [n for n in services if _is_peer(accounting, n, wanted.peer)])
    found: Rows = rows[passes]
    return found


def within(columns: FlowColumns, rows: Rows, since: float, until: float, epoch: float) -> Mask:
    """Which rows were, or may have been, open at some time between the two (seconds since the epoch).

    A flow that is older than flowmap counts from its first record.
    """
    begun = np.where(np.isfinite(columns.born_after[rows]), columns.born_after[rows], columns.born_by[rows])
    inside: Mask = (columns.ended_by[rows] >= since - epoch) & (begun <= until - epoch)
    return inside


def _between(columns: FlowColumns, rows: Rows, client: EndpointFilter, server: EndpointFilter) -> Mask:
    seen = _equals(columns.client_high[rows], columns.client_low[rows], client.address)
    seen &= _equals(columns.server_high[rows], columns.server_low[rows], server.address)
    seen &= _port(columns.client_port(rows), client.port) & _port(columns.server_port(rows), server.port)
    nat = columns.flags[rows] & np.uint32(Row.TRANSLATED) != 0
    ends, (client_port, server_port) = columns.translated[rows], nat_ports(columns.translated_ports[rows])
    nat &= _equals(ends[:, 0], ends[:, 1], client.address) & _equals(ends[:, 2], ends[:, 3], server.address)
    nat &= _port(client_port, client.port) & _port(server_port, server.port)
    either: Mask = seen | nat
    return either


def _is_peer(accounting: FlowAccounting, service: int, peer: str) -> bool:
    end = accounting.table.endpoints.key(service)
    return peer in (accounting.peer(service), str(Endpoint(end.address, end.port)), str(end.address))


def _equals(high: np.ndarray, low: np.ndarray, address: Address) -> Mask:
    same: Mask = (high == np.uint64(address.high)) & (low == np.uint64(address.low))
    return same


def _port(ports: np.ndarray, wanted: int | None) -> Mask:
    same: Mask = ports == np.uint64(wanted) if wanted is not None else np.ones(len(ports), np.bool_)
    return same
