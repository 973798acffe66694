"""Which container and unit holds a connection, against real cgroups and what their processes say of themselves."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowmap.flows.records.batch import FlowBatch, RecordKind
from flowmap.model.workload import Workload
from flowmap.sources.base import Step, WorkloadsNamed
from flowmap.sources.sockets.source import SocketsSource
from flowmap.sources.workloads.numbering import GONE, NOT_REPORTED
from flowmap.sources.workloads.processes import ALONE, UNREADABLE, ProcessSearch
from tests.support.cgroups import CgroupTree, cgroup_tree
from tests.support.host import Daemon, Host, deployment, host
from tests.support.netns import namespace, needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

ID = "0123456789abcdef" * 4
UID = "1d5d8c6e-0b5a-4f6a-9d43-5b2a3a1c7e90"
UNDER = UID.replace("-", "_")

SCOPED = f"kubepods-burstable-pod{UNDER}.slice"
USER = "user.slice/user-1000.slice/user@1000.service"

LAYOUTS = [
    # cgroup, container, pod, unit, runtime
    # kubelet with the systemd driver
    (
        f"kubepods.slice/kubepods-burstable.slice/{SCOPED}/cri-containerd-{ID}.scope",
        *(ID, UID, f"cri-containerd-{ID}.scope", "containerd"),
    ),
    (f"kubepods.slice/kubepods-pod{UNDER}.slice/crio-{ID}.scope", ID, UID, f"crio-{ID}.scope", "cri-o"),
    (f"kubepods.slice/kubepods-pod{UNDER}.slice/crio-{ID}.scope/container", ID, UID, f"crio-{ID}.scope", "cri-o"),
    (f"kubepods.slice/kubepods-pod{UNDER}.slice/docker-{ID}.scope", ID, UID, f"docker-{ID}.scope", "docker"),
    # kubelet with the cgroupfs driver
    (f"kubepods/besteffort/pod{UID}/{ID}", ID, UID, None, None),
    (f"kubepods/burstable/pod{UID}/crio-{ID}", ID, UID, None, "cri-o"),
    # kubelet with the one, containerd with the other
    (f"system.slice/containerd.service/{SCOPED}:cri-containerd:{ID}", ID, UID, "containerd.service", "containerd"),
    # containers without Kubernetes
    (f"system.slice/docker-{ID}.scope", ID, None, f"docker-{ID}.scope", "docker"),
    (f"docker/{ID}", ID, None, None, "docker"),
    (f"default/{ID}", ID, None, None, "containerd"),
    (f"system.slice/nerdctl-{ID}.scope", ID, None, f"nerdctl-{ID}.scope", "containerd"),
    (f"machine.slice/libpod-{ID}.scope/container", ID, None, f"libpod-{ID}.scope", "podman"),
    (f"libpod_parent/libpod-{ID}", ID, None, None, "podman"),
    (f"system.slice/db.service/libpod-payload-{ID}", ID, None, "db.service", "podman"),
    (f"{USER}/user.slice/libpod-{ID}.scope/container", ID, None, f"libpod-{ID}.scope", "podman"),
    # systemd
    ("system.slice/kafka.service", None, None, "kafka.service", None),
    ("system.slice/system-flink.slice/flink@1.service", None, None, "flink@1.service", None),
    ("user.slice/user-0.slice/session-3.scope", None, None, "session-3.scope", None),
    (f"{USER}/app.slice/app-flink.slice/flink.service", None, None, "flink.service", None),
    (f"{USER}/init.scope", None, None, None, None),
]


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    with cgroup_tree() as made:
        yield made


class Reader:
    """Reads a source by hand, and keeps the last workloads of each client port."""

    def __init__(self) -> None:
        self.source = SocketsSource(interval=60.0, processes=ProcessSearch())
        self.source.open()
        self._named: dict[int, Workload] = {}
        self._closed: set[int] = set()
        self._numbers: dict[int, tuple[int, int]] = {}

    def read(self) -> None:
        """A full read now."""
        self._keep(self.source.finish())

    def poll(self) -> bool:
        """Poll once; False."""
        self._keep(self.source.poll())
        return False

    def _keep(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, WorkloadsNamed):
                self._named.update(step.workloads)
            if isinstance(step, FlowBatch):
                ends = zip(step.client_workload.tolist(), step.server_workload.tolist(), strict=True)
                self._numbers.update(zip(step.client_port.tolist(), ends, strict=True))
                self._closed |= set(step.client_port[step.kind == RecordKind.CLOSED].tolist())

    def ended(self, port: int) -> bool:
        return port in self._closed

    def workloads(self, port: int) -> tuple[Workload | None, Workload | None]:
        client, server = self._numbers[port]
        return self._named.get(client), self._named.get(server)


@pytest.fixture
def reader() -> Iterator[Reader]:
    with namespace() as inside, inside.entered():
        made = Reader()
        yield made
        made.source.close()


def test_every_layout(tree: CgroupTree, reader: Reader) -> None:
    """The client's process says in which cgroup it is, and the sockets are real."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        clients = [tree.connect(layout[0], "127.0.0.1", port) for layout in LAYOUTS]
        reader.read()
    for (below, *expected), (_, own_port, cgroup) in zip(LAYOUTS, clients, strict=True):
        workload, _ = reader.workloads(own_port)
        assert workload is not None
        shown = [workload.container, workload.pod, workload.unit, workload.runtime]
        assert (workload.cgroup, shown) == (cgroup, expected)
        assert cgroup == tree.path(below)


SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
kept = []
while True:
    kept.append(listener.accept()[0])
"""


CLOSING_SERVER = SERVER.replace("kept.append(listener.accept()[0])", "listener.accept()[0].close()")


def test_both_ends_on_this_host(tree: CgroupTree, reader: Reader) -> None:
    server = tree.start("system.slice/broker.service", "python3", "-S", "-c", SERVER)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    _, own_port, _ = tree.connect("system.slice/job.service", "127.0.0.1", port)
    reader.read()
    units = [one.unit for one in reader.workloads(own_port) if one is not None]
    assert units == ["job.service", "broker.service"]


def test_a_closed_connection_keeps_what_a_read_showed(tree: CgroupTree, reader: Reader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process, own_port, _ = tree.connect("a.service", "127.0.0.1", port)
        reader.read()
        process.communicate("")
        until(lambda: reader.poll() or reader.ended(own_port), "its end is reported")
        with socket.create_connection(("127.0.0.1", port)) as short:
            unseen = short.getsockname()[1]
        listener.accept()[0].close()
        listener.accept()[0].close()
        until(lambda: reader.poll() or reader.ended(unseen), "a short one is reported")
    seen, untold = reader.workloads(own_port)[0], reader.workloads(unseen)[0]
    assert seen is not None and seen.unit == "a.service"
    assert untold is not None and (untold.cgroup, untold.unknown) == (None, NOT_REPORTED)


def test_a_short_connection_has_the_cgroup_of_its_listener(tree: CgroupTree, reader: Reader) -> None:
    server = tree.start("system.slice/broker.service", "python3", "-S", "-c", CLOSING_SERVER)
    assert server.stdout is not None
    port = int(server.stdout.readline())

    def short() -> Workload | None:
        with socket.create_connection(("127.0.0.1", port)) as peer:
            own_port = int(peer.getsockname()[1])
            peer.recv(1)  # the server has closed
        until(lambda: reader.poll() or reader.ended(own_port), "its end is reported")
        return reader.workloads(own_port)[1]

    reader.read()
    early = short()
    assert early is None or early.unit is None, "the listener may be new"
    reader.read()
    found = short()
    assert found is not None and (found.unit, found.pid) == ("broker.service", None)


def test_a_cgroup_that_is_gone_before_it_is_read(tree: CgroupTree, reader: Reader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process, own_port, _ = tree.connect("moved.service", "127.0.0.1", listener.getsockname()[1])
        (tree.make("elsewhere.service") / "cgroup.procs").write_text(str(process.pid))
        (tree.root / "moved.service").rmdir()
        reader.read()
    workload, _ = reader.workloads(own_port)
    assert workload is not None
    assert (workload.cgroup, workload.unit, workload.unknown) == (None, None, GONE)


ADDRESS, PORT, CLIENT = "10.77.1.10", 9092, "10.77.0.11"


def flows_of(daemon: Daemon, port: int) -> list[dict[str, Any]]:
    return [flow for flow in daemon.json("/api/v1/flows")["flows"] if flow["client"]["port"] == port]


@pytest.mark.parametrize("source", ["auto", "sockets"])
def test_daemon(tree: CgroupTree, tmp_path: Path, source: str) -> None:
    collect = {"source": source, "sockets": {"interval": "500ms"}}
    with host(tmp_path, [f"{ADDRESS}/32", f"{CLIENT}/32"], [deployment("orders", CLIENT)]) as machine:
        _daemon(tree, machine, collect)


def _daemon(tree: CgroupTree, machine: Host, collect: dict[str, Any]) -> None:
    with machine.service(ADDRESS, PORT), machine.daemon(collect=collect) as daemon:
        with machine.inside.entered():
            _, port, cgroup = tree.connect(f"docker/{ID}", ADDRESS, PORT)
        until(lambda: [one["local"] and one["local"]["cgroup"] for one in flows_of(daemon, port)] == [cgroup], "shown")
        ((flow),) = flows_of(daemon, port)
        local = flow["local"]
        assert (local["side"], local["container"], local["runtime"], local["unknown"]) == ("client", ID, "docker", "")
        assert flow["localServer"]["side"] == "server"
        daemon.samples()  # nothing is counted twice


def test_only_some_cgroups_count(tree: CgroupTree, tmp_path: Path) -> None:
    cgroups = {"include": [tree.path("docker")], "exclude": [tree.path(f"docker/{'f' * 64}")]}
    collect = {"source": "sockets", "sockets": {"interval": "500ms", "cgroups": cgroups}}
    wanted = f"docker/{ID}"
    with (
        host(tmp_path, [f"{ADDRESS}/32", f"{CLIENT}/32"], []) as machine,
        machine.service(ADDRESS, PORT),
        machine.inside.entered(),
    ):
        # Before the daemon, which is in a cgroup that does not count, as is the service.
        ports = {below: tree.connect(below, ADDRESS, PORT)[1] for below in (wanted, f"docker/{'f' * 64}", "a.service")}
        with machine.daemon(collect=collect) as daemon:
            until(lambda: flows_of(daemon, ports[wanted]), "it is seen")
            assert {below for below, port in ports.items() if flows_of(daemon, port)} == {wanted}
            daemon.samples()


FORKING = """
import os, signal, socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
if os.fork() == 0:
    signal.pause()
print(peer.getsockname()[1], flush=True)
sys.stdin.read()
"""


def searched(reader: Reader, port: int) -> Workload:
    """The workload of a client, after its process was searched for."""
    found: list[Workload] = []

    def done() -> bool:
        reader.read()
        workload, _ = reader.workloads(port)
        found[:] = [] if workload is None else [workload]
        return workload is not None and bool(workload.pid or "process" in workload.unknown)

    until(done, "its process was searched for", seconds=60)
    return found[0]


def test_process(tree: CgroupTree, reader: Reader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process, own_port, _ = tree.connect("job.service", "127.0.0.1", port)
        forked = tree.start("prefork.service", "python3", "-S", "-c", FORKING, "127.0.0.1", str(port))
        assert forked.stdout is not None
        forked_port = int(forked.stdout.readline())
        one, several = searched(reader, own_port), searched(reader, forked_port)
        (tree.root / "prefork.service" / "cgroup.kill").write_text("1")
    command = Path(f"/proc/{process.pid}/comm").read_text().strip()
    assert (one.pid, one.command, one.unit, one.unknown) == (process.pid, command, "job.service", "")
    assert (several.pid, several.unit) == (None, "prefork.service")
    assert several.unknown.startswith(f"2 processes hold the socket: {forked.pid}, ")


@pytest.mark.parametrize("case", ["alone", "several", "init.scope"])
def test_processes_that_cannot_be_read(tree: CgroupTree, case: str) -> None:
    """As a user without capabilities, of a process of another user."""
    cgroup = "init.scope" if case == "init.scope" else "job.service"
    with namespace() as inside, inside.entered(), socket.create_server(("127.0.0.1", 0)) as listener:
        process, own_port, _ = tree.connect(cgroup, "127.0.0.1", listener.getsockname()[1])
        if case == "several":
            tree.start(cgroup, "sleep", "60")
            until(lambda: len((tree.root / cgroup / "cgroup.procs").read_text().split()) == 2, "both run")
        script = (
            "import os, sys\n"
            "from tests.kernel.test_workloads import Reader, searched\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "print(*searched(Reader(), int(sys.argv[1]))[5:8], sep='|')\n"
        )
        done = subprocess.run([sys.executable, "-c", script, str(own_port)], capture_output=True, text=True, check=True)
    pid, command, unknown = done.stdout.strip().split("|")
    known = (str(process.pid), Path(f"/proc/{process.pid}/comm").read_text().strip())
    assert (pid, command) == (known if case == "alone" else ("None", "None"))
    assert (ALONE if case == "alone" else UNREADABLE) in unknown
