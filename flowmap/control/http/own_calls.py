"""The connections that this process makes: to control planes, what gives their keys, and the servers of a fleet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from flowmap.model.address import Address, Endpoint

LIMIT = 64
"""Connections kept until :meth:`OwnCalls.take`, the newest."""


class OwnCalls:
    """Notes both endpoints of each new connection. Any thread may note or take them."""

    def __init__(self) -> None:
        self._made: deque[tuple[Endpoint, Endpoint]] = deque(maxlen=LIMIT)

    async def trace(self, event: str, details: dict[str, Any]) -> None:
        """For the ``trace`` extension of httpx: notes connections that were just made."""
        if event == "connection.connect_tcp.complete":
            stream = details["return_value"]
            self.note(stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr"))

    def note(self, local: object, remote: object) -> None:
        """Note a connection by the addresses of its socket. What is no IP address is left out."""
        ends = _endpoint(local), _endpoint(remote)
        if ends[0] is not None and ends[1] is not None:
            self._made.append((ends[0], ends[1]))

    def take(self) -> Iterator[tuple[Endpoint, Endpoint]]:
        """The connections noted since the last call."""
        while self._made:
            yield self._made.popleft()


def _endpoint(address: object) -> Endpoint | None:
    if not isinstance(address, tuple) or len(address) < 2:
        return None
    host, port = address[:2]
    try:
        return Endpoint(Address.parse(str(host).partition("%")[0]), int(port))
    except ValueError:
        return None


OWN_CALLS = OwnCalls()
"""Those of this process."""
