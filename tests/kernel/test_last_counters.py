"""What an open connection carried until the very end is on the last page, whatever the source's own pace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.host import WORKSPACE, Host, deployment, host
from tests.support.netns import needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

SERVICE, PORT, CLIENT = "10.77.1.10", 9092, "10.77.0.11"
SENT = 30_000
SLOW = {"conntrack": {"resync": "60s"}, "sockets": {"interval": "60s"}, "capture": {"interfaces": ["lo"]}}


def observed(page: Path) -> tuple[int, int]:
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(page.read_text())
        for sample in family.samples
        if sample.name.startswith("flowmap_observed")
    }
    return (
        int(samples["flowmap_observed_transmit_bytes_total"]),
        int(samples["flowmap_observed_receive_bytes_total"]),
    )


def counted(machine: Host) -> tuple[int, int]:
    """The kernel's own bytes of the one connection, both ways."""
    entry = machine.inside.run("conntrack", "-L", "-p", "tcp", "--dport", str(PORT))
    forth, back = (int(part.split()[0]) for part in entry.split("bytes=")[1:])
    return forth, back


def exchange(connection: socket.socket, sent: int) -> None:
    connection.sendall(b"x" * sent)
    left = 2 * sent
    while left:
        left -= len(connection.recv(left))


@pytest.mark.parametrize("source", ["conntrack", "sockets", "capture", "auto"])
def test_the_last_page_has_every_byte(tmp_path: Path, source: str) -> None:
    settings, page = tmp_path / "flowmap.yaml", tmp_path / "last.prom"
    with host(
        tmp_path, [f"{SERVICE}/32", f"{CLIENT}/32"], [deployment("orders", CLIENT, f"{SERVICE}:{PORT}")]
    ) as machine:
        config = {
            "control_plane": {
                "endpoint": machine.sandbox.url,
                "workspace": WORKSPACE,
                "credentials": {"access_key_id": "sandbox-access-key", "access_key_secret": "sandbox-secret"},
            },
            "collect": {"source": source, "exclude": ["127.0.0.0/8"], **SLOW},
            "http": {"listen": "127.0.0.1:0"},
        }
        settings.write_text(json.dumps(config))
        log = tmp_path / "log"
        with machine.inside.entered(), log.open("wb") as errors:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "flowmap", "run", "-c", str(settings), "--textfile", str(page)],
                stderr=errors,
                env=os.environ | {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"},
            )
        try:
            until(lambda: '"ready' in log.read_text(), "the daemon is ready")
            with machine.service(SERVICE, PORT), machine.connection(CLIENT, SERVICE, PORT) as connection:
                exchange(connection, 100)
                time.sleep(1.5)  # the source has seen the connection, if it sees it at all before its next full read
                exchange(connection, SENT)
                time.sleep(0.1)  # until the last acknowledgement, and less than any source waits with counters
                truth = (SENT + 100, 2 * (SENT + 100)) if source == "sockets" else counted(machine)
                daemon.send_signal(signal.SIGTERM)
                assert daemon.wait(timeout=10) == 0, log.read_text()
        finally:
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()
        assert observed(page) == truth
