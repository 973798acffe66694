"""Other network namespaces, with a real opener and real namespaces: found, read, left, and what goes wrong."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowmap.opener.protocol import CONNTRACK, SOCKETS
from flowmap.sources.namespaces.client import OpenerClient, Passed
from flowmap.system.privileges import OPENER
from flowmap.wire.netlink.messages import MessageFlag, decode_messages, decode_status, encode_message
from tests.kernel.test_runc import Bundle
from tests.support.directories import public_directory
from tests.support.host import host
from tests.support.netns import needs_root
from tests.support.opener import (
    SEND,
    NamespaceReader,
    OpenerProcess,
    descriptors,
    named_namespace,
    opener,
    reader,
    sending,
)
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

NO_CAPABILITIES = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--")


def started(one: NamespaceReader) -> None:
    """Wait until the opener has reported a search, so that later namespaces are new."""
    one.until(lambda: one.source.stats.opener)


def test_a_namespace_that_appears_is_read_and_released(tmp_path: Path) -> None:
    name = f"flowmap-test-{uuid.uuid4().hex[:8]}"
    with opener(tmp_path) as process, reader(process.socket, [name]) as one:
        started(one)
        before = descriptors()
        began = time.monotonic()
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            one.until(lambda: one.named == {1: name})
            assert time.monotonic() - began < 5
            assert one.opened[1] is not None and one.opened[1] < began
            program = sending(name, 1000, count=3)
            one.until(lambda: one.bytes[1] == 3000)
            program.kill()
            program.communicate()
        finally:
            subprocess.run(["ip", "netns", "del", name], check=True)
        one.until(lambda: one.gone == [1])
        gc.collect()
        assert descriptors() == before
        assert one.bytes[1] == 3000
    assert process.process.returncode == 0


def test_a_namespace_that_was_there_may_be_older(tmp_path: Path) -> None:
    with named_namespace() as name, opener(tmp_path) as process, reader(process.socket, [name]) as one:
        one.until(lambda: 1 in one.opened)
        assert one.opened == {1: None}


def test_a_connection_too_short_for_any_read_counts(tmp_path: Path) -> None:
    with named_namespace() as name, opener(tmp_path) as process, reader(process.socket, [name]) as one:
        one.until(lambda: one.source.stats.resyncs.get("start") == 2)
        sending(name, 5000, seconds=0, count=20).communicate()
        one.until(lambda: one.bytes[1] == 100_000)


def test_all_finds_namespaces_of_processes(tmp_path: Path) -> None:
    with opener(tmp_path) as process, reader(process.socket, "all") as one:
        started(one)
        program = subprocess.Popen(["unshare", "--net", "sleep", "60"])
        inode = 0
        try:

            def is_read() -> bool:
                nonlocal inode
                inode = Path(f"/proc/{program.pid}/ns/net").stat().st_ino
                return inode in one.inodes.values()

            one.until(is_read, seconds=10)
        finally:
            program.kill()
            program.wait()
        (number,) = (number for number, found in one.inodes.items() if found == inode)
        one.until(lambda: number in one.gone, seconds=10)


def test_the_opener_is_killed_and_started_again(tmp_path: Path) -> None:
    with named_namespace() as name, opener(tmp_path) as process, reader(process.socket, [name]) as one:
        one.until(lambda: 1 in one.opened)
        before = descriptors()
        process.kill()
        one.until(lambda: not one.source.stats.opener)
        assert "start flowmap opener" in one.source.stats.notes["opener"]
        sending(name, 700, seconds=0).communicate()
        one.until(lambda: one.bytes[1] == 700)
        process.start()
        one.until(lambda: one.source.stats.opener)
        assert (one.named, one.gone, descriptors()) == ({1: name}, [], before)
        assert "opener" not in one.source.stats.notes


def test_a_namespace_that_went_while_the_opener_was_absent(tmp_path: Path) -> None:
    with opener(tmp_path) as process, named_namespace() as name, reader(process.socket, [name]) as one:
        one.until(lambda: 1 in one.opened)
        process.kill()
        subprocess.run(["ip", "netns", "del", name], check=True)
        process.start()
        one.until(lambda: one.gone == [1])


def test_namespaces_that_come_and_go_leave_no_descriptor(tmp_path: Path) -> None:
    with opener(tmp_path) as process, reader(process.socket, "all") as one:
        started(one)
        one.until(lambda: one.source.stats.namespaces["read"] == len(one.opened) - len(one.gone))
        names = [f"flowmap-test-{uuid.uuid4().hex[:8]}" for _ in range(30)]
        for name in names:  # some are gone before they are read, and some while they are
            subprocess.run(["ip", "netns", "add", name], check=True)
            one.poll()
            subprocess.run(["ip", "netns", "del", name], check=True)
        mine = {number for number, found in one.named.items() if found in names}
        one.until(lambda: mine <= set(one.gone))
        assert one.source.stats.namespaces["failed"] == 0


def test_the_opener_needs_no_root() -> None:
    """As its unit runs it: a user of its own, with three capabilities."""
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    capabilities = ",".join(f"+{capability.name.lower()}" for capability in sorted(OPENER))
    granted = ("--inh-caps", capabilities, "--ambient-caps", capabilities)
    prefix = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *granted, "--")
    with (
        public_directory(0o777) as directory,
        named_namespace() as name,
        opener(directory, prefix=prefix) as process,
        reader(process.socket, "all") as one,
    ):
        one.until(lambda: name in one.named.values())
        (number,) = (number for number, found in one.named.items() if found == name)
        sending(name, 300, seconds=0).communicate()
        one.until(lambda: one.bytes[number] == 300)
        assert one.source.stats.namespaces["failed"] == 0


def test_without_permission_the_own_namespace_is_read_and_the_cause_is_said(tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    with (
        named_namespace() as name,
        opener(tmp_path, prefix=NO_CAPABILITIES) as process,
        reader(process.socket, [name]) as one,
    ):
        one.until(lambda: "namespaces" in one.source.stats.notes)
        note = one.source.stats.notes["namespaces"]
        assert re.fullmatch(
            rf"1 cannot be entered: .*/{name} cannot be entered: Operation not permitted: "
            "CAP_SYS_ADMIN and CAP_SYS_PTRACE are needed",
            note,
        )
        assert one.source.stats.namespaces == {"read": 0, "over_limit": 0, "failed": 1}
        assert one.source.stats.up


def test_without_an_opener_the_own_namespace_is_read(tmp_path: Path) -> None:
    with reader(tmp_path / "absent.sock", "all") as one:
        steps = one.poll()
        assert steps
        absent = f"{tmp_path}/absent.sock: No such file or directory"
        assert one.source.stats.notes["opener"] == f"no new network namespaces are read: {absent}; start flowmap opener"
        assert one.source.stats.opener is False


def test_names_that_are_missing_are_listed(tmp_path: Path) -> None:
    with opener(tmp_path) as process, reader(process.socket, ["nowhere", "/run/netns/nowhere"]) as one:
        one.until(lambda: "namespaces" in one.source.stats.notes)
        assert one.source.stats.notes["namespaces"] == "not found: nowhere, /run/netns/nowhere"


def test_a_process_of_another_user_needs_permission() -> None:
    with public_directory() as directory, opener(directory, arguments=["--allow", "nobody"]) as process:
        code = (
            "import contextlib, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            "s.connect(sys.argv[1]); s.settimeout(20)\n"
            "with contextlib.suppress(BrokenPipeError): s.send(b'{}')\n"
            "with contextlib.suppress(ConnectionResetError): print(s.recv(1000).decode()); sys.exit()\n"
            "print(s.recv(1000).decode())"
        )
        command = [sys.executable, "-c", code, str(process.socket)]
        for user, why in (("65533", "user 65533 of process"), ("65534", "message of the opener")):
            done = subprocess.run(
                ["setpriv", "--reuid", user, "--clear-groups", *command], capture_output=True, text=True, check=False
            )
            assert json.loads(done.stdout)["why"].startswith(why), done.stderr


@pytest.mark.skipif(not shutil.which("runc"), reason="needs runc")
def test_a_container_with_a_network_of_its_own(tmp_path: Path) -> None:
    with opener(tmp_path) as process, reader(process.socket, "all") as one:
        started(one)
        script = 'ip link set lo up; exec /usr/bin/python3 -c "$0" 4000 60 1'
        container = Bundle(tmp_path / "bundle", f"/flowmap-test/{uuid.uuid4().hex * 2}", "/bin/sh", "-c", script, SEND)
        container.spec["mounts"] = [one for one in container.spec["mounts"] if one["type"] == "proc"]
        for part in ("/usr", "/bin", "/sbin", "/lib", "/lib64"):
            container.mount(part, part)
        container.spec["linux"]["namespaces"].append({"type": "network"})
        for kind in ("bounding", "effective", "permitted"):
            container.spec["process"]["capabilities"][kind].append("CAP_NET_ADMIN")
        with container.running() as running:
            assert running.stdout is not None
            assert running.stdout.readline() == "sent\n"
            own = Path(f"/proc/{container.pid()}/ns/net").stat().st_ino
            one.until(lambda: own in one.inodes.values(), seconds=10)
            number = next(number for number, found in one.inodes.items() if found == own)
            one.until(lambda: one.bytes[number] == 4000)
        one.until(lambda: number in one.gone, seconds=10)


@contextlib.contextmanager
def taken(process: OpenerProcess, name: str, *, conntrack: bool = False) -> Iterator[Passed]:
    """What the opener passes of a namespace."""
    client = OpenerClient(process.socket, (name,), conntrack=conntrack)
    assert client.connect()
    news: list[object] = []

    def passed() -> list[Passed]:
        news.extend(client.receive())
        return [one for one in news if isinstance(one, Passed)]

    until(passed, "the namespace is passed")
    client.close()
    (found,) = passed()
    yield found
    for one in found.sockets:
        one.close()


def test_the_opener_passes_sockets_of_conntrack_too(tmp_path: Path) -> None:
    with named_namespace() as name, opener(tmp_path) as process, taken(process, name, conntrack=True) as found:
        protocols = [one.getsockopt(socket.SOL_SOCKET, 38) for one in found.sockets]  # SO_PROTOCOL
        assert tuple(protocols) == SOCKETS + CONNTRACK
        assert found.opened.tracking.entries == 0


def test_a_passed_socket_changes_no_link_though_this_process_has_every_capability(tmp_path: Path) -> None:
    acknowledged = MessageFlag.REQUEST | 4  # NLM_F_ACK
    lo_down = encode_message(16, acknowledged, struct.pack("=BxHiII", 0, 0, 1, 0, 1))  # RTM_NEWLINK, without IFF_UP
    with named_namespace() as name, opener(tmp_path) as process, taken(process, name) as found:
        found.sockets[2].send(lo_down)
        (answer,) = decode_messages(found.sockets[2].recv(10_000))
        assert decode_status(answer).errno == errno.EPERM


def test_the_daemon_reads_other_namespaces_without_any_capability(tmp_path: Path) -> None:
    service = "10.77.1.10"
    with named_namespace() as name, opener(tmp_path) as process, host(tmp_path, [f"{service}/32"], []) as machine:
        collect = {"source": "sockets", "exclude": [], "namespaces": [name], "opener": str(process.socket)}
        with machine.daemon(collect=collect) as daemon:
            until(lambda: "\nflowmap_opener_up 1\n" in daemon.get("/metrics"), "the opener is connected")
            text = Path(f"/proc/{daemon.process.pid}/status").read_text()
            assert re.findall(r"^Cap(?:Prm|Eff):\t(\w+)$", text, re.MULTILINE) == ["0" * 16] * 2
            program = sending(name, 1234)
            try:
                until(
                    lambda: any(
                        flow["transmitBytes"] == 1234 for flow in daemon.json("/api/v1/flows?limit=1000")["flows"]
                    ),
                    "the flow of the other namespace is listed",
                )
            finally:
                program.kill()
                program.communicate()
