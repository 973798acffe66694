"""The daemon's side of the connection to the opener: connects again by itself, and never blocks.

Descriptors that are not what the message says are closed and counted: the daemon trusts nothing that it can check.
"""

from __future__ import annotations

import array
import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from flowmap.errors import DecodeError
from flowmap.opener.discovery import own_inode
from flowmap.opener.protocol import (
    CONNTRACK,
    MESSAGE_LIMIT,
    NAMESPACE_LIMIT,
    SOCKETS,
    VERSION,
    Gone,
    Hello,
    Opened,
    Refused,
    Report,
    Welcome,
    decode,
    encode,
)

RETRY_LIMIT = 30.0
"""Longest pause, in seconds, before the next attempt to connect."""
AGAIN = 60.0
"""Seconds until the opener is asked again for a namespace that could not be read."""
MESSAGES_A_POLL = 256
"""Messages received at a time."""
OTHER_FILES = 512
"""Descriptors that are left for everything else."""
_SO_PROTOCOL, _SO_DOMAIN = 38, 39  # asm-generic/socket.h


class Passed(NamedTuple):
    """A namespace with open sockets in it."""

    opened: Opened
    sockets: tuple[socket.socket, ...]


class Disconnected(NamedTuple):
    """The connection has ended; the descriptors stay valid."""

    why: str


News = Passed | Gone | Report | Welcome | Disconnected


def raise_file_limit() -> None:
    """Raise the soft limit on open files to the hard one: each namespace needs several descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room(*, conntrack: bool) -> int:
    """The number of namespaces for which this process may have descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return NAMESPACE_LIMIT
    each = len(SOCKETS) + (len(CONNTRACK) if conntrack else 0)
    return max(0, min(NAMESPACE_LIMIT, (soft - OTHER_FILES) // each))


START = "start flowmap opener"
PERMIT = "let the user of flowmap write to this socket and enter its directory"


class OpenerClient:
    """A connection to the opener at ``path``, for the namespaces ``wanted``; None: all."""

    def __init__(
        self,
        path: Path,
        wanted: tuple[str, ...] | None,
        *,
        conntrack: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.error = ""
        """Why there is no connection; empty while there is one."""
        self.remedy = START
        """What to do about ``error``; empty if it says so itself."""
        self.unusable = 0
        """Messages and descriptors that were not what they should be."""
        self._path, self._wanted, self._conntrack, self._clock = path, wanted, conntrack, clock
        self._connection: socket.socket | None = None
        self._retry_at = float("-inf")
        self._pause = 1.0

    def fileno(self) -> int:
        """The descriptor of the connection; -1 without one."""
        return -1 if self._connection is None else self._connection.fileno()

    def deadline(self) -> float:
        """When to call :meth:`connect`; infinity while connected."""
        return self._retry_at if self._connection is None else float("inf")

    def connect(self) -> bool:
        """Connect and say what is wanted, if it is time; whether there is a new connection."""
        if self._connection is not None or self._clock() < self._retry_at:
            return False
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        connection.setblocking(False)
        hello = Hello(
            VERSION, own_inode(), self._wanted, self._conntrack, room(conntrack=self._conntrack), time.monotonic()
        )
        try:
            connection.connect(str(self._path))
            with contextlib.suppress(BrokenPipeError):  # refused: why is in the queue
                connection.send(encode(hello))
        except OSError as error:
            connection.close()
            self._fail(f"{self._path}: {error.strerror}", PERMIT if isinstance(error, PermissionError) else START)
            return False
        self._connection = connection
        return True

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ask_again(self) -> None:
        """Connect again later: the opener then passes everything once more, also what could not be used."""
        self.close()
        self._retry_at = self._clock() + AGAIN

    def receive(self) -> Iterator[News]:
        """The waiting messages, a bounded number."""
        for _ in range(MESSAGES_A_POLL):
            if self._connection is None:
                return
            try:
                packet, descriptors = _receive(self._connection)
            except BlockingIOError:
                return
            except ConnectionResetError:  # it closed with a message unread; what it sent is still in the queue
                continue
            except OSError as error:
                yield self._lose(error.strerror or str(error))
                return
            if not packet:
                yield self._lose("the opener closed the connection")
                return
            yield from self._read(packet, descriptors)

    def _read(self, packet: bytes, descriptors: list[int]) -> Iterator[News]:
        sockets = tuple(one for one in map(_netlink, descriptors) if one is not None)
        message = None
        try:
            message = decode(packet)
        except DecodeError:
            self.unusable += 1
        if isinstance(message, Opened) and self._is_complete(sockets):
            yield Passed(message, sockets)
            return
        for one in sockets:
            one.close()
        if isinstance(message, Opened):
            self.unusable += 1
            self.ask_again()
        elif isinstance(message, Refused):
            yield self._lose(message.why, "")
        elif isinstance(message, Welcome) and message.version != VERSION:
            why = f"it uses version {message.version} of the protocol, flowmap version {VERSION}"
            yield self._lose(why, "install one version of both")
        elif isinstance(message, Welcome):
            self.error, self._pause = "", 1.0
            yield message
        elif isinstance(message, Gone | Report):
            yield message

    def _is_complete(self, sockets: tuple[socket.socket, ...]) -> bool:
        wanted = SOCKETS + (CONNTRACK if self._conntrack else ())
        return tuple(one.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL) for one in sockets) == wanted

    def _lose(self, why: str, remedy: str = START) -> Disconnected:
        self.close()
        self._fail(f"{self._path}: {why}", remedy)
        return Disconnected(self.error)

    def _fail(self, why: str, remedy: str) -> None:
        self.error, self.remedy = why, remedy
        self._retry_at = self._clock() + self._pause
        self._pause = min(RETRY_LIMIT, 2 * self._pause)


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """One packet with its descriptors, none of which survives an exec."""
    numbers = array.array("i")
    space = socket.CMSG_SPACE((len(SOCKETS) + len(CONNTRACK)) * numbers.itemsize)
    packet, ancillary, _, _ = connection.recvmsg(MESSAGE_LIMIT, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return packet, numbers.tolist()


def _netlink(descriptor: int) -> socket.socket | None:
    """The netlink socket of a descriptor; None, and closed, if it is something else."""
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return None
    if found.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN) != socket.AF_NETLINK:
        found.close()
        return None
    return found
