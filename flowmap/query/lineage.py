"""Lineage as observed: from traffic by deployment and peer, and from what the answers say about the peers' endpoints.

Under the data-flow reading a ``source`` answer about an endpoint names the deployments that read from it, and ``sink``
those that write to it. Under the connection reading ``sink`` names all that connect to it, so it tells no direction. So
``sink`` counts only where the API is known to have the data-flow reading.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from flowmap.attribute.questions import Shape
from flowmap.engine.accounting import FlowAccounting
from flowmap.export.snapshot import SeriesSnapshot
from flowmap.model.address import Endpoint
from flowmap.model.deployment import DeploymentInfo, DeploymentKey, Owner, State
from flowmap.model.lineage import Direction, LineageEdge
from flowmap.model.selection import Selection
from flowmap.model.views import PeerSeen, Traffic

MOST_ENDPOINTS = 16
"""Endpoints listed of one peer."""


class PeerFacts(NamedTuple):
    """What is known of one peer."""

    endpoints: tuple[str, ...] = ()
    readers: frozenset[DeploymentKey] = frozenset()
    writers: frozenset[DeploymentKey] = frozenset()


class Talk(NamedTuple):
    """Traffic of an owner, or a set of them, with one peer."""

    owners: tuple[Owner, ...]
    peer: str
    protocol: str
    traffic: Traffic
    first_seen: float | None = None
    last_seen: float | None = None
    counts: str = ""


def talks_of_series(series_table: SeriesSnapshot) -> list[Talk]:
    """Everything since the daemon started."""
    return [
        Talk(key.owners, key.peer, key.protocol, series_table.traffic(row))
        for row, key in enumerate(series_table.keys)
        if key is not None and key.kind in ("deployment", "shared")
    ]


def talks_of_window(peers: Iterable[PeerSeen]) -> list[Talk]:
    """What a window of time has."""
    named = (State.ATTRIBUTED, State.SHARED)
    return [
        Talk(one.owners, one.peer, one.protocol, one.traffic, one.first_seen, one.last_seen, one.counts)
        for one in peers
        if one.state in named
    ]


def peer_facts(accounting: FlowAccounting, now: float) -> Mapping[str, PeerFacts]:
    """What is known of each peer with tracked connections. Runs on the engine's thread. ``now``: monotonic."""
    attribution, columns = accounting.attribution, accounting.table.columns
    settings = attribution.settings
    dataflow = settings.semantics == "dataflow" or attribution.shape_stats.suggests_dataflow(now=now)
    endpoints: defaultdict[str, list[str]] = defaultdict(list)
    readers: defaultdict[str, set[DeploymentKey]] = defaultdict(set)
    writers: defaultdict[str, set[DeploymentKey]] = defaultdict(set)
    for number in np.unique(columns.service[accounting.table.live()]).tolist():
        peer, end = accounting.peer(number), accounting.table.endpoints.key(number)
        endpoints[peer].append(str(Endpoint(end.address, end.port)))
        answers = _answers(accounting, number)
        if not answers[Shape.HOST]:  # else ``source`` tells who runs on the host
            readers[peer] |= answers[Shape.SOURCE]
        if dataflow:
            writers[peer] |= answers[Shape.SINK]
    return {
        peer: PeerFacts(tuple(sorted(found)[:MOST_ENDPOINTS]), frozenset(readers[peer]), frozenset(writers[peer]))
        for peer, found in endpoints.items()
    }


def edges(
    talks: Iterable[Talk],
    facts: Mapping[str, PeerFacts],
    selection: Selection,
    known_infos: Mapping[DeploymentKey, DeploymentInfo],
) -> tuple[LineageEdge, ...]:
    """The selected edges, in order of deployment and peer."""
    found = []
    for talk in sorted(talks, key=lambda talk: (talk.owners, talk.peer, talk.protocol)):
        known = facts.get(talk.peer, PeerFacts())
        infos = tuple(known_infos.get(owner.key) or DeploymentInfo(owner) for owner in talk.owners)
        if not infos or not selection.has_any(infos) or not selection.has_peer(talk.peer, *known.endpoints):
            continue
        direction = _direction(talk, known)
        found.append(
            LineageEdge(
                infos,
                talk.peer,
                talk.protocol,
                known.endpoints,
                direction or _by_bytes(talk.traffic),
                direction is None,
                talk.traffic,
                talk.first_seen,
                talk.last_seen,
                talk.counts,
            )
        )
    return tuple(found)


def _answers(accounting: FlowAccounting, number: int) -> defaultdict[Shape, set[DeploymentKey]]:
    named: defaultdict[Shape, set[DeploymentKey]] = defaultdict(set)
    for question in accounting.attribution.questions_about(number):
        timeline = accounting.attribution.timeline(question)
        newest = timeline.latest() if timeline else None
        if newest is not None and not question.place.is_flink:
            named[question.shape].update(owner.key for owner in newest.owners)
    return named


def _direction(talk: Talk, known: PeerFacts) -> Direction | None:
    """The direction that the answers tell for every owner; None if they do not."""
    keys = {owner.key for owner in talk.owners}
    reads, writes = keys <= known.readers, keys <= known.writers
    if reads and writes:
        return Direction.BOTH
    if reads:
        return Direction.READS
    return Direction.WRITES if writes else None


def _by_bytes(traffic: Traffic) -> Direction:
    return Direction.WRITES if traffic.transmit_bytes > traffic.receive_bytes else Direction.READS
