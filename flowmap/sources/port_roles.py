"""Which endpoint of a connection is the client, as far as its ports tell. Always a guess."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SERVICES = 512
"""Ports below belong to services. From here to 1023 privileged clients have theirs as well (rresvport(3))."""
DYNAMIC = 49_152
"""Ports from here on are never assigned to a service (RFC 6335, section 6): every system may give them to clients."""

Ports = npt.NDArray[np.unsignedinteger]


def likelier_client(one: Ports, other: Ports, ephemeral: tuple[int, int]) -> npt.NDArray[np.int8]:
    """1 where ``one`` is likelier the client's port than ``other``, -1 where ``other`` is, 0 where they do not tell.

    ``ephemeral``: first and last port that this host gives to its clients. A port in that range or from DYNAMIC on is
    likelier a client's than any other port; a port below SERVICES is less likely one than any other.
    """
    ranks = _rank(one, ephemeral), _rank(other, ephemeral)
    return (ranks[0] > ranks[1]).astype(np.int8) - (ranks[0] < ranks[1]).astype(np.int8)


def _rank(port: Ports, ephemeral: tuple[int, int]) -> npt.NDArray[np.int8]:
    first, last = ephemeral
    given = ((port >= first) & (port <= last)) | (port >= DYNAMIC)
    return given.astype(np.int8) - (port < SERVICES).astype(np.int8)
