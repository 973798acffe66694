"""Cgroups for tests: directories below the cgroup v2 tree of this host, and processes inside them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowmap.system.cgroups import find_mount


class CgroupTree:
    """A directory below the host's tree. Its processes end and its directories go with it."""

    def __init__(self, root: Path, mount: Path) -> None:
        self.root = root
        self._mount = mount
        self._processes: list[subprocess.Popen[str]] = []

    def path(self, below: str) -> str:
        """Path of a cgroup in here, below the mount."""
        return f"/{self.root.relative_to(self._mount)}/{below}"

    def make(self, below: str) -> Path:
        """The directory of a cgroup in here."""
        (self.root / below).mkdir(parents=True, exist_ok=True)
        return self.root / below

    def start(self, below: str, *command: str) -> subprocess.Popen[str]:
        """Run a command whose process, and all it opens, is in a cgroup in here; its output is a pipe."""
        inside = self.make(below) / "cgroup.procs"
        shell = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(inside), *command]
        process = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        return process

    def connect(self, below: str, address: str, port: int) -> tuple[subprocess.Popen[str], int, str]:
        """A process in a cgroup in here with one open connection; also its own port and its cgroup, as it says."""
        script = (
            "import socket, sys\n"
            "peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
            "with open('/proc/self/cgroup') as file:\n"
            "    own = next(line for line in file if line.startswith('0::'))\n"
            "print(peer.getsockname()[1], own.strip()[3:], flush=True)\n"
            "sys.stdin.read()\n"
        )
        process = self.start(below, "python3", "-S", "-c", script, address, str(port))
        assert process.stdout is not None
        own_port, cgroup = process.stdout.readline().split()
        return process, int(own_port), cgroup

    def close(self) -> None:
        """End all processes and remove the directories."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.communicate()
        for directory, _, _ in os.walk(self.root, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(directory)


@contextlib.contextmanager
def cgroup_tree() -> Iterator[CgroupTree]:
    """A tree of its own; skips the test where cgroup v2 cannot be written."""
    mount = find_mount().path
    if mount is None:
        pytest.skip("no cgroup v2 tree is mounted")
    root = mount / f"flowmap-test-{os.getpid()}"
    try:
        root.mkdir()
    except OSError as error:
        pytest.skip(f"{mount} cannot be written: {error.strerror}")
    tree = CgroupTree(root, mount)
    try:
        yield tree
    finally:
        tree.close()
