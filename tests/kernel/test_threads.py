"""The daemon where no further thread or process can be started: scrapes, queries, full reads, reloads, the end."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from tests.support.host import Daemon, Host, deployment, host
from tests.support.netns import needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

SERVICE, ORDERS, PORT = "10.77.1.10", "10.77.0.11", 9092
CONNECTIONS = 20_000
"""Entries of the table: its full read takes several parts, which are read ahead on a thread."""
USER = 54321
"""A user that runs nothing else: RLIMIT_NPROC counts all threads of a user."""
AS_USER = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    *("--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin"),
)
PIDS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that the user can read and write."""
    made = Path(tempfile.mkdtemp(prefix="flowmap-threads-"))
    os.chown(made, USER, USER)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@pytest.fixture
def machine(directory: Path) -> Iterator[Host]:
    catalog = [deployment("orders", ORDERS, f"{SERVICE}:{PORT}")]
    with host(directory, [f"{SERVICE}/32", f"{ORDERS}/32"], catalog) as made, made.service(SERVICE, PORT):
        yield made


Limit = Callable[[int], contextlib.AbstractContextManager[None]]
"""Forbids a process to start another thread while the context lasts."""


@contextlib.contextmanager
def by_user(pid: int) -> Iterator[None]:
    """RLIMIT_NPROC at 1 (setrlimit(2)); it does not bind root."""
    subprocess.run([*AS_USER, "prlimit", f"--pid={pid}", "--nproc=1:1"], check=True)
    yield


@contextlib.contextmanager
def by_cgroup(pid: int) -> Iterator[None]:
    """``pids.max`` of a cgroup at the present count."""
    parent = next((one for one in PIDS if (one / "cgroup.procs").exists()), Path("/nowhere"))
    group = parent / f"flowmap-threads-{pid}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    try:
        if not (group / "pids.max").exists():
            pytest.skip("no pids controller here")
        (group / "cgroup.procs").write_text(str(pid))
        (group / "pids.max").write_text((group / "pids.current").read_text())
        yield
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            (parent / "cgroup.procs").write_text(left)
        group.rmdir()


def threads_of(daemon: Daemon) -> set[str]:
    return set(os.listdir(f"/proc/{daemon.process.pid}/task"))


def test_the_cgroup_forbids_threads() -> None:
    """What the tests below rest on."""
    code = "import sys, threading; sys.stdin.readline(); threading.Thread(target=print).start()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with by_cgroup(process.pid):
        assert "can't start new thread" in process.communicate("\n")[1]


def fill_table(machine: Host) -> None:
    """One entry a datagram, on excepted addresses."""
    with machine.inside.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in range(1, CONNECTIONS + 1):
            with contextlib.suppress(ConnectionRefusedError):
                sender.sendto(b"x", ("127.0.0.2", port))


def reads(daemon: Daemon) -> int:
    (source,) = [one for one in daemon.json("/api/v1/status")["sources"] if one["name"] == "conntrack"]
    return sum(source["resyncs"].values())


def reloads(daemon: Daemon) -> Any:
    return daemon.json("/api/v1/status")["configuration"]


def status(machine: Host, daemon: Daemon, path: str, **headers: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{daemon.port}{path}", headers=headers)
    with machine.inside.entered():
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                reply.read()
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code


def login(password: str) -> str:
    return "Basic " + base64.b64encode(f"ann:{password}".encode()).decode()


def use_everything(machine: Host, daemon: Daemon) -> None:
    """Whatever a running daemon is asked to do."""
    query = f"srcIp={ORDERS}&dstIp={SERVICE}&dstPort={PORT}"
    expected = {
        "/metrics": 200,
        "/": 200,
        "/api/v1/status": 200,
        "/api/v1/flows": 200,
        "/api/v1/peers": 200,
        "/api/v1/deployments": 200,
        f"/api/v1/attribution?{query}": 200,
        f"/api/v1/attribution?{query}&at={time.time() - 60:.0f}": 200,
        "/api/v1/deployments/id-orders/peers?from=1&to=2": 200,
        "/api/v1/flows?limit=none": 400,
        "/nothing": 404,
    }
    for path, wanted in expected.items():
        assert status(machine, daemon, path, Authorization=login("right")) == wanted, path
    assert status(machine, daemon, "/metrics", Authorization=login("wrong")) == 401
    before = reads(daemon)
    until(lambda: reads(daemon) >= before + 2, "full reads go on")
    before = reloads(daemon)["reloads"]
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: reloads(daemon)["reloads"] > before, "a reload")
    assert reloads(daemon)["lastError"] is None
    daemon.path.write_text("{")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: reloads(daemon)["lastError"], "a reload that is refused")


def test_nothing_needs_another_thread(machine: Host, directory: Path, limit: Limit) -> None:
    users = {"ann": bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()}
    access = {"query": ["anonymous"], "scrape": ["ann"]}
    textfile = directory / "page.prom"
    fill_table(machine)
    with machine.daemon(
        prefix=AS_USER,
        arguments=("--record", str(directory / "recording"), "--textfile", str(textfile)),
        environ={"PYTHONDONTWRITEBYTECODE": "1"},
        http={"users": users, "access": access},
        history={"path": str(directory / "history.db")},
    ) as daemon:
        assert daemon.json("/api/v1/status")["sources"][0]["records"] >= CONNECTIONS
        before = threads_of(daemon)
        with limit(daemon.process.pid):
            use_everything(machine, daemon)
            assert threads_of(daemon) == before
            textfile.unlink(missing_ok=True)
            assert daemon.stop() == 0
    assert textfile.exists()  # the last page, written at the end
    log = daemon.log.read_text()
    assert not re.search("Traceback|RuntimeError|shutdown timed out", log), log


def test_a_start_without_threads_says_so(machine: Host) -> None:
    prefix = ("prlimit", "--nproc=1:1", *AS_USER)
    with machine.daemon(wait=False, prefix=prefix) as daemon:
        assert daemon.process.wait(30) == 1
    (line,) = [json.loads(line) for line in daemon.log.read_text().splitlines() if '"error"' in line]
    assert line["message"].startswith("the system allows no more threads or processes (raise TasksMax=")


@pytest.fixture(params=[by_user, by_cgroup])
def limit(request: pytest.FixtureRequest) -> Limit:
    chosen: Limit = request.param
    return chosen
