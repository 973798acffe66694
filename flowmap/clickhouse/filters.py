"""Conditions of a question to the store, with their parameters: values are bound by the server, never pasted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from flowmap.model.address import Address
from flowmap.model.namespace import HOST
from flowmap.model.views import Connection, EndpointFilter, FlowFilter
from flowmap.model.workload import Workload

FIRST, LAST = 86400.0, 7258118400.0  # 1970-01-02, 2200-01-01
"""The times between which every connection lies: the store knows no infinite ones."""

SHORT_ID = 12
"""Characters of a container's id from which on it is known by its start."""

Value = str | int | Sequence[str]


class Question:
    """Conditions that are joined with AND, and the parameters that they name."""

    def __init__(self) -> None:
        self.parameters: dict[str, Value] = {}
        self._conditions: list[str] = []

    def bind(self, kind: str, value: Value) -> str:
        """A parameter of a type of ClickHouse, as it is written in SQL. Equal values share one."""
        for name, known in self.parameters.items():
            if name.startswith(_prefix(kind)) and known == value:
                return f"{{{name}:{kind}}}"
        name = f"{_prefix(kind)}{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{kind}}}"

    def address(self, address: Address) -> str:
        return self.bind("IPv6", address_text(address))

    def moment(self, seconds: float) -> str:
        inside = datetime.fromtimestamp(min(max(seconds, FIRST), LAST), UTC)
        return self.bind("DateTime64(6, 'UTC')", inside.strftime("%Y-%m-%d %H:%M:%S.%f"))

    def require(self, condition: str) -> None:
        self._conditions.append(condition)

    @property
    def where(self) -> str:
        """All conditions; ``1`` if there are none."""
        return " AND ".join(f"({condition})" for condition in self._conditions) or "1"


def passing(question: Question, wanted: FlowFilter, keys: Sequence[str] | None) -> None:
    """Require what a listing is filtered by, except the window. ``keys``: those of the deployment."""
    if keys is not None:
        question.require(f"hasAny(deployments, {question.bind('Array(String)', list(keys))})")
    if wanted.state is not None:
        question.require(f"state = {question.bind('String', str(wanted.state))}")
    if wanted.protocol is not None:
        question.require(f"protocol = {question.bind('UInt8', wanted.protocol)}")
    if wanted.client is not None:
        question.require(_is(question, "client", wanted.client))
    if wanted.peer is not None:
        question.require(is_peer(question, wanted.peer))
    if wanted.container is not None:
        question.require(_of_container(question, wanted.container))
    if wanted.unit is not None:
        units = question.bind("Array(String)", [wanted.unit, f"{wanted.unit}.service"])
        question.require(" OR ".join(f"has({units}, {unit})" for unit in _fields("unit")))
    if wanted.netns is not None:
        question.require(in_namespace(question, wanted.netns))


def between(question: Question, wanted: Connection) -> str:
    """The condition for connections with these endpoints, in either direction, before or after NAT."""
    one = EndpointFilter(wanted.source, wanted.source_port)
    other = EndpointFilter(wanted.destination, wanted.destination_port)
    ways = [
        f"{_is(question, f'{nat}client', client)} AND {_is(question, f'{nat}server', server)}"
        for nat in ("", "translated_")
        for client, server in ((one, other), (other, one))
    ]
    protocol = question.bind("UInt8", wanted.protocol)
    return f"protocol = {protocol} AND ({' OR '.join(ways)})"


def touching(question: Question, addresses: Iterable[Address]) -> str:
    """The condition for connections with one of these addresses at an endpoint, before or after NAT."""
    listed = question.bind("Array(IPv6)", [address_text(one) for one in addresses])
    names = ("client", "server", "translated_client", "translated_server")
    return " OR ".join(is_one_of(name, listed) for name in names)


def of_addresses(question: Question, wanted: Connection) -> str:
    """A condition that uses the order of the table: the two addresses, as the network between the hosts sees them."""
    ends = [question.address(wanted.source), question.address(wanted.destination)]
    return " AND ".join(f"{name} IN ({', '.join(ends)})" for name in ("low", "high"))


def is_one_of(name: str, listed: str) -> str:
    """The condition that a column has one of the values of a bound array: looked up, not searched."""
    return f"{name} IN (SELECT arrayJoin({listed}))"


def is_peer(question: Question, peer: str) -> str:
    """The condition for a peer: its name, or address or endpoint of its server."""
    named = f"peer = {question.bind('String', peer)}"
    server = _server(peer)
    if server is None:
        return named
    return (
        f"{named} OR {_is(question, 'server', server)} OR (translated AND {_is(question, 'translated_server', server)})"
    )


def address_text(address: Address) -> str:
    """An address as the store takes it: IPv4 as ``::ffff:a.b.c.d``."""
    return f"::ffff:{address}" if address.is_v4 else str(address)


def _is(question: Question, name: str, wanted: EndpointFilter) -> str:
    condition = f"{name} = {question.address(wanted.address)}"
    if wanted.port is None:
        return condition
    return f"{condition} AND {name}_port = {question.bind('UInt16', wanted.port)}"


def in_namespace(question: Question, netns: str) -> str:
    """The condition for connections counted in a network namespace, by its name or inode, or with an endpoint in it."""
    counted = question.bind("Array(String)", ["" if netns == HOST else netns, f"net:[{netns}]"])
    sockets = question.bind("Array(String)", [netns, f"net:[{netns}]"])
    inside = [f"has({sockets}, {namespace})" for namespace in _fields("namespace")]
    return " OR ".join([f"has({counted}, network_namespace)", *inside])


def _of_container(question: Question, container: str) -> str:
    """The condition for connections of a container at either endpoint: by its name, its id, or the start of it."""
    name = question.bind("String", container)
    fits = [f"{field} = {name}" for field in (*_fields("container"), *_fields("container_name"))]
    if len(container) >= SHORT_ID:
        fits += [f"startsWith({field}, {name})" for field in _fields("container")]
    return " OR ".join(fits)


def _fields(name: str) -> list[str]:
    """A field of the workloads at both endpoints."""
    place = Workload._fields.index(name) + 1
    return [f"JSONExtractString({side}_workload, {place})" for side in ("client", "server")]


def _server(peer: str) -> EndpointFilter | None:
    """The endpoint that a peer is written as: ``ip``, ``ip:port`` or ``[ip]:port``."""
    try:
        return EndpointFilter(Address.parse(peer), None)
    except ValueError:
        host, _, port = peer.rpartition(":")
    try:
        return EndpointFilter(Address.parse(host.removeprefix("[").removesuffix("]")), int(port))
    except ValueError:
        return None


def _prefix(kind: str) -> str:
    return kind.partition("(")[0].lower() + "_"
