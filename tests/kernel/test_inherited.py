"""The daemon starts, reloads and stops whatever process state its parent leaves to it."""

from __future__ import annotations

import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host import Host, deployment, host, total_of
from tests.support.netns import needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

SERVICE, ORDERS, PORT = "10.77.1.10", "10.77.0.11", 9092

PARENT = """
import os, resource, signal, sys, tempfile
gone = tempfile.mkdtemp()
os.chdir(gone)
os.rmdir(gone)
os.umask(0o777)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 1024))
numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
for number in numbers:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
os.closerange(0, 2)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Host]:
    catalog = [deployment("orders", ORDERS, f"{SERVICE}:{PORT}")]
    with host(tmp_path, [f"{SERVICE}/32", f"{ORDERS}/32"], catalog) as made, made.service(SERVICE, PORT):
        yield made


def test_inherited_state_of_the_parent_changes_nothing(machine: Host, tmp_path: Path) -> None:
    history = tmp_path / "history.db"
    with machine.daemon(
        prefix=(sys.executable, "-c", PARENT),
        environ={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"},
        history={"path": str(history)},
        log={"level": "debug"},
        export={"peers": {"订单": [SERVICE]}},
    ) as daemon:
        machine.exchange(ORDERS, SERVICE, PORT, 700)
        counted = "flowmap_deployment_transmit_bytes_total"
        until(lambda: total_of(daemon.samples(), counted, peer="订单") >= 700, "it names what it sees")
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: daemon.json("/api/v1/status")["configuration"]["reloads"] == 1, "it reloads")
        assert daemon.json("/api/v1/status")["configuration"]["lastError"] is None
        assert daemon.stop() == 0
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "Traceback" not in daemon.log.read_text()
