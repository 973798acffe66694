"""flowmap reload: who gets the signal, and who does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from flowmap.cli import command
from flowmap.cli.daemon.reload import send_hangup
from flowmap.errors import QueryError

WAIT = "import signal, sys; print(flush=True); sys.exit(-signal.sigwait([signal.SIGHUP]))"
BLOCK = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP]); "


def test_the_signal_reaches_a_daemon_and_nobody_else() -> None:
    other = subprocess.Popen([sys.executable, "-c", BLOCK + WAIT, "something"], stdout=subprocess.PIPE)
    daemon = subprocess.Popen([sys.executable, "-c", BLOCK + WAIT, "/opt/flowmap", "run"], stdout=subprocess.PIPE)
    try:
        for process in (other, daemon):
            assert process.stdout is not None
            process.stdout.readline()
        with pytest.raises(QueryError, match=f"process {other.pid} is not `flowmap run`"):
            send_hangup(other.pid)
        send_hangup(daemon.pid)
        assert daemon.wait(timeout=20) == 256 - signal.SIGHUP
        assert other.poll() is None
        with pytest.raises(QueryError, match="is in a container|no process"):
            send_hangup(daemon.pid)
    finally:
        for process in (other, daemon):
            process.kill()
            process.communicate()


def test_without_a_daemon_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["reload", "--url", "http://127.0.0.1:9"]) == 1
    assert "no daemon answers" in capsys.readouterr().err
    assert command.main(["reload", "--url", "http://127.0.0.1:9", "--pid", str(os.getpid())]) == 1
    assert "is not `flowmap run`" in capsys.readouterr().err
