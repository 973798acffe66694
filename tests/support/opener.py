"""A real opener, namespaces with names or processes of their own, and a source that reads them through it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flowmap.config.models import CollectConfig
from flowmap.flows.records.batch import FlowBatch, RecordKind
from flowmap.sources.base import NamespaceGone, NamespaceOpened, NamespacesNamed, Step
from flowmap.sources.choice import choose_source

SEND = """
import socket, sys, time
size, seconds, count = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
listener = socket.create_server(("127.0.0.1", 0))
pairs = []
for _ in range(count):
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    client.sendall(b"x" * size)
    left = size
    while left:
        left -= len(server.recv(left))
    pairs.append((client, server))
print("sent", flush=True)
time.sleep(seconds)
"""
"""A program with ``count`` connections over loopback, each with ``size`` bytes to the server, open for a while."""


class OpenerProcess:
    """``flowmap opener``."""

    def __init__(self, directory: Path, *, prefix: Sequence[str] = (), arguments: Sequence[str] = ()) -> None:
        self.socket = directory / "opener.sock"
        self.log = directory / "opener.log"
        self._started = 0
        self._command = [*prefix, sys.executable, "-m", "flowmap", "opener", "--socket", str(self.socket), *arguments]
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stderr=log)
        deadline = time.monotonic() + 30
        self._started += 1
        while self.log.read_text().count("listening on") < self._started and time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash does: its socket stays."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=20)


@contextlib.contextmanager
def opener(directory: Path, *, prefix: Sequence[str] = (), arguments: Sequence[str] = ()) -> Iterator[OpenerProcess]:
    made = OpenerProcess(directory, prefix=prefix, arguments=arguments)
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def named_namespace() -> Iterator[str]:
    """A namespace with ``lo`` up, under /run/netns; removed at the end unless it is gone."""
    name = f"flowmap-test-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def sending(name: str, size: int = 1000, seconds: float = 60, count: int = 1) -> subprocess.Popen[str]:
    """The program :data:`SEND` in a namespace, after it has sent."""
    command = ["ip", "netns", "exec", name, sys.executable, "-c", SEND, str(size), str(seconds), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


class NamespaceReader:
    """The source that the daemon would read, and what its steps have said."""

    def __init__(self, socket: Path, namespaces: Any, **settings: Any) -> None:
        chosen = choose_source(
            CollectConfig.model_validate(
                {"source": "sockets", "namespaces": namespaces, "opener": str(socket), **settings}
            )
        )
        self.source = chosen.source
        self.opened: dict[int, float | None] = {}
        self.named: dict[int, str | None] = {}
        self.inodes: dict[int, int] = {}
        self.gone: list[int] = []
        self.bytes: Counter[int] = Counter()
        """Bytes sent by clients that the last record of each connection shows, by namespace."""
        self._last: dict[tuple[int, int], int] = {}
        self.source.open()

    def poll(self) -> list[Step]:
        steps = list(self.source.poll())
        for step in steps:
            self._take(step)
        return steps

    def until(self, condition: Any, *, seconds: float = 30) -> None:
        """Poll until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.source.stats, self.named, self.gone, self.bytes)
            self.poll()
            time.sleep(0.02)

    def close(self) -> None:
        self.source.close()

    def _take(self, step: Step) -> None:
        match step:
            case NamespacesNamed(named):
                self.named |= {number: one.name for number, one in named}
                self.inodes |= {number: one.inode for number, one in named}
            case NamespaceOpened(number, absent_at):
                self.opened[number] = absent_at
            case NamespaceGone(number):
                self.gone.append(number)
            case FlowBatch():
                for namespace, flow, sent, kind in zip(
                    step.namespace.tolist(), step.id.tolist(), step.transmit_bytes.tolist(), step.kind, strict=True
                ):
                    if kind != RecordKind.MEASURED:
                        self.bytes[namespace] += sent - self._last.get((namespace, flow), 0)
                        self._last[namespace, flow] = sent


@contextlib.contextmanager
def reader(socket: Path, namespaces: Any, **settings: Any) -> Iterator[NamespaceReader]:
    made = NamespaceReader(socket, namespaces, **settings)
    try:
        yield made
    finally:
        made.close()


def descriptors() -> int:
    """Number of open descriptors of this process, but for the directories of a search of /proc that is under way."""
    return sum(not _is_of_search(number) for number in os.listdir("/proc/self/fd"))


def _is_of_search(number: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{number}").startswith("/proc/")
    except FileNotFoundError:  # the one of the listing itself
        return True


def namespace_exists(inode: int) -> bool:
    """Whether a process of this host is in the network namespace."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/net").st_ino == inode:
                return True
    return False
