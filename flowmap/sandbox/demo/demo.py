"""The whole thing on this machine: embedded control plane, sample jobs, and the real daemon between them.

All are processes of their own. The demo reads the daemon's /metrics like any Prometheus would, and compares it in the
end with what the jobs say they sent.
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
from collections.abc import Mapping
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
from flowmap.sandbox.demo.scenario import LINKS, SERVICES, Amount, ExpectedVerdict, SeriesName
from flowmap.sandbox.demo.scrape import Page, read_page
from flowmap.sandbox.verify import ACCESS_KEY_ID, ACCESS_KEY_SECRET

BLOCKS = range(77, 100)
"""Second numbers of the loopback addresses a demo may take."""

START = 20.0
"""Seconds a process has to come up."""

SETTLE = 20.0
"""Seconds the daemon has, after the last connection closed, to find the owners of what still waits."""

ANSWER = 5.0
"""Seconds to wait for a page."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """How the demo ended."""

    page: Page
    truth: Mapping[SeriesName, Amount]
    verdict: ExpectedVerdict

    @property
    def good(self) -> bool:
        return self.verdict.right and self.page.conserved and self.page.pending == 0 and self.verdict.attributed > 0


class Demo:
    """Started by entering it, ended by leaving it, in whatever way."""

    def __init__(self, host: str, port: int) -> None:
        """The daemon listens on ``host``; port 0 takes a free one."""
        self._host = host
        self._port = port
        self._stack = ExitStack()
        self._children = Children()
        self._workers: list[Child] = []
        # A proxy of the environment is not meant for loopback.
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
        """What the daemon says now; FlowmapError if a process has ended, or the daemon does not answer."""
        self._children.check()
        try:
            with self._open(f"{self.url}/metrics", timeout=ANSWER) as response:
                return read_page(response.read().decode())
        except OSError as error:
            raise FlowmapError(f"the daemon does not answer: {error}") from error

    def finish(self) -> DemoResult:
        """End the workers, wait until every byte has its owner, and compare with the truth."""
        truths = []
        for worker in self._workers:
            self._children.forget(worker)
            truths.append(Truth(**json.loads(worker.stop())))
        truth = scenario.expected(truths)
        deadline = time.monotonic() + SETTLE
        while True:
            page = self.page()
            outcome = DemoResult(page, truth, scenario.judge(page.rows, truth))
            if outcome.good or time.monotonic() > deadline:
                return outcome
            time.sleep(0.25)

    def processes(self) -> dict[str, int]:
        """Process ids by what each is."""
        return self._children.pids()

    def _start(self) -> None:
        self._port = _free_port(self._host, self._port)
        self.url = f"http://{format_endpoint(self._host, self._port)}"
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="flowmap-demo-")))
        self._stack.enter_context(self._children)
        self._ports = self._start_services()
        self._start_control_plane(directory)
        self._start_daemon(directory)
        for number in range(len(LINKS)):
            worker = scenario.worker(self.block, number, self._ports)
            name = f"the job on {worker.source}"
            with jobs.stop_held_back():
                self._workers.append(self._children.start(name, jobs.argv(worker), environ=_environ()))

    def _start_services(self) -> dict[str, int]:
        self.block, listeners = _listen_somewhere()
        try:
            numbers = [listener.fileno() for listener in listeners.values()]
            argv = jobs.argv_of_services(list(listeners.values()))
            with jobs.stop_held_back():
                self._children.start("the services' process", argv, environ=_environ(), descriptors=numbers)
            return {name: listener.getsockname()[1] for name, listener in listeners.items()}
        finally:
            for listener in listeners.values():
                listener.close()

    def _start_control_plane(self, directory: Path) -> None:
        file = directory / "catalog.json"
        file.write_text(json.dumps(scenario.catalog(self.block, self._ports)))
        argv = [sys.executable, "-m", "flowmap", "sandbox", "--listen", "127.0.0.1:0", "--catalog", str(file)]
        child = self._children.start("the embedded control plane", argv, environ=_environ())
        self.control_plane = _first_line(child).rpartition(" ")[2]

    def _start_daemon(self, directory: Path) -> None:
        file = directory / "flowmap.yaml"  # JSON is YAML
        file.touch(mode=0o600)
        file.write_text(json.dumps(self.settings()))
        argv = [sys.executable, "-m", "flowmap", "run", "-c", str(file)]
        self._children.start("the daemon", argv, environ=_environ())
        deadline = time.monotonic() + START
        while not self._is_ready():
            self._children.check()
            if time.monotonic() > deadline:
                raise FlowmapError(f"the daemon is not ready after {START:.0f} s")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with self._open(f"{self.url}/-/ready", timeout=ANSWER) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def settings(self) -> dict[str, Any]:
        """The daemon's configuration: everything quicker than one would ask of a real control plane."""
        peers = {
            name: [f"{scenario.address(self.block, end)}/32:{self._ports[name]}"] for name, (end, _) in SERVICES.items()
        }
        return {
            "control_plane": {
                "endpoint": self.control_plane,
                "workspace": "demo",
                "credentials": {"access_key_id": ACCESS_KEY_ID, "access_key_secret": ACCESS_KEY_SECRET},
                "rate": 50,
                "burst": 50,
            },
            "collect": {
                "source": "sockets",
                "include": [scenario.address(self.block, "0.0/24")],
                "sockets": {"interval": "1s"},
            },
            # On a busy machine the first answers take seconds, and here no address ever changes hands.
            "attribute": {"positive_ttl": "5s", "negative_ttl": "5s", "grace": "10s"},
            "export": {"peers": peers},
            "http": {"listen": format_endpoint(self._host, self._port)},
            "log": {"level": "warning"},
        }


def _environ() -> dict[str, str]:
    """This process's environment without settings that are meant for a real daemon."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWMAP", "ALIBABA_CLOUD"))}
    return kept | {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", "PYTHONUNBUFFERED": "1"}


def _free_port(host: str, port: int) -> int:
    """``port`` if nobody has it, or a free one for 0; FlowmapError otherwise."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        place = format_endpoint(host, port)
        raise FlowmapError(
            f"{place}: {os.strerror(error.errno or 0)}; choose another with --listen, port 0 for any"
        ) from error


def _listen_somewhere() -> tuple[int, dict[str, socket.socket]]:
    """A block of loopback whose services' ports are free, and their listening sockets.

    If something else has a port on every address of this machine, the kernel chooses the ports.
    """
    for fixed in (True, False):
        for block in BLOCKS:
            listeners: dict[str, socket.socket] = {}
            try:
                for name, (end, port) in SERVICES.items():
                    listeners[name] = socket.create_server((scenario.address(block, end), port if fixed else 0))
                return block, listeners
            except OSError:
                for listener in listeners.values():
                    listener.close()
    raise FlowmapError("no block of loopback addresses is free for the demo's services")


def _first_line(child: Child) -> str:
    """The line a process prints when it is up; FlowmapError if it does not."""
    assert child.process.stdout is not None
    if select.select([child.process.stdout], [], [], START)[0]:
        line = child.process.stdout.readline()
        if line:
            return line.strip()
        child.process.wait(START)
    child.check()
    raise FlowmapError(f"{child.name} is not up after {START:.0f} s")
