"""100 network namespaces with 10,000 sockets read by the daemon's source, beside ``ss -tin`` in each of them; and 1,000
namespaces that appear and go in 60 s.

As root: python -m tests.bench.bench_namespaces [read | churn]
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowmap.config.models import Config
from flowmap.engine.commands import TakeStep
from flowmap.engine.factory import make_accounting
from tests.support.netns import Namespace
from tests.support.opener import NamespaceReader, OpenerProcess, descriptors, opener

NAMESPACES, SOCKETS = 100, 10_000
SECONDS = 40.0
CHURN, CHURN_SECONDS = 1000, 60.0
POLL = 0.1
DIRECTORY = Path("/run/netns")


def rss() -> float:
    """MiB of this process that are in memory and its own."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) / 1024


@contextmanager
def populated() -> Iterator[list[Namespace]]:
    """Namespaces with connections over loopback, half as many as sockets."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    made: list[Namespace] = []
    held: list[socket.socket] = []
    try:
        for _ in range(NAMESPACES):
            inside = Namespace()
            made.append(inside)
            with inside.entered(), socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
                for _ in range(SOCKETS // NAMESPACES // 2):
                    held += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
        yield made
    finally:
        for one in held:
            one.close()
        for inside in made:
            inside.close()


class Daemon:
    """The source with the accounting, as the engine runs them."""

    def __init__(self, process: OpenerProcess, namespaces: object) -> None:
        self.reader = NamespaceReader(process.socket, namespaces, sockets={"processes": "off"})
        self.accounting = make_accounting(Config(), announces_births=False)

    def run(self, seconds: float) -> float:
        """CPU seconds of so many seconds."""
        began, until = time.process_time(), time.monotonic() + seconds
        while time.monotonic() < until:
            read_at = time.monotonic()
            for step in self.reader.source.poll():
                self.accounting.apply(TakeStep(step, time.monotonic(), read_at))
            time.sleep(POLL)
        return time.process_time() - began


def _apart(process: OpenerProcess, namespaces: object) -> tuple[float, float]:
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        daemon = Daemon(process, namespaces)
        daemon.run(15.0)
        used = daemon.run(SECONDS) / SECONDS
        stats = daemon.reader.source.stats
        pause = stats.namespace_pause or 0.0
        known, tracked = stats.namespaces.get("read", 0), len(daemon.accounting.table)
        os.write(writing, f"{used} {rss()} {known} {pause} {tracked}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        share, memory, number, pause, flows = map(float, answer.read().split())
    os.waitpid(child, 0)
    what = f"{number:.0f} other namespaces, {flows:.0f} flows, each read every {pause:.0f} s"
    print(f"{what}: {share:.2%} of a core, {memory:.1f} MiB")
    return share, memory


def ss(made: list[Namespace]) -> float:
    """CPU seconds of ``ss -tin`` in each namespace, once."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for inside in made:
        inside.run("ss", "-tin")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def read() -> None:
    with tempfile.TemporaryDirectory() as directory, populated() as made, opener(Path(directory)) as process:
        host_used, host_memory = _apart(process, "host")
        used, memory = _apart(process, [inside.path for inside in made])
        peer = statistics.median(ss(made) for _ in range(3))
        print(f"more: {used - host_used:.2%} of a core, {memory - host_memory:.1f} MiB")
        print(f"ss -tin in each: {peer:.2f} s CPU, every 5 s {peer / 5:.1%} of a core")


_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET, _MS_BIND, _MNT_DETACH = 0x4000_0000, 4096, 2
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


class Short:
    """A namespace under /run/netns, with one connection over loopback whose client sent 1,000 bytes."""

    def __init__(self, number: int, home: int) -> None:
        self.path = DIRECTORY / f"flowmap-bench-{os.getpid()}-{number}"
        self.path.touch()
        assert _libc.unshare(_CLONE_NEWNET) == 0
        try:
            assert _libc.mount(b"/proc/thread-self/ns/net", bytes(self.path), None, _MS_BIND, None) == 0
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.client = socket.create_connection(listener.getsockname())
                self.server, _ = listener.accept()
        finally:
            assert _libc.setns(home, _CLONE_NEWNET) == 0
        self.born = time.monotonic()
        self.client.sendall(b"x" * 1000)
        self.server.recv(1000, socket.MSG_WAITALL)

    def end(self) -> None:
        self.client.close()
        self.server.close()
        _libc.umount2(bytes(self.path), _MNT_DETACH)
        self.path.unlink()


def churn() -> None:
    """Each namespace lives for 2 s, or longer until the opener has passed it, but not longer than 10 s."""
    DIRECTORY.mkdir(exist_ok=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    with tempfile.TemporaryDirectory() as directory, opener(Path(directory)) as process:
        one = NamespaceReader(process.socket, "all", sockets={"processes": "off"})
        one.until(lambda: one.source.stats.opener)
        before, memory = descriptors(), rss()
        began, used, most = time.monotonic(), time.process_time(), 0
        alive: dict[str, Short] = {}
        for number in range(CHURN):
            made = Short(number, home)
            alive[made.path.name] = made
            while time.monotonic() < began + (number + 1) * CHURN_SECONDS / CHURN:
                one.poll()
                most = max(most, one.source.stats.namespaces["read"])
                _end_old(one, alive)
                time.sleep(0.005)
        while alive:
            one.poll()
            _end_old(one, alive)
        took, used = time.monotonic() - began, time.process_time() - used
        mine = {number for number, name in one.named.items() if name and name.startswith("flowmap-bench-")}
        one.until(lambda: mine <= set(one.gone))
        counted = sum(one.bytes[number] for number in mine)
        print(f"{CHURN} namespaces in {took:.0f} s: {len(mine)} read, at most {most} at a time")
        print(f"{counted} of the {len(mine) * 1000} bytes in them; {used:.1f} s CPU with what made them")
        gone = len(one.gone) - len(mine)
        print(f"descriptors {before} before, {descriptors()} after ({gone} other namespaces went)")
        print(f"memory {memory:.1f} MiB before, {rss():.1f} after")
        one.close()
    os.close(home)


def _end_old(one: NamespaceReader, alive: dict[str, Short]) -> None:
    """Close the connections of those that have lived long enough, and remove them."""
    now, passed = time.monotonic(), set(one.named.values())
    for name in [name for name, made in alive.items() if now > made.born + (2 if name in passed else 10)]:
        alive.pop(name).end()


if __name__ == "__main__":
    for part in sys.argv[1:] or ("read", "churn"):
        {"read": read, "churn": churn}[part]()
