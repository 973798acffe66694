"""What can be asked of ``GetDeploymentsByIp``, and how answers combine, as tables.

For a client end C:cp and a service end S:sp:

    shape    parameters                                  one answer serves
    client   srcIp=C                                     every flow of that client address
    sink     dstIp=S dstPort=sp                          every flow to that service end
    source   srcIp=S srcPort=sp                          every flow to that service end
    link     srcIp=C dstIp=S dstPort=sp                  every flow of the pair
    exact    srcIp=C srcPort=cp dstIp=S dstPort=sp       one connection

The API's document can be read in two ways: src and dst are the ends of a connection, or src is what a job reads from
and dst what it writes to. ``attribute.semantics`` chooses; :data:`READINGS` says what is then asked and
:func:`candidates` how the answers combine:

    semantics    of the client   of the service end   candidates                 between them
    connection   client          sink                 client ∩ sink              link, then exact
    dataflow     -               sink, source         sink ∪ source              -
    both         client          sink, source         client ∩ (sink ∪ source)   link, then exact

Under ``both`` the client's answer is needed even where the API seems to read src and dst as data flow and never names
anybody for a client. Then all that is known of a flow is who uses its service end, and whoever else uses it, from a
shell or a backup, would get that name. Nothing an API answers can tell the two apart; only who runs the hosts knows
that nobody else does, and says so with ``dataflow``. So ``both`` names nobody there, and status and causes say why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Literal, NamedTuple

from flowmap.flows.endpoints import EndpointKey
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner, State

Owners = frozenset[Owner]
Semantics = Literal["connection", "dataflow", "both"]


UNREADABLE = "unreadable"
"""Id that stands for deployments of an answer that could not be read: they may own a flow, but have no name."""


class Shape(StrEnum):
    """The forms a question takes; the table in this module's heading gives their parameters."""

    CLIENT = "client"
    SINK = "sink"
    SOURCE = "source"
    LINK = "link"
    EXACT = "exact"


class Reading(NamedTuple):
    """What is asked under one reading of the API."""

    of_client: tuple[Shape, ...]
    """About client addresses; what these answers and those about the service end have in common are candidates."""
    of_service: tuple[Shape, ...]
    """About service ends; these answers add up."""
    narrowing: tuple[Shape, ...]
    """About both ends together, while that leaves several; in this order."""


READINGS: Mapping[Semantics, Reading] = {
    "connection": Reading((Shape.CLIENT,), (Shape.SINK,), (Shape.LINK, Shape.EXACT)),
    "dataflow": Reading((), (Shape.SINK, Shape.SOURCE), ()),
    "both": Reading((Shape.CLIENT,), (Shape.SINK, Shape.SOURCE), (Shape.LINK, Shape.EXACT)),
}

CONFIDENCE: Mapping[Shape, str] = {
    Shape.CLIENT: "strong",
    Shape.SINK: "candidate",
    Shape.SOURCE: "candidate",
    Shape.LINK: "strong",
    Shape.EXACT: "exact",
}
"""How much one answer says alone; ``client`` met with a service end's answer is what names a flow."""


class Place(NamedTuple):
    """Where deployments live, and are asked for: one call each."""

    workspace: str
    """Empty: the one of ``control_plane.workspace``."""
    namespace: str


class Question(NamedTuple):
    """One call of ``GetDeploymentsByIp``; also the key under which its answers are kept."""

    namespace: str
    shape: Shape
    source: Endpoint | None
    """srcIp and srcPort; port 0 means no srcPort."""
    destination: Endpoint | None
    """dstIp and dstPort; port 0 means no dstPort."""
    workspace: str = ""
    """As in :class:`Place`."""

    @property
    def place(self) -> Place:
        return Place(self.workspace, self.namespace)


def question_for(place: Place | str, shape: Shape, end: EndpointKey) -> Question:
    """The ``client``, ``sink`` or ``source`` question about one end; a place that is text is a namespace."""
    workspace, namespace = ("", place) if isinstance(place, str) else place
    if shape is Shape.CLIENT:
        return Question(namespace, shape, Endpoint(end.address, 0), None, workspace)
    endpoint = Endpoint(end.address, end.port)
    if shape is Shape.SINK:
        return Question(namespace, shape, None, endpoint, workspace)
    return Question(namespace, shape, endpoint, None, workspace)


def link_question(place: Place, client: EndpointKey, service: EndpointKey, client_port: int = 0) -> Question:
    """The ``link`` question about a client address and a service end; with the client's port the ``exact`` one."""
    shape = Shape.EXACT if client_port else Shape.LINK
    source, destination = Endpoint(client.address, client_port), Endpoint(service.address, service.port)
    return Question(place.namespace, shape, source, destination, place.workspace)


def endpoint_questions(semantics: Semantics, places: Iterable[Place], endpoint: EndpointKey) -> list[Question]:
    """The questions about one endpoint of a connection, in every place."""
    reading = READINGS[semantics]
    shapes = reading.of_service if endpoint.service else reading.of_client
    return [question_for(place, shape, endpoint) for shape in shapes for place in places]


def connection_questions(
    semantics: Semantics, places: Collection[Place], client: Address, service: Endpoint
) -> list[Question]:
    """The questions about both endpoints of one connection; :func:`combine` joins their answers."""
    endpoints = EndpointKey(client, 0, 0, False), EndpointKey(*service, 0, True)
    return [question for endpoint in endpoints for question in endpoint_questions(semantics, places, endpoint)]


def combine(semantics: Semantics, answers: Mapping[Question, Owners | None]) -> Owners | None:
    """Deployments that the answers about both endpoints leave: the places add up, then see :func:`candidates`.

    None in ``answers`` is a missing answer; None is returned while a missing answer could matter.
    """
    by_shape: dict[Shape, Owners | None] = {}
    for question, owners in answers.items():
        known = by_shape.get(question.shape, frozenset())
        by_shape[question.shape] = None if owners is None or known is None else known | owners
    return candidates(semantics, by_shape)


def candidates(semantics: Semantics, answers: Mapping[Shape, Owners | None]) -> Owners | None:
    """Deployments that the answers for a flow's two ends leave; None while an answer that could matter is missing.

    See the table in this module's heading.
    """
    reading = READINGS[semantics]
    ends = [answers.get(shape) for shape in reading.of_service]
    whole = all(owners is not None for owners in ends)
    named = _union(owners for owners in ends if owners is not None)
    for shape in reading.of_client:
        client = answers.get(shape)
        if client is None:
            return None
        named &= client
        whole |= named == client  # whatever is still missing can neither add nor remove
    return named if whole else None


def _union(parts: Iterable[Owners]) -> Owners:
    return frozenset[Owner]().union(*parts)


def state_of(owners: Owners, limit: int) -> State:
    """What a finished set of candidates means; never the first of many."""
    if not owners:
        return State.UNKNOWN
    if len(owners) == 1:
        return State.ATTRIBUTED
    return State.SHARED if len(owners) <= limit else State.AMBIGUOUS


def state_of_several(found: Collection[tuple[State, Owners]], limit: int) -> tuple[State, Owners]:
    """What several flows together mean, each with its state and owners; never the first of many.

    The owners are empty unless every flow has a name and they are few enough to be given.
    """
    owners = _union(owners for _, owners in found)
    named = all(state in NAMED for state, _ in found)
    state = state_of(owners, limit) if named else State.AMBIGUOUS
    return state, owners if state in NAMED else frozenset()


NAMED = (State.ATTRIBUTED, State.SHARED)
"""States whose deployments are given."""
