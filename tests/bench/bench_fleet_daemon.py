"""What ``fleet`` costs a host: ``python -m tests.bench.bench_fleet_daemon [--opened 2] [--hosts 1]`` (as root).

Daemons in one namespace see the same connections at the same time. All but one share with a real Valkey. Clients at a
hundred addresses connect and stay for ten seconds. Printed: CPU and resident memory of both kinds, the difference, the
connections that got a name and how long they waited for it, and the exchanges with the server.
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
from typing import Any, NamedTuple

from flowmap.cli.output.text import table
from flowmap.fleet.requests import FleetScope
from tests.bench.bench_fleet import used
from tests.support.fleet import settled
from tests.support.host import WORKSPACE, Daemon, deployment
from tests.support.netns import namespace
from tests.support.sandbox import running_sandbox
from tests.support.valkey import running
from tests.support.waiting import until

WARM_UP = 20.0
CLIENTS, LIFE, SERVICE = 100, 10.0, "127.0.2.1"
NAMED = frozenset({("state", "attributed")})


class Use(NamedTuple):
    """Of one daemon."""

    cpu: float
    """Seconds."""
    memory: float
    """MiB."""
    named: float
    """Connections with a name."""
    waited: float
    """Seconds that these waited for it, together."""

    @classmethod
    def of(cls, daemon: Daemon) -> Use:
        pid = daemon.process.pid
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        ticks = os.sysconf("SC_CLK_TCK")
        delays = [
            daemon.samples().get((f"flowmap_attribution_delay_seconds_{part}", NAMED), 0.0) for part in ("count", "sum")
        ]
        cpu = (int(fields[11]) + int(fields[12])) / ticks
        return cls(cpu, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, *delays)

    def since(self, begin: Use) -> Use:
        """What was used since then, and the memory now."""
        return Use(self.cpu - begin.cpu, self.memory, self.named - begin.named, self.waited - begin.waited)


class Load(NamedTuple):
    """What happens."""

    seconds: float
    opened: float
    """Connections a second."""
    rate: float
    """Calls a second: of the fleet, and of the daemon without."""
    hosts: int
    """Of the fleet."""


class Measured(NamedTuple):
    """What came of it."""

    shared: Use
    """Of a host of the fleet, on average."""
    alone: Use
    exchanges: float
    """Of a host of the fleet."""


def address_of(client: int) -> str:
    return f"127.0.1.{1 + client}"


def connect(over: threading.Event, opened: float) -> None:
    """Open so many connections a second over loopback until the end."""
    server = socket.create_server((SERVICE, 9092), backlog=512)
    held: list[tuple[float, socket.socket]] = []
    number = 0
    while not over.wait(1 / opened):
        number += 1
        client = socket.create_connection((SERVICE, 9092), source_address=(address_of(number % CLIENTS), 0))
        accepted, _ = server.accept()
        client.send(b"x" * 100)
        held += [(time.monotonic() + LIFE, client), (time.monotonic() + LIFE, accepted)]
        while held and held[0][0] < time.monotonic():
            held.pop(0)[1].close()


def measure(load: Load, directory: Path) -> Measured:
    """With and without a fleet."""
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(namespace())
        stack.enter_context(inside.entered())
        catalog = [deployment(f"job-{one}", address_of(one), f"{SERVICE}:9092") for one in range(CLIENTS)]
        plane = stack.enter_context(running_sandbox({"workspace": WORKSPACE, "deployments": catalog}))
        server = stack.enter_context(running(directory))
        credentials = {"access_key_id": "sandbox-access-key", "access_key_secret": "sandbox-secret"}
        settled(server, FleetScope(plane.url, credentials["access_key_id"], ""))
        key = directory / "key"
        key.write_text("k" * 40)
        daemons = []
        shared_by = {"url": server.url, "size": load.hosts, "key_file": str(key)}
        for port, fleet in enumerate([None, *[shared_by] * load.hosts], 10817):
            place = directory / str(port)
            place.mkdir()
            config: dict[str, Any] = {
                "control_plane": {"endpoint": plane.url, "workspace": WORKSPACE, "credentials": credentials},
                "collect": {"source": "sockets", "include": ["tcp/9092"]},
                "http": {"listen": f"127.0.0.1:{port}"},
                **({"fleet": fleet} if fleet else {}),
            }
            config["control_plane"] |= {"rate": load.rate, "burst": max(5, int(load.rate))}
            daemons.append(Daemon(inside, config, place))
        over = threading.Event()
        traffic = threading.Thread(target=connect, args=(over, load.opened))
        try:
            until(lambda: all(daemon.ready() for daemon in daemons), "the daemons are ready")
            traffic.start()
            time.sleep(WARM_UP)
            before, exchanged = [Use.of(daemon) for daemon in daemons], used(server)[1]
            time.sleep(load.seconds)
            after, exchanges = [Use.of(daemon) for daemon in daemons], used(server)[1] - exchanged
        finally:
            over.set()
            for daemon in daemons:
                daemon.stop()
        alone, *shared = (end.since(begin) for begin, end in zip(before, after, strict=True))
        mean = Use(*(sum(values) / load.hosts for values in zip(*shared, strict=True)))
        return Measured(mean, alone, exchanges / load.hosts)


def row(what: str, use: Use, seconds: float) -> tuple[str, ...]:
    delay = f"{use.waited / use.named:.2f} s" if use.named else "-"
    return what, f"{100 * use.cpu / seconds:.2f} % of a core", f"{use.memory:.1f} MiB", f"{use.named:.0f}", delay


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_fleet_daemon", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--opened", type=float, default=2.0, help="connections a second; default: 2")
    parser.add_argument("--rate", type=float, default=2.0, help="calls a second; default: 2")
    parser.add_argument("--hosts", type=int, default=1, help="of the fleet; default: 1")
    arguments = parser.parse_args()
    load = Load(arguments.seconds, arguments.opened, arguments.rate, arguments.hosts)
    with tempfile.TemporaryDirectory() as directory:
        shared, alone, exchanges = measure(load, Path(directory))
    more = Use(shared.cpu - alone.cpu, shared.memory - alone.memory, shared.named - alone.named, 0.0)
    rows = [row(what, use, load.seconds) for what, use in (("with fleet", shared), ("without", alone))]
    rows.append((*row("difference", more, load.seconds)[:-1], ""))
    print("\n".join(table(("DAEMON", "CPU", "MEMORY", "NAMED", "ON AVERAGE AFTER"), rows)))
    print(f"{exchanges / load.seconds:.1f} exchanges a second of each host")


if __name__ == "__main__":
    main()
