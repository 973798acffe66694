"""Runs the demo: embedded control plane, sample jobs and the daemon, as processes on this machine.

The demo reads /metrics of the daemon as Prometheus does, and compares it at the end with the bytes the jobs counted.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flowmap.errors import FlowmapError
from flowmap.model.address import format_endpoint
from flowmap.sandbox.demo import jobs, scenario
from flowmap.sandbox.demo.children import Child, Children
from flowmap.sandbox.demo.jobs import Truth
from flowmap.sandbox.demo.scenario import LINKS, SERVICES, Amount, ExpectedVerdict, Link, SeriesName
from flowmap.sandbox.demo.scrape import Page, read_page
from flowmap.sandbox.verify import ACCESS_KEY_ID, ACCESS_KEY_SECRET

BLOCKS = range(77, 100)
"""Second numbers of the loopback addresses that a demo may use."""

START_TIMEOUT = 20.0
"""Seconds for a process to start."""

FINISH_TIMEOUT = 20.0
"""Seconds for the daemon to attribute pending bytes after the last connection closed."""

ANSWER_TIMEOUT = 5.0
"""Seconds to wait for an HTTP answer."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The result of the demo."""

    page: Page
    truth: Mapping[SeriesName, Amount]
    verdict: ExpectedVerdict

    @property
    def good(self) -> bool:
        return self.verdict.right and self.page.conserved and self.page.pending == 0 and self.verdict.attributed > 0


class Demo:
    """A running demo. Entering the context starts it, leaving the context stops it."""

    links: Sequence[Link] = LINKS

    def __init__(self, host: str, port: int) -> None:
        """The daemon listens on ``host``. Port 0: a free port."""
        self._host = host
        self._port = port
        self._stack = ExitStack()
        self._children = Children()
        self._workers: list[Child] = []
        # Proxies of the environment do not apply to loopback.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self.block = 0
        self.url = ""
        self._ports: dict[str, int] = {}
        self.control_plane = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def page(self) -> Page:
        """Read /metrics; FlowmapError if a process has exited or the daemon does not answer."""
        self._children.check()
        try:
            with self._open(f"{self.url}/metrics", timeout=ANSWER_TIMEOUT) as response:
                return read_page(response.read().decode())
        except OSError as error:
            raise FlowmapError(f"the daemon does not answer: {error}") from error

    def finish(self) -> DemoResult:
        """Stop the workers, wait until every byte has its owner, and compare with the bytes they counted."""
        truth = scenario.expected(self._stop_jobs(), self.links)
        deadline = time.monotonic() + FINISH_TIMEOUT
        while True:
            page = self.page()
            outcome = DemoResult(page, truth, scenario.judge(page.rows, truth))
            if outcome.good or time.monotonic() > deadline:
                return outcome
            time.sleep(0.25)

    def _stop_jobs(self) -> list[Truth]:
        truths = []
        for worker in self._workers:
            self._children.remove(worker)
            truths.append(Truth(**json.loads(worker.stop())))
        return truths

    def processes(self) -> dict[str, int]:
        """Process ids by role."""
        return self._children.pids()

    def _start(self) -> None:
        self._port = free_port(self._host, self._port)
        self.url = f"http://{format_endpoint(self._host, self._port)}"
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="flowmap-demo-")))
        self._stack.enter_context(self._children)
        self._ports = self._start_services()
        self._start_control_plane(directory)
        self._start_daemon(directory)
        self._start_jobs()

    def _start_jobs(self) -> None:
        for number in range(len(self.links)):
            self._start_worker(number)

    def _start_worker(self, number: int) -> None:
        worker = scenario.worker(self.block, number, self._ports, self.links)
        name = f"the job on {worker.source}"
        with jobs.stop_held_back():
            self._workers.append(self._children.start(name, jobs.argv(worker), environ=environment()))

    def _start_services(self) -> dict[str, int]:
        self.block, listeners = listen_somewhere()
        try:
            numbers = [listener.fileno() for listener in listeners.values()]
            argv = jobs.argv_of_services(list(listeners.values()))
            with jobs.stop_held_back():
                self._children.start("the services' process", argv, environ=environment(), descriptors=numbers)
            return {name: listener.getsockname()[1] for name, listener in listeners.items()}
        finally:
            for listener in listeners.values():
                listener.close()

    def _start_control_plane(self, directory: Path) -> None:
        file = directory / "catalog.json"
        file.write_text(json.dumps(scenario.catalog(self.block, self._ports)))
        argv = [sys.executable, "-m", "flowmap", "sandbox", "--listen", "127.0.0.1:0", "--catalog", str(file)]
        child = self._children.start("the embedded control plane", argv, environ=environment())
        self.control_plane = _first_line(child).rpartition(" ")[2]

    def _start_daemon(self, directory: Path) -> None:
        file = directory / "flowmap.yaml"  # JSON is YAML
        file.touch(mode=0o600)
        file.write_text(json.dumps(self.settings()))
        argv = [sys.executable, "-m", "flowmap", "run", "-c", str(file)]
        self._children.start("the daemon", argv, environ=environment())
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            self._children.check()
            if time.monotonic() > deadline:
                raise FlowmapError(f"the daemon is not ready after {START_TIMEOUT:.0f} s")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with self._open(f"{self.url}/-/ready", timeout=ANSWER_TIMEOUT) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def settings(self) -> dict[str, Any]:
        """The configuration of the daemon."""
        peers = {
            name: [f"{scenario.address(self.block, suffix)}/32:{self._ports[name]}"]
            for name, (suffix, _) in SERVICES.items()
        }
        return {
            **self._asked(),
            "collect": {
                "source": "sockets",
                "include": [scenario.address(self.block, "0.0/24")],
                "sockets": {"interval": "1s"},
            },
            "export": {"peers": peers},
            "http": {"listen": format_endpoint(self._host, self._port)},
            "log": {"level": "warning"},
        }

    def _asked(self) -> dict[str, Any]:
        """The control plane, and how often it is asked: at shorter intervals than a real one allows."""
        return {
            "control_plane": {
                "endpoint": self.control_plane,
                "workspace": "demo",
                "credentials": {"access_key_id": ACCESS_KEY_ID, "access_key_secret": ACCESS_KEY_SECRET},
                "rate": 50,
                "burst": 50,
            },
            # On a busy machine the first answers take seconds. In the demo no address changes its owner.
            "attribute": {"positive_ttl": "5s", "negative_ttl": "5s", "grace": "10s"},
        }


def environment() -> dict[str, str]:
    """The environment without settings for a real daemon."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWMAP", "ALIBABA_CLOUD"))}
    return kept | {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", "PYTHONUNBUFFERED": "1"}


def free_port(host: str, port: int = 0) -> int:
    """``port`` if it is free, or any free port for 0; FlowmapError otherwise."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        place = format_endpoint(host, port)
        raise FlowmapError(
            f"{place}: {os.strerror(error.errno or 0)}; choose another address with --listen (port 0: any free port)"
        ) from error


def listen_somewhere() -> tuple[int, dict[str, socket.socket]]:
    """A block of loopback addresses with free ports for the services, and the listening sockets.

    If another program holds such a port on every address, the kernel chooses the ports.
    """
    for fixed in (True, False):
        for block in BLOCKS:
            listeners: dict[str, socket.socket] = {}
            try:
                for name, (suffix, port) in SERVICES.items():
                    listeners[name] = socket.create_server((scenario.address(block, suffix), port if fixed else 0))
                return block, listeners
            except OSError:
                for listener in listeners.values():
                    listener.close()
    raise FlowmapError("no block of loopback addresses is free for the demo's services")


def _first_line(child: Child) -> str:
    """The line that a process prints once it has started; FlowmapError if it prints none."""
    assert child.process.stdout is not None
    if select.select([child.process.stdout], [], [], START_TIMEOUT)[0]:
        line = child.process.stdout.readline()
        if line:
            return line.strip()
        child.process.wait(START_TIMEOUT)
    child.check()
    raise FlowmapError(f"{child.name} has not started after {START_TIMEOUT:.0f} s")
