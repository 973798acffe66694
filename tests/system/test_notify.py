"""Notifications to systemd and passed sockets, on real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowmap.system.notify import Notifier
from tests.support.scripted_source import refuse_sockets


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@flowmap-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1))
        listener.settimeout(5)
        yield listener, name


def test_notifications_of_a_service(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.watchdog == 3.0
    notifier.status("reading\nthe table …")
    notifier.status("reading\nthe table …")
    notifier.ready("all is well")
    notifier.alive()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    notifier.stopping()
    told = [listener.recv(4096).decode() for _ in range(5)]
    kind, _, stamp = told[3].partition("\nMONOTONIC_USEC=")
    assert before <= int(stamp) <= before + 5_000_000
    assert [*told[:3], kind, told[4]] == [
        "STATUS=reading the table ?",
        "READY=1\nSTATUS=all is well",
        "WATCHDOG=1",
        "RELOADING=1",
        "STOPPING=1\nSTATUS=stopping",
    ]
    notifier.close()


def test_an_unread_or_closed_socket_does_not_block(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
    for _ in range(10_000):
        notifier.alive()
    listener.close()
    notifier.alive()
    notifier.close()
    notifier.alive()


def test_without_unix_sockets(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    refuse_sockets(monkeypatch, socket.AF_UNIX)
    notifier = Notifier({"NOTIFY_SOCKET": "/nowhere"})
    notifier.ready("all is well")
    notifier.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Address family not supported" in caplog.text


WATCHDOGS = [
    ({}, None),
    ({"WATCHDOG_USEC": "500000"}, 0.5),
    ({"WATCHDOG_USEC": "0"}, None),
    ({"WATCHDOG_USEC": "soon"}, None),
    ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
]


@pytest.mark.parametrize(("environ", "seconds"), WATCHDOGS)
def test_watchdog_of_another_process(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environ).watchdog == seconds


TAKE = """
import os, sys
from flowmap.errors import ConfigError
from flowmap.system.notify import take_listener
try:
    taken = take_listener(os.environ, sys.argv[1], int(sys.argv[2]))
except ConfigError as error:
    print(error)
else:
    print(taken and (taken.fileno(), taken.getblocking(), taken.get_inheritable()))
"""


def take(listener: socket.socket, host: str, port: int, *, number: str = "1") -> str:
    """What a process finds that is started as systemd does: descriptor 3, and its own id in LISTEN_PID."""
    start = f'export LISTEN_PID=$$ LISTEN_FDS={number}; exec "$0" -c "$1" {host} {port} 3<&{listener.fileno()}'
    command = ["bash", "-c", start, sys.executable, TAKE]
    done = subprocess.run(command, pass_fds=[listener.fileno()], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_passed_socket_must_have_the_configured_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert take(listener, "127.0.0.1", port) == "(3, False, False)"
        assert "use the same address" in take(listener, "0.0.0.0", port)
        assert "use the same address" in take(listener, "127.0.0.1", port + 1)
        assert "flowmap accepts one" in take(listener, "127.0.0.1", port, number="2")
        assert take(listener, "127.0.0.1", port, number="0") == "None"
    with socket.socket(socket.AF_UNIX) as other:
        assert "non-TCP socket" in take(other, "127.0.0.1", port)


def test_passed_descriptor_is_not_a_socket() -> None:
    with open(os.devnull) as file:
        start = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" -c "$1" 127.0.0.1 1 3<&'
        for given in (str(file.fileno()), "-"):
            command = ["bash", "-c", start + given, sys.executable, TAKE]
            done = subprocess.run(command, pass_fds=[file.fileno()], capture_output=True, text=True, check=True)
            assert done.stdout.startswith("LISTEN_FDS announces a socket as descriptor 3, which is none: ")
