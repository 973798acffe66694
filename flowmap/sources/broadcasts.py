"""Watches the directed broadcast addresses of the namespace's networks, which never belong to a host."""

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
"""Seconds between two reads."""


class _Broadcasts(RouteWatch[frozenset[Address]]):
    what = "addresses"

    def __init__(self) -> None:
        super().__init__(AddressGroup)

    def _encode(self, sequence: int) -> bytes:
        return encode_addresses(sequence=sequence)

    def _collect(self, messages: Iterator[Message]) -> frozenset[Address]:
        added = (message for message in messages if message.type == NEW_ADDRESS)
        return frozenset[Address]().union(*(decode_broadcasts(message.payload) for message in added))


def read_broadcasts() -> frozenset[Address]:
    """The broadcast addresses of the calling thread's network namespace; SourceError if the kernel lists none."""
    with contextlib.closing(_Broadcasts()) as addresses:
        return addresses.refresh() or frozenset()


class BroadcastWatch:
    """Reports the broadcast addresses after the first read and after each change."""

    def __init__(
        self,
        read: Callable[[], frozenset[Address]] = read_broadcasts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._due = float("-inf")
        self._reported: frozenset[Address] = frozenset()

    def steps(self) -> Iterator[Broadcasts]:
        """At most one step, if the addresses changed. After a failed read the last addresses stay valid."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + READ_EVERY
        try:
            found = self._read()
        except (SourceError, OSError):
            return
        if found != self._reported:
            self._reported = found
            yield Broadcasts(tuple(sorted(found)))
