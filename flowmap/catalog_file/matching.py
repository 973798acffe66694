"""Finds the deployments of a catalog that match a question. Pure: the time is an argument.

====================  ==================================================  =======================================
question              connection reading                                  dataflow reading
====================  ==================================================  =======================================
srcIp                 deployments with that TaskManager address           deployments that read from it
dstIp [dstPort]       deployments that connect to it                      deployments that write to it
both                  the intersection                                    the intersection
with srcPort too      the connection, if the catalog has it; otherwise    srcPort belongs to the service read from
                      as without srcPort
====================  ==================================================  =======================================
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from flowmap.catalog_file.catalog import AddressEntry, CatalogFile, CatalogSemantics, DeploymentEntry, ServiceEndpoint

Positions = set[int]
"""Positions in the list of deployments."""


class IpQuestion(NamedTuple):
    """The parameters of ``GetDeploymentsByIp``, addresses in canonical form."""

    src_ip: str | None = None
    src_port: int | None = None
    dst_ip: str | None = None
    dst_port: int | None = None

    @property
    def shape(self) -> str:
        """``client``, ``sink``, ``source``, ``link``, ``exact``, or ``other``."""
        given = tuple(value is not None for value in self)
        return _SHAPES.get(given, "other")


_SHAPES: dict[tuple[bool, ...], str] = {
    (True, False, False, False): "client",
    (False, False, True, True): "sink",
    (True, True, False, False): "source",
    (True, False, True, True): "link",
    (True, True, True, True): "exact",
}


class Index:
    """A catalog indexed by address, for questions."""

    def __init__(self, catalog: CatalogFile) -> None:
        self.catalog = catalog
        self._addresses: dict[str, list[tuple[AddressEntry, int]]] = defaultdict(list)
        self._reads: _Endpoints = defaultdict(list)
        self._writes: _Endpoints = defaultdict(list)
        self._connections: dict[ServiceEndpoint, list[tuple[ServiceEndpoint, int]]] = defaultdict(list)
        self._by_id = {entry.id: entry for entry in catalog.deployments}
        self._listed: dict[str, list[DeploymentEntry]] = {}
        for position, entry in enumerate(catalog.deployments):
            self._add(position, entry)

    def _add(self, position: int, entry: DeploymentEntry) -> None:
        for address in entry.addresses:
            self._addresses[address.ip].append((address, position))
        for endpoints, table in ((entry.reads, self._reads), (entry.writes, self._writes)):
            for endpoint in endpoints:
                table[endpoint.ip].append((endpoint.port, position))
        for connection in entry.connections:
            self._connections[connection.client].append((connection.server, position))

    def by_ip(self, namespace: str, question: IpQuestion, *, now: float) -> list[DeploymentEntry]:
        """Deployments of ``namespace`` that match the question, in catalog order."""
        found: Positions = set()
        for reading in _READINGS[self.catalog.semantics]:
            found |= reading(self, question, now)
        return self._entries(namespace, sorted(found))

    def by_label(self, namespace: str, key: str, values: Sequence[str]) -> list[DeploymentEntry]:
        """Deployments of ``namespace`` whose label ``key`` is one of ``values``."""
        return [entry for entry in self.all(namespace) if str(entry.labels.get(key, "\0")) in values]

    def all(self, namespace: str) -> list[DeploymentEntry]:
        """Deployments of ``namespace`` in catalog order."""
        return self._entries(namespace, range(len(self.catalog.deployments)))

    def listed(self, namespace: str) -> list[DeploymentEntry]:
        """Deployments of ``namespace`` in order of creation."""
        if namespace not in self._listed:
            self._listed[namespace] = sorted(self.all(namespace), key=lambda entry: (entry.created_at, entry.id))
        return self._listed[namespace]

    def deployment(self, namespace: str, identity: str) -> DeploymentEntry | None:
        """The deployment with that id in ``namespace``, if any."""
        entry = self._by_id.get(identity)
        return entry if entry is not None and entry.namespace == namespace else None

    def _entries(self, namespace: str, positions: Iterable[int]) -> list[DeploymentEntry]:
        every = (self.catalog.deployments[position] for position in positions)
        return [entry for entry in every if entry.namespace == namespace]

    def connection_reading(self, question: IpQuestion, now: float) -> Positions:
        sides: list[Positions] = []
        if question.src_ip is not None:
            sides.append({position for entry, position in self._addresses.get(question.src_ip, ()) if entry.holds(now)})
        if question.dst_ip is not None:
            reached = (_at(table, question.dst_ip, question.dst_port) for table in (self._reads, self._writes))
            sides.append(set().union(*reached))
        found = set.intersection(*sides) if sides else set()
        return self._exactly(question, found)

    def _exactly(self, question: IpQuestion, found: Positions) -> Positions:
        if question.src_ip is None or question.src_port is None:
            return found
        known = {
            position
            for server, position in self._connections.get(ServiceEndpoint(question.src_ip, question.src_port), ())
            if question.dst_ip is None or server == (question.dst_ip, question.dst_port)
        }
        return known & found if known else found

    def dataflow_reading(self, question: IpQuestion, now: float) -> Positions:
        sides: list[Positions] = []
        if question.src_ip is not None:
            sides.append(_at(self._reads, question.src_ip, question.src_port))
        if question.dst_ip is not None:
            sides.append(_at(self._writes, question.dst_ip, question.dst_port))
        return set.intersection(*sides) if sides else set()


_Endpoints = dict[str, list[tuple[int | None, int]]]

_READINGS: Mapping[CatalogSemantics, Sequence[Callable[[Index, IpQuestion, float], Positions]]] = {
    CatalogSemantics.CONNECTION: (Index.connection_reading,),
    CatalogSemantics.DATAFLOW: (Index.dataflow_reading,),
    CatalogSemantics.BOTH: (Index.connection_reading, Index.dataflow_reading),
}


def _at(table: _Endpoints, ip: str, port: int | None) -> Positions:
    """Positions of deployments with an endpoint at ``ip``. A missing port on either side matches any."""
    return {position for known, position in table.get(ip, ()) if port is None or known is None or known == port}
