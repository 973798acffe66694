"""Netlink sockets, against the kernel's own protocols that need no privilege."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from flowmap.errors import SourceDenied, SourceError
from flowmap.sources import netlink_socket
from flowmap.sources.netlink_socket import LARGEST_DATAGRAM, NETLINK_SOCK_DIAG, NetlinkSocket

USERSOCK = socket.NETLINK_USERSOCK
"""A protocol without a kernel side: processes send to each other, so a test can script every datagram."""


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


def test_datagrams_come_one_after_the_other_each_aligned(reader: NetlinkSocket, writer: socket.socket) -> None:
    put(writer, reader, b"a" * 20, b"b" * 21, b"c" * 4)
    received = reader.receive()
    assert received.starts == [0, 20, 44]
    assert len(received.data) == 48
    assert bytes(received.data[20:41]) == b"b" * 21
    assert (received.drained, received.overrun, received.truncated) == (True, False, 0)


def test_nothing_waits(reader: NetlinkSocket) -> None:
    received = reader.receive(wait=0.01)
    assert (received.starts, len(received.data), received.drained) == ([], 0, True)


def test_one_receive_is_bounded_by_the_chunk(reader: NetlinkSocket, writer: socket.socket) -> None:
    put(writer, reader, *[bytes(20_000)] * 3)
    first = reader.receive()
    assert (len(first.starts), first.drained) == (2, False)
    second = reader.receive()
    assert (len(second.starts), second.drained) == (1, True)


def test_a_datagram_that_does_not_fit_is_counted_not_returned(reader: NetlinkSocket, writer: socket.socket) -> None:
    put(writer, reader, b"a" * 8, b"b" * 70_000, b"c" * 8)
    received = reader.receive()
    assert (bytes(received.data), received.starts) == (b"a" * 8 + b"c" * 8, [0, 8])
    assert (received.truncated, received.drained) == (1, True)


class Scripted:
    """Stands for the socket below: every ``recv_into`` gives the next of ``script``."""

    def __init__(self, *script: bytes | int) -> None:
        self._script = list(script)

    def recv_into(self, view: memoryview, _size: int, flags: int) -> int:
        assert flags == socket.MSG_TRUNC
        item = self._script.pop(0)
        if isinstance(item, int):
            raise OSError(item, os.strerror(item))
        view[: len(item)] = item
        return len(item)


def test_an_overrun_is_a_value_and_what_came_before_is_kept(reader: NetlinkSocket) -> None:
    inner = reader._socket
    reader._socket = Scripted(b"aaaa", errno.ENOBUFS, b"bbbb", errno.EAGAIN)  # type: ignore[assignment]
    try:
        first, second = reader.receive(), None
        assert (bytes(first.data), first.starts, first.overrun, first.drained) == (b"aaaa", [0], True, False)
        second = reader.receive()
        assert (bytes(second.data), second.starts, second.overrun, second.drained) == (b"bbbb", [0], False, True)
    finally:
        reader._socket = inner


def test_any_other_error_is_a_source_error(reader: NetlinkSocket) -> None:
    inner = reader._socket
    reader._socket = Scripted(errno.EBADF)  # type: ignore[assignment]
    try:
        with pytest.raises(SourceError, match="cannot read from netlink: Bad file descriptor"):
            reader.receive()
    finally:
        reader._socket = inner


def test_the_granted_buffer_is_without_the_kernels_doubling(reader: NetlinkSocket) -> None:
    assert reader.receive_buffer == 100_000
    assert reader.grow(50_000) == 50_000
    assert reader.grow(0) == 50_000


def test_without_the_capability_the_buffer_is_what_the_system_allows(
    reader: NetlinkSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netlink_socket, "_SO_RCVBUFFORCE", 9999)
    with pytest.raises(OSError):
        reader.grow(1 << 30)

    class Denied(socket.socket):
        def setsockopt(self, level: int, option: int, value: int) -> None:  # type: ignore[override]
            if option == 9999:
                raise PermissionError(errno.EPERM, "denied")
            super().setsockopt(level, option, value)

    inner = reader._socket
    with Denied(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK) as denied:
        reader._socket = denied
        with open("/proc/sys/net/core/rmem_max") as file:
            allowed = int(file.read())
        assert reader.grow(1 << 30) == allowed
    reader._socket = inner


def test_a_protocol_the_kernel_lacks_has_a_remedy() -> None:
    with pytest.raises(SourceError, match="cannot open a netlink socket") as caught:
        NetlinkSocket(31)
    assert "module" in caught.value.remedy


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_a_refusal_is_denied_with_a_remedy(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(NetlinkSocket, "_prepare", refuse)
    with pytest.raises(SourceDenied, match="cannot join") as caught:
        NetlinkSocket(NETLINK_SOCK_DIAG, groups=[1])
    assert "CAP_NET_ADMIN" in caught.value.remedy


def test_closing_twice_is_safe_and_sending_then_is_an_error(reader: NetlinkSocket) -> None:
    assert reader.fileno() >= 0
    reader.close()
    reader.close()
    assert reader.fileno() == -1
    with pytest.raises(SourceError, match="cannot send a netlink request"):
        reader.send(b"x" * 16)
