"""The demo with a real Flink: a session cluster on loopback, whose jobs open real connections.

Every TaskManager has a loopback address of its own, and so has the REST interface. The jobs count their bytes as the
workers of the plain demo do, and the daemon learns their owners from the REST interface.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flowmap.errors import FlowmapError
from flowmap.sandbox.demo import scenario
from flowmap.sandbox.demo.children import Child
from flowmap.sandbox.demo.demo import Demo, environment, free_port
from flowmap.sandbox.demo.distribution import Distribution
from flowmap.sandbox.demo.jobs import Truth
from flowmap.sandbox.demo.scenario import SERVICES, Link

LINKS = (
    Link(("orders-enrichment",), "0.11", "orders-kafka", "reads", 200, 40_000, 0.2, 1),
    Link(("orders-enrichment",), "0.11", "features-redis", "reads", 60, 400, 0.1, 1),
    Link(("orders-archive",), "0.12", "orders-kafka", "reads", 200, 25_000, 0.25, 1),
    Link(("warehouse-loader",), "0.13", "warehouse-mysql", "writes", 30_000, 120, 0.3, 1),
    # Unowned: a backup script on the same network.
    Link((), "0.99", "orders-kafka", "reads", 100, 10_000, 0.5, 1),
)
LOOPBACK = "127.0.0.1"
REST = "0.1"
"""Last two numbers of the address of the REST interface."""
CLUSTER = "demo"
START_TIMEOUT = 120.0
"""Seconds for Flink to start, and for a job to run or to end."""
_JSON = "application/json"
_TRUTH = re.compile(r"FLOWMAP-TRUTH (\d+) (\d+) (\d+)")


class FlinkDemo(Demo):
    """A running demo with Flink; see :class:`Demo`."""

    links: Sequence[Link] = LINKS

    def __init__(self, home: Path, host: str, port: int) -> None:
        """``home``: an unpacked distribution."""
        super().__init__(host, port)
        self._home = home
        self._task_managers: list[Child] = []
        self._jobs: dict[str, str] = {}
        """Ids by name."""

    def _start_control_plane(self, directory: Path) -> None:
        made = directory / "flink"
        made.mkdir()
        flink = Distribution(self._home, made)
        rpc, blob, rest = (free_port(LOOPBACK) for _ in range(3))
        # It calls its TaskManagers from there, as every program does on loopback.
        own = {"jobmanager.rpc.address": LOOPBACK, "jobmanager.rpc.port": str(rpc), "jobmanager.bind-host": LOOPBACK}
        web = scenario.address(self.block, REST)
        more = {"rest.address": web, "rest.bind-address": web, "rest.port": str(rest), "blob.server.port": str(blob)}
        self._children.start("the JobManager", flink.job_manager(own | more), environ=environment(), files=True)
        self.control_plane = f"http://{web}:{rest}"
        for address in dict.fromkeys(link.task_manager for link in LINKS if link.deployments):
            host = scenario.address(self.block, address)
            keys = {"taskmanager.host": host, "taskmanager.bind-host": host, "taskmanager.numberOfTaskSlots": "1"}
            environ = environment() | {"FLOWMAP_DEMO_ADDRESS": host}
            command = flink.task_manager(own | keys)
            child = self._children.start(f"the TaskManager on {host}", command, environ=environ, files=True)
            self._task_managers.append(child)
        jar = flink.compile_job()
        self._wait("Flink has not started", lambda: self._free_slots() == len(self._task_managers))
        self._upload(jar)

    def _start_jobs(self) -> None:
        """Submit the jobs one by one, so that each goes to a TaskManager of its own."""
        for name in dict.fromkeys(name for link in LINKS for name in link.deployments):
            words = [name]
            for number, link in enumerate(LINKS):
                if name in link.deployments:
                    suffix, _ = SERVICES[link.service]
                    place = scenario.address(self.block, suffix), self._ports[link.service]
                    words += [str(one) for one in (number, *place, link.upload, link.download, int(link.pause * 1000))]
            body = {"entryClass": "FlinkDemoJob", "programArgsList": words}
            answer = self._call(f"/jars/{self._jar}/run", method="POST", body=json.dumps(body).encode())
            self._jobs[name] = answer["jobid"]
        self._wait("the jobs do not run", lambda: set(self._states().values()) == {"RUNNING"})
        self._start_worker(len(LINKS) - 1)

    def _stop_jobs(self) -> list[Truth]:
        for job in self._jobs.values():
            self._call(f"/jobs/{job}", method="PATCH")
        self._wait("the jobs do not end", lambda: set(self._states().values()) == {"CANCELED"})
        truths = super()._stop_jobs()
        for child in self._task_managers:
            self._children.remove(child)
            for number, sent, received in _TRUTH.findall(child.stop_and_read()):
                truths.append(Truth(number, int(sent), int(received), 1))
        if len(truths) != len(LINKS):
            raise FlowmapError(f"only {len(truths)} of {len(LINKS)} links reported their bytes")
        return truths

    def _asked(self) -> dict[str, Any]:
        return {"flink": {"clusters": [{"name": CLUSTER, "urls": [self.control_plane]}]}}

    def _free_slots(self) -> int:
        return int(self._call("/overview")["slots-available"])

    def _states(self) -> dict[str, str]:
        own = set(self._jobs.values())
        return {one["jid"]: one["state"] for one in self._call("/jobs/overview")["jobs"] if one["jid"] in own}

    def _upload(self, jar: bytes) -> None:
        form = b'--x\r\nContent-Disposition: form-data; name="jarfile"; filename="flowmap-demo.jar"\r\n'
        form += b"Content-Type: application/x-java-archive\r\n\r\n" + jar + b"\r\n--x--\r\n"
        answer = self._call("/jars/upload", method="POST", body=form, kind="multipart/form-data; boundary=x")
        self._jar = str(answer["filename"]).rpartition("/")[2]

    def _call(
        self, path: str, *, method: str = "GET", body: bytes | None = None, kind: str = "application/json"
    ) -> Any:
        request = urllib.request.Request(
            self.control_plane + path, data=body, method=method, headers={"content-type": kind}
        )
        with self._open(request, timeout=30) as reply:
            return json.loads(reply.read() or b"null")

    def _wait(self, failure: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            self._children.check()
            try:
                if done():
                    return
            except OSError:
                pass  # it starts
            if time.monotonic() > deadline:
                raise FlowmapError(f"{failure} within {START_TIMEOUT:.0f} s")
            time.sleep(0.2)
