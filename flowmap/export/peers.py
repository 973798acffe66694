"""Names of service endpoints: the value of the ``peer`` label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flowmap.flows.filter import Pattern
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.model.address import Endpoint
from flowmap.model.peer_entry import EntryKind, read_entry


class Peers:
    """The names of ``export.peers``: the first whose pattern matches a service endpoint, else ``ip:port``.

    Host names and files have no patterns here: see :mod:`flowmap.export.peer_groups`.
    """

    def __init__(self, named: Mapping[str, Sequence[str]]) -> None:
        """``named``: patterns (``10.100.2.0/24:9092``, ``10.100.2.0/24``) by name. ValueError for an invalid one."""
        self._patterns = _patterns(named)

    def replace(self, named: Mapping[str, Sequence[str]]) -> None:
        """Use other patterns from now on. May be called while another thread asks for names."""
        self._patterns = _patterns(named)

    def name(self, service: EndpointKey) -> str:
        """The peer label of a service endpoint."""
        found = self.named(service)
        if found is not None:
            return found
        return str(Endpoint(service.address, service.port)) if service.port else str(service.address)

    def named(self, service: EndpointKey) -> str | None:
        """The configured name of a service endpoint; None if it has none."""
        return next((name for name, pattern in self._patterns if _matches(pattern, service)), None)


def _patterns(named: Mapping[str, Sequence[str]]) -> list[tuple[str, Pattern]]:
    return [
        (name, Pattern.parse(text))
        for name, texts in named.items()
        for text in texts
        if read_entry(text).kind is EntryKind.PATTERN
    ]


def _matches(pattern: Pattern, service: EndpointKey) -> bool:
    if pattern.port not in (None, service.port) or pattern.protocol not in (None, service.protocol):
        return False
    high, low = (np.array([half], np.uint64) for half in service.address)
    return pattern.network is None or bool(pattern.network.contains(high, low)[0])
