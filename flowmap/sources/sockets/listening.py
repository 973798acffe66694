"""The listening TCP sockets of the network namespace, with the cgroup of each."""

from __future__ import annotations

from typing import NamedTuple

from flowmap.errors import SourceError
from flowmap.model.address import Address, Endpoint
from flowmap.sources.netlink_socket import NETLINK_SOCK_DIAG, NetlinkSocket
from flowmap.wire.netlink.inet_diag import (
    FAMILIES,
    SOCK_DIAG_BY_FAMILY,
    SocketState,
    decode_socket,
    encode_dump,
)
from flowmap.wire.netlink.messages import Control, decode_messages, decode_status

_WAIT = 5.0
_BUFFER = 1 << 20


class ListeningSocket(NamedTuple):
    """A listening socket."""

    endpoint: Endpoint
    """The address is unspecified where it listens on every address."""
    cgroup: int
    """Id of its cgroup; 0 where the kernel does not tell (before 5.8)."""
    inode: int


def read_listening() -> list[ListeningSocket]:
    """All listening sockets; no permission needed. SourceError if the kernel refuses."""
    found: list[ListeningSocket] = []
    netlink = NetlinkSocket(NETLINK_SOCK_DIAG, receive_buffer=_BUFFER)
    try:
        for sequence, family in enumerate(FAMILIES, 1):
            netlink.send(encode_dump(family, 1 << SocketState.LISTEN, info=False, sequence=sequence))
            while not _receive(netlink, found):
                continue
    finally:
        netlink.close()
    return found


def _receive(netlink: NetlinkSocket, found: list[ListeningSocket]) -> bool:
    """Receive a part of a dump; whether it was the last one."""
    received = netlink.receive(wait=_WAIT)
    if not received.starts:
        raise SourceError("the kernel does not list the listening sockets")
    for message in decode_messages(received.data):
        if message.type in (Control.DONE, Control.ERROR):
            status = decode_status(message)
            if status.errno:
                raise SourceError(
                    f"the kernel refused to list TCP sockets (errno {status.errno}) {status.text}".rstrip(),
                    remedy="load the modules inet_diag and tcp_diag",
                )
            return True
        if message.type == SOCK_DIAG_BY_FAMILY:
            socket = decode_socket(message.payload)
            endpoint = Endpoint(Address(socket.local_high, socket.local_low), socket.local_port)
            found.append(ListeningSocket(endpoint, socket.cgroup, socket.inode))
    return False
