"""AF_NETLINK sockets: open, join groups, send, and read many datagrams at a time.

Reading does not block unless ``wait`` is given. Drops by the kernel are a value (:class:`Received`), not an exception.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import socket
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from flowmap.errors import SourceDenied, SourceError

NETLINK_SOCK_DIAG = 4  # linux/netlink.h
NETLINK_NETFILTER = 12

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_CAP_ACK = 10  # since 4.2: errors do not repeat the whole request
_NETLINK_EXT_ACK = 11  # since 4.12: errors have a line of text
_SO_RCVBUFFORCE = 33

LARGEST_DATAGRAM = 32 * 1024
"""Bytes: the kernel fills datagrams of a dump up to this size if the reader's buffer allows (netlink_recvmsg)."""

TRANSIENT = (errno.EINTR, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EBUSY)
"""Errors of a dump after which it can be read again."""

_DENIED = (errno.EPERM, errno.EACCES)


class Received(NamedTuple):
    """The result of one :meth:`NetlinkSocket.receive`."""

    data: memoryview
    """Whole datagrams, one after the other, each at a multiple of 4. Valid until the next ``receive``."""
    starts: list[int]
    """Offset of each datagram in ``data``; ascending, the first is 0."""
    drained: bool
    """The queue is empty."""
    overrun: bool
    """The kernel dropped messages because the buffer is full (ENOBUFS), and drops more until the queue is empty."""
    truncated: int
    """Datagrams dropped because they were larger than the buffer."""


Buffers = deque[memoryview]
"""Memory to receive in, used in turn."""


def make_buffers(size: int, number: int = 1) -> Buffers:
    """Buffers of ``size`` bytes, at least one datagram each."""
    # Anonymous mappings: unused pages cost no memory. A bytearray would write zeros to all of them.
    return deque(memoryview(mmap.mmap(-1, max(size, LARGEST_DATAGRAM))) for _ in range(number))


def _opened(protocol: int) -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)


class NetlinkSocket:
    """One netlink socket, in the network namespace of the thread that creates it, or of ``given``.

    ``groups``: multicast group numbers to join. ``receive_buffer``: bytes, 0 for the system's default; the attribute of
    that name has the granted bytes. ``chunk``: bytes one ``receive`` returns at most. ``buffers``: a result stays valid
    until that many further calls. ``given``: an open socket of this protocol, which is taken over. ``shared``: memory
    that several sockets use in turn, in place of own memory; then a result is valid until one of them receives.
    Raises SourceDenied if a permission is missing and SourceError if the kernel lacks the protocol.
    """

    def __init__(
        self,
        protocol: int,
        *,
        groups: Iterable[int] = (),
        receive_buffer: int = 0,
        chunk: int = 1 << 20,
        buffers: int = 1,
        given: socket.socket | None = None,
        shared: Buffers | None = None,
    ) -> None:
        self._views = make_buffers(chunk, buffers) if shared is None else shared
        try:
            self._socket = _opened(protocol) if given is None else given
        except OSError as error:
            raise _source_error("open a netlink socket", error) from error
        try:
            self._prepare(groups, receive_buffer)
        except OSError as error:
            self._socket.close()
            raise _source_error("join a netlink multicast group", error) from error

    def _prepare(self, groups: Iterable[int], receive_buffer: int) -> None:
        self._socket.setblocking(False)
        self._socket.bind((0, 0))
        self.port: int = self._socket.getsockname()[0]
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self.receive_buffer = self.grow(receive_buffer)
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def grow(self, size: int) -> int:
        """Request a receive buffer of ``size`` bytes; returns the granted bytes.

        SO_RCVBUFFORCE exceeds ``net.core.rmem_max`` but needs CAP_NET_ADMIN. The kernel doubles the size for its own
        overhead (socket(7)); the result is without that doubling.
        """
        if size > 0:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
            except PermissionError:
                if self._granted() < size:  # another process may have been permitted more
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        self.receive_buffer = self._granted()
        return self.receive_buffer

    def _granted(self) -> int:
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    def fileno(self) -> int:
        """The descriptor, readable while datagrams are waiting; -1 once closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the descriptor; safe to call twice."""
        self._socket.close()

    def send(self, request: bytes) -> None:
        """Send one request; SourceError if the kernel rejects it."""
        try:
            self._socket.send(request)
        except OSError as error:
            raise _source_error("send a netlink request", error) from error

    def receive(self, *, wait: float = 0.0) -> Received:
        """Read datagrams until the queue is empty or the chunk is full.

        Waits at most ``wait`` seconds for the first one. Interrupted calls are resumed (PEP 475).
        """
        if wait > 0:
            waiting = select.poll()
            waiting.register(self._socket, select.POLLIN)
            waiting.poll(wait * 1000)
        return self._drain()

    def _drain(self) -> Received:
        self._views.rotate()
        view, receive = self._views[0], self._socket.recv_into
        starts: list[int] = []
        at, truncated, limit = 0, 0, len(view) - LARGEST_DATAGRAM
        while at <= limit:
            try:
                size = receive(view[at:], 0, socket.MSG_TRUNC)
            except BlockingIOError:
                return Received(view[:at], starts, True, False, truncated)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise _source_error("read from netlink", error) from error
                return Received(view[:at], starts, False, True, truncated)
            if size > len(view) - at:
                truncated += 1
                continue
            starts.append(at)
            at += (size + 3) & ~3
        return Received(view[:at], starts, False, False, truncated)


class OpenSocket(Protocol):
    """Opens netlink sockets in some network namespace; :class:`NetlinkSocket` does in that of the calling thread."""

    def __call__(
        self, protocol: int, *, groups: Iterable[int] = (), receive_buffer: int = 0, chunk: int = 1 << 20
    ) -> NetlinkSocket:
        """See :class:`NetlinkSocket`."""


def _source_error(what: str, error: OSError) -> SourceError:
    """The error translated, with a remedy."""
    message = f"cannot {what}: {os.strerror(error.errno or 0)}"
    if error.errno in _DENIED:
        return SourceDenied(message, remedy="run as root or with CAP_NET_ADMIN")
    if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ENOENT):
        return SourceError(message, remedy="this kernel lacks that netlink protocol; load its module")
    return SourceError(message)
