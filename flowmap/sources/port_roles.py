"""Guesses the client endpoint of a connection from its ports."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SERVICES = 512
"""Ports below are used by services only. From here to 1023 also by privileged clients (rresvport(3))."""
DYNAMIC = 49_152
"""Ports from here on are never assigned to a service (RFC 6335, section 6): every system may assign them to clients."""

Ports = npt.NDArray[np.unsignedinteger]


def likelier_client(one: Ports, other: Ports, ephemeral: tuple[int, int]) -> npt.NDArray[np.int8]:
    """1 where ``one`` is likelier the client's port than ``other``, -1 where ``other`` is, 0 where they are equal.

    ``ephemeral``: first and last port that this host assigns to clients. Ports in this range or from DYNAMIC on are the
    likeliest client ports; ports below SERVICES are the least likely.
    """
    ranks = _rank(one, ephemeral), _rank(other, ephemeral)
    return (ranks[0] > ranks[1]).astype(np.int8) - (ranks[0] < ranks[1]).astype(np.int8)


def _rank(port: Ports, ephemeral: tuple[int, int]) -> npt.NDArray[np.int8]:
    first, last = ephemeral
    given = ((port >= first) & (port <= last)) | (port >= DYNAMIC)
    return given.astype(np.int8) - (port < SERVICES).astype(np.int8)
