"""Real containers of runc: what their connections show, and what flowmap sees from inside one."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowmap.sources.workloads.processes import ALONE, UNREADABLE
from flowmap.system.cgroups import find_mount
from tests.dockerfile import ROOT
from tests.kernel.test_workloads import Reader, searched
from tests.support.cgroups import cgroup_tree
from tests.support.manifests import merged, objects, patch_of
from tests.support.netns import namespace, needs_root
from tests.support.waiting import until

BUSYBOX = Path("/bin/busybox")

pytestmark = [
    pytest.mark.kernel,
    needs_root,
    pytest.mark.skipif(not shutil.which("runc") or not BUSYBOX.exists(), reason="needs runc and busybox-static"),
    pytest.mark.skipif(find_mount().path is None, reason="no cgroup v2 tree is mounted"),
]

Spec = dict[str, Any]


class Bundle:
    """A container that is not started yet, in the network namespace of the caller."""

    def __init__(self, directory: Path, cgroup: str, *command: str) -> None:
        self.directory, self.name = directory, f"flowmap-test-{uuid.uuid4().hex[:8]}"
        (directory / "rootfs").mkdir(parents=True)
        subprocess.run(["runc", "spec", "--bundle", str(directory)], check=True)
        self.spec: Spec = json.loads((directory / "config.json").read_text())
        self.spec["process"] |= {"terminal": False, "args": list(command)}
        self.spec["linux"] = {name: part for name, part in self.spec["linux"].items() if name != "resources"}
        self.spec["linux"]["cgroupsPath"] = cgroup
        self.share("network")
        self.spec["mounts"] = [one for one in self.spec["mounts"] if one["type"] in ("proc", "tmpfs", "cgroup")]

    def share(self, kind: str) -> None:
        """Share a namespace with the caller."""
        namespaces = self.spec["linux"]["namespaces"]
        self.spec["linux"]["namespaces"] = [one for one in namespaces if one["type"] != kind]

    def mount(self, source: str, target: str) -> None:
        """Show a directory of the host, read-only, with what is mounted below."""
        mount = {"source": source, "destination": target, "type": "bind", "options": ["rbind", "ro"]}
        self.spec["mounts"].append(mount)

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """Run it; killed and removed at the end, with the cgroups that runc leaves."""
        (self.directory / "config.json").write_text(json.dumps(self.spec))
        command = ["runc", "run", "--bundle", str(self.directory), self.name]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            subprocess.run(["runc", "kill", self.name, "KILL"], check=False, capture_output=True)
            process.communicate(timeout=20)
            subprocess.run(["runc", "delete", "--force", self.name], check=False, capture_output=True)
            mount = find_mount().path
            assert mount is not None
            top = self.spec["linux"]["cgroupsPath"].split("/")[1]
            for parent in (mount / top, *mount.parent.glob(f"*/{top}")):  # one in each tree
                with contextlib.suppress(OSError):
                    parent.rmdir()

    def pid(self) -> int:
        """Of its first process, as runc says."""
        state = subprocess.run(["runc", "state", self.name], capture_output=True, check=True).stdout
        return int(json.loads(state)["pid"])


def busybox(directory: Path, cgroup: str, *command: str) -> Bundle:
    """A container with nothing but busybox."""
    made = Bundle(directory, cgroup, "/bin/busybox", *command)
    (directory / "rootfs/bin").mkdir()
    shutil.copy(BUSYBOX, directory / "rootfs/bin/busybox")
    return made


def test_a_container_of_runc(tmp_path: Path) -> None:
    container = uuid.uuid4().hex * 2
    with namespace() as inside, inside.entered(), socket.create_server(("127.0.0.1", 0)) as listener:
        made = busybox(tmp_path, f"/docker/{container}", "nc", "127.0.0.1", str(listener.getsockname()[1]))
        with made.running():
            listener.settimeout(20)
            peer, (_, own_port) = listener.accept()
            pid = made.pid()
            reader = Reader()
            found = searched(reader, own_port)
            reader.source.close()
            peer.close()
    assert (found.container, found.runtime, found.cgroup) == (container, "docker", f"/docker/{container}")
    assert (found.pid, found.command, found.unknown) == (pid, "busybox", "")


LOOK = """
import json, sys
from flowmap.sources.sockets.check import findings
from tests.kernel.test_workloads import Reader, searched
reader = Reader()
found = [searched(reader, int(port))._asdict() for port in sys.argv[1:]]
print(json.dumps({"found": found, "check": {one.name: [one.level, one.message] for one in findings()}}), flush=True)
"""


def flowmap(directory: Path, *command: str) -> Bundle:
    """flowmap in a container with the mounts and the rights of the patched manifest: a node, and nothing else of it."""
    pod = merged(objects("flowmap.yaml")["DaemonSet/flowmap"], patch_of("local.yaml"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    made = Bundle(directory, f"/flowmap-test/{uuid.uuid4().hex * 2}", sys.executable, *command)
    made.spec["root"]["readonly"] = container["securityContext"]["readOnlyRootFilesystem"]
    granted = [f"CAP_{name}" for name in container["securityContext"]["capabilities"]["add"]]
    made.spec["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), granted)
    made.spec["process"]["cwd"] = str(ROOT)
    made.spec["process"]["env"].append("PYTHONDONTWRITEBYTECODE=1")
    if pod["hostPID"]:
        made.share("pid")
    if {one["type"] for one in made.spec["linux"]["namespaces"]}.isdisjoint({"cgroup"}):
        made.spec["linux"]["namespaces"].append({"type": "cgroup"})
    for place in ("/usr", "/bin", "/lib", "/lib64", "/etc", str(ROOT), sys.prefix):
        if Path(place).exists():
            made.mount(place, place)
    paths = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one}
    for mount in container["volumeMounts"]:
        if mount["name"] in paths and Path(paths[mount["name"]]).exists():  # no names of containers here
            made.mount(paths[mount["name"]], mount["mountPath"])
    return made


def test_flowmap_in_the_container_of_the_manifest(tmp_path: Path) -> None:
    """It sees the cgroups and the processes of the node, as root without CAP_SYS_PTRACE."""
    container = uuid.uuid4().hex * 2
    with (
        cgroup_tree() as tree,
        namespace() as inside,
        inside.entered(),
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        port = listener.getsockname()[1]
        process, own_port, cgroup = tree.connect(f"docker/{container}", "127.0.0.1", port)
        _, shared_port, _ = tree.connect("kafka.service", "127.0.0.1", port)
        tree.start("kafka.service", "sleep", "60")
        until(lambda: len((tree.root / "kafka.service/cgroup.procs").read_text().split()) == 2, "both run")
        with flowmap(tmp_path, "-c", LOOK, str(own_port), str(shared_port)).running() as running:
            assert running.stdout is not None
            answer = json.loads(running.stdout.readline())
    alone, shared = answer["found"]
    assert (alone["container"], alone["cgroup"], alone["runtime"]) == (container, cgroup, "docker")
    assert (alone["pid"], alone["unknown"]) == (process.pid, ALONE)
    assert (shared["unit"], shared["pid"], shared["unknown"]) == ("kafka.service", None, UNREADABLE)
    assert answer["check"]["sockets.processes"] == ["ok", answer["check"]["sockets.processes"][1]]
    assert "CAP_SYS_PTRACE" in answer["check"]["sockets.processes"][1]
    assert "are not in the tree" not in answer["check"]["sockets.containers"][1]
