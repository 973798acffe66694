"""A host for tests: a network namespace with a control plane that knows the truth, and the real daemon in it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.netns import Namespace, namespace
from tests.support.sandbox import RunningSandbox, running_sandbox
from tests.support.waiting import until

WORKSPACE = "a14bd5d90a"
SAMPLES = dict[tuple[str, frozenset[tuple[str, str]]], float]
PARTS = (
    "deployment_{}_bytes_total",
    "shared_{}_bytes_total",
    "unattributed_{}_bytes_total",
    "internal_{}_bytes_total",
    "expired_{}_bytes_total",
    "pending_{}_bytes",
)
"""Metrics whose sum is what was observed, in each direction."""


def deployment(name: str, address: str, *ends: str, running: bool = True) -> dict[str, Any]:
    """A catalog entry: a deployment on one TaskManager address that reads from and writes to ``ends``."""
    job = {"id": f"job-{name}", "status": "RUNNING" if running else "CANCELLED"}
    return {"id": f"id-{name}", "name": name, "addresses": [address], "reads": ends, "writes": ends, "jobs": [job]}


class Daemon:
    """A ``flowmap run`` process inside a namespace."""

    def __init__(
        self,
        inside: Namespace,
        config: Mapping[str, Any],
        directory: Path,
        arguments: Sequence[str] = (),
        *,
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        stderr: int | None = None,
    ) -> None:
        """``prefix``: a command that runs the daemon; ``stderr``: a descriptor instead of the log file."""
        self._inside = inside
        self.config = config
        self.path = directory / "flowmap.yaml"
        self.path.write_text(json.dumps(config))
        self.log = directory / "flowmap.log"
        self.port = config["http"]["listen"].rpartition(":")[2]
        self.started = time.time()
        with inside.entered(), self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "flowmap", "run", "-c", str(self.path), *arguments],
                stderr=log if stderr is None else stderr,
                env=os.environ | {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"} | dict(environ or {}),
            )

    def get(self, path: str) -> str:
        """The body of one GET."""
        with self._inside.entered(), urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as reply:
            body: bytes = reply.read()
        return body.decode()

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def ready(self) -> bool:
        try:
            self.get("/-/ready")
        except OSError:
            assert self.process.poll() is None, self.log.read_text()
            return False
        return True

    def samples(self) -> SAMPLES:
        """The page, after checking that nothing on it is lost or counted twice."""
        samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for sample in family.samples
        }
        for way in ("transmit", "receive"):
            total = sum(total_of(samples, "flowmap_" + part.format(way)) for part in PARTS)
            assert total == total_of(samples, f"flowmap_observed_{way}_bytes_total"), way
        return samples

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=10)


class Host:
    """The namespace, its control plane, and what is needed to start daemons and make traffic in it."""

    def __init__(self, inside: Namespace, sandbox: RunningSandbox, directory: Path) -> None:
        self.inside = inside
        self.sandbox = sandbox
        self.directory = directory

    @contextmanager
    def daemon(
        self,
        *,
        wait: bool = True,
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        stderr: int | None = None,
        **sections: Mapping[str, Any],
    ) -> Iterator[Daemon]:
        """A running daemon; ``sections`` replace keys of the configuration's sections, the others are as in Daemon."""
        config: dict[str, Any] = {
            "control_plane": {
                "endpoint": self.sandbox.url,
                "workspace": WORKSPACE,
                "credentials": {"access_key_id": "sandbox-access-key", "access_key_secret": "sandbox-secret"},
                "rate": 50,
                "burst": 20,
            },
            "collect": {"source": "conntrack", "exclude": ["127.0.0.0/8"], "conntrack": {"resync": "2s"}},
            "attribute": {"positive_ttl": "2s", "negative_ttl": "2s"},
            "http": {"listen": "127.0.0.1:10817"},
        }
        for name, keys in sections.items():
            config[name] = config.get(name, {}) | keys
        daemon = Daemon(self.inside, config, self.directory, arguments, environ=environ, prefix=prefix, stderr=stderr)
        try:
            if wait:
                until(daemon.ready, "the daemon is ready")
            yield daemon
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()

    @contextmanager
    def service(self, address: str, port: int) -> Iterator[None]:
        """A server that answers every byte with two, until its client is done."""
        with self.inside.entered():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.create_server((address, port), family=family, backlog=512)
        thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()

    def connection(self, source: str, address: str, port: int) -> socket.socket:
        """An open connection from ``source``."""
        with self.inside.entered():
            return socket.create_connection((address, port), source_address=(source, 0), timeout=10)

    def exchange(self, source: str, address: str, port: int, sent: int) -> None:
        """One connection that sends ``sent`` bytes, gets twice as many back, and closes."""
        with self.connection(source, address, port) as peer:
            peer.sendall(b"x" * sent)
            peer.shutdown(socket.SHUT_WR)
            received = 0
            while chunk := peer.recv(1 << 16):
                received += len(chunk)
        assert received == 2 * sent


class Counted:
    """What nftables counts on its way out, by client and direction: the kernel's own word on packets and bytes."""

    def __init__(self, machine: Host, service: str, clients: Sequence[str]) -> None:
        self._inside, self._clients = machine.inside, clients
        rules = [f"counter {way}{n} {{}}" for n in range(len(clients)) for way in ("up", "down")]
        matches = [
            f"ip saddr {client} ip daddr {service} counter name up{n}; "
            f"ip saddr {service} ip daddr {client} counter name down{n};"
            for n, client in enumerate(self._clients)
        ]
        chain = "chain out { type filter hook output priority 10; " + " ".join(matches) + " }"
        machine.inside.nft("\n".join(["table ip oracle {", *rules, chain, "}", ""]))

    def by_client(self) -> dict[str, dict[str, int]]:
        """Packets and bytes each way so far."""
        listing = json.loads(self._inside.run("nft", "-j", "list", "counters"))["nftables"]
        counters = {entry["counter"]["name"]: entry["counter"] for entry in listing if "counter" in entry}
        return {
            client: {
                f"{word}_{unit}": counters[f"{way}{n}"][unit]
                for way, word in (("up", "transmit"), ("down", "receive"))
                for unit in ("bytes", "packets")
            }
            for n, client in enumerate(self._clients)
        }


@contextmanager
def host(directory: Path, addresses: Sequence[str], catalog: Sequence[Mapping[str, Any]]) -> Iterator[Host]:
    """A namespace with ``addresses`` on loopback, connection tracking with counters, and a control plane."""
    with namespace() as inside:
        inside.track()
        inside.sysctl("net.netfilter.nf_conntrack_acct", 1)
        inside.sysctl("net.netfilter.nf_conntrack_tcp_timeout_time_wait", 1)
        inside.sysctl("net.netfilter.nf_conntrack_tcp_timeout_close", 1)
        inside.address("lo", *addresses)
        with inside.entered(), running_sandbox({"workspace": WORKSPACE, "deployments": list(catalog)}) as sandbox:
            yield Host(inside, sandbox, directory)


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(peer,), daemon=True).start()


def _answer(peer: socket.socket) -> None:
    with peer, contextlib.suppress(ConnectionError):  # a client may close with data unread
        while chunk := peer.recv(1 << 16):
            peer.sendall(chunk * 2)


def total_of(samples: SAMPLES, name: str, **labels: str) -> int:
    """Sum of the samples called ``name`` with at least these labels."""
    wanted = labels.items()
    return int(sum(value for (known, has), value in samples.items() if known == name and wanted <= dict(has).items()))
