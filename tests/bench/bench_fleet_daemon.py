"""What ``fleet`` costs a host: ``python -m tests.bench.bench_fleet_daemon [--seconds 60]`` (as root).

Two daemons in one namespace see the same connections at the same time. One shares with a real Valkey, the other does
not. Clients at a hundred addresses connect, two a second, and stay for ten seconds. Printed: CPU and resident memory of
both, and the difference.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from flowmap.cli.output.text import table
from flowmap.fleet.requests import FleetScope
from tests.support.fleet import settled
from tests.support.host import WORKSPACE, Daemon
from tests.support.netns import namespace
from tests.support.sandbox import running_sandbox
from tests.support.valkey import running
from tests.support.waiting import until

WARM_UP = 20.0
CLIENTS, EVERY, LIFE = 100, 0.5, 10.0


class Use(NamedTuple):
    """Of one daemon."""

    cpu: float
    """Seconds."""
    memory: float
    """MiB."""

    @classmethod
    def of(cls, pid: int) -> Use:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        ticks = os.sysconf("SC_CLK_TCK")
        return cls((int(fields[11]) + int(fields[12])) / ticks, pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def connect(over: threading.Event) -> None:
    """Open connections over loopback until the end."""
    server = socket.create_server(("127.0.0.1", 9092), backlog=512)
    held: list[tuple[float, socket.socket]] = []
    number = 0
    while not over.wait(EVERY):
        number += 1
        client = socket.create_connection(("127.0.0.1", 9092), source_address=(f"127.0.1.{1 + number % CLIENTS}", 0))
        accepted, _ = server.accept()
        client.send(b"x" * 100)
        held += [(time.monotonic() + LIFE, client), (time.monotonic() + LIFE, accepted)]
        while held and held[0][0] < time.monotonic():
            held.pop(0)[1].close()


def measure(seconds: float, directory: Path) -> list[Use]:
    """With and without a fleet."""
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(namespace())
        stack.enter_context(inside.entered())
        plane = stack.enter_context(running_sandbox({"workspace": WORKSPACE}))
        server = stack.enter_context(running(directory))
        credentials = {"access_key_id": "sandbox-access-key", "access_key_secret": "sandbox-secret"}
        settled(server, FleetScope(plane.url, credentials["access_key_id"], ""))
        key = directory / "key"
        key.write_text("k" * 40)
        daemons = []
        for port, fleet in ((10817, {"url": server.url, "size": 1, "key_file": str(key)}), (10818, None)):
            place = directory / str(port)
            place.mkdir()
            config = {
                "control_plane": {"endpoint": plane.url, "workspace": WORKSPACE, "credentials": credentials, "rate": 2},
                "collect": {"source": "sockets", "include": ["tcp/9092"]},
                "http": {"listen": f"127.0.0.1:{port}"},
                **({"fleet": fleet} if fleet else {}),
            }
            daemons.append(Daemon(inside, config, place))
        over = threading.Event()
        traffic = threading.Thread(target=connect, args=(over,))
        try:
            until(lambda: all(daemon.ready() for daemon in daemons), "the daemons are ready")
            traffic.start()
            time.sleep(WARM_UP)
            before = [Use.of(daemon.process.pid) for daemon in daemons]
            time.sleep(seconds)
            after = [Use.of(daemon.process.pid) for daemon in daemons]
        finally:
            over.set()
            for daemon in daemons:
                daemon.stop()
        return [Use(end.cpu - begin.cpu, end.memory) for begin, end in zip(before, after, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_fleet_daemon", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as directory:
        shared, alone = measure(seconds, Path(directory))
    rows = [
        (what, f"{100 * cpu / seconds:.2f} % of a core", f"{memory:.1f} MiB")
        for what, (cpu, memory) in (
            ("with fleet", shared),
            ("without", alone),
            ("difference", Use(shared.cpu - alone.cpu, shared.memory - alone.memory)),
        )
    ]
    print("\n".join(table(("DAEMON", "CPU", "MEMORY"), rows)))


if __name__ == "__main__":
    main()
