"""The directed broadcast addresses of the namespace's networks: they look like a host's and are none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from flowmap.collect.base import Broadcasts
from flowmap.collect.netlink_socket import NetlinkSocket
from flowmap.errors import SourceError
from flowmap.flows.address import Address
from flowmap.wire.netlink import Control, decode_messages
from flowmap.wire.rtnetlink import NEW_ADDRESS, decode_broadcasts, encode_addresses

READ_EVERY = 30.0
"""Seconds after which the networks are read again."""

_NETLINK_ROUTE = 0
_WAIT = 5.0


def read_broadcasts() -> frozenset[Address]:
    """Those of the calling thread's network namespace; SourceError if the kernel does not list its addresses."""
    socket = NetlinkSocket(_NETLINK_ROUTE)
    found: set[Address] = set()
    try:
        socket.send(encode_addresses())
        while (received := socket.receive(wait=_WAIT)).starts:
            for start, end in zip(received.starts, [*received.starts[1:], len(received.data)], strict=True):
                for message in decode_messages(received.data[start:end]):
                    if message.type == NEW_ADDRESS:
                        found.update(decode_broadcasts(message.payload))
                    elif message.type in (Control.DONE, Control.ERROR):
                        return frozenset(found)
    finally:
        socket.close()
    raise SourceError("the kernel does not list this namespace's addresses")


class BroadcastWatch:
    """Tells the broadcast addresses when they are first read and when they change."""

    def __init__(
        self,
        read: Callable[[], frozenset[Address]] = read_broadcasts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._due = float("-inf")
        self._told: frozenset[Address] = frozenset()

    def steps(self) -> Iterator[Broadcasts]:
        """At most one step. Where the kernel does not tell, what was known stays."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + READ_EVERY
        try:
            found = self._read()
        except (SourceError, OSError):
            return
        if found != self._told:
            self._told = found
            yield Broadcasts(tuple(sorted(found)))
