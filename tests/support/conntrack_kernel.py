"""A scripted kernel for the conntrack source: dumps and events as netlink messages."""

from __future__ import annotations

import struct
from collections.abc import Callable

from flowmap.sources.netlink_socket import Received
from flowmap.wire.netlink.conntrack import CtMessage
from flowmap.wire.netlink.messages import Control, MessageFlag, encode_message
from tests.support.conntrack_messages import DUMP, EVENT, NEW, encode_entry, tcp
from tests.support.netlink_recordings import joined

QUIET = Received(memoryview(b""), [], True, False, 0)


def received(*parts: bytes, drained: bool = True, overrun: bool = False, truncated: int = 0) -> Received:
    data, starts = joined(list(parts))
    return Received(memoryview(data), starts, drained, overrun, truncated)


def entry(number: int) -> bytes:
    return encode_entry(CtMessage.NEW, DUMP, tcp(id=number))


def event(number: int) -> bytes:
    return encode_entry(CtMessage.NEW, NEW, tcp(id=number))


def destroyed(number: int) -> bytes:
    return encode_entry(CtMessage.DELETE, EVENT, tcp(id=number))


def done(status: int = 0, flags: int = 2) -> bytes:
    return encode_message(Control.DONE, flags, struct.pack("=i", -status))


INTERRUPTED = done(flags=MessageFlag.MULTI | MessageFlag.DUMP_INTR)


class Kernel:
    """Makes the sockets of the source. Each returns its scripted datagrams, then an empty queue."""

    def __init__(self) -> None:
        self.now = 100.0
        self.events: list[Received | Callable[[], Received]] = []
        self.dumps: list[list[Received]] = []
        self.sockets: list[ScriptedSocket] = []

    def event_socket(self, _protocol: int, *, receive_buffer: int, **_: object) -> ScriptedSocket:
        return self._make(self.events, receive_buffer)

    def dump_socket(self, _protocol: int, **_: object) -> ScriptedSocket:
        return self._make(list(self.dumps.pop(0) if self.dumps else [received(done())]), 0)

    def _make(self, script: list[Received | Callable[[], Received]], receive_buffer: int) -> ScriptedSocket:
        made = ScriptedSocket(script, receive_buffer)
        self.sockets.append(made)
        return made

    def clock(self) -> float:
        return self.now


class ScriptedSocket:
    def __init__(self, script: list[Received | Callable[[], Received]], receive_buffer: int) -> None:
        self._script, self.receive_buffer, self.closed = script, receive_buffer, False

    def receive(self, *, wait: float = 0) -> Received:
        item = self._script.pop(0) if self._script else QUIET
        return item() if callable(item) else item

    def send(self, request: bytes) -> None:
        assert request

    def grow(self, size: int) -> int:
        self.receive_buffer = size
        return size

    def fileno(self) -> int:
        return 77

    def close(self) -> None:
        self.closed = True
