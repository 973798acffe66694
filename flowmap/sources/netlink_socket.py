"""AF_NETLINK sockets: open, join groups, send, and read many datagrams at a time.

Reading never blocks unless asked to, and what the kernel dropped comes back as a value (:class:`Received`), not as an
exception. Decoding is none of this file's business.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import socket
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from flowmap.errors import SourceDenied, SourceError

NETLINK_SOCK_DIAG = 4  # linux/netlink.h
NETLINK_NETFILTER = 12

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_CAP_ACK = 10  # since 4.2: an error does not carry the whole request back
_NETLINK_EXT_ACK = 11  # since 4.12: an error carries a line of text
_SO_RCVBUFFORCE = 33

LARGEST_DATAGRAM = 32 * 1024
"""The kernel fills a dump's datagrams up to this size, if the reader's buffer takes it (netlink_recvmsg)."""

_DENIED = (errno.EPERM, errno.EACCES)


class Received(NamedTuple):
    """What one :meth:`NetlinkSocket.receive` found."""

    data: memoryview
    """Whole datagrams, one after the other, each at a multiple of 4. Valid until the next ``receive``."""
    starts: list[int]
    """Offset of each datagram in ``data``; ascending, the first is 0."""
    drained: bool
    """Nothing more waits: the last read found the queue empty."""
    overrun: bool
    """The kernel dropped messages for want of buffer (ENOBUFS). It goes on dropping until the queue was drained."""
    truncated: int
    """Datagrams left out because they did not fit."""


class NetlinkSocket:
    """One netlink socket, in the network namespace of the thread that makes it.

    ``groups`` are multicast group numbers to join. ``receive_buffer`` is in bytes, 0 for the system's default; what was
    granted is in the attribute of that name. ``chunk`` bounds the bytes one ``receive`` returns; with ``buffers``, what
    it returned stays valid until that many more calls were made.
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
    ) -> None:
        # Anonymous mappings: a chunk that is never filled costs no memory, which a bytearray would zero and so touch.
        self._views = deque(memoryview(mmap.mmap(-1, max(chunk, LARGEST_DATAGRAM))) for _ in range(buffers))
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
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
        """Ask for a receive buffer of ``size`` bytes and return what is granted now.

        SO_RCVBUFFORCE passes ``net.core.rmem_max`` but needs CAP_NET_ADMIN. The kernel charges its bookkeeping to
        the buffer and doubles the figure for it (socket(7)); the doubling is taken out again here.
        """
        if size > 0:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
            except PermissionError:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        self.receive_buffer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        return self.receive_buffer

    def fileno(self) -> int:
        """The descriptor, readable while something waits; -1 once closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the descriptor; safe to call twice."""
        self._socket.close()

    def send(self, request: bytes) -> None:
        """Send one request to the kernel; SourceError if it does not take it."""
        try:
            self._socket.send(request)
        except OSError as error:
            raise _source_error("send a netlink request", error) from error

    def receive(self, *, wait: float = 0.0) -> Received:
        """Read datagrams until none waits or the chunk is full.

        Blocks for the first one, for at most ``wait`` seconds. Interrupted calls are resumed (PEP 475).
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


def _source_error(what: str, error: OSError) -> SourceError:
    """The foreign error as ours, with what the operator can do."""
    message = f"cannot {what}: {os.strerror(error.errno or 0)}"
    if error.errno in _DENIED:
        return SourceDenied(message, remedy="run as root or with CAP_NET_ADMIN")
    if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ENOENT):
        return SourceError(message, remedy="this kernel lacks that netlink protocol; load its module")
    return SourceError(message)
