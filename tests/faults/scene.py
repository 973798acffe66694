"""A daemon under churn whose traffic is known twice: by those who make it, and by nftables."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.host import SAMPLES, Counted, Daemon, Host, deployment, host, total_of
from tests.support.sandbox import RunningSandbox
from tests.support.waiting import until

SERVICE, PORT = "10.77.1.10", 9092
ORDERS, ARCHIVE, STRANGER = "10.77.0.11", "10.77.0.12", "10.77.0.99"
CLIENTS = (ORDERS, ARCHIVE, STRANGER)
NAMES = {ORDERS: "orders", ARCHIVE: "archive"}
FLOODED = "11.0.0.0/8"
"""Where entries come from that a test makes by netlink."""


TIMEOUT = 1.5
"""Seconds without a further byte after which bytes that were not observed count as lost."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a fault cost."""

    bytes: int
    """That moved, both directions."""
    lost: int
    """Of those, never observed by the daemon."""
    connections: int
    """Of deployments."""
    unnamed: int
    """Of those, not with their deployment's series."""
    wrong: int
    """Bytes and connections with a name that is not their owner's."""


class Churn:
    """Short connections one after the other from every client, and one of each that stays and sends now and then."""

    def __init__(self, machine: Host) -> None:
        self.made: Counter[str] = Counter()
        self._machine = machine
        self._over = threading.Event()
        self._held = {client: machine.connection(client, SERVICE, PORT) for client in CLIENTS}
        self.made.update(CLIENTS)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """No more, and nothing is open."""
        self._over.set()
        self._thread.join()
        for peer in self._held.values():
            peer.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while peer.recv(1 << 16):
                    pass
            peer.close()
        self._held.clear()

    def _run(self) -> None:
        for n in itertools.count():
            if self._over.wait(0.02):
                return
            client = CLIENTS[n % len(CLIENTS)]
            self._machine.exchange(client, SERVICE, PORT, 100 + n % 997)
            self.made[client] += 1
            self._held[client].sendall(b"x" * 50)
            self._held[client].recv(1 << 16)


class Scene:
    """One daemon, or one after the other, on one host."""

    def __init__(self, machine: Host, stack: ExitStack, settings: Mapping[str, Any]) -> None:
        self.machine = machine
        self.directory = machine.directory
        self.history = machine.directory / "room" / "history.sqlite"
        history = settings.get("history")
        self._settings = settings if history is None else {**settings, "history": history | {"path": str(self.history)}}
        self.samples: SAMPLES = {}
        self.pace = 1.0
        """By what the time that faults last is multiplied."""
        self._stack = stack
        self._before = (0, 0)
        """Bytes and connections that earlier daemons saw."""
        self._counted = Counted(machine, SERVICE, CLIENTS)
        self.daemon = self.start()
        self.churn = Churn(machine)
        self.again = 0
        """Connections of each client that the kernel may have forgotten while open: their later packets are another
        one for it."""
        self._stack.callback(self.churn.stop)
        until(lambda: self.named("connections") >= 2, "both deployments have a connection")

    @property
    def sandbox(self) -> RunningSandbox:
        return self.machine.sandbox

    def start(self) -> Daemon:
        """A daemon, ready."""
        return self._stack.enter_context(self.machine.daemon(**self._settings))

    def restart(self, *, killed: bool, meanwhile: Callable[[], object] = lambda: None) -> None:
        """End the daemon, and start another."""
        named = self.named("connections")
        if killed:
            self.daemon.process.kill()
            self.daemon.process.wait()
        else:
            assert self.daemon.stop() == 0
        self._before = self._before[0] + self._observed(), self._before[1] + named
        self.samples = {}
        meanwhile()
        self.daemon = self.start()

    def look(self) -> SAMPLES:
        """A page on which everything adds up."""
        self.samples = self.daemon.samples()
        return self.samples

    def total(self, name: str, **labels: str) -> int:
        """Of a metric, now."""
        return total_of(self.look(), f"flowmap_{name}", **labels)

    def named(self, what: str) -> int:
        """Bytes or connections that have a deployment's name."""
        return sum(total_of(self.look(), f"flowmap_deployment_{what}_total", deployment=n) for n in NAMES.values())

    def lasts(self, seconds: float) -> None:
        """Time passes, and at every look everything adds up."""
        end = time.monotonic() + seconds * self.pace
        while time.monotonic() < end:
            self.look()
            time.sleep(0.2)

    def cost(self) -> Cost:
        """End the churn, wait until everything is decided, and compare."""
        self.churn.stop()
        until(self._settled, "every flow is over and decided")
        truth = self._counted.by_client()
        moved = sum(each["transmit_bytes"] + each["receive_bytes"] for each in truth.values())
        # The page is a little older than the list of flows, and on a busy machine events may still wait to be read.
        seen, until_lost = self._observed(), time.monotonic() + TIMEOUT
        while self._before[0] + seen < moved and time.monotonic() < until_lost:
            time.sleep(0.1)
            self.look()
            if self._observed() > seen:
                seen, until_lost = self._observed(), time.monotonic() + TIMEOUT
        until(self._settled, "what came late is decided, too")
        time.sleep(0.3)
        self.look()
        made = sum(self.churn.made[client] for client in NAMES)
        named = self._before[1] + self.named("connections")
        lost = moved - self._before[0] - self._observed()
        return Cost(moved, lost, made, max(0, made - named), self._wrong(truth))

    def resources(self) -> tuple[int, int, int]:
        """Descriptors, threads, KiB of memory."""
        here = Path(f"/proc/{self.daemon.process.pid}")
        memory = next(line for line in (here / "status").read_text().splitlines() if line.startswith("VmRSS"))
        return len(os.listdir(here / "fd")), len(os.listdir(here / "task")), int(memory.split()[1])

    def _observed(self) -> int:
        return sum(total_of(self.samples, f"flowmap_observed_{way}_bytes_total") for way in ("transmit", "receive"))

    def _settled(self) -> bool:
        self.look()
        listed = self.daemon.json("/api/v1/flows?limit=1000")["flows"]
        return not [flow for flow in listed if SERVICE in (flow["client"]["ip"], flow["server"]["ip"])]

    def _wrong(self, truth: Mapping[str, Mapping[str, int]]) -> int:
        found = 0
        for client, name in NAMES.items():
            for what, moved in truth[client].items():
                found += max(0, total_of(self.samples, f"flowmap_deployment_{what}_total", deployment=name) - moved)
            counted = total_of(self.samples, "flowmap_deployment_connections_total", deployment=name)
            found += max(0, counted - self.churn.made[client] - self.again)
        named = {dict(labels).get("deployment") for name, labels in self.samples if "_deployment_" in name}
        shared = total_of(self.samples, "flowmap_shared_connections_total")
        return found + shared + len(named - {None, *NAMES.values()})


@contextmanager
def scene(directory: Path, settings: Mapping[str, Any]) -> Iterator[Scene]:
    """A host with three clients, two of them deployments', and a daemon with these sections of configuration."""
    addresses = [f"{address}/32" for address in (SERVICE, *CLIENTS)]
    catalog = [deployment(name, client, f"{SERVICE}:{PORT}") for client, name in NAMES.items()]
    with (
        _small_room(directory),
        host(directory, addresses, catalog) as made,
        made.service(SERVICE, PORT),
        ExitStack() as stack,
    ):
        yield Scene(made, stack, settings)


@contextmanager
def _small_room(directory: Path) -> Iterator[None]:
    """A file system of 1 MiB for the history."""
    room = directory / "room"
    room.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", room], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", room], check=True)
