"""With /proc or /proc/sys hidden the daemon works and reports what it cannot read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flowmap.sources.conntrack.check import read_table_size
from flowmap.system.proc import Unknown
from flowmap.wire.netlink.conntrack import TableSize
from tests.support.host import deployment, host, total_of
from tests.support.netns import namespace, needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

WEAK = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")
CATALOG = [deployment("ingest", "10.1.0.5", "10.1.0.9:9092")]
ADDRESSES = ["10.1.0.5/32", "10.1.0.9/32"]
NOT_MOUNTED, HIDDEN = "/proc is not mounted", "/proc/sys is hidden from this process"


def without(place: str, *more: str) -> tuple[str, ...]:
    """A command that runs another one with an empty ``place``."""
    return ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {place} && exec "$@"', "sh", *more)


@pytest.mark.parametrize("source", ["auto", "conntrack", "sockets", "capture"])
@pytest.mark.parametrize("place", ["/proc", "/proc/sys"])
def test_the_daemon_counts_all_the_same(tmp_path: Path, place: str, source: str) -> None:
    with host(tmp_path, ADDRESSES, CATALOG) as machine:
        collect = {"source": source, "sockets": {"interval": "1s"}}
        with machine.daemon(collect=collect, prefix=without(place)) as daemon, machine.service("10.1.0.9", 9092):
            machine.exchange("10.1.0.5", "10.1.0.9", 9092, 1000)
            name = "flowmap_observed_transmit_bytes_total"
            until(lambda: total_of(daemon.samples(), name) >= 1000, "the connection is counted")
            health = daemon.json("/api/v1/status")["sources"]
            assert daemon.stop() == 0
        log = daemon.log.read_text()
    assert "defect" not in log and "Traceback" not in log
    assert [one["name"] for one in health] == (["conntrack", "sockets"] if source == "auto" else [source])
    assert (NOT_MOUNTED if place == "/proc" else HIDDEN) in json.dumps(health), "status says what is not known"
    assert ("process_* are missing" in log) == (place == "/proc")


ROWS = [
    # what is hidden, a rule that tracks, nf_conntrack_acct, permitted; what `check` says of auto
    ("/proc/sys", True, 1, True, "auto takes conntrack and sockets: the kernel tracks connections here"),
    ("/proc", True, 1, True, "auto takes conntrack and sockets: the kernel tracks connections here"),
    ("/proc/sys", True, 0, True, "auto takes sockets: the kernel tracks connections but does not count their bytes"),
    ("/proc/sys", False, 1, True, "auto takes sockets: the kernel tracks no connections here"),
    (
        "/proc/sys",
        True,
        1,
        False,
        f"auto takes sockets: unknown whether the kernel tracks connections here: {HIDDEN}, and conntrack",
    ),
    (
        "/proc",
        True,
        1,
        False,
        f"auto takes sockets: unknown whether the kernel tracks connections here: {NOT_MOUNTED}",
    ),
]


@pytest.mark.parametrize(("place", "rule", "accounting", "permitted", "words"), ROWS)
def test_what_auto_takes(tmp_path: Path, place: str, rule: bool, accounting: int, permitted: bool, words: str) -> None:
    with host(tmp_path, ADDRESSES, CATALOG) as machine:
        machine.inside.sysctl("net.netfilter.nf_conntrack_acct", accounting)
        if not rule:
            machine.inside.run("nft", "flush", "ruleset")
            machine.inside.run("conntrack", "-F")
        file = tmp_path / "flowmap.yaml"
        plane = {
            "endpoint": machine.sandbox.url,
            "workspace": "a14bd5d90a",
            "credentials": {"access_key_id": "sandbox-access-key", "access_key_secret": "sandbox-secret"},
        }
        file.write_text(json.dumps({"control_plane": plane, "http": {"listen": "127.0.0.1:10817"}}))
        command = [sys.executable, "-m", "flowmap", "check", "-c", str(file), "-o", "json"]
        environ = os.environ | {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}
        with machine.inside.entered():
            prefix = without(place, *([] if permitted else WEAK))
            done = subprocess.run([*prefix, *command], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["collect.source"]["message"].startswith(words)
    assert ("host.proc" in found) == (place == "/proc")
    assert found["sockets.client_ports"]["level"] == "degraded"


def test_who_listens_and_who_is_who_cannot_be_seen(tmp_path: Path) -> None:
    code = (
        "import socket\nfrom flowmap.cli.check import host as check_host\n"
        "from flowmap.cli.daemon import reload\nfrom flowmap.config import Config\n"
        "taken = socket.create_server(('127.0.0.1', 10817))\n"
        "print(check_host.listening(Config()))\n"
        "try: reload.send_hangup(1)\nexcept Exception as error: print(type(error).__name__, error)\n"
    )
    with namespace() as inside, inside.entered():
        told = subprocess.check_output([*without("/proc"), sys.executable, "-c", code], text=True)
    listening, signal = told.splitlines()
    assert "level='degraded'" in listening and f"an unknown process ({NOT_MOUNTED})" in listening
    assert signal.startswith("QueryError cannot check whether process 1 is `flowmap run`: /proc is not mounted")


def test_how_full_the_table_is_over_netlink() -> None:
    with namespace() as inside:
        inside.track()
        with inside.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"", ("127.0.0.1", 9))
            size = read_table_size()
        entries = inside.sysctl("net.netfilter.nf_conntrack_count")
        limit = inside.sysctl("net.netfilter.nf_conntrack_max")
        with inside.entered():
            code = "from flowmap.sources.conntrack.check import read_table_size as ask; print(ask())"
            weak = subprocess.check_output([*WEAK, sys.executable, "-c", code], text=True)
    assert size == TableSize(entries, limit) and entries > 0
    assert weak.strip() == str(Unknown("conntrack does not answer: Operation not permitted"))
