"""The opener's loop: searches for namespaces, opens sockets in them, and keeps each daemon's view up to date.

It has one thread, since a thread that enters a namespace must do nothing else. It trusts daemons only with what its
protocol offers, and keeps no descriptor of a namespace: the daemon's descriptors are the only ones that keep it alive.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pwd
import select
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Protocol

from flowmap.errors import ConfigError, DecodeError
from flowmap.opener import discovery
from flowmap.opener.discovery import Found, MountWatch, Search
from flowmap.opener.entering import Entered, Home
from flowmap.opener.protocol import (
    CONNTRACK,
    MESSAGE_LIMIT,
    NAMESPACE_LIMIT,
    SOCKETS,
    VERSION,
    Gone,
    Hello,
    Message,
    Named,
    Opened,
    Refused,
    Report,
    Welcome,
    decode_hello,
    encode,
)
from flowmap.system.notify import Notifier

log = logging.getLogger(__name__)

EVERY = 3.0
"""Seconds between two searches: a namespace is found within 5 s, with the time that the search takes."""
AGAIN = 0.3
"""Seconds at least between two searches. The second one confirms that a namespace is gone: one search can miss a
process that forks."""
CLIENTS = 4
"""Daemons at a time."""
HELLO_SECONDS = 5.0
"""Time in which a daemon must send its hello."""
CLOCKS_DIFFER = 60.0
"""Seconds between the clocks of both sides from which on they are in different time namespaces."""
_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)


class Entrance(Protocol):
    """Opens sockets in namespaces: :class:`flowmap.opener.entering.Home`."""

    def open_in(self, namespace: Found, protocols: Iterable[int]) -> Entered:
        """See there."""


class Client:
    """One daemon, and what it has been sent."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self.connection = connection
        self.hello: Hello | None = None
        self.until = until
        """When its hello is overdue."""
        self.sent: dict[int, str | None] = {}
        """The names of the namespaces it has, by inode."""
        self.missed: set[int] = set()
        """Those of them that the last search did not find."""
        self.report: Report | None = None
        self.full = False
        """Its queue has no room."""
        self.same_clock = False
        """Whether its clock shows what that of the opener shows: both are in one time namespace."""

    def send(self, message: Message, descriptors: Iterable[int] = ()) -> bool:
        """Send a message; False if the queue has no room now. OSError if the daemon is gone."""
        try:
            socket.send_fds(self.connection, [encode(message)], list(descriptors))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.full = True
            return False
        return True


class Namespaces:
    """The namespaces of the last search, and when each was absent."""

    def __init__(self) -> None:
        self.absent_at: dict[int, float | None] = {}
        """By inode: the start of the last search that did not find it; None for the first search."""
        self._searched_at: float | None = None

    def note(self, found: Set[int], also: Set[int], started: float) -> None:
        """Take the inodes of a search for all that started at ``started``. ``also``: those that were found by a path
        only, of which it is not known when they were absent."""
        known = self.absent_at
        self.absent_at = {inode: known.get(inode, self._searched_at) for inode in found}
        self.absent_at |= {inode: known.get(inode) for inode in also - found}
        self._searched_at = started


class Opener:
    """Serves daemons on a Unix socket; :meth:`run` returns after :meth:`stop`."""

    def __init__(
        self,
        path: Path,
        *,
        allowed: Iterable[str] = (),
        entrance: Entrance | None = None,
        search: Callable[[Iterable[str] | None], Search] = discovery.search,
        limit: int = NAMESPACE_LIMIT,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``allowed``: users, by name or number, whose processes may connect, besides the own user and root.
        ``every``: seconds between two searches."""
        self._path, self._allowed, self._limit, self._every = path, tuple(allowed), limit, every
        self._entrance = Home() if entrance is None else entrance
        self._search, self._clock = search, clock
        self._clients: dict[int, Client] = {}
        self._namespaces = Namespaces()
        self._searched_at = self._next_search = float("-inf")
        self._stopping = False
        self._failures: dict[int, str] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def listen(self) -> None:
        """Make the socket; ConfigError if that is not possible."""
        self._listener = _listen(self._path)
        log.info("listening on %s", self._path)

    def stop(self) -> None:
        """Make :meth:`run` return; from a signal handler or another thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")
        self._stopping = True

    def run(self, notifier: Notifier | None = None) -> None:
        """Serve until :meth:`stop`."""
        mounts = MountWatch()
        notifier = Notifier({}) if notifier is None else notifier
        notifier.ready("searching for network namespaces")
        try:
            while not self._stopping:
                notifier.alive()
                self._turn(mounts)
        finally:
            mounts.close()
            for client in list(self._clients.values()):
                self._drop(client, "")
            self._listener.close()
            with contextlib.suppress(OSError):
                self._path.unlink()  # the pipe stays open, since a second signal may write to it

    def _turn(self, mounts: MountWatch) -> None:
        now = self._clock()
        if self._has_daemons() and now >= self._next_search:
            self._update(now)
        for descriptor, events in self._wait(mounts):
            if descriptor == self._listener.fileno():
                self._accept()
            elif descriptor == mounts.fileno():
                self._search_soon()  # a namespace got a file, or lost it
            elif (client := self._clients.get(descriptor)) is not None:
                self._serve(client, events)
        for client in list(self._clients.values()):
            if client.hello is None and self._clock() > client.until:
                self._drop(client, "it sent no hello")

    def _wait(self, mounts: MountWatch) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        if mounts.fileno() >= 0:
            poll.register(mounts.fileno(), mounts.EVENTS)
        for client in self._clients.values():
            poll.register(client.connection, select.POLLIN | (select.POLLOUT if client.full else 0))
        due = self._next_search - self._clock() if self._has_daemons() else EVERY
        return poll.poll(1000 * min(EVERY, max(0.0, due)))

    def _has_daemons(self) -> bool:
        return any(client.hello is not None for client in self._clients.values())

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            log.warning("a daemon cannot connect: %s", error.strerror)
            return
        connection.setblocking(False)
        client = Client(connection, self._clock() + HELLO_SECONDS)
        uid, pid = _peer(connection)
        if len(self._clients) >= CLIENTS:
            self._refuse(client, f"the opener serves {CLIENTS} daemons already")
        elif uid not in _numbers(self._allowed):
            self._refuse(client, f"user {uid} of process {pid} is not allowed; see flowmap opener --allow")
        else:
            self._clients[connection.fileno()] = client

    def _refuse(self, client: Client, why: str) -> None:
        log.warning("daemon refused: %s", why)
        with contextlib.suppress(OSError):
            client.send(Refused(VERSION, why))
        self._drop(client, "")

    def _drop(self, client: Client, why: str) -> None:
        if why:
            log.info("daemon disconnected: %s", why)
        self._clients.pop(client.connection.fileno(), None)
        client.connection.close()

    def _serve(self, client: Client, events: int) -> None:
        try:
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and not self._read(client):
                return
            if events & select.POLLOUT and client.full:
                client.full = False
                self._search_soon()
        except OSError as error:
            self._drop(client, error.strerror or str(error))

    def _read(self, client: Client) -> bool:
        """Read one message; whether the daemon stays."""
        packet = client.connection.recv(MESSAGE_LIMIT)
        if not packet or client.hello is not None:
            self._drop(client, "it sent more than a hello" if packet else "it closed the connection")
            return False
        try:
            hello = decode_hello(packet)
        except DecodeError as error:
            self._refuse(client, str(error))
            return False
        if hello.version != VERSION:
            self._refuse(client, f"it uses version {hello.version} of the protocol, the opener version {VERSION}")
            return False
        client.hello, client.same_clock = hello, abs(hello.clock - self._clock()) < CLOCKS_DIFFER
        client.send(Welcome(VERSION))
        log.info("a daemon of user %d wants %s", _peer(client.connection)[0], _described(hello))
        self._search_soon()
        return True

    def _search_soon(self) -> None:
        self._next_search = min(self._next_search, self._searched_at + AGAIN)

    def _update(self, started: float) -> None:
        """Search, and send every daemon what has changed."""
        self._searched_at, self._next_search = started, started + self._every
        every = self._search(None)  # also for a daemon that wants some: else an old one could seem new
        searches: dict[tuple[str, ...] | None, Search] = {None: every}
        for client in list(self._clients.values()):
            if client.hello is not None and client.hello.wanted not in searches:
                searches[client.hello.wanted] = self._search(client.hello.wanted)
        self._failures = {}
        wanted = {inode for found in searches.values() for inode in found.namespaces}
        self._namespaces.note(every.namespaces.keys(), wanted, started)
        for client in list(self._clients.values()):
            if client.hello is None:
                continue
            try:
                self._send_changes(client, client.hello, searches[client.hello.wanted])
            except OSError as error:
                self._drop(client, error.strerror or str(error))

    def _send_changes(self, client: Client, hello: Hello, search: Search) -> None:
        wanted = {inode: one for inode, one in search.namespaces.items() if inode != hello.own}
        self._send_losses(client, wanted)
        new = [one for inode, one in wanted.items() if inode not in client.sent]
        room = min(self._limit, hello.limit) - len(client.sent)
        for one in new[: max(room, 0)]:
            if not self._open(client, hello, one):
                return  # the rest follows when there is room
        opened = sum(inode in client.sent for inode in wanted)
        failed = sum(inode in self._failures for inode in wanted)
        over = len(new) - max(min(room, len(new)), 0)
        hidden = "CAP_SYS_PTRACE is missing, or a security module hides processes" if search.hidden else ""
        cause = next(iter(self._failures.values()), hidden)
        report = Report(len(wanted), opened, over, failed, search.hidden, search.missing, cause)
        if report != client.report and client.send(report):
            client.report = report

    def _send_losses(self, client: Client, wanted: Mapping[int, Found]) -> None:
        """Send which namespaces are gone, and which have another name."""
        missed = client.sent.keys() - wanted.keys()
        for inode in missed & client.missed:
            if client.send(Gone(inode)):
                del client.sent[inode]
        client.missed = missed & client.sent.keys()
        if client.missed:
            self._search_soon()
        for inode, name in client.sent.items():
            one = wanted.get(inode)
            if one is not None and one.name != name and client.send(Named(inode, one.name)):
                client.sent[inode] = one.name

    def _open(self, client: Client, hello: Hello, one: Found) -> bool:
        """Open the sockets in a namespace and send them; False if the daemon's queue has no room."""
        try:
            entered = self._entrance.open_in(one, SOCKETS + (CONNTRACK if hello.conntrack else ()))
        except FileNotFoundError:  # gone meanwhile
            return True
        except OSError as error:
            remedy = (
                ": CAP_SYS_ADMIN and CAP_SYS_PTRACE are needed" if error.errno in (errno.EPERM, errno.EACCES) else ""
            )
            self._failures[one.inode] = f"{one.path} cannot be entered: {error.strerror}{remedy}"
            return True
        absent_at = self._namespaces.absent_at.get(one.inode) if client.same_clock else None
        descriptors = [each.fileno() for each in entered.sockets]
        message = Opened(one.inode, one.name, absent_at, entered.ports, entered.tracking, len(descriptors))
        try:
            sent = client.send(message, descriptors)
        finally:
            for each in entered.sockets:
                each.close()
        if sent:
            client.sent[one.inode] = one.name
        return sent


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            if _is_served(path):
                raise ConfigError(f"{path}: another opener serves this socket")
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o666)  # who may connect is decided by the user of the peer
        listener.listen(CLIENTS)
        listener.setblocking(False)
    except (OSError, ConfigError) as error:
        listener.close()
        if isinstance(error, ConfigError):
            raise
        remedy = "" if path.parent.is_dir() else "; make its directory, or choose another --socket"
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error}{remedy}") from error
    return listener


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _peer(connection: socket.socket) -> tuple[int, int]:
    """User and process at the other end, when it connected."""
    form = struct.Struct("3i")  # struct ucred
    pid, uid, _ = form.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size))
    return uid, pid


def _numbers(users: Iterable[str]) -> set[int]:
    """User numbers that may connect. Names are looked up each time: that of a DynamicUser unit exists while it runs."""
    found = {0, os.geteuid()}
    for user in users:
        if user.isdecimal():
            found.add(int(user))
        else:
            with contextlib.suppress(KeyError):
                found.add(pwd.getpwnam(user).pw_uid)
    return found


def _described(hello: Hello) -> str:
    if hello.wanted is None:
        return f"all network namespaces, at most {hello.limit}"
    return f"the network namespaces {', '.join(hello.wanted)}"
