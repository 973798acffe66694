"""The peer labels of service endpoints, by the number of the endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowmap.export.peers import Peers
from flowmap.flows.index.endpoints import EndpointTable


class PeerNames:
    """Names of the peers that the configuration gives, else ``ip:port``."""

    def __init__(self, endpoints: EndpointTable) -> None:
        self._endpoints = endpoints
        self._peers = Peers({})
        self._names: dict[int, str] = {}

    def configure(self, peers: Mapping[str, Sequence[str]]) -> None:
        """Use other names."""
        self._peers = Peers(peers)
        self.forget()

    def forget(self) -> None:
        """Some numbers will stand for other endpoints."""
        self._names.clear()

    def name(self, service: int) -> str:
        """The label of an endpoint."""
        name = self._names.get(service)
        if name is None:
            name = self._names[service] = self._peers.name(self._endpoints.key(service))
        return name
