"""Looking up names: what comes back, how long it takes at most, and what is said where nothing comes back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from flowmap.system import names
from flowmap.system.names import is_address, is_being_looked_up, look_up, lookup_problem, run_loop

SILENT = "silent.example"


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Name servers that answer about nothing but localhost."""
    over, real = threading.Event(), socket.getaddrinfo

    def hang(host: bytes | str, *rest: object, **more: object) -> object:
        if host in (SILENT, SILENT.encode()):
            over.wait()
        return real("127.0.0.1", *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(names, "LOOKUP_SECONDS", 0.05)
    yield
    over.set()
    while names.LOOKUPS.unfinished():
        time.sleep(0.001)


ADDRESSES = [("127.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("localhost", False), ("1.2.3", False)]


@pytest.mark.parametrize(("host", "expected"), ADDRESSES)
def test_is_address(host: str, expected: bool) -> None:
    assert is_address(host) is expected


def test_an_address_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert look_up("127.0.0.1", 7, within=1.0)[0][4] == ("127.0.0.1", 7)
    with pytest.raises(OSError, match="no more threads"):
        look_up("localhost", 7, within=1.0)


def test_a_name_leaves_no_thread() -> None:
    before = threading.active_count()
    assert look_up("localhost", 7, within=10.0)[0][4][1] == 7
    assert threading.active_count() == before


@pytest.mark.usefixtures("silent_server")
def test_lookup_timeout() -> None:
    with pytest.raises(socket.gaierror, match="no name server answered within 0.1 s; see /etc/resolv.conf"):
        look_up(SILENT, 1, within=0.1)


@pytest.mark.usefixtures("silent_server")
def test_lookup_timeout_in_the_loop() -> None:
    async def both() -> list[object]:
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(
            loop.getaddrinfo(SILENT, 1), loop.getaddrinfo("other.example", 1), return_exceptions=True
        )
        assert is_being_looked_up(SILENT.upper()) and not is_being_looked_up("other.example")
        return list(found)

    with run_loop() as runner:
        silent, other = runner.run(both())
    assert lookup_problem(silent if isinstance(silent, Exception) else None).startswith("no name server answered")
    assert isinstance(other, list) and other[0][4] == ("127.0.0.1", 1)


def wrapped(inner: BaseException) -> BaseException:
    try:
        try:
            raise inner
        except BaseException as error:
            raise OSError("outside") from error
    except OSError as outer:
        return outer


PROBLEMS: list[tuple[BaseException | None, str]] = [
    (None, ""),
    (OSError("refused"), ""),
    (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    (wrapped(socket.gaierror(-3, "Temporary failure")), "Temporary failure"),
    (wrapped(UnicodeError("label too long")), "not a host name"),
]


@pytest.mark.parametrize(("error", "said"), PROBLEMS, ids=[row[1] for row in PROBLEMS])
def test_lookup_problem(error: BaseException | None, said: str) -> None:
    assert lookup_problem(error) == said
