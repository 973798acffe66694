"""The questions to ``GetDeploymentsByIp`` and how their answers combine, as tables.

For a client endpoint C:cp and a service endpoint S:sp:

    shape    parameters                                  one answer serves
    client   srcIp=C                                     every flow of that client address
    sink     dstIp=S dstPort=sp                          every flow to that service endpoint
    source   srcIp=S srcPort=sp                          every flow to that service endpoint
    host     srcIp=S                                     every flow to that service address
    link     srcIp=C dstIp=S dstPort=sp                  every flow of the pair
    exact    srcIp=C srcPort=cp dstIp=S dstPort=sp       one connection

Open-source Flink knows the jobs at an address, and which endpoints are its own. Its place is asked with ``client`` and
``sink`` only, whatever ``attribute.semantics`` is; :func:`of_flink` combines the answers.

The API's document can be read in two ways: src and dst are the endpoints of a connection, or src is what a job reads
from and dst what it writes to. ``attribute.semantics`` selects the reading. :data:`READINGS` lists the questions of
each reading, :func:`candidates` combines their answers, and narrowing applies if several candidates are left:

    semantics    about the client   about the service    candidates                 narrowing
    connection   client             sink                 client ∩ sink              link, then exact
    dataflow     -                  sink, source         sink ∪ source              -
    both         client             sink, source, host   client ∩ (sink ∪ source)   link, then exact

``host`` only guards ``source``. If a deployment runs on the service's host (file system, TaskManagers of one cluster),
an API of the connection reading answers ``source`` with the deployments of that host: not with those that use the
service. So a ``source`` answer counts only if ``host`` names no deployment, and ``host`` is asked only if ``source``
names one.

``both`` needs the client's answer even if the API seems to read src and dst as data flow and names no deployment for
any client. There, only the users of the service endpoint are known, and a connection of a shell or a backup to that
endpoint would get a deployment's name. No answer of the API can tell these apart. Only the operator can know that
nothing but deployments uses the service endpoints, and states it with ``dataflow``. Until then such flows are unknown;
the status and the cause of each flow name the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Literal, NamedTuple

from flowmap.flows.index.endpoints import EndpointKey
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import FLINK, FLINK_ROLES, Owner, Role, State

Owners = frozenset[Owner]
Semantics = Literal["connection", "dataflow", "both"]


UNREADABLE = "unreadable"
"""Id of the owner that stands for the unreadable part of an answer: a candidate without a name."""


class Shape(StrEnum):
    """The forms of a question; the table in this module's heading gives their parameters."""

    CLIENT = "client"
    SINK = "sink"
    SOURCE = "source"
    HOST = "host"
    LINK = "link"
    EXACT = "exact"


class Reading(NamedTuple):
    """The questions under one reading of the API."""

    of_client: tuple[Shape, ...]
    """Shapes about a client endpoint. Candidates are the owners that these and the service's answers have in common."""
    of_service: tuple[Shape, ...]
    """Shapes about a service endpoint; the owners in their answers add up, but see ``host``."""
    narrowing: tuple[Shape, ...]
    """Shapes about both endpoints together, in the order in which they are asked if several candidates are left."""


READINGS: Mapping[Semantics, Reading] = {
    "connection": Reading((Shape.CLIENT,), (Shape.SINK,), (Shape.LINK, Shape.EXACT)),
    "dataflow": Reading((), (Shape.SINK, Shape.SOURCE), ()),
    "both": Reading((Shape.CLIENT,), (Shape.SINK, Shape.SOURCE, Shape.HOST), (Shape.LINK, Shape.EXACT)),
}

OF_FLINK = Reading((Shape.CLIENT,), (Shape.SINK,), (Shape.EXACT,))
"""The questions about open-source Flink."""

CONFIDENCE: Mapping[Shape, str] = {
    Shape.CLIENT: "strong",
    Shape.SINK: "candidate",
    Shape.SOURCE: "candidate",
    Shape.HOST: "candidate",
    Shape.LINK: "strong",
    Shape.EXACT: "exact",
}
"""How strong the answer of each shape is alone. Only ``client`` combined with a service's answer names a flow."""


class Place(NamedTuple):
    """A namespace of a workspace; every question is asked in each place with a call of its own."""

    workspace: str
    """Empty: ``control_plane.workspace``."""
    namespace: str

    @property
    def is_flink(self) -> bool:
        """Whether it stands for all open-source clusters. Their control plane reads them anyway: questions are free."""
        return self.workspace == FLINK


FLINK_PLACE = Place(FLINK, "")
"""Every cluster of open-source Flink."""


def reading_of(semantics: Semantics, place: Place) -> Reading:
    """The questions that are asked in a place."""
    return OF_FLINK if place.is_flink else READINGS[semantics]


class Question(NamedTuple):
    """One call of ``GetDeploymentsByIp``; also the key of its answers in the cache."""

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
    """The question of a shape about one endpoint (not ``link``, ``exact``); a text ``place`` is a namespace."""
    workspace, namespace = ("", place) if isinstance(place, str) else place
    if shape in (Shape.CLIENT, Shape.HOST):
        return Question(namespace, shape, Endpoint(end.address, 0), None, workspace)
    endpoint = Endpoint(end.address, end.port)
    if shape is Shape.SINK:
        return Question(namespace, shape, None, endpoint, workspace)
    return Question(namespace, shape, endpoint, None, workspace)


def link_question(place: Place, client: EndpointKey, service: EndpointKey, client_port: int = 0) -> Question:
    """The ``link`` question about a client address and a service endpoint; with a client port the ``exact`` one."""
    shape = Shape.EXACT if client_port else Shape.LINK
    source, destination = Endpoint(client.address, client_port), Endpoint(service.address, service.port)
    return Question(place.namespace, shape, source, destination, place.workspace)


def endpoint_questions(semantics: Semantics, places: Iterable[Place], endpoint: EndpointKey) -> list[Question]:
    """The questions about one endpoint of a connection, in every place."""
    shapes = {place: reading_of(semantics, place)[endpoint.service] for place in places}
    return [question_for(place, shape, endpoint) for shape in Shape for place in shapes if shape in shapes[place]]


def connection_questions(
    semantics: Semantics, places: Collection[Place], client: Address, service: Endpoint | None
) -> list[Question]:
    """The questions about the endpoints of one connection; None: the service endpoint is not known.

    :func:`combine` joins their answers, or :func:`combine_client` without a service endpoint.
    """
    endpoints = [EndpointKey(client, 0, 0, False)]
    if service is not None:
        endpoints.append(EndpointKey(*service, 0, True))
    return [question for endpoint in endpoints for question in endpoint_questions(semantics, places, endpoint)]


def without_idle_hosts(answers: Mapping[Question, Owners | None]) -> dict[Question, Owners | None]:
    """``answers`` without the ``host`` questions that need no answer: ``source`` names no deployment there."""
    named = {question.place for question, owners in answers.items() if question.shape is Shape.SOURCE and owners}
    return {
        question: owners
        for question, owners in answers.items()
        if question.shape is not Shape.HOST or question.place in named
    }


def combine(semantics: Semantics, answers: Mapping[Question, Owners | None]) -> Owners | None:
    """The owners that the answers about both endpoints leave: places add up, then :func:`candidates` applies.

    None in ``answers`` is a missing answer; the result is None while a missing answer could matter.
    """
    parts = {False: dict[Shape, Owners | None](), True: dict[Shape, Owners | None]()}
    for question, owners in answers.items():
        by_shape = parts[question.place.is_flink]
        known = by_shape.get(question.shape, frozenset())
        by_shape[question.shape] = None if owners is None or known is None else known | owners
    found = [candidates(semantics, parts[False])] if parts[False] else []
    found += [of_flink(parts[True].get(Shape.CLIENT), parts[True].get(Shape.SINK))] if parts[True] else []
    named = [owners for owners in found if owners is not None]
    return _union(named) if len(named) == len(found) else None


def combine_client(answers: Mapping[Question, Owners | None]) -> Owners | None:
    """The candidates for the connections of one client, by the answers about its address alone.

    None while an answer is missing.
    """
    found: list[Owners] = []
    for question, owners in answers.items():
        if owners is None:
            return None
        jobs = of_flink(owners, frozenset()) if question.place.is_flink else owners
        found.append(jobs or frozenset())
    return _union(found)


def of_flink(client: Owners | None, service: Owners | None) -> Owners | None:
    """The owners of a flow by the roles of its two endpoints in the clusters; None if that is not known.

    The flow is a cluster's own, and ``Role.SERVICE`` of the cluster its only owner, if

        - the service endpoint is the cluster's, and the client is a process of this cluster, or of none
        - the service endpoint is one that the cluster coordinates by, and the client is a process of the cluster
        - a JobManager calls an address of its TaskManagers

    Otherwise it belongs to the jobs at the client's address. With ``Role.HOST`` they are candidates beside others.
    """
    if client is None or service is None:
        return None
    jobs = frozenset(owner for owner in client if owner.workspace == FLINK)
    roles = {(owner.namespace, owner.deployment_id) for owner in client if owner.workspace == FLINK_ROLES}
    members = {cluster for cluster, role in roles if role not in (Role.HOST, Role.LEADER)}
    if not members and any(owner.deployment_id == Role.UNREAD for owner in service):
        return None  # the client could be of a cluster that does not tell, and the service its own
    for owner in sorted(service):
        cluster, role = owner.namespace, owner.deployment_id
        own = role == Role.SERVICE and (cluster in members or not members)
        own |= role == Role.COORDINATION and cluster in members
        called = role == Role.TASK_MANAGER and (cluster, Role.JOB_MANAGER) in roles
        if own or (called and roles.isdisjoint(((cluster, Role.TASK_MANAGER), (cluster, Role.HOST)))):
            return frozenset((Role.SERVICE.of(cluster),))
        # JobManager and others on one host: the roles cannot tell which one calls. Or the port may be the leader's.
        if called or (role == Role.LEADER and cluster in members):
            jobs |= {Role.HOST.of(cluster)}
    return jobs | {owner for owner in client if owner.deployment_id == Role.HOST and owner.workspace == FLINK_ROLES}


def candidates(semantics: Semantics, answers: Mapping[Shape, Owners | None]) -> Owners | None:
    """The owners that the answers about both endpoints leave, by the table in this module's heading.

    None while an answer that could add or remove an owner is missing.
    """
    reading = READINGS[semantics]
    of_service = [_of_service(shape, reading, answers) for shape in reading.of_service if shape is not Shape.HOST]
    complete = all(owners is not None for owners in of_service)
    named = _union(owners for owners in of_service if owners is not None)
    for shape in reading.of_client:
        client = answers.get(shape)
        if client is None:
            return None
        named &= client
        complete |= named == client  # a missing answer can neither add nor remove an owner
    return named if complete else None


def _of_service(shape: Shape, reading: Reading, answers: Mapping[Shape, Owners | None]) -> Owners | None:
    """The owners that the answers of one shape about a service endpoint contribute; None if that is not known yet."""
    owners = answers.get(shape)
    if shape is not Shape.SOURCE or Shape.HOST not in reading.of_service or not owners:
        return owners
    host = answers.get(Shape.HOST)
    return None if host is None else frozenset() if host else owners


def _union(parts: Iterable[Owners]) -> Owners:
    return frozenset[Owner]().union(*parts)


def state_of(owners: Owners, limit: int) -> State:
    """The state of a flow with these candidates: several are never reduced to the first one."""
    roles = {owner.deployment_id for owner in owners if owner.workspace == FLINK_ROLES}
    if owners and roles == {Role.SERVICE} and all(owner.workspace == FLINK_ROLES for owner in owners):
        return State.INTERNAL
    if not owners or roles:  # another program on the host may own the flow
        return State.UNKNOWN
    if len(owners) == 1:
        return State.ATTRIBUTED
    return State.SHARED if len(owners) <= limit else State.AMBIGUOUS


def state_of_several(found: Collection[tuple[State, Owners]], limit: int) -> tuple[State, Owners]:
    """State and owners of several flows together, from the state and owners of each.

    There are no owners unless every flow has some and there are at most ``limit`` in all.
    """
    owners = _union(owners for _, owners in found)
    states = {state for state, _ in found}
    if states <= set(NAMED):
        state = state_of(owners, limit)
        return state, owners if state in NAMED else frozenset()
    return states.pop() if len(states) == 1 else State.AMBIGUOUS, frozenset()


NAMED = (State.ATTRIBUTED, State.SHARED)
"""States whose deployments are given."""
