"""Lists of the kernel's that are read again when it reports a change: addresses and interfaces of a namespace.

Notifications and lists come through different sockets. A notification that arrives while a list is read can then not
be taken for a part of it, and is found afterwards: the list is out of date, and is read again. The same holds for a
list that the kernel marks as interrupted (NLM_F_DUMP_INTR), for one that was cut, and after lost notifications.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from flowmap.errors import DecodeError, SourceError
from flowmap.sources.netlink_socket import NetlinkSocket, Received
from flowmap.wire.netlink.messages import Control, Message, MessageFlag, decode_messages, decode_status

ATTEMPTS = 3
"""How often :meth:`RouteWatch.refresh` reads a list that goes on changing; the next refresh continues."""

_NETLINK_ROUTE = 0
_WAIT = 5.0  # seconds for the next part of a list; the kernel makes it while it is asked for
_PASSING = (errno.EINTR, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EBUSY)

T = TypeVar("T")


class RouteWatch(Generic[T]):
    """A list of the network namespace of the thread that makes it.

    Subclasses say how it is asked for (:meth:`_encode`) and what it is made of (:meth:`_collect`).
    """

    what: str
    """What the list holds, for errors."""

    def __init__(self, groups: Iterable[int]) -> None:
        """``groups``: multicast groups that report changes; SourceError if a socket cannot be opened."""
        self._events = NetlinkSocket(_NETLINK_ROUTE, groups=groups)
        try:
            self._socket = NetlinkSocket(_NETLINK_ROUTE)
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
        """Whether what :meth:`read` returned last may be out of date; it stays so until the next read."""
        drained = False
        while not drained:
            received = self._events.receive()
            self._stale = self._stale or bool(received.starts) or received.overrun or received.truncated > 0
            drained = received.drained
        return self._stale

    def read(self) -> T:
        """The list as it is now; SourceError if the kernel refuses. See :meth:`changed` for whether it is whole."""
        self.changed()  # what is reported by now is in the list
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
        """The list, read until no change came meanwhile, at most :data:`ATTEMPTS` times; None if nothing changed."""
        found: T | None = None
        for _ in range(ATTEMPTS):
            if not self.changed():
                break
            found = self.read()
        return found

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
            for message in _messages(received):
                if message.sequence != self._sequence:
                    continue  # the rest of a list that was given up
                self._stale = self._stale or bool(message.flags & MessageFlag.DUMP_INTR)
                if message.type in (Control.DONE, Control.ERROR):
                    self._end(message)
                    return
                yield message

    def _end(self, message: Message) -> None:
        status = decode_status(message)
        if status.errno in _PASSING:
            self._stale = True
        elif status.errno:
            words = status.text or os.strerror(status.errno)
            raise SourceError(f"the kernel does not list this namespace's {self.what}: {words}")


def _messages(received: Received) -> Iterator[Message]:
    for start, end in zip(received.starts, [*received.starts[1:], len(received.data)], strict=False):
        yield from decode_messages(received.data[start:end])
