"""When a list of the kernel's is out of date: a scripted kernel, whose list changes while it is read."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import pytest

from flowmap.errors import DecodeError, SourceError
from flowmap.sources import route_watch
from flowmap.sources.netlink_socket import Received
from flowmap.sources.route_watch import ATTEMPTS, RouteWatch
from flowmap.wire.netlink.messages import HEADER, Control, Message, MessageFlag, encode_message

ENTRY = 100
EINTR, EPERM = 4, 1
QUIET = Received(memoryview(b""), [], True, False, 0)
NOTICE = Received(memoryview(bytes(16)), [0], True, False, 0)
OVERRUN = Received(memoryview(b""), [], False, True, 0)

Part = Received | tuple[int, bytes, int]
"""What is received as it is, or type, payload and flags of a message with the number that was asked with."""


class Kernel:
    """Stands for both sockets. ``lists``: the answer to each request; ``notices``: what waits before each look."""

    def __init__(self, lists: Iterable[list[Part]], notices: Iterable[Received] = ()) -> None:
        self.lists, self.notices = list(lists), list(notices)
        self.made = 0

    def socket(self, _: int, *, groups: Iterable[int] = ()) -> Kernel | Events:
        self.made += 1
        return Events(self) if groups else self

    def send(self, request: bytes) -> None:
        self.sequence = HEADER.unpack_from(request)[3]
        self.parts = iter(self.lists.pop(0))

    def receive(self, *, wait: float) -> Received:
        part = next(self.parts, QUIET)
        if isinstance(part, Received):
            return part
        kind, payload, flags = part
        return received(encode_message(kind, flags, payload, sequence=self.sequence))

    def close(self) -> None:
        self.made -= 1


class Events:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def receive(self) -> Received:
        return self._kernel.notices.pop(0) if self._kernel.notices else QUIET

    def close(self) -> None:
        self._kernel.close()


def received(*datagrams: bytes) -> Received:
    starts = [sum(map(len, datagrams[:n])) for n in range(len(datagrams))]
    return Received(memoryview(b"".join(datagrams)), starts, True, False, 0)


class Numbers(RouteWatch[list[int]]):
    what = "numbers"

    def __init__(self) -> None:
        super().__init__((1,))

    def _encode(self, sequence: int) -> bytes:
        return encode_message(99, 0, b"", sequence=sequence)

    def _collect(self, messages: Iterator[Message]) -> list[int]:
        return [one(message.payload) for message in messages if message.type == ENTRY]


def one(payload: memoryview) -> int:
    if len(payload) != 1:
        raise DecodeError("not one byte")
    return payload[0]


def entry(number: int, flags: int = 0) -> Part:
    return ENTRY, bytes((number,)), flags


def done(errno: int = 0, flags: int = 0, kind: int = Control.DONE) -> Part:
    return kind, struct.pack("=i", -errno) + bytes(16 * (kind == Control.ERROR)), flags


LATER = [entry(2), done()]

ROWS: list[tuple[str, list[list[Part]], list[Received], list[int]]] = [
    # what the kernel lists at each request, what is noticed before and after each, the list that is right
    ("nothing-changes", [[entry(1), done()]], [], [1]),
    ("noticed-meanwhile", [[entry(1), done()], LATER], [QUIET, QUIET, NOTICE], [2]),
    ("noticed-before", [[entry(2), done()]], [NOTICE], [2]),
    ("notices-lost", [[entry(1), done()], LATER], [QUIET, QUIET, OVERRUN], [2]),
    ("interrupted", [[entry(1, MessageFlag.DUMP_INTR), done()], LATER], [], [2]),
    ("interrupted-at-the-end", [[entry(1), done(flags=MessageFlag.DUMP_INTR)], LATER], [], [2]),
    ("given-up-by-the-kernel", [[entry(1), done(EINTR)], LATER], [], [2]),
    ("refused-for-now", [[done(EINTR, kind=Control.ERROR)], LATER], [], [2]),
    ("part-lost", [[entry(1), OVERRUN, done()], LATER], [], [2]),
    ("part-cut", [[entry(1), QUIET._replace(starts=[0], truncated=1), done()], LATER], [], [2]),
    ("rest-of-another", [[received(encode_message(ENTRY, 0, b"9", sequence=99)), entry(2), done()]], [], [2]),
]


@pytest.mark.parametrize(("lists", "notices", "wanted"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_list_is_read_until_it_is_complete(
    monkeypatch: pytest.MonkeyPatch, lists: list[list[Part]], notices: list[Received], wanted: list[int]
) -> None:
    kernel = Kernel(lists, notices)
    monkeypatch.setattr(route_watch, "NetlinkSocket", kernel.socket)
    watch = Numbers()
    assert watch.refresh() == wanted
    assert not watch.changed() and watch.refresh() is None
    assert not kernel.lists
    watch.close()
    assert not kernel.made


def test_list_that_keeps_changing_stays_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = [entry(1, MessageFlag.DUMP_INTR), done()]
    kernel = Kernel([interrupted] * (ATTEMPTS + 1) + [LATER])
    monkeypatch.setattr(route_watch, "NetlinkSocket", kernel.socket)
    watch = Numbers()
    assert watch.refresh() == [1]
    assert len(kernel.lists) == 2 and watch.changed()
    assert watch.refresh() == [2] and not watch.changed()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([done(EPERM, kind=Control.ERROR)], "does not list this namespace's numbers: Operation not permitted"),
        ([entry(1)], "does not list this namespace's numbers"),
        ([], "does not list this namespace's numbers"),
        ([(ENTRY, b"12", 0), done()], "list of numbers cannot be read: not one byte"),
    ],
)
def test_refused_list(monkeypatch: pytest.MonkeyPatch, parts: list[Part], words: str) -> None:
    monkeypatch.setattr(route_watch, "NetlinkSocket", Kernel([parts, LATER]).socket)
    watch = Numbers()
    with pytest.raises(SourceError, match=words):
        watch.read()
    assert watch.changed() and watch.refresh() == [2]
