"""Lists of addresses and interfaces, read again when the kernel reports a change.

Notifications and lists use different sockets, so a notification is never mistaken for a part of a list. A notification
during a read makes the list stale, and it is read again. So do an interrupted list (NLM_F_DUMP_INTR), a truncated
datagram, and lost notifications.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from flowmap.errors import DecodeError, SourceError
from flowmap.sources.netlink_socket import TRANSIENT, NetlinkSocket, OpenSocket, Received
from flowmap.wire.netlink.messages import Control, Message, MessageFlag, decode_messages, decode_status

ATTEMPTS = 3
"""Reads of a list that keeps changing, in one :meth:`RouteWatch.refresh`."""

_NETLINK_ROUTE = 0
_WAIT = 5.0  # seconds for the next part of a list

T = TypeVar("T")


class RouteWatch(Generic[T]):
    """A list of the network namespace of the thread that creates it, or of the one in which ``open_socket`` opens.

    Subclasses define the request (:meth:`_encode`) and the result (:meth:`_collect`).
    """

    what: str
    """What the list contains, for errors."""

    def __init__(self, groups: Iterable[int], open_socket: OpenSocket | None = None) -> None:
        """``groups``: multicast groups that report changes; SourceError if a socket cannot be opened."""
        open_socket = NetlinkSocket if open_socket is None else open_socket
        self._events = open_socket(_NETLINK_ROUTE, groups=groups)
        try:
            self._socket = open_socket(_NETLINK_ROUTE)
        except SourceError:
            self._events.close()
            raise
        self._sequence = 0
        self._stale = True

    def close(self) -> None:
        """Close the descriptors; safe to call twice."""
        self._events.close()
        self._socket.close()

    def changed(self) -> bool:
        """Whether the last result of :meth:`read` may be stale."""
        drained = False
        while not drained:
            received = self._events.receive()
            self._notice(received)
            self._stale = self._stale or bool(received.starts) or received.overrun or received.truncated > 0
            drained = received.drained
        return self._stale

    def read(self) -> T:
        """The current list; SourceError if the kernel refuses. It is complete unless :meth:`changed` returns true."""
        self.changed()  # changes reported so far are in the list
        self._stale = False
        try:
            return self._collect(self._entries())
        except DecodeError as error:
            self._stale = True
            raise SourceError(f"the kernel's list of {self.what} cannot be read: {error}") from error
        except SourceError:
            self._stale = True
            raise

    def refresh(self) -> T | None:
        """The list, read until it is stable, at most :data:`ATTEMPTS` times; None if nothing changed."""
        found: T | None = None
        for _ in range(ATTEMPTS):
            if not self.changed():
                break
            found = self.read()
        return found

    def _notice(self, received: Received) -> None:
        """Take notifications; for subclasses that need to know what changed."""

    def _encode(self, sequence: int) -> bytes:
        """The request for the whole list."""
        raise NotImplementedError

    def _collect(self, messages: Iterator[Message]) -> T:
        """The list from its messages; DecodeError if one is malformed."""
        raise NotImplementedError

    def _entries(self) -> Iterator[Message]:
        self._sequence = self._sequence % 0x7FFF_FFFF + 1
        self._socket.send(self._encode(self._sequence))
        while True:
            received = self._socket.receive(wait=_WAIT)
            if not received.starts and not received.overrun:
                raise SourceError(f"the kernel does not list this namespace's {self.what}")
            self._stale = self._stale or received.overrun or received.truncated > 0
            for message in messages_of(received):
                if message.sequence != self._sequence:
                    continue  # the rest of an abandoned list
                self._stale = self._stale or bool(message.flags & MessageFlag.DUMP_INTR)
                if message.type in (Control.DONE, Control.ERROR):
                    self._finish(message)
                    return
                yield message

    def _finish(self, message: Message) -> None:
        status = decode_status(message)
        if status.errno in TRANSIENT:
            self._stale = True
        elif status.errno:
            text = status.text or os.strerror(status.errno)
            raise SourceError(f"the kernel does not list this namespace's {self.what}: {text}")


def messages_of(received: Received) -> Iterator[Message]:
    """The messages in what a socket received; DecodeError if one is malformed."""
    for start, end in zip(received.starts, [*received.starts[1:], len(received.data)], strict=False):
        yield from decode_messages(received.data[start:end])
