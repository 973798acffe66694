"""The directed broadcast addresses of the namespace's networks: they look like a host's and are none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from flowmap.errors import SourceError
from flowmap.model.address import Address
from flowmap.sources.base import Broadcasts
from flowmap.sources.route_watch import RouteWatch
from flowmap.wire.netlink.messages import Message
from flowmap.wire.netlink.rtnetlink import NEW_ADDRESS, AddressGroup, decode_broadcasts, encode_addresses

READ_EVERY = 30.0
"""Seconds after which the networks are read again."""


class _Broadcasts(RouteWatch[frozenset[Address]]):
    what = "addresses"

    def __init__(self) -> None:
        super().__init__(AddressGroup)

    def _encode(self, sequence: int) -> bytes:
        return encode_addresses(sequence=sequence)

    def _collect(self, messages: Iterator[Message]) -> frozenset[Address]:
        news = (message for message in messages if message.type == NEW_ADDRESS)
        return frozenset[Address]().union(*(decode_broadcasts(message.payload) for message in news))


def read_broadcasts() -> frozenset[Address]:
    """Those of the calling thread's network namespace; SourceError if the kernel does not list its addresses."""
    with contextlib.closing(_Broadcasts()) as addresses:
        return addresses.refresh() or frozenset()


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
