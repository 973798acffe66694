"""Netlink sockets, against the kernel's own protocols that need no privilege."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowmap.errors import SourceDenied, SourceError
from flowmap.sources.netlink_socket import LARGEST_DATAGRAM, NETLINK_SOCK_DIAG, NetlinkSocket

USERSOCK = socket.NETLINK_USERSOCK
"""A protocol without a kernel side: processes send to each other, so a test can script every datagram."""
SO_RCVBUFFORCE = 33


@pytest.fixture
def reader() -> Iterator[NetlinkSocket]:
    opened = NetlinkSocket(USERSOCK, receive_buffer=100_000, chunk=2 * LARGEST_DATAGRAM)
    yield opened
    opened.close()


@pytest.fixture
def writer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK) as opened:
        opened.setblocking(False)
        yield opened


def put(writer: socket.socket, reader: NetlinkSocket, *datagrams: bytes) -> None:
    for datagram in datagrams:
        writer.sendto(datagram, (reader.port, 0))


def test_datagrams_are_aligned(reader: NetlinkSocket, writer: socket.socket) -> None:
    put(writer, reader, b"a" * 20, b"b" * 21, b"c" * 4)
    received = reader.receive()
    assert received.starts == [0, 20, 44]
    assert len(received.data) == 48
    assert bytes(received.data[20:41]) == b"b" * 21
    assert (received.drained, received.overrun, received.truncated) == (True, False, 0)


def test_empty_queue(reader: NetlinkSocket) -> None:
    received = reader.receive(wait=0.01)
    assert (received.starts, len(received.data), received.drained) == ([], 0, True)


def test_receive_is_bounded_by_the_chunk(reader: NetlinkSocket, writer: socket.socket) -> None:
    put(writer, reader, *[bytes(20_000)] * 3)
    first = reader.receive()
    assert (len(first.starts), first.drained) == (2, False)
    second = reader.receive()
    assert (len(second.starts), second.drained) == (1, True)


def test_too_large_datagram_is_counted(reader: NetlinkSocket, writer: socket.socket) -> None:
    put(writer, reader, b"a" * 8, b"b" * 70_000, b"c" * 8)
    received = reader.receive()
    assert (bytes(received.data), received.starts) == (b"a" * 8 + b"c" * 8, [0, 8])
    assert (received.truncated, received.drained) == (1, True)


def scripted(monkeypatch: pytest.MonkeyPatch, *script: bytes | int) -> NetlinkSocket:
    """A socket whose reads give the items of ``script``: a datagram, or the number of an error."""
    items = list(script)

    class Scripted(socket.socket):
        def recv_into(self, view: memoryview, _size: int = 0, flags: int = 0) -> int:  # type: ignore[override]
            assert flags == socket.MSG_TRUNC
            item = items.pop(0)
            if isinstance(item, int):
                raise OSError(item, os.strerror(item))
            view[: len(item)] = item
            return len(item)

    monkeypatch.setattr(socket, "socket", Scripted)
    return NetlinkSocket(USERSOCK)


def test_overrun_keeps_earlier_datagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(scripted(monkeypatch, b"aaaa", errno.ENOBUFS, b"bbbb", errno.EAGAIN)) as reader:
        first = reader.receive()
        assert (bytes(first.data), first.starts, first.overrun, first.drained) == (b"aaaa", [0], True, False)
        second = reader.receive()
        assert (bytes(second.data), second.starts, second.overrun, second.drained) == (b"bbbb", [0], False, True)


def test_other_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = pytest.raises(SourceError, match="cannot read from netlink: Bad file descriptor")
    with contextlib.closing(scripted(monkeypatch, errno.EBADF)) as reader, failing:
        reader.receive()


def test_granted_buffer(reader: NetlinkSocket) -> None:
    assert reader.receive_buffer == 100_000
    assert reader.grow(50_000) == 50_000
    assert reader.grow(0) == 50_000


def test_buffer_without_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied(socket.socket):
        def setsockopt(self, level: int, option: int, value: int) -> None:  # type: ignore[override]
            if option == SO_RCVBUFFORCE:
                raise PermissionError(errno.EPERM, "denied")
            super().setsockopt(level, option, value)

    monkeypatch.setattr(socket, "socket", Denied)
    with contextlib.closing(NetlinkSocket(USERSOCK)) as reader:
        assert reader.grow(1 << 30) == int(Path("/proc/sys/net/core/rmem_max").read_text())


def test_missing_protocol() -> None:
    with pytest.raises(SourceError, match="cannot open a netlink socket") as caught:
        NetlinkSocket(31)
    assert "module" in caught.value.remedy


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_denied(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(NetlinkSocket, "_prepare", refuse)
    with pytest.raises(SourceDenied, match="cannot join") as caught:
        NetlinkSocket(NETLINK_SOCK_DIAG, groups=[1])
    assert "CAP_NET_ADMIN" in caught.value.remedy


def test_closed_socket(reader: NetlinkSocket) -> None:
    assert reader.fileno() >= 0
    reader.close()
    reader.close()
    assert reader.fileno() == -1
    with pytest.raises(SourceError, match="cannot send a netlink request"):
        reader.send(b"x" * 16)
