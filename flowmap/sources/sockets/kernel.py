"""Queries to the kernel about TCP sockets and addresses of the namespace; no permission needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flowmap.errors import DecodeError, SourceError
from flowmap.model.address import Address, Endpoint
from flowmap.model.source import SourceStats
from flowmap.sources.base import AddressesRemoved, Finding
from flowmap.sources.netlink_socket import NETLINK_SOCK_DIAG, NetlinkSocket, OpenSocket, Received
from flowmap.sources.route_watch import RouteWatch, messages_of
from flowmap.sources.sockets.payload import states_mask
from flowmap.system import proc
from flowmap.wire.netlink.inet_diag import (
    COUNTED,
    FAMILIES,
    SOCK_DIAG_BY_FAMILY,
    TIMER_TIME_WAIT,
    Socket,
    SocketState,
    decode_socket,
    encode_dump,
    encode_lookup,
)
from flowmap.wire.netlink.inet_diag_columns import DecodedSockets, Rows, decode_sockets
from flowmap.wire.netlink.messages import Control, Message, decode_messages, decode_status
from flowmap.wire.netlink.rtnetlink import NEW_ADDRESS, OLD_ADDRESS, AddressGroup, decode_address, encode_addresses

_WAIT = 5.0  # seconds for the next part of an answer; the kernel answers within the send
NOTE = "client_ports"
"""Key of the note, and name of the finding, about an unreadable range of client ports."""
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class DumpPart(NamedTuple):
    """A part of a dump."""

    decoded: DecodedSockets
    truncated: int
    last: bool
    complete: bool
    """False if a part of the dump is missing."""


def take_counted(decoded: DecodedSockets, truncated: int, stats: SourceStats) -> Rows:
    """The sockets with counters; counts records and losses in ``stats``."""
    rows = decoded.sockets
    stats.records += len(rows)
    stats.count_lost("malformed", decoded.malformed)
    stats.count_lost("truncated", truncated)
    usable = (rows["timer"] != TIMER_TIME_WAIT) & (rows["info_size"] >= COUNTED)
    return rows if usable.all() else rows[usable]


class SocketQueries:
    """Dumps and lookups on one netlink socket, one at a time."""

    def __init__(self, *, receive_buffer: int, open_socket: OpenSocket = NetlinkSocket) -> None:
        self._socket = open_socket(NETLINK_SOCK_DIAG, receive_buffer=receive_buffer)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def dump(self, family: int, states: int, *, info: bool = True) -> Iterator[DumpPart]:
        """The sockets of ``family`` in ``states``, in parts; SourceError if the kernel refuses."""
        finished = False
        try:
            self._socket.send(encode_dump(family, states, info=info, sequence=self._next()))
            while not finished:
                received = self._socket.receive(wait=_WAIT)
                decoded = decode_sockets(received.data, received.starts)
                finished = _ended(decoded.controls)
                silent = not received.starts and not received.overrun
                whole = not (decoded.interrupted or received.overrun or received.truncated or silent)
                yield DumpPart(decoded, received.truncated, finished or silent, whole)
                if silent:
                    break
        finally:
            # The rest of this dump must not be mistaken for an answer to the next request.
            while not finished and (received := self._socket.receive(wait=_WAIT)).starts:
                finished = _ended(decode_sockets(received.data, received.starts).controls)

    def listeners(self) -> Rows:
        """The listening sockets."""
        mask = states_mask((SocketState.LISTEN,))
        dumps = (self.dump(family, mask, info=False) for family in FAMILIES)
        return np.concatenate([part.decoded.sockets for dump in dumps for part in dump])

    def lookup(self, socket: Socket, *, turned: bool) -> Socket | None:
        """The socket with the endpoints of ``socket``, exchanged if ``turned``; None if there is none."""
        local = Endpoint(Address(socket.local_high, socket.local_low), socket.local_port)
        remote = Endpoint(Address(socket.remote_high, socket.remote_low), socket.remote_port)
        if turned:
            local, remote = remote, local
        sequence = self._next()
        self._socket.send(encode_lookup(local, remote, interface=socket.interface, sequence=sequence))
        while received := self._socket.receive(wait=_WAIT):
            if not received.starts:
                return None
            for message in decode_messages(received.data):
                if message.sequence == sequence:
                    return _answer(message, local, remote)
        return None

    def _next(self) -> int:
        self._sequence = self._sequence % 0x7FFF_FFFF + 1
        return self._sequence


def _ended(controls: list[Message]) -> bool:
    """Whether the dump has ended; SourceError if it ended with an error."""
    for message in controls:
        if message.type in (Control.DONE, Control.ERROR):
            status = decode_status(message)
            if status.errno:
                raise SourceError(
                    f"the kernel refused to list TCP sockets (errno {status.errno}) {status.text}".rstrip(),
                    remedy="load the modules inet_diag and tcp_diag",
                )
            return True
    return False


def _answer(message: Message, local: Endpoint, remote: Endpoint) -> Socket | None:
    if message.type != SOCK_DIAG_BY_FAMILY:
        return None
    found = decode_socket(message.payload)
    # Without a match the kernel falls back to a listener.
    return found if (found.local_port, found.remote_port) == (local.port, remote.port) else None


class AddressWatch(RouteWatch[set[Address]]):
    """Watches the addresses of the namespace."""

    what = "addresses"

    def __init__(self, open_socket: OpenSocket = NetlinkSocket) -> None:
        super().__init__(AddressGroup, open_socket)
        self._removed: set[Address] = set()
        self._unsure = False

    def take_removed(self) -> Iterator[AddressesRemoved]:
        """The addresses that were removed since the last call, if there are any."""
        removed, unsure = tuple(sorted(self._removed)), self._unsure
        self._removed, self._unsure = set(), False
        if removed or unsure:
            yield AddressesRemoved(None if unsure else removed)

    def _notice(self, received: Received) -> None:
        self._unsure = self._unsure or received.overrun or received.truncated > 0
        try:
            for message in messages_of(received):
                if message.type == OLD_ADDRESS and (address := decode_address(message.payload)) is not None:
                    self._removed.add(address)
        except DecodeError:
            self._unsure = True

    def _encode(self, sequence: int) -> bytes:
        return encode_addresses(sequence=sequence)

    def _collect(self, messages: Iterator[Message]) -> set[Address]:
        decoded = (decode_address(message.payload) for message in messages if message.type == NEW_ADDRESS)
        return {address for address in decoded if address is not None}


class EphemeralPorts(NamedTuple):
    """The range of ports the kernel assigns to clients."""

    first: int = 32768
    last: int = 60999
    cause: str = ""
    """Why the range cannot be read and is Linux' default; empty if it was read."""

    def notes(self) -> dict[str, str]:
        """The cost of an unreadable range, as a note of a source."""
        if not self.cause:
            return {}
        default = f"assuming Linux' default range of client ports, {self.first} to {self.last}"
        return {NOTE: f"{default}: {self.cause}; more guesses of the client endpoint may be wrong"}

    def findings(self, source: str) -> list[Finding]:
        """The same as findings of ``flowmap check``."""
        return [
            Finding(f"{source}.{key}", "degraded", note, "make /proc/sys visible to flowmap")
            for key, note in self.notes().items()
        ]


def ephemeral_ports(path: Path = _EPHEMERAL) -> EphemeralPorts:
    """The range of this network namespace."""
    text = proc.read(path)
    if isinstance(text, proc.Unknown):
        return EphemeralPorts(cause=text.cause)
    ports = text.split()
    if len(ports) != 2 or not all(port.isdecimal() for port in ports):
        return EphemeralPorts(cause=f"{path} contains no range")
    return EphemeralPorts(int(ports[0]), int(ports[1]))
