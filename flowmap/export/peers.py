"""Names of service endpoints: the value of the ``peer`` label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flowmap.flows.filter import Pattern
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.model.address import Endpoint


class Peers:
    """The names of ``export.peers``: the first whose pattern matches a service endpoint, else ``ip:port``."""

    def __init__(self, named: Mapping[str, Sequence[str]]) -> None:
        """``named``: patterns (``10.100.2.0/24:9092``, ``10.100.2.0/24``) by name. ValueError for an invalid one."""
        self._patterns = [(name, Pattern.parse(text)) for name, texts in named.items() for text in texts]

    def name(self, service: EndpointKey) -> str:
        """The peer label of a service endpoint."""
        for name, pattern in self._patterns:
            if _matches(pattern, service):
                return name
        return str(Endpoint(service.address, service.port)) if service.port else str(service.address)


def _matches(pattern: Pattern, service: EndpointKey) -> bool:
    if pattern.port not in (None, service.port) or pattern.protocol not in (None, service.protocol):
        return False
    high, low = (np.array([half], np.uint64) for half in service.address)
    return pattern.network is None or bool(pattern.network.contains(high, low)[0])
