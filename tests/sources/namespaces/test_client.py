"""The daemon's side of the connection to the opener, against one that a test plays."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowmap.opener.discovery import own_inode
from flowmap.opener.protocol import (
    NAMESPACE_LIMIT,
    SOCKETS,
    VERSION,
    Gone,
    Hello,
    Message,
    Opened,
    Refused,
    Report,
    Tracking,
    Welcome,
    decode,
    encode,
)
from flowmap.sources.namespaces.client import AGAIN, Disconnected, OpenerClient, Passed, room

OPENED = Opened(7, "blue", None, None, Tracking(-1, -1, -1), len(SOCKETS))
REPORT = Report(1, 1, 0, 0, 0, (), "")


class Opener:
    """Listens, and sends what the test says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(10)
        self.connection: socket.socket | None = None

    def accept(self) -> None:
        self.connection, _ = self._listener.accept()
        self.connection.settimeout(10)

    def send(self, message: Message | bytes, *sockets: socket.socket) -> None:
        assert self.connection is not None
        packet = message if isinstance(message, bytes) else encode(message)
        socket.send_fds(self.connection, [packet], [one.fileno() for one in sockets])
        for one in sockets:
            one.close()

    def close(self) -> None:
        self._listener.close()
        if self.connection is not None:
            self.connection.close()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    made = Opener(tmp_path / "opener.sock")
    yield made
    made.close()


@pytest.fixture
def client(opener: Opener) -> Iterator[OpenerClient]:
    made = OpenerClient(opener.path, ("blue",), conntrack=False, clock=Clock())
    assert made.connect()
    opener.accept()
    yield made
    made.close()


def netlink() -> list[socket.socket]:
    return [socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) for protocol in SOCKETS]


def test_the_hello_says_what_is_wanted(opener: Opener, client: OpenerClient) -> None:
    assert opener.connection is not None
    hello = decode(opener.connection.recv(10_000))
    assert isinstance(hello, Hello)
    assert (hello.version, hello.own, hello.wanted) == (VERSION, own_inode(), ("blue",))
    assert 0 < hello.limit <= NAMESPACE_LIMIT


def test_sockets_are_passed_and_stay_after_the_opener_has_gone(opener: Opener, client: OpenerClient) -> None:
    opener.send(Welcome(VERSION))
    opener.send(OPENED, *netlink())
    opener.send(REPORT)
    opener.send(Gone(7))
    welcome, passed, report, gone = client.receive()
    assert (welcome, report, gone) == (Welcome(VERSION), REPORT, Gone(7))
    assert isinstance(passed, Passed)
    assert passed.opened == OPENED
    opener.close()
    assert [one.getsockopt(socket.SOL_SOCKET, 38) for one in passed.sockets] == list(SOCKETS)
    assert not any(os.get_inheritable(one.fileno()) for one in passed.sockets)
    for one in passed.sockets:
        one.close()
    assert [type(one) for one in client.receive()] == [Disconnected]
    assert (client.fileno(), client.error) == (-1, f"{opener.path}: the opener closed the connection")


def test_what_is_not_a_message_is_counted(opener: Opener, client: OpenerClient) -> None:
    opener.send(b"not json")
    opener.send(Gone(7))
    assert list(client.receive()) == [Gone(7)]
    assert client.unusable == 1


@pytest.mark.parametrize("wrong", ["too few", "another protocol", "no netlink", "a file"])
def test_other_descriptors_are_closed_and_counted(opener: Opener, client: OpenerClient, wrong: str) -> None:
    sockets = netlink()
    if wrong == "too few":
        sockets.pop().close()
    else:
        sockets.pop().close()
        family = socket.AF_NETLINK if wrong == "another protocol" else socket.AF_UNIX
        sockets.append(socket.socket(family, socket.SOCK_RAW if family == socket.AF_NETLINK else socket.SOCK_DGRAM))
        if wrong == "another protocol":
            sockets[-1].close()
            sockets[-1] = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
    if wrong == "a file":
        descriptor = os.open("/dev/null", os.O_RDONLY)
        os.dup2(descriptor, sockets[-1].fileno())
        os.close(descriptor)
    before = len(os.listdir("/proc/self/fd"))
    opener.send(OPENED, *sockets)
    assert list(client.receive()) == []
    assert (client.unusable, client.fileno()) == (1, -1)
    assert client.deadline() == Clock.now + AGAIN, "it asks for all once more"
    assert len(os.listdir("/proc/self/fd")) == before - len(sockets) - 1


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Refused(VERSION, "user 7 is not allowed"), "user 7 is not allowed"),
        (Welcome(VERSION + 1), f"it uses version {VERSION + 1} of the protocol, flowmap version {VERSION}"),
    ],
)
def test_refusals(opener: Opener, client: OpenerClient, message: Message, error: str) -> None:
    opener.send(message)
    assert list(client.receive()) == [Disconnected(f"{opener.path}: {error}")]


def test_it_connects_again_with_growing_pauses(tmp_path: Path) -> None:
    clock = Clock()
    client = OpenerClient(tmp_path / "absent.sock", None, conntrack=False, clock=clock)
    pauses = []
    for _ in range(7):
        assert not client.connect()
        pauses.append(client.deadline() - clock.now)
        assert not client.connect()  # too early
        clock.now = client.deadline()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert client.error == f"{tmp_path}/absent.sock: No such file or directory"


def test_room_follows_the_limit_on_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, wanted in ((1024, 128), (100, 0), (1 << 30, NAMESPACE_LIMIT), (-1, NAMESPACE_LIMIT)):
        monkeypatch.setattr("resource.getrlimit", lambda _, soft=soft: (soft, soft))
        assert room(conntrack=False) == wanted
