"""Reduces a map to what changed since the last one that a reader got."""

from __future__ import annotations

from flowmap.model.traffic_map import TrafficMap
from flowmap.serve.api import map as answers
from flowmap.serve.api.events import MapEvent


class MapDeltas:
    """The map as one reader knows it."""

    def __init__(self) -> None:
        self._deployments: dict[str, answers.MapDeployment] = {}
        self._peers: dict[str, answers.MapPeer] = {}
        self._links: dict[tuple[str, str], answers.MapLink] = {}
        self._whole = True

    def next(self, found: TrafficMap) -> MapEvent:
        """The event that brings the reader from what it knows to ``found``."""
        answer = answers.TrafficMap.of(found)
        deployments = {one.id: one for one in answer.deployments}
        peers = {one.id: one for one in answer.peers}
        links = {(one.deployment, one.peer): one for one in answer.links}
        event = MapEvent.model_construct(
            **{name: getattr(answer, name) for name in answers.TrafficMap.model_fields}
            | {
                "deployments": [one for key, one in deployments.items() if self._deployments.get(key) != one],
                "peers": [one for key, one in peers.items() if self._peers.get(key) != one],
                "links": [one for key, one in links.items() if self._links.get(key) != one],
            },
            whole=self._whole,
            deployment_ids=list(deployments),
            peer_ids=list(peers),
            gone_links=[key for key in self._links if key not in links],
        )
        self._deployments, self._peers, self._links, self._whole = deployments, peers, links, False
        return event
