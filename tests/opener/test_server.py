"""The opener's loop with a search and an entrance that stand in for the kernel; real namespaces in tests/kernel."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from flowmap.errors import ConfigError
from flowmap.opener.discovery import Found, Search
from flowmap.opener.entering import Entered
from flowmap.opener.protocol import (
    MESSAGE_LIMIT,
    SOCKETS,
    VERSION,
    Gone,
    Hello,
    Message,
    Named,
    Opened,
    Range,
    Refused,
    Report,
    Tracking,
    Welcome,
    decode,
    encode,
)
from flowmap.opener.server import CLIENTS, Namespaces, Opener
from tests.support.directories import public_directory

OWN = 1
PEERS: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closed_peers() -> Iterator[None]:
    yield
    while PEERS:
        PEERS.pop().close()


class Host:
    """Namespaces that appear and disappear; entering one opens sockets of this process."""

    def __init__(self) -> None:
        self.inodes: dict[int, str | None] = {OWN: None}
        self.refused: set[int] = set()
        self.searches = 0

    def search(self, wanted: Iterable[str] | None) -> Search:
        self.searches += 1
        found = {
            inode: Found(inode, f"/{inode}", name)
            for inode, name in self.inodes.items()
            if wanted is None or name in tuple(wanted)
        }
        names = set(self.inodes.values())
        return Search(found, 0, () if wanted is None else tuple(name for name in wanted if name not in names))

    def open_in(self, namespace: Found, protocols: Iterable[int]) -> Entered:
        if namespace.inode in self.refused:
            raise PermissionError(1, "Operation not permitted")
        sockets = tuple(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) for protocol in protocols)
        return Entered(sockets, Range(1000, 2000), Tracking(0, 1, 2))


class Peer:
    """A daemon's side of the connection."""

    def __init__(
        self, path: Path, *, wanted: tuple[str, ...] | None = None, limit: int = 100, clock: float = 0
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        PEERS.append(self.socket)
        self.socket.connect(str(path))
        self.socket.settimeout(10)
        hello = Hello(VERSION, OWN, wanted, conntrack=False, limit=limit, clock=clock or time.monotonic())
        self.socket.send(encode(hello))

    def receive(self) -> Message | None:
        """The next message, its descriptors closed; None at the end of the connection."""
        packet, descriptors, _, _ = socket.recv_fds(self.socket, MESSAGE_LIMIT, 16)
        for one in descriptors:
            os.close(one)
        if not packet:
            return None
        message = decode(packet)
        assert not isinstance(message, Opened) or len(descriptors) == message.descriptors == len(SOCKETS)
        return message

    def until(self, kind: type[Message]) -> list[Message]:
        """The messages up to one of ``kind``."""
        messages: list[Message] = []
        while not messages or not isinstance(messages[-1], kind):
            received = self.receive()
            assert received is not None
            messages.append(received)
        return messages


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "opener.sock"


@contextlib.contextmanager
def served(path: Path, host: Host, *, limit: int = 100, allowed: tuple[str, ...] = ()) -> Iterator[Opener]:
    opener = Opener(path, entrance=host, search=host.search, limit=limit, every=0.05, allowed=allowed)
    opener.listen()
    thread = threading.Thread(target=opener.run)
    thread.start()
    try:
        yield opener
    finally:
        opener.stop()
        thread.join(10)
        assert not thread.is_alive()
        assert not path.exists()


def test_a_daemon_gets_all_namespaces_but_its_own(path: Path) -> None:
    host = Host()
    host.inodes |= {7: "blue", 8: None}
    with served(path, host):
        first, *rest = Peer(path).until(Report)
    assert first == Welcome(VERSION)
    opened = [one for one in rest if isinstance(one, Opened)]
    assert [(one.inode, one.name, one.absent_at) for one in opened] == [(7, "blue", None), (8, None, None)]
    assert opened[0].ports == Range(1000, 2000)
    assert rest[-1] == Report(found=2, opened=2, over_limit=0, failed=0, hidden=0, missing=(), cause="")


def test_later_namespaces_were_absent_before(path: Path) -> None:
    host = Host()
    with served(path, host):
        before = time.monotonic()
        peer = Peer(path)
        peer.until(Report)
        host.inodes[9] = None
        opened = peer.until(Opened)[-1]
    assert isinstance(opened, Opened)
    assert opened.absent_at is not None
    assert before <= opened.absent_at


def test_a_clock_of_another_time_namespace_gives_no_times(path: Path) -> None:
    host = Host()
    with served(path, host):
        peer = Peer(path, clock=time.monotonic() + 1e6)
        peer.until(Report)
        host.inodes[9] = None
        opened = peer.until(Opened)[-1]
    assert isinstance(opened, Opened)
    assert opened.absent_at is None


def test_gone_after_two_searches(path: Path) -> None:
    host = Host()
    host.inodes |= {7: "blue", 8: None}
    with served(path, host):
        peer = Peer(path)
        peer.until(Report)
        del host.inodes[7]
        searches = host.searches
        assert peer.until(Gone)[-1] == Gone(7)
        assert host.searches >= searches + 2


def test_a_name_that_comes_later(path: Path) -> None:
    host = Host()
    host.inodes[7] = None
    with served(path, host):
        peer = Peer(path)
        peer.until(Report)
        host.inodes[7] = "blue"
        assert peer.until(Named)[-1] == Named(7, "blue")


def test_only_wanted_names(path: Path) -> None:
    host = Host()
    host.inodes |= {7: "blue", 8: "red"}
    with served(path, host):
        messages = Peer(path, wanted=("red", "green")).until(Report)
    assert [one.name for one in messages if isinstance(one, Opened)] == ["red"]
    report = messages[-1]
    assert isinstance(report, Report)
    assert (report.found, report.missing) == (1, ("green",))


@pytest.mark.parametrize(("own", "theirs"), [(2, 100), (100, 2)])
def test_limits_are_counted_and_room_is_used_again(path: Path, own: int, theirs: int) -> None:
    host = Host()
    host.inodes |= dict.fromkeys((7, 8, 9, 10))
    with served(path, host, limit=own):
        peer = Peer(path, limit=theirs)
        report = peer.until(Report)[-1]
        assert isinstance(report, Report)
        assert (report.found, report.opened, report.over_limit) == (4, 2, 2)
        del host.inodes[7]
        messages = peer.until(Opened)
        assert Gone(7) in messages
        assert isinstance(messages[-1], Opened)
        assert messages[-1].inode == 9


def test_what_cannot_be_entered_is_counted_with_its_cause(path: Path) -> None:
    host = Host()
    host.inodes |= {7: "blue", 8: None}
    host.refused = {7}
    with served(path, host):
        report = Peer(path).until(Report)[-1]
    assert isinstance(report, Report)
    assert (report.opened, report.failed) == (1, 1)
    assert report.cause == "/7 cannot be entered: Operation not permitted: CAP_SYS_ADMIN and CAP_SYS_PTRACE are needed"


def refusal(path: Path, packet: bytes) -> Message | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(str(path))
        peer.settimeout(10)
        if packet:
            peer.send(packet)
        received = peer.recv(MESSAGE_LIMIT)
        return decode(received) if received else None


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b'{"type": "hello", "version": 2}', "it uses version 2 of the protocol, the opener version 1"),
        (encode(Gone(1)), "message of the opener: the first one is no hello"),
        (b"GET / HTTP/1.1", "message of the opener: "),
    ],
)
def test_refusals(path: Path, packet: bytes, why: str) -> None:
    with served(path, Host()):
        received = refusal(path, packet)
    assert isinstance(received, Refused)
    assert received.why.startswith(why)


def test_more_than_a_hello_ends_the_connection(path: Path) -> None:
    with served(path, Host()):
        peer = Peer(path)
        peer.until(Report)
        peer.socket.send(encode(Gone(1)))
        with contextlib.suppress(ConnectionResetError):
            assert peer.receive() is None


def test_a_daemon_too_many_is_refused(path: Path) -> None:
    with served(path, Host()):
        peers = [Peer(path) for _ in range(CLIENTS)]
        for peer in peers:
            peer.until(Report)
        assert isinstance(refusal(path, b""), Refused)


def test_a_daemon_that_does_not_read_gets_the_rest_later(path: Path) -> None:
    host = Host()
    host.inodes |= dict.fromkeys(range(100, 1100), "n" * 200)
    with served(path, host, limit=2000):
        peer = Peer(path, limit=2000)
        report = peer.until(Report)[-1]
        assert isinstance(report, Report)
        assert report.opened == 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize(
    ("allowed", "accepted"), [((), False), (("65534",), True), (("nobody",), True), (("x",), False)]
)
def test_users(allowed: tuple[str, ...], accepted: bool) -> None:
    with public_directory() as directory, served(path := directory / "opener.sock", Host(), allowed=allowed):
        child = os.fork()
        if child == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                peer = Peer(path)
                os._exit(0 if isinstance(peer.receive(), Welcome) else 1)
            except BaseException:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert (status == 0) is accepted


def test_two_openers_cannot_serve_one_socket(path: Path) -> None:
    with served(path, Host()), pytest.raises(ConfigError, match="another opener serves this socket"):
        Opener(path, entrance=Host(), search=Host().search).listen()


def test_a_socket_that_a_killed_opener_left_is_replaced(path: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left.bind(str(path))
    left.close()
    with served(path, Host()):
        assert Peer(path).until(Report)


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot listen on .*: No such file or directory; make its directory, or "):
        Opener(tmp_path / "absent/opener.sock", entrance=Host(), search=Host().search).listen()


def test_when_namespaces_were_absent() -> None:
    known = Namespaces()
    known.note({1, 2}, {1}, 10.0)
    known.note({1, 3}, {1, 4}, 20.0)
    known.note({1, 2, 3, 4}, {4}, 30.0)
    assert known.absent_at == {1: None, 2: 20.0, 3: 10.0, 4: None}


def test_a_daemon_that_wants_more_gets_no_false_times(path: Path) -> None:
    host = Host()
    host.inodes |= {7: "blue", 8: "red"}
    with served(path, host):
        Peer(path, wanted=("blue",)).until(Report)
        messages = Peer(path).until(Report)
    assert [(one.inode, one.absent_at) for one in messages if isinstance(one, Opened)] == [(7, None), (8, None)]
