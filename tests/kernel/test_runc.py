"""A real container: runc starts it as Docker does, and its connection shows its id."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from flowmap.system.cgroups import find_mount
from tests.kernel.test_workloads import Reader, searched
from tests.support.netns import namespace, needs_root

BUSYBOX = Path("/bin/busybox")

pytestmark = [
    pytest.mark.kernel,
    needs_root,
    pytest.mark.skipif(not shutil.which("runc") or not BUSYBOX.exists(), reason="needs runc and busybox-static"),
]


def bundle(directory: Path, cgroup: str, *command: str) -> None:
    """A container with busybox, in this network namespace."""
    (directory / "rootfs/bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, directory / "rootfs/bin/busybox")
    subprocess.run(["runc", "spec", "--bundle", str(directory)], check=True)
    spec: dict[str, Any] = json.loads((directory / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": ["/bin/busybox", *command]}
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "network"]
    spec["linux"] = {name: part for name, part in spec["linux"].items() if name != "resources"}
    spec["linux"]["cgroupsPath"] = cgroup
    spec["mounts"] = [one for one in spec["mounts"] if one["type"] in ("proc", "tmpfs")]
    (directory / "config.json").write_text(json.dumps(spec))


def test_a_container_of_runc(tmp_path: Path) -> None:
    mount = find_mount().path
    if mount is None:
        pytest.skip("no cgroup v2 tree is mounted")
    container = uuid.uuid4().hex * 2
    name = f"flowmap-test-{container[:8]}"
    with namespace() as inside, inside.entered(), socket.create_server(("127.0.0.1", 0)) as listener:
        bundle(tmp_path, f"/docker/{container}", "nc", "127.0.0.1", str(listener.getsockname()[1]))
        running = subprocess.Popen(["runc", "run", "--bundle", str(tmp_path), name], stdin=subprocess.PIPE)
        try:
            listener.settimeout(20)
            peer, (_, own_port) = listener.accept()
            state = json.loads(subprocess.run(["runc", "state", name], capture_output=True, check=True).stdout)
            reader = Reader()
            found = searched(reader, own_port)
            reader.source.close()
            peer.close()
        finally:
            subprocess.run(["runc", "kill", name, "KILL"], check=False, capture_output=True)
            running.communicate(timeout=20)
            subprocess.run(["runc", "delete", "--force", name], check=False, capture_output=True)
            for parent in (mount / "docker", *mount.parent.glob("*/docker")):  # runc leaves them, one in each tree
                with contextlib.suppress(OSError):
                    parent.rmdir()
    assert (found.container, found.runtime, found.cgroup) == (container, "docker", f"/docker/{container}")
    assert (found.pid, found.command, found.unknown) == (state["pid"], "busybox", "")
