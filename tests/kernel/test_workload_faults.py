"""Where container or process are not certain: real faults of a host, and what is said instead of a wrong name."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowmap.config import Config
from flowmap.engine.commands import TakeStep
from flowmap.engine.factory import make_accounting
from flowmap.model.workload import UNKNOWN, Workload
from flowmap.sources.combined import CombinedSource
from flowmap.sources.conntrack.source import ConntrackSource
from flowmap.sources.sockets.source import SocketsSource
from flowmap.sources.workloads import processes
from flowmap.sources.workloads.numbering import GONE, IN_ROOT
from flowmap.sources.workloads.processes import ALONE, UNREADABLE, ProcessSearch
from flowmap.system import open_files
from flowmap.system.cgroups import Cgroup
from tests.kernel.test_workloads import ID, Reader, searched
from tests.support.cgroups import CgroupTree, cgroup_tree
from tests.support.netns import Namespace, namespace, needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

_CLONE3 = 435  # on every architecture since 5.5
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def inside() -> Iterator[Namespace]:
    with namespace() as made, made.entered():
        yield made


@pytest.fixture
def tree(inside: Namespace) -> Iterator[CgroupTree]:
    with cgroup_tree() as made:
        yield made


@pytest.fixture
def listener(tree: CgroupTree) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


class _CloneArgs(ctypes.Structure):
    """struct clone_args of linux/sched.h."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls"),
            *("set_tid", "set_tid_size"),
        )
    )


def take_pid(pid: int) -> None:
    """Make a child of this process with a chosen pid, which sleeps."""
    chosen = ctypes.c_int(pid)
    arguments = _CloneArgs(exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(chosen), set_tid_size=1)
    made = _libc.syscall(_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    if made == 0:
        os.execvp("sleep", ["sleep", "60"])
    if made < 0:
        pytest.skip(f"the kernel lets nobody choose a pid: {os.strerror(ctypes.get_errno())}")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_pid_is_used_again_between_two_reads(
    tree: CgroupTree, listener: socket.socket, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The holder ends while its descriptors are read, and another program gets its pid: it has no socket."""
    process, _, _ = tree.connect("job.service", "127.0.0.1", port_of(listener))
    targets = [os.readlink(one) for one in Path(f"/proc/{process.pid}/fd").iterdir()]
    (inode,) = filter(None, map(open_files.socket_inode, targets))
    real = open_files.links
    left = [process]

    def late(directory: int) -> Iterator[str]:
        if moment == "after":
            yield from real(directory)
        if left:
            left.pop().kill()
            process.wait()
            take_pid(process.pid)
        if moment == "before":
            yield from real(directory)

    monkeypatch.setattr(processes, "links", late)
    search = ProcessSearch()
    place = tree.root / "job.service"
    search.want({inode: Cgroup(place.stat().st_ino, place)})
    try:
        while search.deadline() < float("inf"):
            search.step()
    finally:
        assert not left
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)  # it was a child of this process
    (found,) = search.take_found().values()
    assert (found.pid, found.command) == (None, None) and found.unknown


def test_a_cgroup_takes_the_place_of_a_removed_one(tree: CgroupTree, listener: socket.socket) -> None:
    """A service that was restarted has the same path, and another id: the old socket is none of its."""
    place = tree.root / "kafka.service"
    process, own_port, _ = tree.connect("kafka.service", "127.0.0.1", port_of(listener))
    (tree.make("elsewhere") / "cgroup.procs").write_text(str(process.pid))
    reader = Reader()
    old = place.stat().st_ino
    place.rmdir()
    _, new_port, _ = tree.connect("kafka.service", "127.0.0.1", port_of(listener))
    assert place.stat().st_ino != old
    moved, new = searched(reader, own_port), searched(reader, new_port)
    reader.source.close()
    assert (moved.unit, moved.pid, moved.cgroup_id) == (None, process.pid, old) and GONE in moved.unknown
    assert (new.unit, new.unknown) == ("kafka.service", "")


PREFORK = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
parent = os.getpid()
if os.fork() == 0:
    kept = [listener.accept()[0]]
    print(parent, os.getpid(), flush=True)
    sys.stdin.read()
else:
    print(listener.getsockname()[1], flush=True)
    os.wait()
"""


def test_a_forked_server(tree: CgroupTree, listener: socket.socket) -> None:
    """Parent and worker hold the listener; only the worker holds the connection that it accepted."""
    server = tree.start("prefork.service", "python3", "-S", "-c", PREFORK)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    with socket.create_connection(("127.0.0.1", port)) as peer:
        own_port = peer.getsockname()[1]
        parent, worker = map(int, server.stdout.readline().split())
        reader = Reader()

        def found() -> Workload | None:
            reader.read()
            return reader.workloads(own_port)[1]

        until(lambda: (one := found()) is not None and one.pid, "its process was found", seconds=60)
        one = found()
        reader.source.close()
    (tree.root / "prefork.service" / "cgroup.kill").write_text("1")
    assert one is not None and parent != worker
    assert (one.unit, one.pid, one.unknown) == ("prefork.service", worker, "")


PASSING = """
import array, socket, sys
place, what = sys.argv[1:3]
channel = socket.socket(socket.AF_UNIX)
if what == "give":
    channel.connect(place)
    with socket.create_connection((sys.argv[3], int(sys.argv[4]))) as peer:
        print(peer.getsockname()[1], flush=True)
        channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [peer.fileno()]))])
        channel.recv(1)
    print("given", flush=True)
else:
    channel.bind(place)
    channel.listen()
    print("listening", flush=True)
    giver = channel.accept()[0]
    kept = giver.recvmsg(1, 64)[1]
    giver.send(b"x")
sys.stdin.read()
"""


def test_a_socket_that_was_passed_on(tree: CgroupTree, listener: socket.socket, tmp_path: Path) -> None:
    """A proxy hands its connection to a program in another container, and closes its own descriptor."""
    script, place = ("python3", "-S", "-c", PASSING), str(tmp_path / "channel")
    taker = tree.start("worker.service", *script, place, "take")
    assert taker.stdout is not None and taker.stdout.readline() == "listening\n"
    giver = tree.start(f"docker/{ID}", *script, place, "give", "127.0.0.1", str(port_of(listener)))
    assert giver.stdout is not None
    own_port = int(giver.stdout.readline())
    assert giver.stdout.readline() == "given\n"
    reader = Reader()

    def passed_on() -> bool:
        reader.read()
        one, _ = reader.workloads(own_port)
        return one is not None and "holds it" in one.unknown

    until(passed_on, "its process was found", seconds=60)
    one, _ = reader.workloads(own_port)
    reader.source.close()
    assert one is not None and (one.container, one.unit, one.pid) == (None, None, taker.pid)
    assert one.labels == (UNKNOWN, UNKNOWN) and tree.path(f"docker/{ID}") in one.unknown
    assert tree.path("worker.service") in one.unknown


ONCE = """
import socket, sys
own, size = int(sys.argv[2]), int(sys.argv[3])
with socket.socket() as peer:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    peer.bind(("127.0.0.1", own))
    peer.connect(("127.0.0.1", int(sys.argv[1])))
    peer.sendall(bytes(size))
    print("sent", flush=True)
    peer.recv(1)  # the server closes first, so the port is free at once
print("closed", flush=True)
"""


def test_a_tuple_goes_to_another_container(inside: Namespace, tree: CgroupTree, listener: socket.socket) -> None:
    """With auto, one connection after another has the same tuple: no one gets the container of the one before."""
    inside.track()
    inside.sysctl("net.netfilter.nf_conntrack_acct", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own_port = free.getsockname()[1]
    sockets = SocketsSource(interval=3600.0, bytes_count=False)
    source = CombinedSource(ConntrackSource(receive_buffer=1 << 20), sockets)
    accounting = make_accounting(Config(), announces_births=True, loopback=True)
    source.open()

    def poll() -> None:
        for step in source.poll():
            now = time.monotonic()
            accounting.apply(TakeStep(step, now, now))

    def connect(unit: str, size: int) -> subprocess.Popen[str]:
        ports = (str(port_of(listener)), str(own_port))
        process = tree.start(unit, "python3", "-S", "-c", ONCE, *ports, str(size))
        assert process.stdout is not None and process.stdout.readline() == "sent\n"
        return process

    def close(process: subprocess.Popen[str], size: int) -> None:
        with listener.accept()[0] as peer:
            peer.recv(size, socket.MSG_WAITALL)
        assert process.stdout is not None and process.stdout.readline() == "closed\n"
        process.wait()

    first = connect("a.service", 1000)
    poll()  # the one read of the sockets
    close(first, 1000)
    for _ in range(3):
        close(connect("b.service", 100_000), 100_000)
    for _ in range(20):
        poll()
        time.sleep(0.02)
    source.close()
    table = accounting.table
    large = {row: bool(table.columns.last[row, 0] > 50_000) for row in table.live().tolist()}
    units = {
        (large[row], one.workload.unit)
        for row in large
        for one in table.workloads.local(table.columns, row)
        if one.side == "client"
    }
    assert set(large.values()) == {False, True}, "both had their flows"
    assert (False, "a.service") in units and (True, "a.service") not in units


LOOK = """
import json, os, sys
from tests.kernel.test_workloads import Reader, searched
if sys.argv[1] != "root":
    os.setgid(65534); os.setuid(65534)
print(json.dumps([searched(Reader(), int(port))._asdict() for port in sys.argv[2:]]))
"""


def look(prepare: str, user: str, *ports: int) -> list[dict[str, Any]]:
    """The workloads of client ports, as a process sees them after ``prepare`` in a mount namespace of its own."""
    shell = f'set -e; mount --make-rprivate /; {prepare}; exec "$0" -c "$@"'
    command = ["unshare", "--mount", "sh", "-c", shell, sys.executable, LOOK, user, *map(str, ports)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_hidden_processes(tree: CgroupTree, listener: socket.socket) -> None:
    """/proc with hidepid, for a user without privileges: a cgroup with one process still tells its pid."""
    process, alone_port, _ = tree.connect("alone.service", "127.0.0.1", port_of(listener))
    _, several_port, _ = tree.connect("several.service", "127.0.0.1", port_of(listener))
    tree.start("several.service", "sleep", "60")
    until(lambda: len((tree.root / "several.service/cgroup.procs").read_text().split()) == 2, "both run")
    alone, several = look("mount -t proc -o hidepid=invisible proc /proc", "nobody", alone_port, several_port)
    assert (alone["pid"], alone["command"], alone["unknown"]) == (process.pid, None, ALONE)
    assert (several["pid"], several["unit"], several["unknown"]) == (None, "several.service", UNREADABLE)


UNIFIED = "umount $(awk '/ - cgroup2 / {print $5}' /proc/self/mountinfo)"


def test_cgroup_v1_alone(tree: CgroupTree, listener: socket.socket) -> None:
    """Docker in trees of v1, all of v2 in the root: no container is known, and none is said to be absent."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", CONNECT, str(port_of(listener))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        own_port = int(process.stdout.readline())
        reader = Reader()
        in_root = searched(reader, own_port)
        reader.source.close()
        (hidden,) = look(UNIFIED, "root", own_port)
    finally:
        process.kill()
        process.communicate()
    assert (in_root.cgroup_id, in_root.cgroup, in_root.pid) == (1, "/", process.pid)
    assert IN_ROOT in in_root.unknown and in_root.labels == (UNKNOWN, UNKNOWN)
    assert (hidden["cgroup"], hidden["pid"]) == (None, process.pid)
    assert hidden["unknown"] == "only cgroup v1 is mounted here"


CONNECT = """
import socket, sys
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(peer.getsockname()[1], flush=True)
sys.stdin.read()
"""
