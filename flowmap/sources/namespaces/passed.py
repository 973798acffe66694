"""A network namespace as the opener passed it: open sockets in place of the right to open them."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from flowmap.errors import SourceError
from flowmap.model.namespace import NetworkNamespace
from flowmap.opener.protocol import CONNTRACK, SOCKETS, Opened
from flowmap.sources.netlink_socket import Buffers, NetlinkSocket
from flowmap.sources.network import Network
from flowmap.sources.sockets.kernel import EphemeralPorts

_PORTS_UNREAD = "the range of client ports of the network namespace cannot be read"


class PassedSockets:
    """Gives out the sockets of one namespace, each once."""

    def __init__(self, sockets: Iterable[socket.socket], buffers: Buffers) -> None:
        """``buffers``: memory that all namespaces use in turn."""
        self._left = list(zip(SOCKETS + CONNTRACK, sockets, strict=False))
        self._buffers = buffers

    def open(
        self, protocol: int, *, groups: Iterable[int] = (), receive_buffer: int = 0, chunk: int = 0
    ) -> NetlinkSocket:
        """The next socket of ``protocol``; SourceError if there is none left."""
        for at, (passed, one) in enumerate(self._left):
            if passed == protocol:
                del self._left[at]
                return NetlinkSocket(
                    protocol, groups=groups, receive_buffer=receive_buffer, given=one, shared=self._buffers
                )
        raise SourceError("the opener passed too few sockets of a network namespace", remedy="restart flowmap opener")

    def close(self) -> None:
        """Close those that were not given out."""
        for _, one in self._left:
            one.close()
        self._left.clear()


def network_of(opened: Opened, passed: PassedSockets) -> Network:
    """The namespace, with its settings as they were when the opener entered it."""
    ports = EphemeralPorts(cause=_PORTS_UNREAD) if opened.ports is None else EphemeralPorts(*opened.ports)
    return Network(passed.open, lambda: ports, str(NetworkNamespace(opened.inode, opened.name)))
