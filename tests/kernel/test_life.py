"""The daemon's life on a real kernel: systemd's protocol, privileges, reloads, signals, sources that die, stuck logs.

The longer variants: LONG_KILLS=100, LONG_RELOADS=1000.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.host import Daemon, Host, deployment, host, total_of
from tests.support.netns import needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

SERVICE, ORDERS, PORT = "10.77.1.10", "10.77.0.11", 9092
KILLS = int(os.environ.get("LONG_KILLS", "6"))
RELOADS = int(os.environ.get("LONG_RELOADS", "40"))
NET_ADMIN = 1 << 12


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Host]:
    catalog = [deployment("orders", ORDERS, f"{SERVICE}:{PORT}")]
    with host(tmp_path, [f"{SERVICE}/32", f"{ORDERS}/32"], catalog) as made, made.service(SERVICE, PORT):
        yield made


def rewrite(daemon: Daemon, **sections: Any) -> None:
    """The daemon's file with other keys, a key a line."""
    config = json.loads(json.dumps(daemon.config))
    for name, keys in sections.items():
        config[name] = config.get(name, {}) | keys
    daemon.path.write_text(json.dumps(config, indent=1))


def status_of(pid: int | str) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def threads_of(daemon: Daemon) -> list[str]:
    return os.listdir(f"/proc/{daemon.process.pid}/task")


def descriptors_of(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def reloaded(daemon: Daemon, before: int) -> bool:
    return bool(reloads(daemon)["reloads"] > before)


def reloads(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.json("/api/v1/status")["configuration"]
    return found


class ServiceManager:
    """Receives notifications at once, as systemd does."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self.address)
        self._thread.join()
        self._socket.close()

    def hears(self, start: str, *, times: int = 1) -> None:
        until(lambda: sum(one.startswith(start) for one in self.heard) >= times, f"{start} x{times}: {self.heard}")

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self.heard.append(message.decode())


def test_a_service_of_systemd(machine: Host, tmp_path: Path) -> None:
    with (
        ServiceManager(tmp_path) as manager,
        machine.daemon(environ={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "2000000"}) as daemon,
    ):
        manager.hears("READY=1\nSTATUS=reading conntrack")
        assert not [one for one in manager.heard if one.startswith("READY")][1:]
        manager.hears("WATCHDOG=1", times=3)

        # No thread has more capabilities than the source needs, and no process may read its memory.
        for thread in threads_of(daemon):
            status = status_of(f"{daemon.process.pid}/task/{thread}")
            for name, mask in {"CapEff": NET_ADMIN, "CapPrm": NET_ADMIN, "CapBnd": NET_ADMIN}.items():
                assert int(status[name], 16) == mask, (thread, name)
            assert (int(status["CapAmb"], 16), int(status["CapInh"], 16), status["NoNewPrivs"]) == (0, 0, "1")
        assert re.search(r"Max core file size +0 +0", Path(f"/proc/{daemon.process.pid}/limits").read_text())
        with subprocess.Popen([*WEAK, "sleep", "60"]) as other:
            until(lambda: int(status_of(other.pid)["CapEff"], 16) == NET_ADMIN, "it has what the daemon has")
            if can_attach(other.pid):  # else this system allows no process to attach
                assert not can_attach(daemon.process.pid)
            other.kill()

        # A configuration that is good, one that is not, one that needs a restart, and a good one again.
        rewrite(daemon, log={"level": "debug"}, export={"peers": {"kafka": [f"{SERVICE}:{PORT}"]}})
        daemon.process.send_signal(signal.SIGHUP)
        manager.hears("RELOADING=1\nMONOTONIC_USEC=")
        manager.hears("READY=1", times=2)
        machine.exchange(ORDERS, SERVICE, PORT, 500)
        counted = "flowmap_deployment_transmit_bytes_total"
        until(lambda: total_of(daemon.samples(), counted, peer="kafka") >= 500, "the new name counts")
        rewrite(daemon, export={"peers": {"other": ["10.0.0.1"]}})
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: reloads(daemon)["reloads"] == 2, "it was looked at")
        assert "flowmap.yaml:" in reloads(daemon)["lastError"]
        assert "export.peers.other" in reloads(daemon)["lastError"]
        assert total_of(daemon.samples(), "flowmap_config_last_reload_successful") == 0
        done = ask_to_reload(machine, daemon)
        assert (done.returncode, "flowmap.yaml:" in done.stderr) == (78, True), done
        rewrite(daemon, http={"listen": "127.0.0.1:1"})
        assert "http.listen: needs a restart" in ask_to_reload(machine, daemon).stderr
        rewrite(daemon)
        done = ask_to_reload(machine, daemon)
        assert (done.returncode, done.stdout) == (0, f"process {daemon.process.pid} reloaded {daemon.path}\n")
        assert total_of(daemon.samples(), "flowmap_config_last_reload_successful") == 1

        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5
        manager.hears("STOPPING=1")
        assert "Traceback" not in daemon.log.read_text()


WEAK = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all", "--")
"""Runs a program as root with no more than the daemon has."""


def can_attach(pid: int) -> bool:
    """Whether a process of the same user with the same capabilities could look into its memory (ptrace(2))."""
    code = f"import ctypes; print(ctypes.CDLL(None).ptrace(0x4206, {pid}, 0, 0))"  # PTRACE_SEIZE; it ends with us
    return subprocess.run([*WEAK, sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "0"


def ask_to_reload(machine: Host, daemon: Daemon) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flowmap", "reload", "--url", f"http://127.0.0.1:{daemon.port}"]
    with machine.inside.entered():
        return subprocess.run(command, capture_output=True, text=True)


def test_reloads_leave_nothing_behind(machine: Host) -> None:
    with machine.daemon() as daemon, machine.connection(ORDERS, SERVICE, PORT) as peer:
        sizes: list[tuple[int, int, int]] = []
        for n in range(RELOADS):
            rewrite(daemon, export={"peers": {f"name-{n % 7}": [SERVICE]}}, attribute={"grace": f"{1 + n % 3}s"})
            before = reloads(daemon)["reloads"] if n % 2 else 0
            daemon.process.send_signal(signal.SIGHUP)
            if n % 2:  # of the others, two may become one
                until(partial(reloaded, daemon, before), "another one")
            if n % 10 == 9:
                peer.sendall(b"x" * 100)
                peer.recv(1 << 16)
                daemon.samples()  # checks that every byte is somewhere
                memory = int(status_of(daemon.process.pid)["VmRSS"].split()[0])
                sizes.append((descriptors_of(daemon), memory, reloads(daemon)["reloads"]))
        until(lambda: total_of(daemon.samples(), "flowmap_deployment_transmit_bytes_total") >= 100, "named throughout")
        logging.info("descriptors, KiB, reloads: %s", (sizes[0], sizes[1], sizes[-1]))
        settled = sizes[1:]
        assert max(s[0] for s in settled) - min(s[0] for s in settled) <= 4
        assert settled[-1][1] - settled[0][1] < 8 * 1024, sizes
        assert len(threads_of(daemon)) < 20
        assert reloads(daemon)["lastError"] is None
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log.read_text()


def catches(daemon: Daemon, number: int) -> bool:
    caught = status_of(daemon.process.pid)["SigCgt"]
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_signals_at_random_moments(machine: Host) -> None:
    chance = random.Random(20261125)
    for n in range(KILLS):
        with machine.daemon(wait=False) as daemon:
            until(lambda: catches(daemon, signal.SIGTERM), "it has begun")
            end = time.monotonic() + chance.uniform(0.0, 2.0)
            while time.monotonic() < end:
                machine.exchange(ORDERS, SERVICE, PORT, 200)
                daemon.process.send_signal(signal.SIGHUP)
            if n % 3 == 0:
                with contextlib.suppress(OSError):
                    daemon.get("/metrics")
            began = time.monotonic()
            assert daemon.stop() == 0, daemon.log.read_text()
            seconds = time.monotonic() - began
            log = daemon.log.read_text()
            assert (seconds < 5, "Traceback" in log) == (True, False), (seconds, log)
            daemon.log.unlink()
    assert sorted(path.name for path in machine.directory.iterdir()) == ["flowmap.yaml"]


def test_a_second_signal_ends_it_at_once(machine: Host) -> None:
    # A control plane that takes its time keeps a call open, a reader that does not read an answer.
    with machine.daemon() as daemon, machine.inside.entered():
        slow = socket.create_connection(("127.0.0.1", int(daemon.port)))
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")  # never ends
        daemon.process.send_signal(signal.SIGSTOP)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGCONT)
        until(lambda: not catches(daemon, signal.SIGTERM), "the first signal is handled")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(timeout=10) in (-signal.SIGTERM, 0)
        slow.close()


def test_a_source_that_fails_is_reopened(machine: Host) -> None:
    with machine.daemon() as daemon, machine.connection(ORDERS, SERVICE, PORT) as peer, machine.inside.entered():
        peer.sendall(b"x" * 1000)
        until(lambda: total_of(daemon.samples(), "flowmap_observed_transmit_bytes_total") >= 1000, "it counts")
        kept = http.client.HTTPConnection("127.0.0.1", int(daemon.port), timeout=10)
        kept.connect()

        def page() -> str:
            kept.request("GET", "/metrics")
            return kept.getresponse().read().decode()

        def up() -> bool:
            return 'flowmap_source_up{source="conntrack"} 1' in page()

        assert up()
        # No descriptor can be had any more, so the next full read cannot open its socket.
        _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        until(lambda: not up(), "the source is down, and scrapes go on")
        kept.request("GET", "/api/v1/status")
        (source,) = json.loads(kept.getresponse().read())["sources"]
        assert (source["up"], "Too many open files" in source["error"]) == (False, True), source
        peer.sendall(b"x" * 2000)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        until(up, "it is back")
        kept.close()
        until(lambda: total_of(daemon.samples(), "flowmap_observed_transmit_bytes_total") >= 3000, "nothing is lost")
        assert total_of(daemon.samples(), "flowmap_observed_transmit_bytes_total") < 5000, "or counted twice"
        assert "source conntrack reopened" in daemon.log.read_text()
        assert daemon.stop() == 0


@pytest.mark.parametrize("how", ["unread", "closed"])
def test_a_blocked_stderr_does_not_block_the_daemon(machine: Host, how: str) -> None:
    read, write = os.pipe()
    # The pipe is full before it starts; a shell closes stderr.
    os.set_blocking(write, False)
    with contextlib.suppress(OSError):
        while os.write(write, b"x" * 4096):
            pass
    os.set_blocking(write, True)
    prefix = ("sh", "-c", 'exec "$@" 2>&-', "sh") if how == "closed" else ()
    try:
        with machine.daemon(stderr=write, prefix=prefix, log={"level": "debug"}) as daemon:
            machine.exchange(ORDERS, SERVICE, PORT, 700)
            counted = "flowmap_deployment_transmit_bytes_total"
            until(lambda: total_of(daemon.samples(), counted) >= 700, "it works")
            assert total_of(daemon.samples(), "flowmap_log_lines_total") > 0
            began = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - began < 5
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate")
def test_a_socket_of_systemd_is_served(machine: Host) -> None:
    # It listens, and starts the daemon with the socket as descriptor 3 when the first request comes.
    prefix = ("systemd-socket-activate", "-l", "127.0.0.1:10817", "-E", "ALIBABA_CLOUD_ECS_METADATA_DISABLED")
    with machine.daemon(wait=False, prefix=prefix) as daemon:
        until(daemon.ready, "the request that waited is answered, and the daemon gets ready")
        assert "listening on http://127.0.0.1:10817" in daemon.log.read_text()
        assert daemon.stop() == 0


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (Debian: util-linux)")
def test_a_missing_capability_is_named(machine: Host) -> None:
    weak = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")
    with machine.daemon(wait=False, prefix=weak) as daemon:
        assert daemon.process.wait(timeout=20) == 1
        log = daemon.log.read_text()
        assert "run as root or with CAP_NET_ADMIN" in log
        assert re.search("Traceback", log) is None
