"""What can be asked of ``GetDeploymentsByIp``, and how answers combine, as tables.

For a client end C:cp and a service end S:sp:

    shape    parameters                                  one answer serves
    client   srcIp=C                                     every flow of that client address
    sink     dstIp=S dstPort=sp                          every flow to that service end
    source   srcIp=S srcPort=sp                          every flow to that service end
    link     srcIp=C dstIp=S dstPort=sp                  every flow of the pair
    exact    srcIp=C srcPort=cp dstIp=S dstPort=sp       one connection

The API's document can be read in two ways: src and dst are the ends of a connection, or src is what a job reads from
and dst what it writes to. ``attribute.semantics`` chooses; :data:`SHAPES` says what is then asked and
:func:`candidates` how the answers combine.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, NamedTuple

from flowmap.attribute.view import Owner, State
from flowmap.flows.address import Endpoint
from flowmap.flows.ends import End

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


SHAPES: Mapping[Semantics, tuple[Shape, ...]] = {
    "connection": (Shape.CLIENT, Shape.SINK),
    "dataflow": (Shape.SINK, Shape.SOURCE),
    "both": (Shape.CLIENT, Shape.SINK, Shape.SOURCE),
}
"""What is asked under each reading; ``client`` goes by client address, the others by service end."""


class Question(NamedTuple):
    """One call of ``GetDeploymentsByIp``; also the key under which its answers are kept."""

    namespace: str
    shape: Shape
    source: Endpoint | None
    """srcIp and srcPort; port 0 means no srcPort."""
    destination: Endpoint | None
    """dstIp and dstPort; port 0 means no dstPort."""


def question_for(namespace: str, shape: Shape, end: End) -> Question:
    """The ``client``, ``sink`` or ``source`` question about one end."""
    if shape is Shape.CLIENT:
        return Question(namespace, shape, Endpoint(end.address, 0), None)
    endpoint = Endpoint(end.address, end.port)
    if shape is Shape.SINK:
        return Question(namespace, shape, None, endpoint)
    return Question(namespace, shape, endpoint, None)


def candidates(semantics: Semantics, answers: Mapping[Shape, Owners | None]) -> Owners | None:
    """Deployments that the answers for a flow's two ends leave; None while an answer that could matter is missing.

    ==========  =========================
    reading     candidates
    ==========  =========================
    connection  client ∩ sink
    dataflow    sink ∪ source
    both        client ∩ (sink ∪ source)
    ==========  =========================
    """
    if semantics == "dataflow":
        return _union([answers.get(Shape.SINK), answers.get(Shape.SOURCE)])
    client = answers.get(Shape.CLIENT)
    if client is None:
        return None
    ends = [answers.get(shape) for shape in SHAPES[semantics] if shape is not Shape.CLIENT]
    named = client & frozenset[Owner]().union(*(owners for owners in ends if owners is not None))
    if named == client:  # whatever is still missing can neither add nor remove
        return named
    return named if all(owners is not None for owners in ends) else None


def _union(parts: list[Owners | None]) -> Owners | None:
    known = [owners for owners in parts if owners is not None]
    return frozenset[Owner]().union(*known) if len(known) == len(parts) else None


def state_of(owners: Owners, limit: int) -> State:
    """What a finished set of candidates means; never the first of many."""
    if not owners:
        return State.UNKNOWN
    if len(owners) == 1:
        return State.ATTRIBUTED
    return State.SHARED if len(owners) <= limit else State.AMBIGUOUS
