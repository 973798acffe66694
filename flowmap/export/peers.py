"""Names for service ends: the value of the ``peer`` label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flowmap.flows.endpoints import EndpointKey
from flowmap.flows.filter import Pattern
from flowmap.model.address import Endpoint


class Peers:
    """``export.peers``: the first name whose pattern covers a service end, else ``ip:port``."""

    def __init__(self, named: Mapping[str, Sequence[str]]) -> None:
        """``named``: patterns (``10.100.2.0/24:9092``, ``10.100.2.0/24``) by name. ValueError for a bad one."""
        self._patterns = [(name, Pattern.parse(text)) for name, texts in named.items() for text in texts]

    def name(self, end: EndpointKey) -> str:
        """The peer label of a service end."""
        for name, pattern in self._patterns:
            if _covers(pattern, end):
                return name
        return str(Endpoint(end.address, end.port)) if end.port else str(end.address)


def _covers(pattern: Pattern, end: EndpointKey) -> bool:
    if pattern.port not in (None, end.port) or pattern.protocol not in (None, end.protocol):
        return False
    high, low = (np.array([half], np.uint64) for half in end.address)
    return pattern.network is None or bool(pattern.network.contains(high, low)[0])
